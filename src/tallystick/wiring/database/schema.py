"""The schema's revision: the one that a database has, and those that the installed MLflow knows.

MLflow is not imported for this: its migrations are read as text, by their ``revision = ...`` lines.
"""

from __future__ import annotations

import contextlib
import enum
import importlib.util
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from tallystick.core.errors import BadInput, Damaged, MissingTile, TallyError, Unavailable
from tallystick.record.address import cleaned
from tallystick.wiring.database.address import Address

if TYPE_CHECKING:
    import psycopg

__all__ = ["Found", "Installed", "Look", "connected", "installed_mlflow", "look", "server_version"]

TIMEOUT_S = 5.0
_FOLDER = ("store", "db_migrations", "versions")
_REVISION = re.compile(r"""^revision\s*(?::[^=]*)?=\s*["'](\w+)["']""", re.MULTILINE)
_DOWN = re.compile(r"""^down_revision\s*(?::[^=]*)?=\s*["'](\w+)["']""", re.MULTILINE)
_MARK, _MARKS = "alembic_version", "select version_num from alembic_version"
_MLFLOWS = {"experiments", "runs"}


@dataclass(frozen=True, slots=True)
class Installed:
    """The MLflow that is installed: its version, and the revisions that it knows, oldest first."""

    version: str
    revisions: tuple[str, ...]

    @property
    def head(self) -> str:
        """The revision that it needs."""
        return self.revisions[-1]


class Found(enum.Enum):
    """What there is at an address."""

    MISSING = "no such file"
    EMPTY = "a database without tables"
    FOREIGN = "tables, but not MLflow's"
    UNMARKED = "MLflow's tables, without a revision"
    MLFLOW = "MLflow's tables"


@dataclass(frozen=True, slots=True)
class Look:
    """What was found at an address; ``revision`` is of MLflow's tables, ``tables`` are some others."""

    found: Found
    revision: str = ""
    tables: tuple[str, ...] = ()


def installed_mlflow() -> Installed | None:
    """The installed MLflow; None where there is none, or its migrations are not one line."""
    spec = importlib.util.find_spec("mlflow")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        revisions = _in_order(Path(place).joinpath(*_FOLDER))
        if revisions:
            return Installed(_version(), revisions)
    return None


def _in_order(folder: Path) -> tuple[str, ...]:
    after: dict[str, str] = {}
    for file in folder.glob("*.py"):
        text = file.read_text("utf-8")
        revision, down = _REVISION.search(text), _DOWN.search(text)
        if revision:
            after[down[1] if down else ""] = revision[1]
    line, at = [], ""
    while at in after:
        at = after.pop(at)
        line.append(at)
    return () if after else tuple(line)


def _version() -> str:
    for name in ("mlflow", "mlflow-skinny"):
        with contextlib.suppress(PackageNotFoundError):
            return version(name)
    return "(version unknown)"


def look(address: Address) -> Look:
    """What there is at ``address``; nothing is changed.

    BadInput for what is no database, Damaged for a broken one, Unavailable for one that cannot be reached
    or written: locked, read-only, or a server that does not let us in. MissingTile without psycopg.
    """
    return _look_at_file(address.file) if address.file else _look_at_server(address)


def _look_at_file(file: Path) -> Look:
    if not file.parent.is_dir():
        raise BadInput("its folder does not exist", where=str(file), hint=f"mkdir -p {file.parent}")
    if file.is_dir():
        raise BadInput("is a folder, not a database", where=str(file))
    _check_writable(file)
    if not file.exists():
        return Look(Found.MISSING)
    try:
        address = f"{file.as_uri()}?mode=rw"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=TIMEOUT_S)) as db:
            names = [str(row[0]) for row in db.execute("select name from sqlite_master where type = 'table'")]
            return _judged(names, db.execute(_MARKS) if _MARK in names else ())
    except sqlite3.DatabaseError as wrong:
        raise _trouble(wrong, file) from wrong


def _check_writable(file: Path) -> None:
    what = file if file.exists() else file.parent
    if not (os.access(what, os.W_OK) and os.access(file.parent, os.W_OK)):
        raise Unavailable(
            "is read-only for you, and runs could not be recorded",
            where=str(file),
            hint="make the file and its folder writable, or use a copy of it",
        )


def _trouble(wrong: sqlite3.DatabaseError, file: Path) -> TallyError:
    text = str(wrong)
    if "not a database" in text:
        return BadInput("is not a database of SQLite", where=str(file))
    if "locked" in text or "busy" in text:
        hint = "stop the program that uses it, for example an `mlflow server`, then try again"
        return Unavailable("another program holds a lock on this database", where=str(file), hint=hint)
    if "malformed" in text:
        return Damaged("the database is damaged", where=str(file), hint="restore it from a backup")
    return Unavailable(f"the database cannot be opened: {text}", where=str(file))


def _judged(names: Sequence[str], rows: Iterable[Sequence[object]]) -> Look:
    marks = [str(row[0]) for row in rows]
    others = tuple(sorted(n for n in names if not n.startswith(("alembic_", "sqlite_"))))
    if set(others) >= _MLFLOWS:
        return Look(Found.MLFLOW, marks[0]) if len(marks) == 1 else Look(Found.UNMARKED)
    return Look(Found.FOREIGN, tables=others[:3]) if others else Look(Found.EMPTY)


@contextlib.contextmanager
def connected(address: Address) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A connection to a PostgreSQL server, for a moment; every error of it as Unavailable.

    BadInput where its client cannot read the address: how that quotes the address is not shown.
    """
    try:
        import psycopg
        import psycopg.conninfo
    except ImportError as missing:
        raise MissingTile(
            f"it needs the Python package {missing.name or missing}",
            where="tile tracking/postgresql",
            hint="pip install 'tallystick[postgresql]'",
        ) from missing
    try:
        psycopg.conninfo.conninfo_to_dict(address.url)
    except psycopg.Error:
        hint = "after ? stand parameters of libpq as name=value, with & between them; in a value & is %26"
        raise BadInput("PostgreSQL's client cannot read it", where=str(address), hint=hint) from None
    try:
        with psycopg.connect(address.url, connect_timeout=int(2 * TIMEOUT_S), autocommit=True) as db:
            yield db
    except psycopg.Error as wrong:
        text = " ".join(cleaned(str(wrong), address.url).split())[:500] or type(wrong).__name__
        hint = "make it with: createdb" if "does not exist" in text and "database" in text else ""
        raise Unavailable(
            f"PostgreSQL does not answer: {text}",
            where=str(address),
            hint=hint or "see that the server runs, and that user and password are right",
        ) from None


def _look_at_server(address: Address) -> Look:
    with connected(address) as db:
        names = db.execute("select tablename from pg_tables where schemaname = current_schema()").fetchall()
        found = [str(row[0]) for row in names]
        return _judged(found, db.execute(_MARKS) if _MARK in found else ())


def server_version(address: Address) -> int:
    """The major version of a PostgreSQL server."""
    with connected(address) as db:
        return int(db.info.server_version) // 10_000
