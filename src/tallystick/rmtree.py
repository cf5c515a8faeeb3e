"""Removal: folders that somebody else's code may have filled are taken away, whatever lies in them.

Started by its path, ``python -I -S rmtree.py``, it removes what standard input names: paths, each with a zero
byte after it, and one more after the last of a request. It answers each request with a line: why something is
left, or nothing. Standard library only, and nothing of the hub's.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["END", "rmtree"]

END = b"\0\0"
"""After the last path of a request."""

DEPTH_MAX = 16
"""How deep to go into a tree, and so how many folders are open: what lies deeper is moved up first."""

ENTRIES_MAX = 10_000
"""How many names of one folder are held in memory."""

_OPEN = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# openat2(2) opens a folder only if that is on the same mount: Linux has it since 5.6, and Python not yet. Its
# number is the same on all machines but Alphas.
_OPENAT2 = 437
_BELOW = 0x01 | 0x04 | 0x08  # RESOLVE_NO_XDEV, _NO_SYMLINKS, _BENEATH
_HOW = (ctypes.c_uint64 * 3)(os.O_RDONLY | _OPEN, 0, _BELOW)
_syscall = ctypes.CDLL(None).syscall
_syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
_syscall.restype = ctypes.c_long


@dataclass(slots=True)
class _Level:
    """A folder being emptied: its folders found so far, and the names that stay, as they cannot go."""

    fd: int
    name: str
    folders: list[str] = field(default_factory=list)
    stuck: set[str] = field(default_factory=set)
    looked: bool = False


def rmtree(path: Path, stopped: Callable[[], bool] = lambda: False) -> str:
    """Remove a folder with all in it, or a file: why something of it is left, or nothing. It never raises.

    No link is followed, no mount is crossed and nothing outside of ``path`` is touched. However deep the
    tree, it takes no more than a few descriptors and bounded memory. Own folders without permissions get
    them first. What cannot be removed stays. Once ``stopped`` says so, the rest stays.
    """
    removal = _Removal(stopped)
    try:
        parent = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as wrong:
        return f"{path} cannot be removed: {wrong}"
    try:
        removal.run(parent, path.name)
    finally:
        os.close(parent)
    if removal.troubles:
        return f"{path}: {removal.troubles} things cannot be removed, as {removal.first}"
    return ""


class _Removal:
    """One removal; ``troubles`` counts what stayed, ``first`` says why the first of it did."""

    def __init__(self, stopped: Callable[[], bool]) -> None:
        self._stopped = stopped
        self._mount: tuple[bytes, int] | None = None
        self._levels: list[_Level] = []
        self.troubles = 0
        self.first = ""

    def run(self, parent: int, name: str) -> None:
        """Remove ``name`` in the folder ``parent``, a descriptor."""
        self._levels = [_Level(parent, "")]
        try:
            if _is_folder(parent, name):
                self._descend(name)
            else:
                os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            return
        except OSError as wrong:
            self._note(name, wrong)
        try:
            while len(self._levels) > 1:
                self._advance(self._levels[-1])
        finally:
            for level in self._levels[1:]:
                os.close(level.fd)

    def _advance(self, level: _Level) -> None:
        """One step: into a folder, or another look at what is left here, or back up."""
        if self._stopped():
            self._note(level.name, InterruptedError(errno.EINTR, "it was interrupted"))
            self._leave(level)
        elif level.folders:
            name = level.folders.pop()
            try:
                if not _removed(name, level.fd):
                    self._descend(name)
            except FileNotFoundError:
                return
            except OSError as wrong:
                self._note(name, wrong)
        elif level.looked and _removed(level.name, self._levels[-2].fd):
            os.close(self._levels.pop().fd)
        elif not self._look(level):
            self._leave(level)

    def _look(self, level: _Level) -> bool:
        """Remove files and find folders; False when there is nothing more that could be removed."""
        level.looked = True
        try:
            with os.scandir(level.fd) as entries:
                fresh = (e for e in entries if e.name not in level.stuck)
                # Taken out before anything is removed: a folder that is read while it changes may skip.
                found = [(e.name, _seems_folder(e)) for e in itertools.islice(fresh, ENTRIES_MAX)]
        except OSError as wrong:
            self._note(level.name, wrong)
            return False
        for name, folder in found:
            if folder:
                level.folders.append(name)
                continue
            try:
                os.unlink(name, dir_fd=level.fd)
            except FileNotFoundError:
                continue
            except OSError as wrong:
                self._note(name, wrong)
        return bool(found)

    def _descend(self, name: str) -> None:
        """Go into a folder; one that lies too deep is moved up to the top, where it is found again."""
        above = self._levels[-1]
        fd = self._opened(above.fd, name)
        if len(self._levels) <= DEPTH_MAX:
            self._levels.append(_Level(fd, name))
            return
        os.close(fd)
        fresh = f"{secrets.token_hex(8)}-moved-up"
        os.rename(name, fresh, src_dir_fd=above.fd, dst_dir_fd=self._levels[1].fd)

    def _opened(self, parent: int, name: str) -> int:
        """A folder's descriptor, once it may be listed and changed; OSError where a mount begins."""
        fd = int(_syscall(_OPENAT2, parent, os.fsencode(name), _HOW, ctypes.sizeof(_HOW)))
        if fd < 0:  # whatever it was: the longer way says it, or gets there
            return self._opened_slowly(parent, name)
        try:
            _permit(fd)
        except BaseException:  # whatever it was, and it is raised again
            os.close(fd)
            raise
        return fd

    def _opened_slowly(self, parent: int, name: str) -> int:
        """:meth:`_opened` where the kernel has no openat2(2), or the folder may not be opened yet."""
        handle = os.open(name, os.O_PATH | _OPEN, dir_fd=parent)
        try:
            self._mount = self._mount or _mount_of(self._levels[0].fd)
            if _mount_of(handle) != self._mount:
                raise OSError(errno.EXDEV, "something is mounted there")
            _permit(handle)
            return os.open(".", os.O_RDONLY | _OPEN, dir_fd=handle)
        finally:
            os.close(handle)

    def _leave(self, level: _Level) -> None:
        """Go back up and remove the folder; it fails where something stayed in it."""
        self._levels.pop()
        os.close(level.fd)
        try:
            os.rmdir(level.name, dir_fd=self._levels[-1].fd)
        except FileNotFoundError:
            return
        except OSError as wrong:
            self._note(level.name, wrong)

    def _note(self, name: str, wrong: OSError) -> None:
        self._levels[-1].stuck.add(name)
        self.troubles += 1
        self.first = self.first or f"{name[:100]!r}: {wrong.strerror or wrong}"


def _seems_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _removed(name: str, parent: int) -> bool:
    """Whether this folder was empty, and is gone: most are, and to try is cheaper than to look."""
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError:
        return False
    return True


def _permit(fd: int) -> None:
    """Let us list and change the folder at ``fd``."""
    mode = stat.S_IMODE(os.fstat(fd).st_mode)
    if mode & stat.S_IRWXU != stat.S_IRWXU:
        os.chmod(f"/proc/self/fd/{fd}", mode | stat.S_IRWXU)  # noqa: PTH101  as fchmod takes no O_PATH


def _is_folder(parent: int, name: str) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


def _mount_of(fd: int) -> tuple[bytes, int]:
    """The mount that a descriptor is on; its device alone does not tell a bind mount."""
    try:
        lines = Path(f"/proc/self/fdinfo/{fd}").read_bytes().splitlines()
        mount = next(line for line in lines if line.startswith(b"mnt_id:"))
    except (OSError, StopIteration):
        mount = b""
    return mount, os.fstat(fd).st_dev


def main() -> None:
    """Serve standard input until it ends."""
    rest = b""
    while piece := os.read(0, 65536):
        *requests, rest = (rest + piece).split(END)
        for request in requests:
            troubles = filter(None, (rmtree(Path(os.fsdecode(path))) for path in request.split(b"\0")))
            said = " ".join("; ".join(troubles).split())
            os.write(1, said.encode("utf-8", "backslashreplace") + b"\n")


if __name__ == "__main__":
    main()
