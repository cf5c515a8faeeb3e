"""The front door's HTTP, with limits that uvicorn has not: how long a head is, and how long it takes."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["HEAD_BYTES_MAX", "HEAD_S", "BoundedHttp"]

HEAD_BYTES_MAX = 64 * 1024
"""Bytes of a request's line and headers; what the system hands over in one read may be beyond it."""

HEAD_S = 20.0
"""Seconds for a head to arrive whole, from its first byte."""


class BoundedHttp(HttpToolsProtocol):
    """HTTP/1.1 that ends a connection whose head is too long or too slow, before it costs memory."""

    _head_bytes = 0
    _in_head = True
    _too_late: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Read on; a head that is over a limit by now ends the connection."""
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
