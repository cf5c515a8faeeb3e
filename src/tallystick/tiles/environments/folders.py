"""The folders of environments: each appears whole or not at all, and stays for as long as somebody uses it.

``<name>``, 40 hexadecimal digits, is a whole one, ``<name>.aside`` one in the making or on its way out.
``<name>.lock`` is locked by whoever makes or removes it, ``<name>.used`` by all who use it together, and by
whoever removes it alone; the time of that file is when it was last used. Locks go with their process, however
that ends, and what lies aside while nobody holds its lock is swept.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import re
import shutil
import weakref
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from tallystick.core.errors import Unavailable

__all__ = ["Folders", "Hold"]

_NAME = re.compile(r"[0-9a-f]{40}")
LOOK_S = 0.1
"""Between two looks at a lock that another process holds: nothing tells when it lets go."""


class Hold:
    """As long as anybody refers to it, its folder is not removed: not by this process, nor by another."""

    def __init__(self, fd: int) -> None:
        weakref.finalize(self, os.close, fd)


class Folders:
    """Below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._held = weakref.WeakValueDictionary[str, Hold]()
        root.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._sweep()

    def whole(self, name: str) -> Path | None:
        """The folder, where it is there."""
        folder = self.root / name
        return folder if folder.is_dir() else None

    async def held(self, name: str) -> Hold | None:
        """A hold on the whole folder, which counts as used now; None: there is no such folder."""
        if self.whole(name) is None:
            return None
        hold = self._held.get(name)
        if hold is None:
            hold = await self.use(name)
            if self.whole(name) is None:  # it was on its way out
                return None
            hold = self._held.setdefault(name, hold)
        with _disk_errors(self.root):
            os.utime(self._file(name, "used"))
        return hold

    async def use(self, name: str) -> Hold:
        """A hold on that name, whether there is such a folder or not."""
        with _disk_errors(self.root):
            fd = _opened(self._file(name, "used"))
        hold = Hold(fd)
        while not _locked(fd, fcntl.LOCK_SH):  # noqa: ASYNC110  another process's may be: no event tells
            await asyncio.sleep(LOOK_S)
        return hold

    @contextlib.asynccontextmanager
    async def making(self, name: str) -> AsyncIterator[Path | None]:
        """An empty folder to fill, which is the whole one from the end of the block on; None: that exists.

        Waits for whoever makes it already. A block that fails leaves nothing.
        """
        held = _opened(self._file(name, "lock"))
        try:
            while not _locked(held):  # noqa: ASYNC110  another process's may be: no event tells
                await asyncio.sleep(LOOK_S)
            if self.whole(name):
                yield None
                return
            aside = self._file(name, "aside")
            await asyncio.to_thread(_remove, aside)
            with _disk_errors(self.root):
                aside.mkdir(mode=0o755)
            try:
                yield aside
                with _disk_errors(self.root):
                    aside.rename(self.root / name)
            finally:
                await asyncio.to_thread(_remove, aside)
        finally:
            os.close(held)

    def by_last_use(self) -> list[str]:
        """The names of all whole ones, those that were not used for longest first."""
        found = [folder for folder in self.root.iterdir() if _NAME.fullmatch(folder.name) and folder.is_dir()]
        return sorted((folder.name for folder in found), key=self.used_at)

    def used_at(self, name: str) -> float:
        """When it was last used, in seconds since 1970; 0 where it is gone.

        One from before there were times of use was used when it was made, as far as anybody knows.
        """
        for file in (self._file(name, "used"), self.root / name):
            with contextlib.suppress(FileNotFoundError):
                return file.stat().st_mtime_ns / 1e9
        return 0.0

    def in_use(self, name: str) -> bool:
        """Whether somebody uses it at this moment, here or in another process."""
        if not self._file(name, "used").exists():
            return False
        with self._alone(name, "used") as nobody_uses_it:
            return not nobody_uses_it

    def removed(self, name: str) -> bool:
        """Remove a folder; False where it is in use or being made. Whoever wants it next makes it anew."""
        aside = self._file(name, "aside")
        with self._alone(name, "lock") as nobody_makes_it:
            if not nobody_makes_it:
                return False
            _remove(aside)
            with self._alone(name, "used") as nobody_uses_it:
                if not nobody_uses_it:
                    return False
                if self.whole(name):
                    (self.root / name).rename(aside)
            _remove(aside)
        return True

    @contextlib.contextmanager
    def _alone(self, name: str, kind: str) -> Iterator[bool]:
        """Whether the lock of that kind could be had for the length of the block."""
        fd = _opened(self._file(name, kind))
        try:
            yield _locked(fd)
        finally:
            os.close(fd)

    def _file(self, name: str, kind: str) -> Path:
        return self.root / f"{name}.{kind}"

    def _sweep(self) -> None:
        for aside in self.root.glob("*.aside"):
            held = _opened(aside.with_suffix(".lock"))
            try:
                if _locked(held):
                    _remove(aside)
            finally:
                os.close(held)


def _opened(file: Path) -> int:
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _locked(held: int, how: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(held, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _disk_errors(where: Path) -> Iterator[None]:
    try:
        yield
    except OSError as wrong:
        full = wrong.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full" if full else f"it cannot be written: {wrong.strerror}"
        raise Unavailable(what, where=str(where), hint="make room on that disk" if full else "") from wrong
