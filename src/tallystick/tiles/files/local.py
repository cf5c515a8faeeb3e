"""Artifacts in a folder, as MLflow's own server keeps them there: either can go on where the other stopped.

Option ``artifact_store``: the folder; by default ``mlartifacts`` in the home. How uploads under way lie there
is told in :mod:`tallystick.tiles.files.tree`. All work that touches the disk is done in threads.

An upload that is cut off, by the client, a timeout or the end of the process, can be gone on with for a day.
One that turns out wrong (its iterator raises BadInput, its digest is another) or fills the disk is dropped.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

from tallystick.core.errors import BadInput
from tallystick.ports.files import CHUNK_BYTES, FileInfo
from tallystick.ports.tile import Place
from tallystick.tiles.files.chunks import gathered
from tallystick.tiles.files.paths import segments_of
from tallystick.tiles.files.tree import Segments, Tree, disk_errors, info_of
from tallystick.tiles.files.upload import Upload, kept_bytes

__all__ = ["KEPT_S_MAX", "LocalFiles", "open_tile"]

T = TypeVar("T")

KEPT_S_MAX = 24 * 3600.0
"""How long a cut-off upload is kept after its last byte."""
_SWEEP_EVERY_S = 3600.0
_WRITE_BYTES = 256 * 1024
"""What is gathered of an upload before it is written: thousands of slow ones must fit into memory."""
_PATH_BYTES_MAX = 3000
"""Below what a system call takes (4,096 on Linux), with room for the root: MLflow opens whole paths."""
_THREADS = 8


def open_tile(place: Place) -> LocalFiles:
    """Open, or make, the folder; Unavailable when it cannot be written."""
    root = place.options.get("artifact_store") or place.home / "mlartifacts"
    if not isinstance(root, (str, Path)):
        raise BadInput(f"{root!r} is not a folder", where="artifact_store")
    return LocalFiles(Path(root))


class LocalFiles:
    """See the module; the methods are those of :class:`tallystick.ports.files.Files`."""

    def __init__(self, root: Path) -> None:
        self._tree = Tree(root)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="files")
        self._swept_s = -_SWEEP_EVERY_S

    async def put(
        self, path: str, content: AsyncIterator[bytes], *, sha256: str = "", offset: int = 0
    ) -> FileInfo:
        """Store a file whole, durable on return; see the port."""
        segments = _file(path)
        if offset < 0:
            raise BadInput(f"{offset} is no number of bytes", where=path)
        self._sweep_sometimes()
        last: Future[Any]
        last = opening = self._begin(path, Upload, self._tree, segments, offset, bool(sha256))
        try:
            upload = await _end_of(opening)
            try:
                async with aclosing(gathered(content, _WRITE_BYTES, cut_off=True)) as pieces:
                    async for piece in pieces:
                        last = self._begin(path, upload.write, piece)
                        await _end_of(last)
                last = publishing = self._begin(path, upload.publish, sha256.lower())
                return await _end_of(publishing)
            except BadInput:
                upload.drop()
                raise
        finally:
            await self._do(path, _let_go, opening, last, Upload.end)

    async def partial(self, path: str) -> int:
        """Bytes kept; of an upload that is going on too, as its connection may be dead."""
        return await self._do(path, kept_bytes, self._tree, _file(path))

    async def stat(self, path: str) -> FileInfo:
        """About a file; a link is none."""
        return info_of(path, await self._do(path, self._tree.stat, _file(path), writing=False))

    async def read(self, path: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """A file's bytes, of the file that was there at the first one."""
        _check_range(path, start, end)
        last: Future[Any]
        last = opening = self._begin(path, self._tree.open, _file(path), writing=False)
        try:
            opened = await _end_of(opening)
            while end is None or start < end:
                wanted = CHUNK_BYTES if end is None else min(CHUNK_BYTES, end - start)
                last = reading = self._begin(path, os.pread, opened, wanted, start, writing=False)
                piece = await _end_of(reading)
                if not piece:
                    return
                start += len(piece)
                yield piece
        finally:
            last.add_done_callback(lambda last: _let_go(opening, last, os.close))

    async def list(self, path: str = "") -> Sequence[FileInfo]:
        """What is right below a folder: files and folders, no links."""
        segments = segments_of(path, _PATH_BYTES_MAX)
        return await self._do(path, self._tree.list, segments, writing=False)

    async def delete(self, path: str) -> None:
        """Remove a file or folder; for readers it is gone at once."""
        await self._do(path, self._tree.delete, _file(path), writing=False)

    async def close(self) -> None:
        """End the threads, after what they have begun."""
        await asyncio.to_thread(self._threads.shutdown)

    def _sweep_sometimes(self) -> None:
        if time.monotonic() - self._swept_s > _SWEEP_EVERY_S:
            self._swept_s = time.monotonic()
            self._threads.submit(self._tree.sweep, KEPT_S_MAX)

    async def _do(self, path: str, work: Callable[..., T], *args: object, writing: bool = True) -> T:
        """Do it in a thread."""
        return await _end_of(self._begin(path, work, *args, writing=writing))

    def _begin(self, path: str, work: Callable[..., T], *args: object, writing: bool = True) -> Future[T]:
        """Have it done in a thread, whether or not anybody waits for it."""

        def carried_out() -> T:
            with disk_errors(path, writing):
                return work(*args)

        return self._threads.submit(carried_out)


async def _end_of(job: Future[T]) -> T:
    """What comes of it. It goes on when nobody waits any more: a thread cannot be stopped in the middle."""
    going = asyncio.wrap_future(job)
    going.add_done_callback(lambda done: done.exception())  # it is known, also where nobody asks for it
    await asyncio.wait([going])
    return going.result()


def _let_go(opening: Future[T], last: Future[Any], close: Callable[[T], None]) -> None:
    """Close what was opened, if it was, once the last job with it has ended: it may still wait for a thread.

    In a thread this is no deadlock: the threads take jobs in order, so that one has begun already.
    """
    wait([last])
    if not opening.exception():
        close(opening.result())


def _file(path: str) -> Segments:
    segments = segments_of(path, _PATH_BYTES_MAX)
    if not segments:
        raise BadInput("the root of all artifacts is no file", where="artifacts")
    return segments


def _check_range(path: str, start: int, end: int | None) -> None:
    if start < 0 or (end is not None and end < start):
        raise BadInput(f"{start} to {end} is no range of bytes", where=path)
