"""An errand: bring a database of MLflow's to the schema of the MLflow that is installed.

The order: ``database``, a URL as SQLAlchemy has it. The result: ``revision``, the schema's afterwards.
Whoever sends this errand has made a backup before.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, cast

from tallystick.core.errors import Failed
from tallystick.crew.desk import Desk, attend
from tallystick.crew.mlflow.loading import loading_mlflow

__all__ = ["main"]

_STEP = re.compile(r"^Running upgrade (\w*) -> (\w+)")


def main(desk: Desk) -> Mapping[str, Any]:
    """Migrate; Failed names the migration that could not be carried out."""
    desk.progress(0.0, "loading MLflow")
    with loading_mlflow("mlflow,postgresql"):
        import mlflow.store.db.utils
        import sqlalchemy
        from alembic.script import ScriptDirectory
    # As `mlflow db upgrade` does it; these have no types.
    utils = cast(Any, mlflow.store.db.utils)
    engine = utils.create_sqlalchemy_engine(str(desk.order["database"]))
    scripts = ScriptDirectory.from_config(utils._get_alembic_config(""))
    before = utils._get_schema_version(engine)
    line = [script.revision for script in scripts.iterate_revisions(scripts.get_current_head(), before)]
    steps = _Steps(desk, list(reversed(line)))
    logging.getLogger("alembic.runtime.migration").addHandler(steps)
    logging.getLogger("alembic.runtime.migration").setLevel(logging.INFO)
    try:
        utils._upgrade_db(engine)
    except sqlalchemy.exc.SQLAlchemyError as wrong:
        why = str(getattr(wrong, "orig", None) or wrong)
        raise Failed(" ".join(why.split())[:500], where=f"migration {steps.at or 'none'}") from wrong
    finally:
        engine.dispose()
    return {"revision": utils._get_schema_version(engine)}


class _Steps(logging.Handler):
    """Reads in Alembic's log which migration begins, and tells it."""

    def __init__(self, desk: Desk, line: list[str]) -> None:
        super().__init__()
        self.at = ""
        self._desk = desk
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        step = _STEP.match(record.getMessage())
        if not step or step[2] not in self._line:
            return
        self.at = step[2]
        done = self._line.index(self.at)
        self._desk.progress(done / len(self._line), f"migration {done + 1} of {len(self._line)}: {self.at}")


if __name__ == "__main__":
    attend(main)
