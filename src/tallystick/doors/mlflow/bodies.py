"""Bodies on their way to MLflow's server and back: a short one is held whole, a long one takes a turn.

That server has few connections. What is short needs one no longer than that server needs: a body is sent once
it is whole here, and an answer is taken off at once, however slowly it is read. What is long streams, and
keeps a connection as long as the other side pleases: so only a part of the connections is for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any
from weakref import WeakKeyDictionary

from starlette.requests import Request

from tallystick.core.errors import TookTooLong, TooLarge, Unavailable
from tallystick.doors.mlflow.paths import Target

__all__ = ["SHORT_BYTES", "STALLED_S", "Turns", "body_of", "turns_of"]

SHORT_BYTES = 1024 * 1024
"""What is held whole, of a body or an answer; MLflow takes 1 MB of a batch."""
HELD_BYTES_MAX = 128 * 1024 * 1024
"""Of all bodies held: where more would be, the one that has been arriving for longest is refused."""
UPLOADS_MAX = 24
"""Long bodies under way to MLflow's server, of its 64 connections."""
DOWNLOADS_MAX = 24
"""Long answers that are being read."""
STALLED_S = 60.0
"""How long one piece may take to arrive or to be taken, and how long a long body waits for its turn."""
PIECE_BYTES = 64 * 1024
"""So much at a time, or the rest: 1 KiB/s is the slowest that goes on."""


class Turns:
    """What is under way to one server of MLflow's, from all doors."""

    def __init__(self) -> None:
        self.uploads = asyncio.Semaphore(UPLOADS_MAX)
        self.downloads = asyncio.Semaphore(DOWNLOADS_MAX)
        self._held_bytes = 0
        self._arriving: dict[asyncio.Timeout, Held] = {}

    def add(self, held: Held, size: int, limit: asyncio.Timeout) -> None:
        """``held`` is larger by ``size``; what has been arriving for longest ends where that is too much."""
        held.size += size
        self._held_bytes += size
        if limit.when() is None:  # else it is ended already, and only does not know it yet
            self._arriving[limit] = held
        while self._held_bytes > HELD_BYTES_MAX and self._arriving:
            oldest = next(iter(self._arriving))
            self.let_go(self._arriving.pop(oldest))
            oldest.reschedule(asyncio.get_running_loop().time())

    def arrived(self, limit: asyncio.Timeout) -> None:
        """It is whole, or over: it makes no room any more."""
        self._arriving.pop(limit, None)

    def let_go(self, held: Held) -> None:
        """What it held is no longer in memory; twice is fine."""
        self._held_bytes -= held.size
        held.size = 0


_TURNS: WeakKeyDictionary[Any, Turns] = WeakKeyDictionary()


def turns_of(server: object) -> Turns:
    """Those of this server: the front door and the steps' doors share its connections."""
    turns = _TURNS.get(server)
    if turns is None:
        turns = _TURNS[server] = Turns()
    return turns


class Held:
    """The beginning of a body, or all of it."""

    def __init__(self) -> None:
        self.size = 0
        self.parts: list[bytes] = []
        self.whole = False

    async def fill(self, pieces: AsyncIterator[bytes], turns: Turns) -> None:
        """Take in pieces until that is all, or more than is held."""
        try:
            async with asyncio.timeout(None) as limit:
                try:
                    async for piece in pieces:
                        self.parts.append(piece)
                        turns.add(self, len(piece), limit)
                        if self.size > SHORT_BYTES:
                            return
                    self.whole = True
                finally:
                    turns.arrived(limit)
        except TimeoutError:
            raise Unavailable(
                "too many bodies are arriving slowly", where="MLflow", hint="try again"
            ) from None


@asynccontextmanager
async def body_of(
    request: Request, target: Target, turns: Turns, sent: Callable[[], None]
) -> AsyncIterator[bytes | AsyncIterator[bytes] | None]:
    """A request's body: None without one, all of a short one, the pieces of a long one once it has its turn.

    ``sent`` is called after the last piece. TooLarge over the target's limit, TookTooLong for one that
    stalls, Unavailable where it cannot be held or gets no turn.
    """
    length = request.headers.get("content-length", "")
    if "transfer-encoding" not in request.headers and length in ("", "0"):
        yield None
        return
    size = int(length) if length.isdigit() else 0
    if size > target.body_bytes_max:
        raise _too_large(target)
    held = Held()
    try:
        async with aclosing(_pieces(request, target)) as pieces:
            if size <= SHORT_BYTES:
                await held.fill(pieces, turns)
            if held.whole:
                yield b"".join(held.parts)
                return
            async with _turn(turns.uploads, target), aclosing(_all(held, pieces, turns, sent)) as body:
                yield body
    finally:
        turns.let_go(held)


async def _all(
    held: Held, pieces: AsyncIterator[bytes], turns: Turns, sent: Callable[[], None]
) -> AsyncGenerator[bytes]:
    parts, held.parts = held.parts, []
    for part in parts:
        yield part
    parts.clear()
    turns.let_go(held)
    async for piece in pieces:
        yield piece
    sent()


@asynccontextmanager
async def _turn(turns: asyncio.Semaphore, target: Target) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(STALLED_S):
            await turns.acquire()
    except TimeoutError:
        raise Unavailable(
            "too many long bodies are on their way", where=target.path[:200], hint="try again"
        ) from None
    try:
        yield
    finally:
        turns.release()


async def _pieces(request: Request, target: Target) -> AsyncGenerator[bytes]:
    """The body, ``PIECE_BYTES`` or more at a time; TookTooLong where one does not come in time."""
    seen, stream = 0, request.stream()
    chunk: bytes | None = b""
    while chunk is not None:
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(STALLED_S):
                while size < PIECE_BYTES and (chunk := await anext(stream, None)) is not None:
                    parts.append(chunk)
                    size += len(chunk)
        except TimeoutError:
            raise TookTooLong("the body stalled", where=target.path[:200]) from None
        seen += size
        if seen > target.body_bytes_max:
            raise _too_large(target)
        if size:
            yield b"".join(parts)


def _too_large(target: Target) -> TooLarge:
    return TooLarge(f"a body is at most {target.body_bytes_max} bytes here", where=target.path[:200])
