"""Files below one folder, reached segment by segment: no link is followed, so none leads out.

::

    <root>/a/b/file                                  as MLflow's own server keeps it
    <root>/.artifact.uploading.tally/<sha256[:40]>   an upload to that path, under way or cut off
    <root>/.artifact.uploading.tally/<random>        a second one to the same path; a folder being removed

MLflow lists no name that begins so, and its sweep of cut-off uploads looks at files' names only: so an upload
that waits for the rest is neither shown nor swept by an MLflow server on the same folder.

All functions block.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from tallystick.core.errors import BadInput, Conflict, NotFound, Unavailable
from tallystick.ports.files import FileInfo
from tallystick.tiles.files.paths import UNFINISHED, is_plain

__all__ = ["Segments", "Tree", "disk_errors", "info_of", "try_lock"]

Segments = tuple[str, ...]

_STAGING = UNFINISHED + "tally"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_IN_THE_WAY = (errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def disk_errors(path: str, writing: bool = False) -> Iterator[None]:
    """Say what the disk says in our words: what a path leads to, and a full, read-only or failing disk."""
    try:
        yield
    except OSError as wrong:
        raise _said(wrong, path, writing) from wrong


def _said(wrong: OSError, path: str, writing: bool) -> BadInput | Conflict | NotFound | Unavailable:
    if wrong.errno == errno.ENAMETOOLONG:
        return BadInput("a name in this path is too long for the disk", where=path[:200])
    if wrong.errno in _IN_THE_WAY and writing:
        return Conflict(
            "a file, folder or link is in the way", where=path, hint="remove it or use another path"
        )
    if wrong.errno in (errno.ENOENT, *_IN_THE_WAY) and not writing:
        return NotFound("no such artifact", where=path)
    if wrong.errno == errno.ENOENT:
        return Unavailable("the folder of all artifacts is gone", where=path, hint="mount or make it again")
    if wrong.errno in _FULL:
        return Unavailable("the disk is full", where=path, hint="free some space and try again")
    hint = "make the artifacts' folder writable for this user"
    return Unavailable(f"the disk refuses: {wrong.strerror}", where=path, hint=hint)


def info_of(path: str, status: os.stat_result) -> FileInfo:
    """About a regular file. Its etag changes with every new file in its place and every change to it."""
    etag = f"{status.st_ino:x}-{status.st_ctime_ns:x}-{status.st_size:x}"
    return FileInfo(path, False, status.st_size, etag, status.st_mtime_ns // 1_000_000)


class Tree:
    """The files below ``root``, which may itself be reached over links: whoever runs the hub chose it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        with disk_errors(str(root), writing=True):
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self.staging():
                pass

    @contextlib.contextmanager
    def folder(self, segments: Segments, make: bool = False) -> Iterator[int]:
        """A descriptor of a folder; with ``make``, it and those above it are made, durably."""
        here = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for segment in segments:
                below = _step(here, segment, make)
                os.close(here)
                here = below
            yield here
        finally:
            os.close(here)

    @contextlib.contextmanager
    def staging(self) -> Iterator[int]:
        """A descriptor of the folder where uploads wait until they are whole."""
        with self.folder((_STAGING,), make=True) as here:
            yield here

    def stat(self, segments: Segments) -> os.stat_result:
        """Of a regular file; FileNotFoundError where there is none."""
        with self.folder(segments[:-1]) as above:
            return _regular(os.stat(segments[-1], dir_fd=above, follow_symlinks=False))

    def open(self, segments: Segments) -> int:
        """A descriptor to read a regular file; FileNotFoundError where there is none."""
        with self.folder(segments[:-1]) as above:
            opened = os.open(segments[-1], _FILE, dir_fd=above)
        try:
            _regular(os.fstat(opened))
        except BaseException:
            os.close(opened)
            raise
        return opened

    def list(self, segments: Segments) -> list[FileInfo]:
        """Regular files and folders right below, by path; neither links nor names that no path can have."""
        above = "/".join((*segments, ""))
        try:
            with self.folder(segments) as here, os.scandir(here) as entries:
                found = [_listed(above, entry) for entry in entries if is_plain(entry.name)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted((info for info in found if info), key=lambda info: info.path)

    def check_free(self, segments: Segments) -> None:
        """An OSError when a file could not be put there, for what lies there now."""
        try:
            with self.folder(segments[:-1]) as above:
                there = os.stat(segments[-1], dir_fd=above, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not stat.S_ISREG(there.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))

    def delete(self, segments: Segments) -> None:
        """Remove a file, or a folder: at once for readers, as it is moved away before it is emptied."""
        name = segments[-1]
        with self.folder(segments[:-1]) as above:
            there = os.stat(name, dir_fd=above, follow_symlinks=False)
            if stat.S_ISDIR(there.st_mode):
                with self.staging() as away:
                    moved = secrets.token_hex(16)
                    os.rename(name, moved, src_dir_fd=above, dst_dir_fd=away)
                    os.fsync(above)
                    shutil.rmtree(moved, ignore_errors=True, dir_fd=away)  # the sweep gets the rest
            else:
                _regular(there)
                os.unlink(name, dir_fd=above)
                os.fsync(above)

    def sweep(self, age_s: float) -> int:
        """Remove what uploads that were cut off so long ago have left; how many."""
        swept, before = 0, time.time() - age_s
        with self.staging() as here, os.scandir(here) as entries:
            for entry in list(entries):
                with contextlib.suppress(OSError):  # another hub's sweep, or an upload that goes on after all
                    if entry.stat(follow_symlinks=False).st_mtime < before:
                        swept += _swept(here, entry)
        return swept


def _step(here: int, segment: str, make: bool) -> int:
    try:
        return os.open(segment, _FOLDER, dir_fd=here)
    except FileNotFoundError:
        if not make:
            raise
    with contextlib.suppress(FileExistsError):  # another upload made it
        os.mkdir(segment, dir_fd=here)
    os.fsync(here)
    return os.open(segment, _FOLDER, dir_fd=here)


def _regular(status: os.stat_result) -> os.stat_result:
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return status


def _listed(above: str, entry: os.DirEntry[str]) -> FileInfo | None:
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        return FileInfo(above + entry.name, True, 0, "", status.st_mtime_ns // 1_000_000)
    if not stat.S_ISREG(status.st_mode):
        return None
    return FileInfo(above + entry.name, False, status.st_size, "", status.st_mtime_ns // 1_000_000)


def _swept(here: int, entry: os.DirEntry[str]) -> bool:
    if entry.is_dir(follow_symlinks=False):
        shutil.rmtree(entry.name, ignore_errors=True, dir_fd=here)
        return True
    opened = os.open(entry.name, _FILE, dir_fd=here)
    try:
        if try_lock(opened):
            os.unlink(entry.name, dir_fd=here)
            return True
        return False
    finally:
        os.close(opened)


def try_lock(opened: int) -> bool:
    """Lock an open file until it is closed; False when somebody else holds it."""
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
