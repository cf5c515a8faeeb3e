"""HTTP/1.1 on a unix socket, as little of it as the hub needs to ask a serving process.

Bodies have a limit, requests on one connection are answered in turn, and a request whose asker went
away is cancelled.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import cast
from urllib.parse import unquote

import httptools

__all__ = ["Answer", "Asked", "Wire"]

QUEUE_MAX = 16
"""Requests sent ahead on one connection; one more ends it."""

HEAD_BYTES_MAX = 64 * 1024


@dataclass(slots=True)
class Asked:
    """A whole request; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class Answer:
    """A whole answer."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Asked], Awaitable[Answer]]
"""Never raises: whatever goes wrong is an answer."""


class Wire:
    """Listens on a unix socket that this user alone can reach."""

    def __init__(self, handler: Handler, body_bytes_max: int, too_large: Answer) -> None:
        self.handler = handler
        self.body_bytes_max = body_bytes_max
        self.too_large = too_large
        self.connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    async def listen(self, path: Path) -> None:
        """Make the socket at ``path``, in place of one that an earlier process left."""
        loop = asyncio.get_running_loop()
        listening = _bound(path)
        self._server = await loop.create_unix_server(lambda: _Connection(self), sock=listening, backlog=1024)

    async def close(self, grace_s: float) -> None:
        """Take no more requests, finish those under way for at most ``grace_s`` seconds, and let go."""
        if self._server:
            self._server.close()
        for connection in list(self.connections):
            connection.finish()
        working = [c.working for c in self.connections if c.working]
        if working:
            await asyncio.wait(working, timeout=grace_s)
        for connection in list(self.connections):
            connection.drop()


def _bound(path: Path) -> socket.socket:
    """Bound by its name in its folder: a socket's path has a limit of 107 bytes, a home's has not."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask, place = os.umask(0o177), Path.cwd()
    try:
        os.chdir(path.parent)
        listening.bind(path.name)
    finally:
        os.chdir(place)
        os.umask(mask)
    return listening


class _Connection(asyncio.Protocol):
    """One connection. The callbacks ``on_...`` are the parser's."""

    def __init__(self, wire: Wire) -> None:
        self.working: asyncio.Task[None] | None = None
        self._wire = wire
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[tuple[Asked, bool]] = deque()
        self._transport: asyncio.Transport | None = None
        self._ending = False
        self.on_message_begin()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio's."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is one in all but its class
        self._wire.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The asker went away: nobody waits for what is under way."""
        self._wire.connections.discard(self)
        self._transport = None
        if self.working:
            self.working.cancel()

    def data_received(self, data: bytes) -> None:
        """Asyncio's."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.drop()
        except httptools.HttpParserError:
            self.drop()

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._bytes = 0
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")
        self._count_head(len(name) + len(value))

    def _count_head(self, count: int) -> None:
        self._head_bytes += count
        if self._head_bytes > HEAD_BYTES_MAX:
            self.drop()

    def on_body(self, body: bytes) -> None:
        self._bytes += len(body)
        if self._bytes <= self._wire.body_bytes_max:
            self._body.append(body)
        elif not self._ending:
            self._send(self._wire.too_large, keep=False)

    def on_message_complete(self) -> None:
        if self._ending:
            return
        method, path = self._parser.get_method().decode(), self._url.split(b"?", 1)[0]
        asked = Asked(method, unquote(path.decode("latin-1")), self._headers, b"".join(self._body))
        if len(self._queue) >= QUEUE_MAX:
            self.drop()
            return
        self._queue.append((asked, self._parser.should_keep_alive()))
        if self.working is None:
            self.working = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        try:
            while self._queue:
                asked, keep = self._queue.popleft()
                answer = await self._wire.handler(asked)
                self._send(answer, keep=keep and not self._ending)
        finally:
            self.working = None

    def _send(self, answer: Answer, *, keep: bool) -> None:
        if self._transport is None:
            return
        lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        lines += [f"content-length: {len(answer.body)}", *([] if keep else ["connection: close"]), "", ""]
        self._transport.write("\r\n".join(lines).encode("latin-1") + answer.body)
        if not keep:
            self._ending = True
            self._transport.close()

    def finish(self) -> None:
        """End after the request under way, or now if there is none."""
        self._ending = True
        self._queue.clear()
        if self.working is None:
            self.drop()

    def drop(self) -> None:
        """End now."""
        self._ending = True
        if self._transport:
            self._transport.close()
