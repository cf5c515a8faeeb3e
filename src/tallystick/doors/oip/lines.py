"""Lines to the serving processes: HTTP/1.1 over kept unix connections, one pool for each process.

A general client spent more time on a request than the models did (0.7 ms each, and 200 requests a
second at 64 connections), so this knows only what the hub needs: whole requests, whole answers, a time
limit. What is on the other end runs somebody's model, so its answers have limits too.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import httptools

from tallystick.core.errors import Failed, TallyError, TookTooLong, Unavailable
from tallystick.hub.house.route import Live

__all__ = ["CONNECTIONS_MAX", "Line", "Lines", "Reply"]

CONNECTIONS_MAX = 128
"""Requests on their way to one serving process; more wait here."""

ANSWER_BYTES_MAX = 64 * 1024 * 1024
HEAD_BYTES_MAX = 64 * 1024
SOON = "ask again soon"


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Line:
    """The connections to one serving process."""

    def __init__(self, live: Live, name: str, timeout_s: float) -> None:
        self.live = live
        self._where = f"endpoint {name}"
        self._timeout_s = timeout_s
        self._room = asyncio.Semaphore(CONNECTIONS_MAX)
        self._idle: list[_Connection] = []
        self._retired = False

    async def ask(self, request: bytes) -> Reply:
        """Send a whole request and wait for the whole answer.

        TookTooLong after the time limit; Unavailable when the process is gone or ends before its answer
        is whole; Failed when that is not HTTP or over its limit.
        """
        try:
            async with asyncio.timeout(self._timeout_s), self._room:
                return await self._exchange(request)
        except TimeoutError:
            text = f"the model did not answer within {self._timeout_s:g} s"
            raise TookTooLong(text, where=self._where) from None

    async def _exchange(self, request: bytes) -> Reply:
        connection = await self._connection()
        try:
            reply = await connection.ask(request)
        except BaseException:  # a time limit too: the connection is in the middle of something
            connection.close()
            raise
        if self._retired or not connection.kept:
            connection.close()
        else:
            self._idle.append(connection)
        return reply

    async def _connection(self) -> _Connection:
        while self._idle:
            if (known := self._idle.pop()).kept:
                return known
        try:
            _, fresh = await _connect(self.live.socket, lambda: _Connection(self._where))
        except OSError as wrong:
            text = f"its process does not answer: {wrong.strerror or wrong}"
            raise Unavailable(text, where=self._where, hint=SOON) from None
        return fresh

    def retire(self) -> None:
        """Let requests under way end, and every connection after its last."""
        self._retired = True
        while self._idle:
            self._idle.pop().close()


async def _connect(
    path: Path, protocol: Callable[[], _Connection]
) -> tuple[asyncio.BaseTransport, _Connection]:
    """Connect to the socket at ``path`` itself: the process could leave a link there to somebody else's."""
    pinned = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(pinned).st_mode):
            raise OSError(errno.ENOTSOCK, "what it left there is no socket")
        loop = asyncio.get_running_loop()
        return await loop.create_unix_connection(protocol, f"/proc/self/fd/{pinned}")
    finally:
        os.close(pinned)


class _Connection(asyncio.Protocol):
    """One connection, one request at a time. The callbacks ``on_...`` are the parser's."""

    def __init__(self, where: str) -> None:
        self.kept = True
        self._where = where
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._reply: asyncio.Future[Reply] | None = None
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._bytes = 0

    async def ask(self, request: bytes) -> Reply:
        self._reply = asyncio.get_running_loop().create_future()
        self._headers, self._body, self._bytes = {}, [], 0
        if self._transport is not None and self.kept:
            self._transport.write(request)
        else:
            self.connection_lost(None)
        try:
            return await self._reply
        finally:
            self._reply = None

    def close(self) -> None:
        self.kept = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is one in all but its class

    def connection_lost(self, exc: Exception | None) -> None:
        self._break(Unavailable("its process ended before it answered", where=self._where, hint=SOON))

    def data_received(self, data: bytes) -> None:
        if self._reply is None:  # an answer that nobody asked for
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._break(Failed("its process answered with something that is not HTTP", where=self._where))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value), HEAD_BYTES_MAX, "head")
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._bytes = 0

    def on_body(self, body: bytes) -> None:
        self._count(len(body), ANSWER_BYTES_MAX, "body")
        if self.kept:
            self._body.append(body)

    def on_message_complete(self) -> None:
        self.kept = self.kept and self._parser.should_keep_alive()
        if self._reply is not None and not self._reply.done():
            status = self._parser.get_status_code()
            self._reply.set_result(Reply(status, self._headers, b"".join(self._body)))

    def _count(self, more: int, limit: int, part: str) -> None:
        self._bytes += more
        if self._bytes > limit:
            self._break(Failed(f"the {part} of its answer is over {limit} bytes", where=self._where))

    def _break(self, wrong: TallyError) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(wrong)
        self.close()


@dataclass(slots=True)
class Lines:
    """Lines by endpoint; one to a process that no longer serves is retired when its successor is asked."""

    timeout_s: float = 30.0
    _lines: dict[str, Line] = field(default_factory=dict)

    def to(self, name: str, live: Live) -> Line:
        """The line to ``live``, which serves endpoint ``name``."""
        line = self._lines.get(name)
        if line is None or line.live != live:
            if line is not None:
                line.retire()
            line = self._lines[name] = Line(live, name, self.timeout_s)
        return line

    def close(self) -> None:
        """Retire all, when the hub ends."""
        for line in self._lines.values():
            line.retire()
        self._lines.clear()
