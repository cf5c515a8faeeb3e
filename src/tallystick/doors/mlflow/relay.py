"""One request passed on to MLflow's server and its answer passed back, streams where they are long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote_from_bytes, urlsplit

import httpx
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from tallystick.core.errors import Refused, TallyError, Unavailable
from tallystick.doors.mlflow.answer import HOP_BY_HOP, passed_back
from tallystick.doors.mlflow.bodies import body_of, turns_of
from tallystick.doors.mlflow.paths import Target

__all__ = ["START_S_MAX", "Gaps", "MlflowServer", "ask", "check_origin", "error_answer", "guarded", "relay"]

START_S_MAX = 60.0
GAPS_S_MAX = 60.0
"""How long gaps are left for one call: what takes longer finds the record's lock without."""
_TRIES = 3
_TIMEOUT = httpx.Timeout(connect=10, read=300, write=60, pool=60)
_NOT_FOR_MLFLOW = frozenset(
    # Who asks, and with what right, is the hub's affair; where it was asked, MLflow must not rely on.
    b"authorization cookie expect forwarded host origin proxy-authorization referer x-real-ip".split()
)
_QUERY_SAFE = "".join(map(chr, range(0x21, 0x7F)))
_CODES = {
    400: "INVALID_PARAMETER_VALUE",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    409: "RESOURCE_CONFLICT",
    413: "INVALID_PARAMETER_VALUE",
    501: "NOT_IMPLEMENTED",
    503: "TEMPORARILY_UNAVAILABLE",
}


Gaps = Callable[[], AbstractContextManager[None]]
"""Has the native lane leave gaps while MLflow's own server writes."""


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


class _Gap:
    """The gaps for one call: from when all of it is sent until it is answered, and not for longer."""

    def __init__(self, gaps: Gaps = nullcontext) -> None:
        self._gaps = gaps
        self._left = ExitStack()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        if self._timer is None:
            self._left.enter_context(self._gaps())
            self._timer = asyncio.get_running_loop().call_later(GAPS_S_MAX, self._left.close)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._left.close()


@dataclass(frozen=True, slots=True)
class _Call:
    """A request as it is sent: ``target`` is its path and query as bytes, ``where`` says it in errors."""

    method: str
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: AsyncIterator[bytes] | bytes | None
    where: str
    gap: _Gap = field(default_factory=_Gap)
    chunked: bool = False

    @property
    def repeatable(self) -> bool:
        """Whether sending it twice is the same as once."""
        return self.method in ("GET", "HEAD") and self.body is None

    def made(self) -> httpx.Request:
        """Made by hand: the client's own headers and cookies are not the asker's."""
        extensions = {"timeout": _TIMEOUT.as_dict(), "target": self.target}
        # MLflow takes a body without a length for none: it is to see what it would have seen.
        content = _once(self.body) if self.chunked and isinstance(self.body, bytes) else self.body
        return httpx.Request(
            self.method, "http://localhost/", headers=self.headers, content=content, extensions=extensions
        )


async def relay(
    server: MlflowServer, request: Request, target: Target, mount: str = "", gaps: Gaps = nullcontext
) -> Response:
    """Send ``request`` on as a request for ``target``, with ``gaps`` once it is on its way as a whole.

    Unavailable when MLflow's server does not start, answer or hold out, or has no turn left for what is
    long, TooLarge for a body over the target's limit, TookTooLong for one that stalls. ``mount`` is put
    before paths that the answer redirects to.
    """
    turns, gap = turns_of(server), _Gap(gaps)
    sent = target.raw + _query_of(request)
    try:
        async with body_of(request, target, turns, gap.begin) as body:
            chunked = "transfer-encoding" in request.headers
            call = _Call(request.method, sent, _headers_of(request), body, target.path[:200], gap, chunked)
            answer = await _sent(server, call)
    except ClientDisconnect:
        return Response(status_code=400)  # nobody reads it
    return await passed_back(answer, target, mount, turns)


async def ask(
    server: MlflowServer,
    method: str,
    target: Target,
    body: bytes | None = None,
    gaps: Gaps = nullcontext,
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> tuple[int, bytes]:
    """One call in the hub's own words, with ``body`` as JSON: the answer's status and its whole body.

    Nothing of the asker's reaches MLflow but what the caller put into ``body`` and ``headers``. Errors as
    :func:`relay`.
    """
    sent = [(b"host", b"localhost"), (b"content-type", b"application/json"), *headers]
    call = _Call(method, target.raw, sent, body, target.path[:200], _Gap(gaps))
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


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _send(client: httpx.AsyncClient, call: _Call) -> httpx.Response:
    try:
        if isinstance(call.body, bytes | None):  # else it is the body that says when it is through
            call.gap.begin()
        return await client.send(call.made(), stream=True)
    except httpx.ConnectError:
        raise
    except httpx.TimeoutException as wrong:
        raise Unavailable("MLflow's server took too long", where=call.where) from wrong
    except httpx.TransportError as wrong:
        if call.repeatable:
            raise _Broken from wrong
        raise _ended(call) from wrong
    finally:
        call.gap.end()


def _ended(call: _Call) -> Unavailable:
    return Unavailable(
        "MLflow's server ended while it worked on this", where=call.where, hint="see whether it was done"
    )


def _query_of(request: Request) -> bytes:
    query: bytes = request.scope["query_string"]
    return b"?" + quote_from_bytes(query, _QUERY_SAFE).encode() if query else b""


def _headers_of(request: Request) -> list[tuple[bytes, bytes]]:
    named = {name.strip().lower().encode() for name in request.headers.get("connection", "").split(",")}
    dropped = HOP_BY_HOP | _NOT_FOR_MLFLOW | named
    if "transfer-encoding" in request.headers:  # of two lengths the stream's is true
        dropped |= {b"content-length"}
    kept = [(k, v) for k, v in request.headers.raw if k not in dropped and not k.startswith(b"x-forwarded")]
    return [(b"host", b"localhost"), *kept]
