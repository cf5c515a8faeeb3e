"""A way from a step on another machine to its own socket of the hub: bytes through Ray, by connection.

The keeper listens on a unix socket beside the step. What comes in there it tells the driver, piece by piece,
the next one only when the driver has handed on the last; the driver connects to the hub's socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path

__all__ = ["Carrier", "NodeDoor"]

PIECE_BYTES = 256 * 1024
CONNECTIONS_MAX = 64

Tell = Callable[[int, bytes | None], None]
"""Tells the other side of a connection's next bytes, or with None, that no more will come."""


class NodeDoor:
    """The keeper's end for one step."""

    def __init__(self, path: Path, tell: Tell) -> None:
        self.path = path
        self._tell = tell
        self._numbers = itertools.count()
        self._writers: dict[int, asyncio.StreamWriter] = {}
        self._taken: dict[int, asyncio.Event] = {}
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._accepted, str(self.path))
        self.path.chmod(0o600)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._writers) >= CONNECTIONS_MAX:
            writer.transport.abort()
            return
        number = next(self._numbers)
        self._writers[number], self._taken[number] = writer, asyncio.Event()
        task = asyncio.create_task(self._carry(number, reader))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, number: int, reader: asyncio.StreamReader) -> None:
        taken = self._taken[number]
        with contextlib.suppress(OSError):
            while piece := await reader.read(PIECE_BYTES):
                self._tell(number, piece)
                await taken.wait()
                taken.clear()
        self._tell(number, None)

    def was_taken(self, number: int) -> None:
        """The last piece has been handed on."""
        if number in self._taken:
            self._taken[number].set()

    async def answer(self, number: int, piece: bytes | None) -> None:
        """Bytes that came back; None when no more will."""
        if (writer := self._writers.get(number)) is None:
            return
        with contextlib.suppress(OSError):
            if piece is None:
                self._forget(number)
                writer.close()
            else:
                writer.write(piece)
                await writer.drain()

    def _forget(self, number: int) -> None:
        self._writers.pop(number, None)
        if taken := self._taken.pop(number, None):
            taken.set()

    async def close(self) -> None:
        """End it with all its connections."""
        if self._server:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        for writer in self._writers.values():
            writer.transport.abort()
        self._writers.clear()
        self.path.unlink(missing_ok=True)


class Carrier:
    """The driver's end for one step: ``answer`` carries bytes, or None, back to the step's side."""

    def __init__(
        self,
        hub_socket: str,
        answer: Callable[[int, bytes | None], Awaitable[None]],
        taken: Callable[[int], Awaitable[None]],
    ) -> None:
        self._hub_socket = hub_socket
        self._answer = answer
        self._taken = taken
        self._waiting: dict[int, asyncio.Queue[bytes | None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def came(self, number: int, piece: bytes | None) -> None:
        """Bytes of the step's; never more than one piece of a connection waits."""
        if number not in self._waiting:
            self._waiting[number] = asyncio.Queue()
            task = asyncio.create_task(self._carry(number, self._waiting[number]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._waiting[number].put_nowait(piece)

    async def _carry(self, number: int, pieces: asyncio.Queue[bytes | None]) -> None:
        writer: asyncio.StreamWriter | None = None
        back: asyncio.Task[None] | None = None
        try:
            reader, writer = await asyncio.open_unix_connection(self._hub_socket)
            back = asyncio.create_task(self._carry_back(number, reader))
            while (piece := await pieces.get()) is not None:
                writer.write(piece)
                await writer.drain()
                await self._taken(number)
            if writer.can_write_eof():
                writer.write_eof()
            await back
        except OSError:  # the hub's side is gone: so is the connection
            await self._answer(number, None)
        finally:
            if back:
                back.cancel()
            if writer:
                writer.close()

    async def _carry_back(self, number: int, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(PIECE_BYTES):
                await self._answer(number, piece)
        await self._answer(number, None)

    async def close(self) -> None:
        """End all connections."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
