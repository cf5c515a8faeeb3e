"""The same pre-filled databases for everybody: MLflow's own schema, rows by direct SQL, and cheap copies.

A run has 5 metrics, 5 params and 4 tags in experiment 1; 64 further runs are there to be written to, and
one in experiment 2 has a metric of 100,000 points. Values come from a fixed seed.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from _processes import TELLS_NOBODY

KEYS = 5
WRITERS = [f"{n:02x}" + "b" * 30 for n in range(64)]
"""The runs that benchmarks write to."""
HISTORY_RUN = "f" * 32
HISTORY_POINTS = 100_000
START_MS = 1_690_000_000_000

_SCHEMA = "import sys; from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as S; "
_SCHEMA += "S(sys.argv[1], 'mlflow-artifacts:/')"

COLUMNS = {
    "experiments": "experiment_id name artifact_location lifecycle_stage creation_time last_update_time",
    "runs": "run_uuid name source_type source_name entry_point_name user_id status start_time end_time "
    "source_version lifecycle_stage artifact_uri experiment_id",
    "metrics": "key value timestamp run_uuid step is_nan",
    "latest_metrics": "key value timestamp run_uuid step is_nan",
    "params": "key value run_uuid",
    "tags": "key value run_uuid",
}


@dataclass(frozen=True)
class Size:
    """How much is in a database: ``points`` of each of a run's metrics."""

    runs: int
    points: int = 2

    @property
    def name(self) -> str:
        """As in ``10k``."""
        return f"{self.runs // 1000}k"


class Databases(Protocol):
    """A kind of database: ``copy`` gives the URL of a new one that is filled to ``size``."""

    kind: str

    def copy(self, size: Size, analysed: bool) -> str:
        """A copy to use up."""
        ...

    def drop(self, url: str) -> None:
        """Away with a copy."""
        ...

    def count(self, url: str, sql: str) -> int:
        """The one number that a query gives."""
        ...


def make_schema(url: str) -> None:
    """MLflow's tables, by its own migrations, in a process of its own."""
    environment = os.environ | TELLS_NOBODY
    command = [sys.executable, "-W", "ignore", "-c", _SCHEMA, url]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _run_id(n: int) -> str:
    return f"{n * 2654435761 % 2**32:08x}{n:024x}"


def _run_row(run: str, name: str, status: str, start_ms: int, experiment: int) -> tuple[Any, ...]:
    end_ms = start_ms + 60_000 if status == "FINISHED" else None
    uri = f"mlflow-artifacts:/{experiment}/{run}/artifacts"
    return (run, name, "UNKNOWN", "", "", "bench", status, start_ms, end_ms, "", "active", uri, experiment)


def rows(table: str, size: Size) -> Iterator[tuple[Any, ...]]:
    """All rows of a table, the same ones at every call."""
    lots = random.Random(f"tallystick {table.removeprefix('latest_')}")  # noqa: S311  reason: no secret
    if table == "experiments":
        for n, name in ((1, "bench"), (2, "history")):
            yield (n, name, f"mlflow-artifacts:/{n}", "active", START_MS, START_MS)
    elif table == "runs":
        for n in range(size.runs):
            yield _run_row(_run_id(n), f"run-{n}", "FINISHED", START_MS + n * 1000, 1)
        for run in WRITERS:
            yield _run_row(run, "writer", "RUNNING", START_MS, 1)
        yield _run_row(HISTORY_RUN, "history", "FINISHED", START_MS, 2)
    elif table in ("metrics", "latest_metrics"):
        yield from _metrics(size, table == "latest_metrics", lots)
    else:
        for n in range(size.runs):
            yield from _words(table, n, _run_id(n), lots)


def _metrics(size: Size, latest: bool, lots: random.Random) -> Iterator[tuple[Any, ...]]:
    for n in range(size.runs):
        run = _run_id(n)
        for key in range(KEYS):
            for step in range(size.points):
                value = lots.random()
                if not latest or step == size.points - 1:
                    yield (f"m{key}", value, START_MS + step, run, step, False)
    for step in range(HISTORY_POINTS - 1 if latest else 0, HISTORY_POINTS):
        yield ("loss", 1 / (step + 1), START_MS + step, HISTORY_RUN, step, False)


def _words(table: str, n: int, run: str, lots: random.Random) -> Iterator[tuple[str, str, str]]:
    if table == "params":
        for key in range(KEYS):
            yield (f"p{key}", f"v{lots.randrange(10)}", run)
    else:
        yield ("mlflow.runName", f"run-{n}", run)
        yield ("mlflow.user", "bench", run)
        yield ("mlflow.source.name", "train.py", run)
        yield ("team", f"team-{lots.randrange(20)}", run)


class Sqlite:
    """SQLite: a template file for each size, and copies of it."""

    kind = "SQLite"

    def __init__(self, folder: Path) -> None:
        self.folder, self.made = folder, 0

    def copy(self, size: Size, analysed: bool) -> str:
        """The URL of a new file."""
        template = self.folder / f"template-{size.runs}-{size.points}{'-analysed' if analysed else ''}.db"
        if not template.exists():
            if analysed:
                plain = self.copy(size, False).removeprefix("sqlite:///")
                with contextlib.closing(sqlite3.connect(plain)) as database:
                    database.execute("ANALYZE")
                Path(plain).rename(template)
            else:
                self._fill(template, size)
        self.made += 1
        file = self.folder / f"copy-{self.made}" / "mlflow.db"
        file.parent.mkdir()
        shutil.copyfile(template, file)
        os.sync()  # or the copy's own writing back is measured
        return f"sqlite:///{file}"

    def _fill(self, template: Path, size: Size) -> None:
        began, file = time.monotonic(), template.with_suffix(".part")
        make_schema(f"sqlite:///{file}")
        with contextlib.closing(sqlite3.connect(file)) as database:
            for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-2000000"):
                database.execute(f"PRAGMA {pragma}")
            for table, names in COLUMNS.items():
                columns = names.split()
                marks = ",".join("?" * len(columns))
                quoted = ",".join(f'"{c}"' for c in columns)
                sql = f"INSERT INTO {table} ({quoted}) VALUES ({marks})"  # noqa: S608  reason: our own names
                database.executemany(sql, rows(table, size))
            database.commit()
            database.execute("PRAGMA journal_mode=DELETE")
        file.rename(template)
        print(f"filled SQLite with {size.runs:,} runs in {time.monotonic() - began:.0f} s", flush=True)

    def drop(self, url: str) -> None:
        """Remove the copy's folder."""
        shutil.rmtree(Path(url.removeprefix("sqlite:///")).parent, ignore_errors=True)

    def count(self, url: str, sql: str) -> int:
        """The one number that a query gives."""
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database:
            return int(database.execute(sql).fetchone()[0])
