"""The front door's HTTP, with limits that uvicorn has not: how long a head is, and how long it takes."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["HEAD_BYTES_MAX", "HEAD_S", "STALLED_S", "BoundedHttp"]

HEAD_BYTES_MAX = 64 * 1024
"""Bytes of a request's line and headers; what the system hands over in one read may be beyond it."""

HEAD_S = 20.0
"""Seconds for a head to arrive whole: from its first byte, or from when the connection opened."""

STALLED_S = 10.0
"""Seconds after which a body that does not arrive is no reason to keep a connection when room is needed."""

ROOM = 50
"""One in so many connections is ended at a time to make room: the longest idle ones."""


class BoundedHttp(HttpToolsProtocol):
    """HTTP/1.1 that ends a connection whose head is too long or too slow, before it costs memory.

    Where there are as many connections as may be, those that ask for nothing make room for the new one:
    whoever opens thousands and leaves them so does not keep others out.
    """

    _head_bytes = 0
    _in_head = True
    _too_late: asyncio.TimerHandle | None = None
    _heard_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Another connection; the longest idle ones end when there are too many."""
        super().connection_made(cast(asyncio.Transport, transport))
        self._heard_s = self.loop.time()
        self._too_late = self.loop.call_later(HEAD_S, self._end, b"408 Request Timeout")
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            self._make_room(self.limit_concurrency)

    def _make_room(self, limit: int) -> None:
        # One that is ended is among them until the loop's next turn, and many may come in one turn.
        there = [c for c in self.connections if isinstance(c, BoundedHttp) and not c.transport.is_closing()]
        if len(there) < limit:
            return
        idle = sorted((c for c in there if c is not self and c.waits()), key=lambda c: c._heard_s)
        for connection in idle[: limit // ROOM + 1]:
            connection.transport.abort()

    def waits(self) -> bool:
        """Whether nothing is under way here: no request, or one whose body does not arrive."""
        cycle: Any = self.cycle  # None before the first request, whatever its type says
        if cycle is None or cycle.response_complete:
            return True
        return bool(cycle.more_body) and self.loop.time() - self._heard_s > STALLED_S

    def data_received(self, data: bytes) -> None:
        """Read on; a head that is over a limit by now ends the connection."""
        self._heard_s = self.loop.time()
        self._head_bytes += len(data)
        if self._in_head and self._too_late is None:
            self._too_late = self.loop.call_later(HEAD_S, self._end, b"408 Request Timeout")
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_BYTES_MAX:
            self._end(b"431 Request Header Fields Too Large")

    def on_message_begin(self) -> None:
        """Another request's head begins."""
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._in_head = False
        self._forget_timer()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._forget_timer()
        super().connection_lost(exc)

    def _forget_timer(self) -> None:
        if self._too_late is not None:
            self._too_late.cancel()
            self._too_late = None

    def _end(self, status: bytes) -> None:
        self._forget_timer()
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 %s\r\nconnection: close\r\ncontent-length: 0\r\n\r\n" % status)
            self.transport.close()
