"""An errand: bring an old file store of MLflow's (``./mlruns``) into a database, with its artifacts.

The order: ``folder``, ``database`` (a URL as SQLAlchemy has it), ``artifacts`` (a folder or ``s3://...``)
and ``scratch``, an empty folder. The result: ``brought`` and ``there`` (counts by kind), and ``notes``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from tallystick.crew.desk import Desk, attend
from tallystick.crew.filestore.bring import bring
from tallystick.crew.filestore.outcome import Outcome
from tallystick.crew.filestore.read import find_store, read_store
from tallystick.crew.mlflow.loading import loading_mlflow

__all__ = ["main"]


def main(desk: Desk) -> Mapping[str, Any]:
    """Import; all of it or, on an error, none but copied artifacts."""
    desk.progress(0.0, "loading MLflow")
    with loading_mlflow("mlflow,postgresql"):
        import mlflow.store.db.utils
    outcome, told = Outcome(), _Told(desk)
    logging.getLogger("mlflow.store.fs2db").addHandler(outcome)
    mlruns = find_store(Path(desk.order["folder"]))
    read = read_store(mlruns, Path(desk.order["scratch"]), outcome, told.part(0.0, 0.5))
    own = cast(Any, mlflow.store.db.utils)  # it has no types
    engine = own.create_sqlalchemy_engine(str(desk.order["database"]))
    own._safe_initialize_tables(engine)
    with read.connect() as source:
        bring(source, engine, mlruns, str(desk.order["artifacts"]), outcome, told.part(0.5, 1.0))
    return outcome.as_dict()


class _Told:
    """Progress in parts of the whole, and not more often than it moves by a hundredth."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._last = -1.0

    def part(self, begin: float, end: float) -> Callable[[float, str], None]:
        """What tells the progress of the part from ``begin`` to ``end``."""

        def tell(share: float, text: str) -> None:
            whole = begin + (end - begin) * share
            if whole - self._last >= 0.01:
                self._last = whole
                self._desk.progress(whole, text)

        return tell


if __name__ == "__main__":
    attend(main)
