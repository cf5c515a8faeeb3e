"""The front door's routes: all of MLflow for the user. A pipeline's steps have doors of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from tallystick.doors.mlflow.paths import Target, check_open, target_of
from tallystick.doors.mlflow.relay import Gaps, MlflowServer, check_origin, guarded, relay

__all__ = ["METHODS", "ROOTS", "Gate", "Native", "mlflow_routes", "relaying"]

_GATEWAY_ASKED = "/ajax-api/2.0/mlflow/gateway-proxy"
"""MLflow's pages ask here which gateways there are: none, as MLflow itself says without one."""
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_PAGES = ("get-artifact", "graphql", "model-versions", "static-files")
ROOTS = ("api", "ajax-api", *_PAGES, "health", "v1", "version")
"""What MLflow has at its root; of anything else there the hub says itself that it is not found."""


class Native(Protocol):
    """The native lane, as far as MLflow's other doors know it (``doors/tracking``)."""

    def find(self, method: str, path: bytes) -> Any:
        """The native route of a path, or None."""
        ...

    async def answer(self, route: Any, headers: Any, query: bytes, body: bytes) -> tuple[int, bytes] | None:
        """Status and JSON, or None where MLflow's own server is to be asked."""
        ...

    def relaying(self) -> contextlib.AbstractContextManager[None]:
        """While MLflow's own server writes."""
        ...


class Gate(Protocol):
    """What stands before MLflow's registry (:class:`tallystick.doors.mlflow.gate.RegistryGate`)."""

    async def passed(
        self, request: Request, target: Target, relay: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        """The answer of ``relay``, where nothing stands against the request."""
        ...


def relaying(lane: Native | None, method: str, target: Target) -> Gaps:
    """For a call to MLflow's own server: one that writes has the native lane leave it gaps meanwhile."""
    reads = method in ("GET", "HEAD", "OPTIONS") or target.path.endswith("/search")
    if lane is None or reads or "/mlflow-artifacts/" in target.path:
        return contextlib.nullcontext
    return lane.relaying


def mlflow_routes(
    child: MlflowServer, lane: Native | None = None, gate: Gate | None = None
) -> list[BaseRoute]:
    """MLflow's pages under ``/mlflow/``, and its API at the paths that its clients use.

    To be put after the hub's own routes: these take whatever of ``ROOTS`` is left. ``lane`` is told
    while MLflow's own server writes, and ``gate`` asked before anything moves in its registry.
    """

    async def pages(request: Request) -> Response:
        return await _pass_on(child, lane, gate, request, "/mlflow")

    async def client(request: Request) -> Response:
        return await _pass_on(child, lane, gate, request, "")

    paths = [f"/{root}{rest}" for root in ROOTS for rest in ("", "/{rest:path}")]
    return [
        Route("/mlflow", _to_pages),
        Route("//{rest:path}", _to_plain),
        Route("/mlflow/{rest:path}", pages, methods=METHODS),
        *(Route(path, client, methods=METHODS) for path in paths),
    ]


async def _to_pages(request: Request) -> Response:
    query = request.url.query
    return RedirectResponse("/mlflow/" + (f"?{query}" if query else ""))


async def _to_plain(request: Request) -> Response:
    """What begins with more than one slash, at its plain path, as MLflow has it; never at another host."""
    raw = request.scope["raw_path"].decode("ascii").lstrip("/")
    query = request.url.query
    return RedirectResponse(f"/{raw}" + (f"?{query}" if query else ""), 308)


async def _pass_on(
    child: MlflowServer, lane: Native | None, gate: Gate | None, request: Request, mount: str
) -> Response:
    async def go() -> Response:
        check_origin(request)
        target = target_of(request.scope["raw_path"], mount.encode())
        if (request.method, target.path) == ("GET", _GATEWAY_ASKED):
            return JSONResponse({"endpoints": []})
        check_open(target)
        gaps = relaying(lane, request.method, target)

        async def on(asked: Request) -> Response:
            return await relay(child, asked, target, mount, gaps)

        return await (gate.passed(request, target, on) if gate else on(request))

    return await guarded(request, go)
