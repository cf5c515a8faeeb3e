"""The folders of environments: each appears whole or not at all, and who makes one makes it alone.

``<digest>`` is a whole one, ``<digest>.aside`` one in the making, ``<digest>.lock`` is held by whoever makes
it: its lock goes with its process, however that ends, and what lies aside while nobody holds it is swept.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from tallystick.core.errors import Unavailable

__all__ = ["Folders"]

LOOK_S = 0.1
"""Between two looks at a lock that another process holds: nothing tells when it lets go."""


class Folders:
    """Below ``root``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._sweep()

    def whole(self, name: str) -> Path | None:
        """The folder, where it is there."""
        folder = self._root / name
        return folder if folder.is_dir() else None

    @contextlib.asynccontextmanager
    async def making(self, name: str) -> AsyncIterator[Path | None]:
        """An empty folder to fill, which is the whole one from the end of the block on; None: that exists.

        Waits for whoever makes it already. A block that fails leaves nothing.
        """
        held = os.open(self._root / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not _locked(held):  # noqa: ASYNC110  another process's may be: no event tells
                await asyncio.sleep(LOOK_S)
            if self.whole(name):
                yield None
                return
            aside = self._root / f"{name}.aside"
            await asyncio.to_thread(_remove, aside)
            with _disk_errors(self._root):
                aside.mkdir(mode=0o755)
            try:
                yield aside
                with _disk_errors(self._root):
                    aside.rename(self._root / name)
            finally:
                await asyncio.to_thread(_remove, aside)
        finally:
            os.close(held)

    def _sweep(self) -> None:
        for aside in self._root.glob("*.aside"):
            held = os.open(aside.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if _locked(held):
                    _remove(aside)
            finally:
                os.close(held)


def _locked(held: int) -> bool:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
