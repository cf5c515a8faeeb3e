"""Files that MLflow's own server writes or removes: the seals are asked before it is.

These are uploads that are not the native routes' (of other workspaces, in parts to an object store), what
MLflow's pages log to a run, and addresses in an object store that MLflow signs for an upload past the hub.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from tallystick.core.errors import Unavailable
from tallystick.doors.mlflow.bodies import SHORT_BYTES
from tallystick.doors.mlflow.paths import Target
from tallystick.doors.mlflow.relay import MlflowServer, ask
from tallystick.judging.seals import Seals

__all__ = ["Writes"]

_FILE = re.compile(
    r"/(?:ajax-)?api/[0-9.]+/mlflow-artifacts/(artifacts|presigned|mpu/[^/]+)/(.+)", re.IGNORECASE | re.ASCII
)
_TO_RUN = re.compile(r"/(?:ajax-)?api/[0-9.]+/mlflow/upload-artifact/*", re.IGNORECASE | re.ASCII)
_TO_URL = re.compile(
    r"/(?:ajax-)?api/[0-9.]+/mlflow/artifacts/presigned-upload-url/*", re.IGNORECASE | re.ASCII
)
_DECODED_MAX = 16

Relay = Callable[[Request], Awaitable[Response]]
ReadBody = Callable[[], Awaitable[tuple[Request, Any]]]
"""Reads a request's body as JSON: the request with a body that can be sent on, and what it says."""


@dataclass(frozen=True, slots=True)
class Writes:
    """Calls of one hub to MLflow's own server that write files."""

    child: MlflowServer
    seals: Seals

    async def passed(self, request: Request, target: Target, relay: Relay, body: ReadBody) -> Response:
        """What ``relay`` answers; Refused where a file is written that is to stay as it is."""
        if found := _FILE.fullmatch(target.path):
            kind = found[1].lower()
            if kind in ("mpu/create", "mpu/complete"):
                return await self._in_parts(request, found[2], relay, body)
            async with self.seals.landing(found[2], removes=request.method == "DELETE"):
                return await relay(request)
        if _TO_RUN.fullmatch(target.path):
            said = parse_qs(request.scope["query_string"].decode("ascii", "replace"), keep_blank_values=True)
            run, path = (said.get(key, [""])[0] for key in ("run_uuid", "path"))
            async with self.seals.landing(*await self._below(run, "", path)):
                return await relay(request)
        if _TO_URL.fullmatch(target.path):
            request, told = await body()
            fields = told if isinstance(told, dict) else {}
            run, model = (str(fields.get(f"{a}_id") or fields.get(f"{a}Id") or "") for a in ("run", "model"))
            path = str(fields.get("path") or "")
            await self.seals.check(*await self._below(run, "", path), *await self._below("", model, path))
        return await relay(request)

    async def _in_parts(self, request: Request, folder: str, relay: Relay, body: ReadBody) -> Response:
        """The file is named by the body, in the address's folder; a body that is too long names none."""
        length = request.headers.get("content-length", "")
        if not length.isdigit() or int(length) > SHORT_BYTES:
            async with self.seals.landing(folder, removes=True):
                return await relay(request)
        request, said = await body()
        name = said.get("path") if isinstance(said, dict) else None
        if not isinstance(name, str):
            return await relay(request)  # MLflow says what is wrong
        async with self.seals.landing(f"{folder}/{name.rpartition('/')[2]}"):
            return await relay(request)

    async def _below(self, run: str, model: str, path: str) -> list[str]:
        """Where a file of a run or a logged model may come to lie; nowhere where MLflow will refuse it."""
        if not (run or model) or not path:
            return []
        for _ in range(_DECODED_MAX):  # as MLflow does, until nothing changes
            path = unquote(path)
        call = f"runs/get?run_id={quote(run, safe='')}" if run else f"logged-models/{quote(model, safe='')}"
        where = f"/api/2.0/mlflow/{call}"
        status, answer = await ask(self.child, "GET", Target(where.encode(), where.partition("?")[0]))
        if status >= 500:
            raise Unavailable("MLflow cannot say where this keeps its files", where="MLflow")
        if status != 200:
            return []
        info = json.loads(answer)["run" if run else "model"]["info"]
        own = [f"{info['experiment_id']}/{info['run_id']}/artifacts/{path}"] if run else []
        kept = [part for part in unquote(urlsplit(str(info["artifact_uri"])).path).split("/") if part]
        # Of a folder or a bucket it is not known here where in it the hub's own artifacts begin.
        return [*own, *("/".join((*kept[i:], path)) for i in range(len(kept)))]
