"""The hub's side of the Open Inference Protocol: raw bytes in, raw bytes out, and a record of each.

A body is never looked into here. What is not addressed to a model is answered at once; the rest goes
to the process that serves the endpoint. That process answers a judge as well, who may ask for gradients
(``.../pull``); so what it is asked is written here, from the protocol's own paths and nothing else: from
outside no gradient is to be had, however a path is spelt.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tallystick import __version__
from tallystick.core.errors import BadInput, NotFound, TallyError, TooLarge, Unavailable
from tallystick.core.names import DEFAULT_TENANT
from tallystick.doors.oip.lines import Lines, Reply
from tallystick.hub.house.route import Live, Routes
from tallystick.ports.clock import Clock
from tallystick.ports.traffic import Exchange, Traffic

__all__ = ["oip_routes"]

LENGTH = "inference-header-content-length"
PASSED_IN = ("content-type", LENGTH)
PASSED_OUT = ("content-type", LENGTH, "allow")
CONTENT_TYPES = ("application/json", "application/octet-stream")
HARMLESS = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
}
GONE = 499
"""Recorded where the client went away before it had its answer; nobody receives it."""


def oip_routes(
    routes: Routes, traffic: Traffic, clock: Clock, *, body_bytes_max: int, lines: Lines | None = None
) -> list[BaseRoute]:
    """The protocol's paths below ``/v2``.

    ``lines`` is for the house to close when it ends, and holds the time limit of a request.
    """
    door = _Door(routes, traffic, clock, body_bytes_max, lines or Lines())
    model = "/v2/models/{name}"
    infer = ("/infer", "/versions/{version}/infer")
    facts = ("", "/ready", "/versions/{version}", "/versions/{version}/ready")
    return [
        Route("/v2", door.server),
        Route("/v2/health/live", door.health),
        Route("/v2/health/ready", door.health),
        *(Route(model + rest, partial(door.infer, model + rest), methods=["POST"]) for rest in infer),
        *(Route(model + rest, partial(door.about, model + rest)) for rest in facts),
        Route("/v2/{rest:path}", door.nothing, methods=ANY),
    ]


ANY = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@dataclass(frozen=True, slots=True)
class _Door:
    routes: Routes
    traffic: Traffic
    clock: Clock
    body_bytes_max: int
    lines: Lines

    async def server(self, request: Request) -> Response:
        """What this server is; model repository and shared memory extensions are not among what it has."""
        return _json({"name": "tallystick", "version": __version__, "extensions": ["binary_tensor_data"]})

    async def health(self, request: Request) -> Response:
        """Whoever reads this answer knows that it is so; whether a model answers is asked by its name."""
        return _json({request.url.path.rsplit("/", 1)[1]: True})

    async def nothing(self, request: Request) -> Response:
        """Every other path and method below ``/v2``."""
        if request.method != "POST" and request.url.path.endswith("/infer"):
            return _json({"error": "infer is asked by POST"}, 405)
        return _error(NotFound("the protocol has no such path", where=request.url.path[:200]))

    async def about(self, path: str, request: Request) -> Response:
        """A model's metadata, or whether it is ready: as its process says."""
        try:
            live = self.routes.find(request.path_params["name"])
            return _response(await self._ask(request, live, b"GET " + _path(path, request), b""))
        except TallyError as wrong:
            return _error(wrong)

    async def infer(self, path: str, request: Request) -> Response:
        """Hand a request to the model and record it, whatever comes of it."""
        name: str = request.path_params["name"]
        try:
            live = self.routes.find(name)
        except TallyError as wrong:
            return _error(wrong)
        at_ms, began = self.clock.now_ms(), self.clock.monotonic_s()
        body, json_bytes, status = b"", 0, GONE
        try:
            body = await self._body(request)
            json_bytes = _json_bytes(request, body)
            response = _response(await self._ask(request, live, b"POST " + _path(path, request), body))
            status = response.status_code
            return response
        except TallyError as wrong:
            response = _error(wrong)
            status = response.status_code
            return response
        except ClientDisconnect:
            return Response(status_code=GONE)
        finally:
            took_ms = (self.clock.monotonic_s() - began) * 1000
            exchange = Exchange(at_ms, live.generation, status, took_ms, body, json_bytes)
            self.traffic.record(DEFAULT_TENANT, name, exchange)

    async def _body(self, request: Request) -> bytes:
        """The whole body; TooLarge as soon as it is known to be over the limit."""
        limit = self.body_bytes_max
        if request.headers.get("content-encoding", "identity") != "identity":
            raise BadInput("compressed bodies are not read", where="request", hint="send it as it is")
        length = request.headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length) > limit:
            raise TooLarge(
                f"a body of {length} bytes is over {limit}", where="request", hint="send fewer rows"
            )
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise TooLarge(f"the body is over {limit} bytes", where="request", hint="send fewer rows")
            parts.append(part)
        return b"".join(parts)

    async def _ask(self, request: Request, live: Live, what: bytes, body: bytes) -> Reply:
        """The process's answer. One that ended as its successor took over is not the client's concern:
        what it never answered is asked again, of the successor, once.
        """
        name: str = request.path_params["name"]
        try:
            return await self._ask_once(request, live, what, body)
        except Unavailable:
            now = self.routes.find(name)
            if now == live:
                raise
        return await self._ask_once(request, now, what, body)

    async def _ask_once(self, request: Request, live: Live, what: bytes, body: bytes) -> Reply:
        # One of each: where a client sends a header twice, the model must see what was recorded.
        passed = [(key, request.headers[key]) for key in PASSED_IN if key in request.headers]
        head = [what + b" HTTP/1.1", b"host: model"]
        head += [b"%s: %s" % (key.encode(), value.encode("latin-1")) for key, value in passed]
        head += [b"content-length: %d" % len(body), b"", body]
        line = self.lines.to(request.path_params["name"], live)
        return await line.ask(b"\r\n".join(head))


def _path(path: str, request: Request) -> bytes:
    """One of the protocol's paths with this request's names in it, as it is asked of the model's process."""
    return path.format(**{k: quote(v, safe="") for k, v in request.path_params.items()}).encode()


def _json_bytes(request: Request, body: bytes) -> int:
    """``Inference-Header-Content-Length``, 0 without; BadInput when it is no length within the body."""
    text = request.headers.get(LENGTH, "0")
    if not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) <= len(body)):
        raise BadInput(f"Inference-Header-Content-Length is {text[:50]!r}", where="request")
    return int(text)


def _response(answer: Reply) -> Response:
    """What the model's process answered, as data: it is not ours, and no browser may take it for a page."""
    headers = {key: answer.headers[key] for key in PASSED_OUT if key in answer.headers}
    if headers.get("content-type") not in CONTENT_TYPES:
        headers["content-type"] = "application/octet-stream"
    return Response(answer.body, answer.status, headers | HARMLESS)


def _json(said: dict[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(said).encode(), status, dict(HARMLESS), media_type="application/json")


def _error(wrong: TallyError) -> Response:
    return _json({"error": str(wrong)}, wrong.http_status)
