"""A SQLite file: WAL, an answer only after a sync, one writer and any number of readers.

MLflow's own server may write to the same file at the same time: each waits its turn for the lock. Nothing in
this process may open the file but through SQLite: closing it would drop SQLite's locks.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tallystick.core.errors import BadInput
from tallystick.ports.database import Fault, Row, Session
from tallystick.ports.tile import Place
from tallystick.tiles.database.faults import meaning_of_sqlite

__all__ = ["SqliteSession", "SqliteSource", "open_tile"]

LOCK_WAIT_MS = 20_000
"""As long as MLflow itself waits."""
STATEMENTS_KEPT = 512
ROWS_MAX = 512
"""Rows of one INSERT; and of many, powers of two, so that the statements are always the same ones."""
AMONG_MAX = 1024

# case_sensitive_like and foreign_keys are what MLflow sets. The pages that a writer touches again and again
# stay in its cache, and the log is carried over into the file every 4,000 pages (16 MiB), not every 1,000.
BOTH = (
    f"PRAGMA busy_timeout = {LOCK_WAIT_MS}",
    "PRAGMA case_sensitive_like = ON",
    "PRAGMA temp_store = MEMORY",
)
READING = ("PRAGMA query_only = ON", "PRAGMA cache_size = -16384")
WRITING = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA cache_size = -65536",
    "PRAGMA wal_autocheckpoint = 4000",
)


def open_tile(place: Place) -> SqliteSource:
    """The file that option ``database`` names (``sqlite:////path``), there or not yet."""
    return SqliteSource(_path_of(str(place.options.get("database", ""))))


def _path_of(url: str) -> Path:
    """The file of ``sqlite:///path`` or ``sqlite+pysqlite:///path``; BadInput for anything else."""
    scheme, found, path = url.partition(":///")
    if (
        scheme not in ("sqlite", "sqlite+pysqlite")
        or not found
        or not path
        or path == ":memory:"
        or "?" in path
    ):
        raise BadInput(
            f"{url!r} names no SQLite file", where="database", hint="write sqlite:////absolute/path/mlflow.db"
        )
    return Path(path).absolute()


class SqliteSource:
    """Sessions with one file."""

    writers = 1

    def __init__(self, path: Path) -> None:
        self.where = str(path)

    def connect(self, *, reading: bool) -> Session:
        """A new session with the file, which must be there: MLflow's own migrations make it."""
        connection = sqlite3.connect(
            f"file:{quote(self.where)}?mode=rw",
            uri=True,
            isolation_level=None,
            check_same_thread=False,  # a session is used by one thread at a time, and closed by any
            cached_statements=STATEMENTS_KEPT,
        )
        try:
            for statement in BOTH + (READING if reading else WRITING):
                connection.execute(statement).fetchall()
        except BaseException:
            connection.close()
            raise
        return SqliteSession(connection, reading=reading)

    def meaning(self, wrong: Exception) -> Fault:
        """See :func:`tallystick.tiles.database.faults.meaning_of_sqlite`."""
        return meaning_of_sqlite(wrong, self.where)


class SqliteSession:
    """See :class:`tallystick.ports.database.Session`."""

    name = "sqlite"

    def __init__(self, connection: sqlite3.Connection, *, reading: bool) -> None:
        self._connection = connection
        self._begin = "BEGIN" if reading else "BEGIN IMMEDIATE"
        self._variables_max = connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """Every row that a query finds."""
        return self._connection.execute(sql, values).fetchall()

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Carry out a statement; how many rows it touched."""
        return self._connection.execute(sql, values).rowcount

    def put(self, table: str, columns: Sequence[str], rows: Sequence[Row], tail: str = "") -> None:
        """Insert in few statements of many rows: while one is carried out, Python's other threads run."""
        at, size = 0, min(ROWS_MAX, self._variables_max // len(columns))
        size = 1 << (size.bit_length() - 1)
        while left := len(rows) - at:
            size = min(size, 1 << (left.bit_length() - 1))
            statement = _insert(table, tuple(columns), size, tail)
            self._connection.execute(statement, tuple(chain.from_iterable(rows[at : at + size])))
            at += size

    def among(self, column: str, values: Sequence[Any]) -> tuple[str, list[Any]]:
        """``IN`` with as many places as the next power of two; beyond :data:`AMONG_MAX` as JSON.

        Not for floats: those come out of JSON as SQLite reads text, which is not exact.
        """
        if len(values) > AMONG_MAX:
            words = "IN (SELECT value FROM json_each(?))"
            return f"{column} {words}", [json.dumps(list(values))]
        if not values:
            return f"{column} IN ()", []
        places = 1 << (len(values) - 1).bit_length()
        padding = [values[-1]] * (places - len(values))
        return f"{column} IN ({', '.join('?' * places)})", [*values, *padding]

    def begin(self) -> None:
        """A writer takes the lock at once: a transaction that has begun can no longer lose it halfway."""
        self._connection.execute(self._begin)

    def end(self, *, keep: bool) -> None:
        """Make it durable, or undo it."""
        if keep or self._connection.in_transaction:
            self._connection.execute("COMMIT" if keep else "ROLLBACK")

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


@lru_cache(maxsize=STATEMENTS_KEPT)
def _insert(table: str, columns: tuple[str, ...], rows: int, tail: str) -> str:
    row = f"({', '.join('?' * len(columns))})"
    names = ", ".join(f'"{name}"' for name in columns)
    start = f"INSERT INTO {table} ({names}) VALUES"  # the names are those of sql.py
    return f"{start} {', '.join([row] * rows)} {tail}"
