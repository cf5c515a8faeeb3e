"""What SQLite's own errors mean in ours."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from tallystick.core.errors import Damaged, TallyError, TooLarge, Unavailable

__all__ = ["said_plainly"]

_UNAVAILABLE = {
    sqlite3.SQLITE_BUSY: ("the database is locked by another program", "end it, or wait, and try again"),
    sqlite3.SQLITE_LOCKED: ("the database is locked by another program", "end it, or wait, and try again"),
    sqlite3.SQLITE_READONLY: (
        "the database cannot be written",
        "make the home folder writable for this user",
    ),
    sqlite3.SQLITE_PERM: ("the database may not be opened", "make the home folder readable and writable"),
    sqlite3.SQLITE_AUTH: ("the database may not be opened", "make the home folder readable and writable"),
    sqlite3.SQLITE_CANTOPEN: ("the database cannot be opened", "make the home folder readable and writable"),
    sqlite3.SQLITE_FULL: ("the disk is full", "free some space, then try again"),
    sqlite3.SQLITE_IOERR: ("the disk gave an error", "check the disk, and the system's log"),
    sqlite3.SQLITE_NOMEM: ("there is not enough memory", "free some memory and try again"),
}
# SQLITE_ERROR is here because our statements are right: it means that a table is not as we made it.
_DAMAGED = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_SCHEMA,
    sqlite3.SQLITE_FORMAT,
}


def said_plainly(wrong: sqlite3.Error, path: Path) -> TallyError:
    """The error of ours that ``wrong``, raised on the database at ``path``, means.

    Unavailable for a lock, a full or read-only disk; Damaged when the file is no database or not ours;
    TooLarge over SQLite's own limits.
    """
    code = getattr(wrong, "sqlite_errorcode", sqlite3.SQLITE_MISUSE) & 0xFF
    if code in _DAMAGED:
        return Damaged(
            f"the database is damaged: {wrong}",
            where=str(path),
            hint="restore it from a copy, with its -wal file",
        )
    if code == sqlite3.SQLITE_TOOBIG:
        return TooLarge("the fact is larger than the database can hold", where=str(path))
    what, hint = _UNAVAILABLE.get(code, (f"the database gave an error: {wrong}", "see the hub's log"))
    return Unavailable(what, where=str(path), hint=hint)
