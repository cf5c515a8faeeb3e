"""The door's routes: all of MLflow for the user, tracking alone for a pipeline's steps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from tallystick.core.errors import Refused, TallyError, Unavailable
from tallystick.doors.mlflow.paths import check_open, check_step, target_of
from tallystick.doors.mlflow.relay import MlflowServer, check_origin, error_answer, relay

__all__ = ["METHODS", "ROOTS", "mlflow_routes", "step_app"]

_GATEWAY_ASKED = "/ajax-api/2.0/mlflow/gateway-proxy"
"""MLflow's pages ask here which gateways there are: none, as MLflow itself says without one."""
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_PAGES = ("get-artifact", "graphql", "model-versions", "static-files")
ROOTS = ("api", "ajax-api", *_PAGES, "health", "v1", "version")
"""What MLflow has at its root; of anything else there the hub says itself that it is not found."""

Endpoint = Callable[[Request], Awaitable[Response]]


def mlflow_routes(child: MlflowServer) -> list[BaseRoute]:
    """MLflow's pages under ``/mlflow/``, and its API at the paths that its clients use.

    To be put after the hub's own routes: these take whatever of ``ROOTS`` is left.
    """

    async def pages(request: Request) -> Response:
        return await _pass_on(child, request, "/mlflow")

    async def client(request: Request) -> Response:
        return await _pass_on(child, request, "")

    paths = [f"/{root}{rest}" for root in ROOTS for rest in ("", "/{rest:path}")]
    return [
        Route("/mlflow", _to_pages),
        Route("/mlflow/{rest:path}", pages, methods=METHODS),
        *(Route(path, client, methods=METHODS) for path in paths),
    ]


def step_app(child: MlflowServer) -> Starlette:
    """MLflow for the steps of a pipeline, which run somebody's code: they log, and change nothing else.

    Registered models can be read; logged models can be changed until they are finished.
    """

    async def step(request: Request) -> Response:
        return await _guarded(request, lambda: _for_step(child, request))

    return Starlette(routes=[Route("/{rest:path}", step, methods=METHODS)])


async def _to_pages(request: Request) -> Response:
    query = request.url.query
    return RedirectResponse("/mlflow/" + (f"?{query}" if query else ""))


async def _pass_on(child: MlflowServer, request: Request, mount: str) -> Response:
    async def go() -> Response:
        check_origin(request)
        target = target_of(request.scope["raw_path"], mount.encode())
        if (request.method, target.path) == ("GET", _GATEWAY_ASKED):
            return JSONResponse({"endpoints": []})
        check_open(target)
        return await relay(child, request, target, mount)

    return await _guarded(request, go)


async def _guarded(request: Request, go: Callable[[], Awaitable[Response]]) -> Response:
    try:
        return await go()
    except TallyError as wrong:
        return error_answer(request, wrong)


async def _for_step(child: MlflowServer, request: Request) -> Response:
    target = target_of(request.scope["raw_path"])
    model_id = check_step(request.method, target)
    if model_id:
        await _check_unfinished(child, model_id)
    return await relay(child, request, target)


async def _check_unfinished(child: MlflowServer, model_id: str) -> None:
    """Refuse to change a logged model that is finished: whoever loads it relies on its files."""
    client = await child.client()
    try:
        answer = await client.get(f"/api/2.0/mlflow/logged-models/{model_id}")
    except httpx.TransportError as wrong:
        raise Unavailable("MLflow's server did not answer", where="MLflow", hint="try again") from wrong
    if answer.is_success and answer.json()["model"]["info"].get("status") != "LOGGED_MODEL_PENDING":
        raise Refused(f"logged model {model_id} is finished", where="MLflow", hint="log another one")
