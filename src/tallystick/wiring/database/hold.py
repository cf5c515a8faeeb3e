"""Holding a SQLite database: one hub at a time, as one process alone should write it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tallystick.core.errors import Conflict, Unavailable

__all__ = ["Hold", "hold"]

SUFFIX = ".tally-lock"
_LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_FILE = (errno.ELOOP, errno.EISDIR, errno.ENXIO)
"""What opening a link, a folder or a socket says."""


@dataclass
class Hold:
    """A held database, until :meth:`close`."""

    path: Path
    lock: IO[str]

    def close(self) -> None:
        """Let another hub have it; twice is fine."""
        if not self.lock.closed:
            self.path.unlink(missing_ok=True)  # while it is held: who opened it meanwhile looks again
            self.lock.close()


def hold(file: Path, home: Path) -> Hold:
    """Hold ``file``, which need not be there yet, for the hub on ``home``.

    The lock is a file beside it, ``<file>.tally-lock``, whatever links lead there. Not a lock on the database
    itself: SQLite's own are gone as soon as any handle on the file is closed. Conflict names the other hub.
    """
    real = file.resolve()
    path = real.with_name(real.name + SUFFIX)
    try:
        while True:
            lock = _opened(path)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise _held(file, path, lock) from None
            if _is_there(path, lock):
                break
            lock.close()
        lock.truncate(0)
        lock.write(json.dumps({"pid": os.getpid(), "home": str(home)}))
        lock.flush()
    except OSError as wrong:
        raise Unavailable(f"cannot be held: {wrong.strerror}", where=str(path)) from wrong
    return Hold(path, lock)


def _opened(path: Path) -> IO[str]:
    """The file, made when new; Unavailable for what is none of ours: anybody may write in a shared folder."""
    try:
        opened = os.open(path, _LOCK, 0o666)
    except OSError as wrong:
        if wrong.errno in _NO_FILE:
            raise _planted(path) from None
        raise
    status = os.fstat(opened)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(opened)
        raise _planted(path)
    return os.fdopen(opened, "r+", encoding="utf-8")


def _planted(path: Path) -> Unavailable:
    return Unavailable(
        "something else stands in the place of the lock",
        where=str(path),
        hint=f"see what it is, then remove it: ls -l {path}",
    )


def _is_there(path: Path, lock: IO[str]) -> bool:
    """Whether the lock is on the file that is there, and not on one that its holder has just removed."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(lock.fileno()), path.lstat())
    return False


def _held(file: Path, path: Path, lock: IO[str]) -> Conflict:
    who = ""
    with lock, contextlib.suppress(ValueError, KeyError, TypeError):
        lock.seek(0)
        by = json.loads(lock.read())
        who = f", that of {by['home']} (process {by['pid']})"
    return Conflict(
        f"another hub uses this database{who}; the lock is {path}",
        where=str(file),
        hint="end that hub first; several hubs at once share a PostgreSQL database",
    )
