"""One started server of MLflow's: its process, what it says, and the requests that are under way to it."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx

from tallystick.core.errors import TallyError, Unavailable, error_from_dict
from tallystick.ports.sandbox import Confined

__all__ = ["CONNECTIONS_MAX", "Life", "Requests"]

CONNECTIONS_MAX = 64


class Requests(httpx.AsyncHTTPTransport):
    """The way to the server's socket, which knows what is under way on it, answers included.

    Once :meth:`close_if_idle` said yes it sends nothing more: whoever still has a client on it is told at
    once that nobody answers, before a byte was sent, and asks for another client.
    """

    def __init__(self, socket: Path) -> None:
        limits = httpx.Limits(
            max_connections=CONNECTIONS_MAX, max_keepalive_connections=32, keepalive_expiry=30
        )
        # A unix socket needs no TLS, and so no authorities either: to read them all takes 15 ms.
        super().__init__(uds=str(socket), limits=limits, verify=False)
        self.under_way = 0
        self.used_s = time.monotonic()
        self._closed = False

    def touch(self) -> None:
        """Somebody is about to send a request."""
        self.used_s = time.monotonic()

    def close_if_idle(self, idle_s: float) -> float:
        """0 when from now on nothing is sent here, as nothing was for ``idle_s``; else seconds to wait."""
        left_s = idle_s if self.under_way else self.used_s + idle_s - time.monotonic()
        self._closed = left_s <= 0
        return max(0.0, left_s)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one; it is under way until its answer is closed."""
        if self._closed:
            raise httpx.ConnectError("MLflow's server rests", request=request)
        self.under_way += 1
        try:
            answer = await super().handle_async_request(request)
        except BaseException:
            self._done()
            raise
        assert isinstance(answer.stream, httpx.AsyncByteStream)  # noqa: S101  reason: the base class's word
        answer.stream = _Stream(answer.stream, self._done)
        return answer

    def _done(self) -> None:
        self.under_way -= 1
        self.touch()


class _Stream(httpx.AsyncByteStream):
    """An answer's bytes; ``done`` is called once, when it is closed."""

    def __init__(self, stream: httpx.AsyncByteStream, done: Callable[[], None]) -> None:
        self._stream = stream
        self._done: Callable[[], None] | None = done

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            yield chunk

    async def aclose(self) -> None:
        done, self._done = self._done, None
        if done:
            done()
        await self._stream.aclose()


class Life:
    """One started process: what it says, and its end."""

    def __init__(self, process: Confined, socket: Path) -> None:
        self.process = process
        self.began_s = time.monotonic()
        self.tail: deque[str] = deque(maxlen=20)
        self.requests = Requests(socket)
        self.client = httpx.AsyncClient(
            transport=self.requests,
            base_url="http://localhost",
            timeout=httpx.Timeout(60, connect=10),
            trust_env=False,
        )
        self.watching: asyncio.Task[None] | None = None
        self.resting: asyncio.Task[None] | None = None
        self.rests = False
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        """Keep the last lines of standard error; unread, the pipe would fill and stop the server."""
        async for line in self.process.stderr:
            self.tail.append(line.decode("utf-8", "replace").rstrip())

    async def ready(self) -> None:
        """Wait until it says that it serves; what went wrong instead is raised."""
        async for line in self.process.stdout:
            said = json.loads(line)
            if "error" in said:
                raise error_from_dict(said["error"])
            if "ready" in said:
                return
        raise await self.died()

    async def died(self) -> TallyError:
        """The error for its end: the status and the last that it printed."""
        status = await self.process.wait()
        last = next((line for line in reversed(self.tail) if line.strip()), "it printed nothing")
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return Unavailable(f"MLflow's server {how}: {last[:500]}", where="MLflow")

    async def end(self) -> None:
        """End the process; twice is fine."""
        await self.process.end()
        self._listening.cancel()
