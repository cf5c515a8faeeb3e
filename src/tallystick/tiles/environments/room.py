"""Room: environments and uv's cache together stay below a size; what was not used for longest goes first."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from tallystick.tiles.environments.folders import Folders

__all__ = ["CACHE", "make_room", "size_of", "sizes_of", "turn_at"]

CACHE = "cache"
BLOCK = 512
_GIB = 1 << 30
_log = logging.getLogger(__name__)


def make_room(folders: Folders, bytes_max: int) -> None:
    """Remove what is not in use, until at most ``bytes_max`` bytes are taken or nothing is left to remove.

    The cache goes first, as it only saves that packages are fetched again, and most of it is linked with the
    environments. While it is in use somebody resolves or builds, and makes room afterwards.
    """
    with turn_at(folders):
        if sum(sizes_of(folders).values()) <= bytes_max:
            return
        if folders.whole(CACHE) and not folders.removed(CACHE):
            return
        _evict(folders, bytes_max)


@contextlib.contextmanager
def turn_at(folders: Folders) -> Iterator[None]:
    """One process at a time makes room, which may take seconds; this waits for its turn."""
    turn = os.open(folders.root / "room.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield
    finally:
        os.close(turn)


def _evict(folders: Folders, bytes_max: int) -> None:
    """Remove environments in turn. What two share goes with the later one, so that all is measured again."""
    stays = set[str]()
    while (total := sum((sizes := sizes_of(folders)).values())) > bytes_max:
        waiting = [name for name in folders.by_last_use() if name in sizes and name not in stays]
        if not waiting:
            _log.warning(
                "environments take %.1f GiB, and all of them are in use: environments_gib is %.1f",
                total / _GIB,
                bytes_max / _GIB,
            )
            return
        for name in waiting:
            if total <= bytes_max:
                break
            if folders.removed(name):
                total -= sizes[name]
            else:
                stays.add(name)


def sizes_of(folders: Folders) -> dict[str, int]:
    """What each environment and then the cache take, in bytes; of what several share, each has its part.

    Those that were not used for longest come first.
    """
    names = [*folders.by_last_use(), *([CACHE] if folders.whole(CACHE) else [])]
    return {name: size_of(folders.root / name) for name in dict.fromkeys(names)}


def size_of(folder: Path) -> int:
    """Bytes on the disk below ``folder``; a file with several names counts for each of them in part."""
    total, waiting = 0.0, [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                        total += found.st_blocks * BLOCK
                    else:
                        total += found.st_blocks * BLOCK / found.st_nlink
        except FileNotFoundError:  # somebody removes it at this moment
            continue
    return round(total)
