"""A database that MLflow was still making when it was killed: its tables are there, and nothing in them."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path

from tallystick.wiring.database.schema import TIMEOUT_S

__all__ = ["set_aside"]

_OWN = ("alembic_version", "experiments", "workspaces")
"""What MLflow fills itself: its revision, and the experiment and workspace that are there from the start."""
_BESIDE = ("-wal", "-shm", "-journal")


def set_aside(file: Path) -> Path | None:
    """Move ``file`` out of the way where nobody has written anything to it yet; the place that it went to.

    Nothing is removed: what is taken for empty here can be looked at there. None where it holds something.
    """
    with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=TIMEOUT_S)) as db:
        tables = [str(row[0]) for row in db.execute("select name from sqlite_master where type = 'table'")]
        if not all(_is_bare(db, table) for table in tables if not table.startswith("sqlite_")):
            return None
    place = file.with_name(f"{file.name}.unfinished-{time.strftime('%Y%m%d-%H%M%S')}")
    for end in ("", *_BESIDE):
        with contextlib.suppress(FileNotFoundError):
            file.with_name(file.name + end).rename(place.with_name(place.name + end))
    return place


def _is_bare(db: sqlite3.Connection, table: str) -> bool:
    quoted = '"' + table.replace('"', '""') + '"'
    rows = db.execute(f"select 1 from {quoted} limit 2").fetchall()  # noqa: S608  reason: quoted, and its own name
    return len(rows) <= (1 if table in _OWN else 0)
