"""What MLflow's server answers, as the asker gets it: without what is MLflow's own, and never in its way."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from tallystick.core.errors import Failed, Unavailable
from tallystick.doors.mlflow.bodies import SHORT_BYTES, STALLED_S, Turns
from tallystick.doors.mlflow.paths import Target

__all__ = ["HOP_BY_HOP", "passed_back"]

HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-connection te trailer transfer-encoding upgrade".split()
)
_NOT_FROM_MLFLOW = frozenset((b"date", b"server", b"set-cookie", b"content-security-policy"))
_PAGE_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'self'; base-uri 'self'; form-action 'self'; "
    "object-src 'none'"
)
"""MLflow's pages need inline scripts; they need nothing from any other host."""
_FILE_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""An artifact is somebody's file: opened as a page it must not act in the hub's name."""


async def passed_back(answer: httpx.Response, target: Target, mount: str, turns: Turns) -> Response:
    """A short answer once it is whole, and its connection free; a long one as a stream, which has its turn.

    Unavailable where there is no turn left. ``mount`` is put before paths that the answer redirects to.
    """
    chunks, first, size = _checked(answer, target), deque[bytes](), 0
    try:
        async for chunk in chunks:
            first.append(chunk)
            size += len(chunk)
            if size > SHORT_BYTES:
                break
        if size > SHORT_BYTES and turns.downloads.locked():
            raise Unavailable("too many long answers are being read", where="MLflow", hint="try again")
    except BaseException:
        await answer.aclose()
        raise
    if size > SHORT_BYTES:
        await turns.downloads.acquire()  # at once: one was free
        response: Response = _Stream(_all(first, chunks), answer, turns)
    else:
        await answer.aclose()
        response = Response(b"".join(first), answer.status_code)
    dropped = HOP_BY_HOP | _NOT_FROM_MLFLOW
    headers = [(k.lower(), v) for k, v in answer.headers.raw if k.lower() not in dropped]
    response.raw_headers = [(k, _moved(v, mount) if k == b"location" else v) for k, v in headers]
    response.raw_headers += _policy(answer, target)
    return response


class _Stream(StreamingResponse):
    """MLflow's answer as it comes; whoever goes away, or takes nothing, ends it on MLflow's side too."""

    def __init__(self, chunks: AsyncIterator[bytes], answer: httpx.Response, turns: Turns) -> None:
        super().__init__(chunks, answer.status_code)
        self._answer = answer
        self._turns = turns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def in_time(message: Message) -> None:
            async with asyncio.timeout(STALLED_S):
                await send(message)

        try:
            with suppress(TimeoutError):  # it is left unfinished, and so its connection is ended
                await super().__call__(scope, receive, in_time)
        finally:
            self._turns.downloads.release()
            await self._answer.aclose()


async def _all(first: deque[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    while first:
        yield first.popleft()
    async for chunk in rest:
        yield chunk


async def _checked(answer: httpx.Response, target: Target) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    except httpx.TransportError as wrong:  # raised on, so that the asker's connection breaks too
        raise Failed("MLflow's server ended in the middle of its answer", where=target.path[:200]) from wrong


def _moved(location: bytes, mount: str) -> bytes:
    path = location.removeprefix(b"http://localhost")
    return mount.encode() + path if path.startswith(b"/") else path


def _policy(answer: httpx.Response, target: Target) -> list[tuple[bytes, bytes]]:
    if target.is_artifact or answer.headers.get("content-disposition", "").startswith("attachment"):
        return [(b"content-security-policy", _FILE_POLICY.encode())]
    if answer.headers.get("content-type", "").startswith("text/html"):
        return [(b"content-security-policy", _PAGE_POLICY.encode())]
    return []
