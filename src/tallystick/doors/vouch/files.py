"""Files of a download, read as something hostile: no links, nothing special, nothing larger than it says."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tallystick.core.errors import BadInput, NotFound, Refused, TooLarge
from tallystick.evidence.papers.tree import FILES_MAX, Member, in_order

__all__ = ["members_in", "names_in", "read_paper"]

CHUNK_BYTES = 1 << 20
DEPTH_MAX = 64
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def members_in(folder: Path, progress: Callable[[int], None] = lambda _: None) -> tuple[Member, ...]:
    """Every file below ``folder`` with the SHA-256 of its content, in pieces of 1 MiB; ``progress`` in bytes.

    Refused for a link, a device or a pipe, wherever it is, for a file that changes while it is read, and
    for a name that is not UTF-8; NotFound where there is no folder.
    """
    found: list[Member] = []
    try:
        top = os.open(folder, _OPEN | os.O_DIRECTORY)
    except OSError as wrong:
        raise NotFound(f"it is no folder: {wrong.strerror}", where=str(folder)) from None
    try:
        for member in _below(top, "", progress, 0):
            found.append(member)
            if len(found) > FILES_MAX:
                raise TooLarge(f"over {FILES_MAX:,} files", where=str(folder))
    finally:
        os.close(top)
    return in_order(found)


def _below(fd: int, prefix: str, progress: Callable[[int], None], depth: int) -> Iterator[Member]:
    if depth > DEPTH_MAX:
        raise Refused(f"folders over {DEPTH_MAX} deep", where=prefix[:100])
    with os.scandir(fd) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        path = _utf8(prefix + name)
        with _opened(fd, name, path) as (inner, about):
            if stat.S_ISDIR(about.st_mode):
                yield from _below(inner, path + "/", progress, depth + 1)
            else:
                yield Member(path, _digest(inner, about, path, progress), about.st_size)


@contextmanager
def _opened(parent: int, name: str, path: str) -> Iterator[tuple[int, os.stat_result]]:
    """A file or folder, opened with no link on the way; Refused for anything else."""
    try:
        fd = os.open(name, _OPEN, dir_fd=parent)
    except OSError as wrong:
        seen = os.stat(name, dir_fd=parent, follow_symlinks=False)
        what = "it is a link" if stat.S_ISLNK(seen.st_mode) else f"it cannot be read: {wrong.strerror}"
        raise Refused(what, where=ascii(path)[1:-1]) from None
    try:
        about = os.fstat(fd)
        if not (stat.S_ISREG(about.st_mode) or stat.S_ISDIR(about.st_mode)):
            raise Refused("it is no regular file", where=ascii(path)[1:-1])
        yield fd, about
    finally:
        os.close(fd)


def _digest(fd: int, about: os.stat_result, path: str, progress: Callable[[int], None]) -> str:
    over, size = hashlib.sha256(), 0
    while chunk := os.read(fd, CHUNK_BYTES):
        over.update(chunk)
        size += len(chunk)
        progress(len(chunk))
        if size > about.st_size:
            break
    if size != about.st_size:
        raise Refused("it changed while it was read", where=ascii(path)[1:-1])
    return "sha256:" + over.hexdigest()


def _utf8(path: str) -> str:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        raise Refused("its name is not UTF-8", where=ascii(path)[1:-1]) from None
    return path


def names_in(folder: Path) -> list[str]:
    """What lies in a folder; NotFound where there is none."""
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError as wrong:
        raise NotFound(f"it is no folder: {wrong.strerror}", where=str(folder)) from None


def read_paper(folder: Path, name: str, bytes_max: int) -> bytes:
    """A small file of a download; NotFound, Refused for a link, TooLarge over the limit."""
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if name not in names_in(folder):
            raise NotFound(f"there is no {name}", where=str(folder))
        with _opened(top, name, name) as (fd, about):
            if stat.S_ISDIR(about.st_mode):
                raise BadInput("it is a folder", where=name)
            if about.st_size > bytes_max:
                raise TooLarge(f"it is over {bytes_max} bytes", where=name)
            with os.fdopen(os.dup(fd), "rb") as file:
                return file.read(bytes_max)
    finally:
        os.close(top)
