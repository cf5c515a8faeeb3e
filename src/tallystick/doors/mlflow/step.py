"""The narrower door, for one step of a pipeline: it reads the record, and writes to what it made itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from tallystick.core.errors import BadInput, Refused, TookTooLong, TooLarge, Unavailable
from tallystick.doors.mlflow.bodies import STALLED_S
from tallystick.doors.mlflow.own import Own
from tallystick.doors.mlflow.paths import Target, target_of
from tallystick.doors.mlflow.proxy import METHODS, Native, relaying
from tallystick.doors.mlflow.relay import MlflowServer, ask, guarded, relay
from tallystick.judging.seals import Seals

__all__ = ["STEP_BODY_BYTES_MAX", "step_app"]

STEP_BODY_BYTES_MAX = 4 * 1024 * 1024
"""Of a call that writes, as it is read and written anew here; MLflow takes 1 MB of a batch."""
BODIES_MAX = 4
"""Read at once."""

_API = r"/api/[23]\.0/mlflow/"
_FILES = "/api/2.0/mlflow-artifacts/artifacts"
_READ = [
    ("GET", r"/(version|health)"),
    ("GET", _API + r"(server-info|artifacts/list|runs/get)"),
    ("GET", _API + r"metrics/get-history(-bulk-interval)?"),
    ("GET", _API + r"experiments/(get|get-by-name|search)"),
    ("GET", _API + r"logged-models/[^/]+(/artifacts/directories)?"),
    ("GET", _API + r"registered-models/(get|search|alias|get-latest-versions)"),
    ("GET", _API + r"model-versions/(get|search|get-download-uri)"),
    ("POST", _API + r"(experiments|runs|logged-models)/search"),
    ("POST", _API + r"registered-models/get-latest-versions"),
    ("GET", re.escape(_FILES) + r"(/.+)?"),
]
_WRITE = [
    ("POST", _API + r"(?P<call>experiments/(create|set-experiment-tag))"),
    ("POST", _API + r"(?P<call>runs/(create|update|outputs|set-tag|delete-tag))"),
    ("POST", _API + r"(?P<call>runs/log-(metric|batch|parameter|inputs|model))"),
    ("POST", _API + r"(?P<call>logged-models)"),
    ("POST", _API + r"(?P<call>logged-models/(?P<model>[^/]+)/params)"),
    ("PATCH", _API + r"(?P<call>logged-models/(?P<model>[^/]+)(?P<tags>/tags)?)"),
    ("DELETE", _API + r"(?P<call>logged-models/(?P<model>[^/]+)/tags/[^/]+)"),
]
_READS = [(method, re.compile(pattern)) for method, pattern in _READ]
_WRITES = [(method, re.compile(pattern)) for method, pattern in _WRITE]


def step_app(
    child: MlflowServer,
    tags: Mapping[str, str] | None = None,
    own: Own | None = None,
    lane: Native | None = None,
    seals: Seals | None = None,
) -> Starlette:
    """MLflow for one step of a pipeline, which runs somebody's code; ``tags`` are put on what it makes.

    All tracking data, registered models and artifacts can be read, those of other steps, runs and
    people included. Written is only to what was made through this very instance (or is in ``own``):
    runs, logged models until they are finished, their artifacts below the address that MLflow
    answered, tags of experiments. Runs can be made in any experiment, and experiments without a
    location. All else is refused: nothing is registered, aliased or deleted. What is allowed is answered
    by ``lane`` where that can, and by MLflow's own server otherwise. What ``seals`` are on stays as it is.
    """
    door = _Door(child, own or Own(tags or {}), lane, seals)

    async def step(request: Request) -> Response:
        return await guarded(request, lambda: door.answer(request))

    return Starlette(routes=[Route("/{rest:path}", step, methods=METHODS)])


class _Door:
    def __init__(self, child: MlflowServer, own: Own, lane: Native | None, seals: Seals | None) -> None:
        self._child = child
        self._lane = lane
        self._seals = seals
        self._own = own
        self._bodies = asyncio.Semaphore(BODIES_MAX)

    async def answer(self, request: Request) -> Response:
        target = target_of(request.scope["raw_path"])
        asked = "GET" if request.method == "HEAD" else request.method
        if any(asked == method and known.fullmatch(target.path) for method, known in _READS):
            return await self._read(request, target)
        if asked == "PUT" and target.path.startswith(_FILES + "/"):
            return await self._upload(request, target)
        for method, known in _WRITES:
            if asked == method and (found := known.fullmatch(target.path)):
                return await self._write(request, target, found.groupdict())
        raise Refused(
            f"a pipeline's step may not {request.method} this",
            where=target.path[:200],
            hint="steps log runs and models; register and delete from outside, with tally or MLflow's client",
        )

    async def _write(self, request: Request, target: Target, said: Mapping[str, str | None]) -> Response:
        """Send a call on, its body written anew from what was looked at, and its query left out."""
        call, model_id = str(said["call"]), said.get("model") or ""
        async with self._bodies:
            body = self._own.body(call, await _body(request), model_id)
            if request.method == "PATCH" and not said["tags"]:
                await self._check_unfinished(model_id)
                self._own.end_model(model_id)
            sent = None if request.method == "DELETE" else json.dumps(body).encode()
            status, answer = await self._ask(request.method, target, sent)
        if status == 200:
            self._own.learn(call, json.loads(answer))
        return Response(answer, status, media_type="application/json")

    async def _read(self, request: Request, target: Target) -> Response:
        """Natively where it is a plain GET; searches by POST stream to MLflow's own server."""
        route = self._lane.find(request.method, target.raw) if self._lane else None
        if self._lane and route and request.method == "GET" and "content-length" not in request.headers:
            query: bytes = request.scope["query_string"]
            if found := await self._lane.answer(route, request.headers.raw, query, b""):
                return Response(found[1], found[0], media_type="application/json")
        return await relay(self._child, request, target)

    async def _ask(self, method: str, target: Target, sent: bytes | None = None) -> tuple[int, bytes]:
        """In the hub's own words, natively where that can be."""
        if self._lane and (route := self._lane.find(method, target.raw)):
            head = ((b"content-type", b"application/json"),)
            if found := await self._lane.answer(route, head, b"", sent or b""):
                return found
        return await ask(self._child, method, target, sent, relaying(self._lane, method, target))

    async def _upload(self, request: Request, target: Target) -> Response:
        path = target.path.removeprefix(_FILES + "/")
        model_id = self._own.model_of(path)
        if not model_id:
            return await self._landed(request, target, path)
        self._own.begin_upload(model_id)
        try:
            await self._check_unfinished(model_id)
            return await self._landed(request, target, path)
        finally:
            self._own.end_upload(model_id)

    async def _landed(self, request: Request, target: Target, path: str) -> Response:
        async with self._seals.landing(path) if self._seals else contextlib.nullcontext():
            return await relay(self._child, request, target)

    async def _check_unfinished(self, model_id: str) -> None:
        """Refuse to change a logged model that is finished: whoever loads it relies on its files."""
        path = f"/api/2.0/mlflow/logged-models/{model_id}"
        status, answer = await self._ask("GET", Target(path.encode(), path))
        if status >= 500:
            raise Unavailable(f"MLflow cannot say how logged model {model_id} stands", where="MLflow")
        pending = status == 200 and json.loads(answer)["model"]["info"]["status"] == "LOGGED_MODEL_PENDING"
        if not pending:
            raise Refused(f"logged model {model_id} is finished", where="MLflow", hint="log another one")


async def _body(request: Request) -> dict[str, Any]:
    """A request's body, a JSON object; nothing is an empty one."""
    raw = b""
    try:
        async with asyncio.timeout(STALLED_S):
            async for chunk in request.stream():
                raw += chunk
                if len(raw) > STEP_BODY_BYTES_MAX:
                    raise TooLarge(f"a body is at most {STEP_BODY_BYTES_MAX} bytes here", where="MLflow")
    except TimeoutError:
        raise TookTooLong("the body stalled", where="MLflow") from None
    except ClientDisconnect:
        raise BadInput("the body broke off", where="MLflow") from None
    try:
        body = json.loads(raw) if raw else {}
    except (ValueError, RecursionError):
        raise BadInput("the body is not JSON", where="MLflow") from None
    if not isinstance(body, dict):
        raise BadInput("the body is not a JSON object", where="MLflow")
    return body
