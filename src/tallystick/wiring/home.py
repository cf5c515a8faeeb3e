"""The home: the folder that holds all state, used by one hub at a time and never by an older one."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tallystick import __version__
from tallystick.core.errors import BadInput, Conflict, Damaged, TallyError, Unavailable

__all__ = ["FORMAT", "Home", "open_home", "running_hub"]

OWN_AT_FIRST = {"lock", "home.new", "hub.log", "keys"}
"""What may be there before ``home.json``: left by a hub that died in its first moment, or `tally trust`."""

PATH_BYTES_MAX = 90

FORMAT = 1
"""The layout of the folder. A hub refuses a home of a higher number."""


@dataclass
class Home:
    """An opened home, held until :meth:`close`."""

    path: Path
    lock: IO[str]

    def announce(self, url: str) -> None:
        """Say in ``hub.json`` where this hub answers, for the command line to find."""
        text = json.dumps({"url": url, "pid": os.getpid(), "version": __version__})
        _write(self.path / "hub.json", text)

    def close(self) -> None:
        """Let another hub have it."""
        (self.path / "hub.json").unlink(missing_ok=True)
        self.lock.close()


def open_home(path: Path) -> Home:
    """Make or open a home and hold it alone.

    Conflict when another hub holds it or a newer tallystick made it, Unavailable when the disk is
    full or read-only, Damaged when it is not a home.
    """
    path = path.resolve()
    _check_length(path)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_not_foreign(path)
        lock = (path / "lock").open("a+", encoding="utf-8")
    except OSError as wrong:
        raise _unusable(path, wrong) from wrong
    try:
        _hold(path, lock)
        _check_format(path)
        for name in ("run", "scratch"):
            (path / name).mkdir(mode=0o700, exist_ok=True)
    except OSError as wrong:
        lock.close()
        raise _unusable(path, wrong) from wrong
    except TallyError:
        lock.close()
        raise
    return Home(path, lock)


def _check_length(path: Path) -> None:
    """Unix sockets lie in the home, and their paths have a limit of 107 bytes (unix(7))."""
    length = len(os.fsencode(path))
    if length > PATH_BYTES_MAX:
        raise BadInput(
            f"its path is {length} bytes long, and may be {PATH_BYTES_MAX}",
            where=str(path),
            hint="choose a shorter --home: sockets in it cannot have longer paths",
        )


def _check_not_foreign(path: Path) -> None:
    """Conflict for a folder that is neither a home nor empty: nothing is written into it."""
    others = sorted(p.name for p in path.iterdir() if p.name not in OWN_AT_FIRST)
    if others and not (path / "home.json").exists():
        raise Conflict(
            f"the folder holds other things ({', '.join(others[:3])})",
            where=str(path),
            hint="choose an empty or new folder with --home",
        )


def _hold(path: Path, lock: IO[str]) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        hub = running_hub(path)
        where = f" at {hub['url']} (process {hub['pid']})" if hub else ""
        raise Conflict(
            f"another hub runs on this home{where}",
            where=str(path),
            hint="use that one, or choose another --home",
        ) from None


def _check_format(path: Path) -> None:
    file = path / "home.json"
    if not file.exists():
        _write(file, json.dumps({"format": FORMAT, "made_by": __version__, "path": str(path)}))
        return
    try:
        made: dict[str, Any] = json.loads(file.read_text("utf-8"))
        number = int(made["format"])
    except (ValueError, KeyError, TypeError):
        raise Damaged("home.json cannot be read", where=str(file), hint="restore it from a backup") from None
    _check_not_moved(path, str(made.get("path", path)))
    if number > FORMAT:
        newer = made.get("made_by", "unknown")
        raise Conflict(
            f"this home was made by a newer tallystick ({newer}); this is {__version__}",
            where=str(path),
            hint="upgrade with pip install -U tallystick, or choose another --home",
        )


def _check_not_moved(path: Path, made_at: str) -> None:
    """Iceberg names a table's files by their whole path: a copy would read and write the original's."""
    if made_at != str(path):
        raise Conflict(
            f"this home was made at {made_at}, and its tables name their files by that path",
            where=str(path),
            hint="move it back there; moving a home is not supported yet",
        )


def _write(path: Path, text: str) -> None:
    """Replace a file's content as a whole, durably."""
    temporary = path.with_suffix(".new")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _unusable(path: Path, wrong: OSError) -> Unavailable:
    hints = {
        errno.ENOSPC: "free some space, or choose another --home",
        errno.EROFS: "the file system is read-only: choose another --home",
        errno.EACCES: "it is not writable for you: choose another --home",
        errno.ENOTDIR: "a file is in the way: choose another --home",
        errno.EEXIST: "a file is in the way: choose another --home",
    }
    hint = hints.get(wrong.errno or 0, "choose another --home")
    return Unavailable(f"cannot be used: {wrong.strerror}", where=str(path), hint=hint)


def running_hub(home: Path) -> dict[str, Any] | None:
    """What the hub on ``home`` announced, or None when none did."""
    try:
        found = json.loads((home / "hub.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and {"url", "pid"} <= found.keys() else None
