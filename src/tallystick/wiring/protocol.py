"""The front door's HTTP, with limits that uvicorn has not: how long a head is, and who keeps a place."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import sys
import termios
from collections.abc import Sequence
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["HEAD_BYTES_MAX", "HEAD_S", "STALLED_S", "BoundedHttp"]

HEAD_BYTES_MAX = 64 * 1024
"""Bytes of a request's line and headers; what the system hands over in one read may be beyond it."""

HEAD_S = 20.0
"""Seconds for a head to arrive whole: from its first byte, or from when the connection opened."""

STALLED_S = 10.0
"""Seconds after which who neither sends the rest nor takes the answer is gone for, when room is needed."""

ROOM = 50
"""One in so many connections is ended at a time to make room."""

LONG_SHARE = 0.75
"""Of all connections, what transfers longer than ``STALLED_S`` may keep: the rest is for short calls."""


PIPELINED_MAX = 8
"""Requests of a connection that wait for the answer to an earlier one: few clients send any so soon. Each is
a moment in which nobody else is served, and one read may bring ten thousand."""


class TooManyAtOnceError(Exception):
    """It ends the reading of what else has arrived."""


class BoundedHttp(HttpToolsProtocol):
    """HTTP/1.1 that ends a connection whose head is too long or too slow, before it costs memory.

    Where there are as many connections as may be, others make room for the new one: those that ask for
    nothing and those whose other side has stopped, be it in sending or in taking, the longest first. Where
    all move, the slowest of the long transfers, as far as these have more than their share.
    """

    _head_bytes = 0
    _in_head = True
    _too_late: asyncio.TimerHandle | None = None
    _began_s = 0.0
    _moved_s = 0.0
    _moved_bytes = 0
    _untaken_bytes = 0
    _looking: asyncio.TimerHandle | None = None
    _ended = False
    _asked: Sequence[Any] = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Another connection; others end when there are too many."""
        super().connection_made(cast(asyncio.Transport, transport))
        self._began_s = self._moved_s = self.loop.time()
        self._too_late = self.loop.call_later(HEAD_S, self._end, b"408 Request Timeout")
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            self._make_room(self.limit_concurrency)

    def _make_room(self, limit: int) -> None:
        there = self.there()
        if len(there) < limit:
            return
        others = [c for c in there if c is not self]
        going = sorted((c for c in others if c.waits()), key=lambda c: c._moved_s)
        if not going:
            long = sorted((c for c in others if c.lasts()), key=BoundedHttp._pace)
            going = long[: max(0, len(long) - int(limit * LONG_SHARE))]
        for connection in going[: limit // ROOM + 1]:
            connection._abort()

    def there(self) -> list[BoundedHttp]:
        """The connections that stay: one that was ended is among uvicorn's until the loop's next turn."""
        return [c for c in self.connections if isinstance(c, BoundedHttp) and not c._leaves()]

    def _leaves(self) -> bool:
        return self._ended or (self.transport.is_closing() and not self._unsent())

    def waits(self) -> bool:
        """Whether nothing is under way here: no request, or one that the other side does not go on with."""
        cycle: Any = self.cycle  # None before the first request, whatever its type says
        if not self._unsent() and (cycle is None or cycle.response_complete):
            return True
        return self._is_theirs() and self.loop.time() - self._moved_s > STALLED_S

    def lasts(self) -> bool:
        """Whether a transfer is under way that is no short call any more."""
        return self._is_theirs() and self.loop.time() - self._began_s > STALLED_S

    def _is_theirs(self) -> bool:
        """Whether it is on the other side to go on: to take what was answered, or to send the rest."""
        if self._unsent():
            return True
        cycle: Any = self.cycle
        return bool(cycle and cycle.more_body) and not self.flow.read_paused

    def _pace(self) -> float:
        return self._moved_bytes / max(self.loop.time() - self._began_s, 0.001)

    def _unsent(self) -> int:
        return self.transport.get_write_buffer_size()

    def pause_writing(self) -> None:
        """More is to be sent than the other side takes for now: from here on what it takes is looked at."""
        super().pause_writing()
        self._untaken_bytes = self._untaken()
        if self._looking is None:
            self._looking = self.loop.call_later(STALLED_S / 4, self._look)

    def resume_writing(self) -> None:
        """The other side has taken most of it."""
        self._count_taken()
        super().resume_writing()

    def _look(self) -> None:
        self._count_taken()
        self._looking = self.loop.call_later(STALLED_S / 4, self._look) if self._unsent() else None

    def _count_taken(self) -> None:
        left = self._untaken()
        if left < self._untaken_bytes:
            self._moved_bytes += self._untaken_bytes - left
            self._moved_s = self.loop.time()
        self._untaken_bytes = left

    def _untaken(self) -> int:
        """Bytes written that the other side's system has not taken: here, and in this system's own buffer.

        That one is megabytes: by our own alone, who takes 10 KiB a second would seem to have stopped.
        """
        left, socket = self._unsent(), self.transport.get_extra_info("socket")
        with contextlib.suppress(OSError, ValueError):  # it is closed by now
            queued = fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, bytes(4))
            left += int.from_bytes(queued, sys.byteorder)
        return left

    def data_received(self, data: bytes) -> None:
        """Read on; a head, or a trailer, that is over a limit by now ends the connection."""
        if not self._unsent():  # who does not take an answer does not go on by sending more
            self._moved_s = self.loop.time()
            self._moved_bytes += len(data)
        self._head_bytes += len(data)
        if self._in_head and self._too_late is None:
            self._too_late = self.loop.call_later(HEAD_S, self._end, b"408 Request Timeout")
        super().data_received(data)
        if self._head_bytes > HEAD_BYTES_MAX and (self._in_head or self._in_body()):
            self._end(b"431 Request Header Fields Too Large")

    def _in_body(self) -> bool:
        cycle: Any = self.cycle
        return bool(cycle and cycle.more_body)

    def on_message_begin(self) -> None:
        """Another request's head begins; one too many ends the connection."""
        if len(self.pipeline) >= PIPELINED_MAX:
            self._abort()
            raise TooManyAtOnceError
        self._in_head, self._head_bytes = True, 0
        self._began_s, self._moved_bytes = self.loop.time(), 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A line of the head. One after the body (a trailer) is dropped: uvicorn would put it to the head."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._in_head, self._head_bytes = False, 0
        self._forget_timer()
        super().on_headers_complete()
        asked = (*self._asked, self.cycle)  # None where it was a request to speak another protocol
        self._asked = [cycle for cycle in asked if cycle and not cycle.response_complete]

    def on_body(self, body: bytes) -> None:
        """A piece of the body. Between two, as after the last, there is little: a chunk's head, trailers."""
        self._head_bytes = 0
        super().on_body(body)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._ended = True
        self._forget_timer()
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        super().connection_lost(exc)
        self._answer_no_more()

    def _forget_timer(self) -> None:
        if self._too_late is not None:
            self._too_late.cancel()
            self._too_late = None

    def _end(self, status: bytes) -> None:
        self._forget_timer()
        cycle: Any = self.cycle
        if cycle and cycle.response_started and not cycle.response_complete:
            self._abort()  # a second answer in the middle of the first would be read as a part of it
        elif not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 %s\r\nconnection: close\r\ncontent-length: 0\r\n\r\n" % status)
            self.transport.close()
            self._answer_no_more()

    def send_400_response(self, msg: str) -> None:
        """To what is no HTTP; not to who was ended as it was read."""
        if not self._ended:
            super().send_400_response(msg)
            self._answer_no_more()

    def _abort(self) -> None:
        self._ended = True
        self.transport.abort()
        self._answer_no_more()

    def _answer_no_more(self) -> None:
        """Whoever answers a request of this connection may stop: writing to it would be an error by now.

        uvicorn tells the newest request alone, and the one that is being answered is the oldest.
        """
        for cycle in self._asked:
            cycle.disconnected = True
            cycle.message_event.set()
        self._asked = ()
