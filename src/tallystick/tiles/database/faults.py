"""What the drivers' own errors mean for who asked."""

from __future__ import annotations

import sqlite3

from tallystick.core.errors import Damaged, Failed, TallyError, Unavailable
from tallystick.ports.database import Fault

__all__ = ["meaning_of_postgresql", "meaning_of_sqlite"]

LOCKED = ("the database is locked by another program", "end it, or wait, and try again")
READ_ONLY = ("the database cannot be written", "make the file, and its folder, writable for this user")
NOT_OPENED = ("the database cannot be opened", "see that the file is there, and readable and writable")
FULL = ("the disk is full", "free some space, then try again")
DISK = ("the disk gave an error", "check the disk, and the system's log")
MEMORY = ("there is not enough memory", "free some memory and try again")
GONE = ("the database does not answer", "see that PostgreSQL runs and takes connections, then try again")
CROWDED = ("the database takes no more connections or work", "raise its limits, or wait, and try again")
FORBIDDEN = (
    "the database does not allow it",
    "grant its user the rights to MLflow's tables and to make new ones",
)

_SQLITE = {
    sqlite3.SQLITE_BUSY: LOCKED,
    sqlite3.SQLITE_LOCKED: LOCKED,
    sqlite3.SQLITE_READONLY: READ_ONLY,
    sqlite3.SQLITE_PERM: NOT_OPENED,
    sqlite3.SQLITE_AUTH: NOT_OPENED,
    sqlite3.SQLITE_CANTOPEN: NOT_OPENED,
    sqlite3.SQLITE_FULL: FULL,
    sqlite3.SQLITE_IOERR: DISK,
    sqlite3.SQLITE_NOMEM: MEMORY,
    sqlite3.SQLITE_INTERRUPT: ("the database was asked to stop", "try again"),
}
_SQLITE_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}

# By the first characters of SQLSTATE, the longest that fits.
_POSTGRESQL = {
    "53100": FULL,
    "53200": MEMORY,
    "53": CROWDED,
    "55P03": LOCKED,
    "57014": LOCKED,  # a statement that waited too long
    "25006": ("the database is read-only", "connect to the primary, or end its recovery"),
    "25P0": LOCKED,  # idle too long
    "42501": FORBIDDEN,
    "28": FORBIDDEN,
    "3D": ("there is no such database", "make it, or name another with the setting `database`"),
    "58": DISK,
    "XX001": DISK,
    "XX002": DISK,
}
_AGAIN = ("40001", "40P01")
_GUILTY = ("21", "22", "23", "42", "54")
"""Values that do not fit, constraints, and a schema that is not what this tile knows: MLflow knows better."""
_LOST = ("08", "57P01", "57P02", "57P03")


def meaning_of_sqlite(wrong: Exception, where: str) -> Fault:
    """What an error of ``sqlite3``, or of the tile itself, means."""
    code = getattr(wrong, "sqlite_errorcode", None)
    if not isinstance(wrong, sqlite3.Error) or code is None:
        return _of_python(wrong, where)
    code &= 0xFF
    if code in _SQLITE_DAMAGED:
        hint = "restore it from a copy, with its -wal file"
        return Fault("down", Damaged(f"the database is damaged: {wrong}", where=where, hint=hint))
    if code in _SQLITE:
        return Fault("down", _unavailable(_SQLITE[code], where))
    return Fault("guilty", None)


def meaning_of_postgresql(wrong: Exception, where: str) -> Fault:
    """What an error of ``psycopg``, or of the tile itself, means."""
    state = getattr(wrong, "sqlstate", None)
    if not any(kind.__module__.partition(".")[0] == "psycopg" for kind in type(wrong).__mro__):
        return _of_python(wrong, where)
    if state is None:  # the server said nothing: the connection broke or never was, or a value cannot be told
        lost = type(wrong).__name__ in ("OperationalError", "InterfaceError", "ConnectionTimeout")
        return Fault("lost", _unavailable(GONE, where)) if lost else Fault("guilty", None)
    if state in _AGAIN:
        return Fault("again", _unavailable(LOCKED, where))
    if state.startswith(_LOST):
        return Fault("lost", _unavailable(GONE, where))
    for length in (5, 4, 2):
        if said := _POSTGRESQL.get(state[:length]):
            return Fault("down", _unavailable(said, where))
    if state.startswith(_GUILTY):
        return Fault("guilty", None)
    return Fault("down", Unavailable(f"the database gave an error: {wrong}", where=where, hint="see its log"))


def _unavailable(said: tuple[str, str], where: str) -> TallyError:
    return Unavailable(said[0], where=where, hint=said[1])


def _of_python(wrong: Exception, where: str) -> Fault:
    """Text that is no Unicode, or a number that is too large, can be told to no database."""
    if isinstance(wrong, UnicodeError | OverflowError | sqlite3.Error):
        return Fault("guilty", None)
    if isinstance(wrong, TallyError):
        return Fault("guilty", wrong)
    return Fault("guilty", Failed(f"{type(wrong).__name__}: {wrong}", where=where))
