"""Reading a file store with MLflow's own code (``mlflow migrate-filestore``), into a database of its own.

MLflow's command gives up at the first run that it cannot read, and its target must be empty: so each run is
read by itself here, into a database that nobody has seen; ``join.py`` goes on from there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tallystick.core.errors import BadInput
from tallystick.crew.filestore.links import LEFT_OUT, link_out
from tallystick.crew.filestore.outcome import Outcome

__all__ = ["find_store", "read_store"]

_SYNC = ("PRAGMA journal_mode = MEMORY", "PRAGMA synchronous = OFF")
"""It is thrown away after the import, whole or not."""


def find_store(folder: Path) -> Path:
    """The file store that ``folder`` is, or has as its ``mlruns``; BadInput where there is none."""
    from mlflow.exceptions import MlflowException
    from mlflow.store import fs2db

    try:
        return fs2db._resolve_mlruns(folder)
    except MlflowException:
        raise BadInput(
            "is no file store of MLflow's: it has no folders of experiments",
            where=str(folder),
            hint="name the folder mlruns, or the one that it lies in",
        ) from None


def read_store(mlruns: Path, scratch: Path, outcome: Outcome, told: Callable[[float, str], None]) -> Any:
    """All of a file store as an engine on ``<scratch>/read.db``; ``outcome`` says what could not be read."""
    import mlflow.store.model_registry.dbmodels.models
    import mlflow.store.tracking.dbmodels.models  # noqa: F401  reason: these two fill the metadata
    import sqlalchemy
    from mlflow.store.db.base_sql_model import Base
    from mlflow.store.fs2db._utils import for_each_experiment
    from sqlalchemy.orm import Session

    engine = sqlalchemy.create_engine(f"sqlite:///{scratch}/read.db")
    with engine.connect() as connection:
        for pragma in _SYNC:
            connection.exec_driver_sql(pragma)
        # As they are today: the migrations that lead there take far longer, and are for tables with rows.
        # Not by `create_all`: nobody needs its indexes here, and SQLite refuses one of them.
        for table in Base.metadata.sorted_tables:
            connection.execute(sqlalchemy.schema.CreateTable(table))
        connection.commit()
    experiments = list(for_each_experiment(mlruns))
    with Session(engine) as session:
        reader = _Reader(session, mlruns, scratch, outcome)
        for number, (folder, experiment_id) in enumerate(experiments):
            told(number / len(experiments), f"reading experiment {number + 1} of {len(experiments)}")
            reader.experiment(folder, experiment_id)
        reader.models()
        session.commit()
    return engine


class _Reader:
    """Reads into one session; what fails leaves nothing there, and a note."""

    def __init__(self, session: Any, mlruns: Path, scratch: Path, outcome: Outcome) -> None:
        from mlflow.store.fs2db._utils import MigrationStats

        self._session = session
        self._mlruns = mlruns
        self._scratch = scratch
        self._outcome = outcome
        self._stats = MigrationStats()

    def experiment(self, folder: Path, experiment_id: str) -> None:
        from mlflow.store.fs2db import _tracking as own
        from mlflow.store.fs2db._utils import list_subdirs
        from mlflow.store.tracking.file_store import FileStore

        number, session, stats = int(experiment_id), self._session, self._stats
        what = f"experiment {experiment_id}"
        if not (folder / FileStore.META_DATA_FILE_NAME).is_file():
            self._outcome.note(f"{what}: it has no meta.yaml, and was left out")
            return
        runs = [name for name in list_subdirs(folder) if name not in own.RESERVED_FOLDERS]
        if self._leads_out(folder, runs):
            return
        if not self._tried(what, lambda: own._migrate_one_experiment(session, folder, experiment_id, stats)):
            return
        for name in runs:
            if (folder / name / FileStore.META_DATA_FILE_NAME).is_file():
                self._run(folder / name, number)
        parts: tuple[tuple[str, Callable[[], None]], ...] = (
            ("datasets", lambda: own._migrate_datasets_for_experiment(session, folder, number, stats)),
            ("outputs of runs", lambda: own._migrate_outputs_for_experiment(session, folder, stats)),
            ("traces", lambda: own._migrate_traces_for_experiment(session, folder, number, stats)),
            ("assessments", lambda: own._migrate_assessments_for_experiment(session, folder, number, stats)),
            ("models", lambda: own._migrate_logged_models_for_experiment(session, folder, number, stats)),
        )
        for part, read in parts:
            self._tried(f"{part} of {what}", read)

    def _run(self, folder: Path, experiment_id: int) -> None:
        from mlflow.store.fs2db._tracking import _migrate_one_run

        if self._leads_out(folder):
            return

        def read(place: Path) -> None:
            _migrate_one_run(self._session, place, experiment_id, self._stats)

        if self._tried("", lambda: read(folder)):
            return
        cleaned, dropped = _cleaned(folder, self._scratch / "cleaned")
        if self._tried(f"run {folder.name}", lambda: read(cleaned)) and dropped:
            self._outcome.note(
                f"run {folder.name}: lines of metrics that cannot be read were left out: {dropped}"
            )

    def models(self) -> None:
        from mlflow.store.fs2db import _registry as own

        def read(folder: Path) -> None:
            own._migrate_one_registered_model(self._session, folder, self._stats)

        for folder in own.list_registered_models(self._mlruns):
            if not self._leads_out(folder):
                self._tried(f"registered model {folder.name}", lambda folder=folder: read(folder))  # type: ignore[misc]  # mypy has no types for a lambda's defaults

    def _leads_out(self, folder: Path, without: Sequence[str] = ()) -> bool:
        """Whether a link of its record does; then nothing is read of it, and that is noted."""
        link = link_out(folder, self._mlruns, without)
        if link:
            self._outcome.note(f"{link}: {LEFT_OUT}" + (f", with all of {folder}" if link != folder else ""))
        return bool(link)

    def _tried(self, what: str, read: Callable[[], None]) -> bool:
        """Whether it could be read. A folder may hold anything: whatever is wrong there, the rest goes on."""
        try:
            with self._session.begin_nested():
                read()
                self._session.flush()
        except Exception as wrong:  # noqa: BLE001  reason: see above; the note says what it was
            if what:
                why = getattr(wrong, "orig", None) or wrong
                self._outcome.note(f"{what}: cannot be read and was left out ({type(why).__name__}: {why})")
            return False
        finally:
            self._session.expunge_all()
        return True


def _cleaned(run: Path, scratch: Path) -> tuple[Path, int]:
    """A copy of a run's folder, in its metrics each point once, and only points; how many lines were none."""
    shutil.rmtree(scratch, ignore_errors=True)
    place, dropped = scratch / run.name, 0
    shutil.copytree(run, place, ignore=shutil.ignore_patterns("artifacts", "metrics"))
    for file in sorted((run / "metrics").rglob("*")):
        if not file.is_file():
            continue
        points: dict[tuple[int, str, int], str] = {}
        lines = file.read_text("utf-8", "replace").splitlines()
        for line in lines:
            point = _point(line)
            if point:
                points[point] = line
            else:
                dropped += 1
        copy = place / "metrics" / file.relative_to(run / "metrics")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text("".join(f"{line}\n" for line in points.values()), "utf-8")
    return place, dropped


def _point(line: str) -> tuple[int, str, int] | None:
    """Time, value (as one text for each number) and step; None where there are not these."""
    words = line.split(" ")
    try:
        return int(words[0]), repr(float(words[1])), int(words[2]) if len(words) > 2 else 0
    except (ValueError, IndexError):
        return None
