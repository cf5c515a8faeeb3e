"""Reading what others made: a file or folder as it is now, with no link followed and nothing but regular
files.

Folders are walked by descriptor, so that a process that swaps a folder for a link meanwhile gains nothing.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Generator, Iterator
from pathlib import Path

from tallystick.core.errors import BadInput, TooLarge
from tallystick.tiles.artifacts.manifest import check_path

__all__ = ["DEPTH_MAX", "ENTRIES_MAX", "open_file", "walk_folder"]

ENTRIES_MAX = 100_000
DEPTH_MAX = 64

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_FOLDER = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC


@contextlib.contextmanager
def open_file(path: str | Path, shown: str, *, folder: int | None = None) -> Iterator[int]:
    """A descriptor of the regular file ``path`` (in the open ``folder``), shown as ``shown``; or BadInput."""
    with _opened(path, _FILE, shown, folder) as descriptor:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BadInput("it is not a regular file", where=shown)
        yield descriptor


def walk_folder(path: Path) -> Generator[tuple[str, int], None, None]:
    """Each regular file below ``path``: its relative path, and a descriptor open until the next is asked for.

    BadInput for a link, a special file or a name that is not UTF-8; TooLarge over ``ENTRIES_MAX`` files
    and folders, or ``DEPTH_MAX`` folders inside each other.
    """
    with _opened(path, _FOLDER, str(path), None) as top:
        yield from _Walk(str(path)).below(top, "", 1)


class _Walk:
    """One walk, which counts what it meets."""

    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._left = ENTRIES_MAX

    def below(self, folder: int, prefix: str, depth: int) -> Iterator[tuple[str, int]]:
        if depth > DEPTH_MAX:
            raise TooLarge(f"folders are nested deeper than {DEPTH_MAX}", where=self._shown)
        for name, is_folder in self._entries(folder):
            path = check_path(prefix + name)
            if is_folder:
                with _opened(name, _FOLDER, path, folder) as inner:
                    yield from self.below(inner, f"{path}/", depth + 1)
            else:
                with open_file(name, path, folder=folder) as descriptor:
                    yield path, descriptor

    def _entries(self, folder: int) -> list[tuple[str, bool]]:
        with os.scandir(folder) as entries:
            few = itertools.islice(entries, self._left + 1)
            found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in few)
        self._left -= len(found)
        if self._left < 0:
            raise TooLarge(f"the folder has more than {ENTRIES_MAX} files and folders", where=self._shown)
        return found


@contextlib.contextmanager
def _opened(path: str | Path, flags: int, shown: str, folder: int | None) -> Iterator[int]:
    try:
        descriptor = os.open(path, flags, dir_fd=folder)
    except (OSError, ValueError) as wrong:  # a link (ELOOP), gone, no folder, a socket, a NUL in the name
        why = wrong.strerror if isinstance(wrong, OSError) else str(wrong)
        kind = "folder" if flags & os.O_DIRECTORY else "file"
        raise BadInput(f"it cannot be stored as a {kind}: {why}", where=ascii(shown)[1:-1]) from wrong
    try:
        yield descriptor
    finally:
        os.close(descriptor)
