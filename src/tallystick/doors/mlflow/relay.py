"""One request passed on to MLflow's server and its answer passed back, both as streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote_from_bytes, urlsplit

import httpx
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from tallystick.core.errors import Failed, Refused, TallyError, TooLarge, Unavailable
from tallystick.doors.mlflow.paths import Target

__all__ = ["START_S_MAX", "MlflowServer", "ask", "check_origin", "error_answer", "guarded", "relay"]

START_S_MAX = 60.0
_TRIES = 3
_TIMEOUT = httpx.Timeout(connect=10, read=300, write=60, pool=60)
_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-connection te trailer transfer-encoding upgrade".split()
)
_NOT_FOR_MLFLOW = frozenset(
    # Who asks, and with what right, is the hub's affair; where it was asked, MLflow must not rely on.
    b"authorization cookie expect forwarded host origin proxy-authorization referer x-real-ip".split()
)
_NOT_FROM_MLFLOW = frozenset((b"date", b"server", b"set-cookie", b"content-security-policy"))
_QUERY_SAFE = "".join(map(chr, range(0x21, 0x7F)))
_PAGE_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'self'; base-uri 'self'; form-action 'self'; "
    "object-src 'none'"
)
"""MLflow's pages need inline scripts; they need nothing from any other host."""
_FILE_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""An artifact is somebody's file: opened as a page it must not act in the hub's name."""
_CODES = {
    400: "INVALID_PARAMETER_VALUE",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    409: "RESOURCE_CONFLICT",
    413: "INVALID_PARAMETER_VALUE",
    501: "NOT_IMPLEMENTED",
    503: "TEMPORARILY_UNAVAILABLE",
}


class MlflowServer(Protocol):
    """MLflow's server, running or to be started."""

    async def client(self, dead: httpx.AsyncClient | None = None) -> httpx.AsyncClient:
        """A client on its socket once it answers; ``dead`` is one whose connection failed."""
        ...


def check_origin(request: Request) -> None:
    """Refuse to change anything for a page of another site, as MLflow would if it were told the origin."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    origin, host = request.headers.get("origin"), request.headers.get("host", "")
    foreign = origin is not None and urlsplit(origin).netloc != host
    if foreign or request.headers.get("sec-fetch-site") == "cross-site":
        raise Refused("the request comes from a page of another site", where=str(origin)[:200])


def error_answer(request: Request, wrong: TallyError) -> Response:
    """The error as MLflow's clients read it (``error_code``, ``message``) and we do, or as text."""
    headers = {"retry-after": "1"} if wrong.http_status == 503 else {}
    if "text/html" in request.headers.get("accept", ""):
        return PlainTextResponse(f"{wrong}\n", wrong.http_status, headers)
    code = _CODES.get(wrong.http_status, "INTERNAL_ERROR")
    body = {"error_code": code, "message": str(wrong), **wrong.as_dict()}
    return JSONResponse(body, wrong.http_status, headers)


async def guarded(request: Request, go: Callable[[], Awaitable[Response]]) -> Response:
    """What ``go`` answers, or the error that it raises as an answer."""
    try:
        return await go()
    except TallyError as wrong:
        return error_answer(request, wrong)


@dataclass(frozen=True, slots=True)
class _Call:
    """A request as it is sent: ``target`` is its path and query as bytes, ``where`` says it in errors."""

    method: str
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: AsyncIterator[bytes] | bytes | None
    where: str

    @property
    def repeatable(self) -> bool:
        """Whether sending it twice is the same as once."""
        return self.method in ("GET", "HEAD") and self.body is None

    def made(self) -> httpx.Request:
        """Made by hand: the client's own headers and cookies are not the asker's."""
        extensions = {"timeout": _TIMEOUT.as_dict(), "target": self.target}
        return httpx.Request(
            self.method, "http://localhost/", headers=self.headers, content=self.body, extensions=extensions
        )


async def relay(server: MlflowServer, request: Request, target: Target, mount: str = "") -> Response:
    """Send ``request`` on as a request for ``target``.

    Unavailable when MLflow's server does not start, answer or hold out, TooLarge for a body over
    the target's limit. ``mount`` is put before paths that the answer redirects to.
    """
    body = _body_of(request, target)
    sent = target.raw + _query_of(request)
    try:
        answer = await _sent(
            server, _Call(request.method, sent, _headers_of(request), body, target.path[:200])
        )
    except ClientDisconnect:
        return Response(status_code=400)  # nobody reads it
    return _Answer(answer, target, mount)


async def ask(
    server: MlflowServer, method: str, target: Target, body: bytes | None = None
) -> tuple[int, bytes]:
    """One call in the hub's own words, with ``body`` as JSON: the answer's status and its whole body.

    Nothing of the asker's reaches MLflow but what the caller put into ``body``. Errors as :func:`relay`.
    """
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    call = _Call(method, target.raw, headers, body, target.path[:200])
    answer = await _sent(server, call)
    try:
        return answer.status_code, await answer.aread()
    except httpx.TransportError as wrong:
        raise _ended(call) from wrong
    finally:
        await answer.aclose()


async def _sent(server: MlflowServer, call: _Call) -> httpx.Response:
    """Send it; again where the server was gone before it could begin, or where twice is the same."""
    client = await _client(server)
    for _ in range(_TRIES):
        try:
            return await _send(client, call)
        except (httpx.ConnectError, _Broken):
            client = await _client(server, dead=client)
    raise Unavailable("MLflow's server ends again and again", where="MLflow", hint="try again shortly")


class _Broken(Exception):
    """The connection broke while a request was under way that can be sent again."""


async def _client(server: MlflowServer, dead: httpx.AsyncClient | None = None) -> httpx.AsyncClient:
    try:
        async with asyncio.timeout(START_S_MAX):
            return await server.client(dead)
    except TimeoutError:
        raise Unavailable("MLflow's server is still starting", where="MLflow", hint="try again") from None


async def _send(client: httpx.AsyncClient, call: _Call) -> httpx.Response:
    try:
        return await client.send(call.made(), stream=True)
    except httpx.ConnectError:
        raise
    except httpx.TimeoutException as wrong:
        raise Unavailable("MLflow's server took too long", where=call.where) from wrong
    except httpx.TransportError as wrong:
        if call.repeatable:
            raise _Broken from wrong
        raise _ended(call) from wrong


def _ended(call: _Call) -> Unavailable:
    return Unavailable(
        "MLflow's server ended while it worked on this", where=call.where, hint="see whether it was done"
    )


def _query_of(request: Request) -> bytes:
    query: bytes = request.scope["query_string"]
    return b"?" + quote_from_bytes(query, _QUERY_SAFE).encode() if query else b""


def _headers_of(request: Request) -> list[tuple[bytes, bytes]]:
    named = {name.strip().lower().encode() for name in request.headers.get("connection", "").split(",")}
    dropped = _HOP_BY_HOP | _NOT_FOR_MLFLOW | named
    if "transfer-encoding" in request.headers:  # of two lengths the stream's is true
        dropped |= {b"content-length"}
    kept = [(k, v) for k, v in request.headers.raw if k not in dropped and not k.startswith(b"x-forwarded")]
    return [(b"host", b"localhost"), *kept]


def _body_of(request: Request, target: Target) -> AsyncIterator[bytes] | None:
    length = request.headers.get("content-length", "")
    if "transfer-encoding" not in request.headers and length in ("", "0"):
        return None
    if length.isdigit() and int(length) > target.body_bytes_max:
        raise _too_large(target)
    return _bounded(request, target)


async def _bounded(request: Request, target: Target) -> AsyncIterator[bytes]:
    seen = 0
    async for chunk in request.stream():
        seen += len(chunk)
        if seen > target.body_bytes_max:
            raise _too_large(target)
        yield chunk


def _too_large(target: Target) -> TooLarge:
    return TooLarge(f"a body is at most {target.body_bytes_max} bytes here", where=target.path[:200])


class _Answer(StreamingResponse):
    """MLflow's answer; whoever goes away while it streams ends the stream on MLflow's side too."""

    def __init__(self, answer: httpx.Response, target: Target, mount: str) -> None:
        super().__init__(_whole(answer, target), answer.status_code)
        self._answer = answer
        dropped = _HOP_BY_HOP | _NOT_FROM_MLFLOW
        headers = [(k.lower(), v) for k, v in answer.headers.raw if k.lower() not in dropped]
        self.raw_headers = [(k, _moved(v, mount) if k == b"location" else v) for k, v in headers]
        self.raw_headers += _policy(answer, target)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._answer.aclose()


async def _whole(answer: httpx.Response, target: Target) -> AsyncIterator[bytes]:
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
