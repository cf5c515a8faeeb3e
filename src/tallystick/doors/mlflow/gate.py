"""The gate at MLflow's registry: nothing gets a gated alias or stage there without a verdict that counts.

A call that could move one is read here whole, as MLflow reads it, and sent on written anew: what MLflow takes
from it is what was weighed. Calls that make, rename or remove a model or a version wait for each other, model
by model, so that none can exchange what a verdict is about between the question and the answer; nor can
whoever writes files (:mod:`tallystick.judging.seals`).
"""

from __future__ import annotations

import contextlib
import json
import re
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from tallystick.core.errors import BadInput, Refused, TooLarge, Unavailable
from tallystick.core.model import ModelRef
from tallystick.core.verdict import PRODUCTION
from tallystick.doors.mlflow.bodies import SHORT_BYTES, body_of, turns_of
from tallystick.doors.mlflow.paths import Target, folder_of
from tallystick.doors.mlflow.relay import MlflowServer, ask
from tallystick.doors.mlflow.writes import Writes
from tallystick.hub.house import House
from tallystick.hub.register import admit
from tallystick.judging.deploy import check_files, let_in
from tallystick.judging.seals import Seals

__all__ = ["RegistryGate"]

WORKSPACE = "x-mlflow-workspace"
DEFAULT_WORKSPACE = "default"
ROWS = 256
"""Models wait for each other in so many rows: names are anybody's to make up, and locks stay."""
_PATH = re.compile(
    r"/(?:ajax-)?api/[0-9.]+/(?:preview/)?mlflow/"
    r"(registered-models/(?:alias|rename|create|delete)|model-versions/(?:transition-stage|create|delete))/*",
    re.IGNORECASE | re.ASCII,
)
_READS = ("GET", "HEAD", "OPTIONS")
_PROMPT_SOURCES = frozenset(("dummy-source", "prompt-template"))
"""MLflow's prompts are kept as models without files, under these sources, and no source ever changes."""

Relay = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class RegistryGate:
    """The gate of one hub, for all ways to MLflow's own server; ``child`` is that server."""

    house: House
    child: MlflowServer
    seals: Seals

    async def passed(self, request: Request, target: Target, relay: Relay) -> Response:
        """What ``relay`` answers to the request, once nothing stands against it.

        Refused where the gate is shut, naming the verdict, the rules and the command to run next. MLflow's
        own answer where it does not know the version. What is no matter of the gate goes on as it came.
        """
        found = _PATH.fullmatch(target.path)
        if request.method in _READS:
            return await relay(request)

        if not found:

            async def read() -> tuple[Request, Any]:
                said = await self._said(request, target)
                return _anew(request, said), said

            return await Writes(self.child, self.seals).passed(request, target, relay, read)
        said = await self._said(request, target)
        body = said if isinstance(said, dict) else {}
        async with self._alone(body), contextlib.AsyncExitStack() as closed:
            answer = await self._weighed(request, found[1].lower(), body, closed)
            try:
                return answer or await relay(_anew(request, said))
            finally:
                self.seals.changed()

    async def _said(self, request: Request, target: Target) -> Any:
        """What the request's body says, as MLflow reads it."""
        async with body_of(request, target, turns_of(self.child), lambda: None) as body:
            if isinstance(body, bytes | None):
                return _understood(body or b"")
            raise TooLarge(f"a body is at most {SHORT_BYTES:,} bytes here", where=target.path[:200])

    @contextlib.asynccontextmanager
    async def _alone(self, body: Mapping[str, Any]) -> AsyncIterator[None]:
        """No other call makes, moves or removes these models meanwhile."""
        names = {str(body.get(key)) for key in ("name", "new_name", "newName") if body.get(key)}
        async with contextlib.AsyncExitStack() as held:
            for row in sorted({zlib.crc32(name.encode("utf-8", "surrogatepass")) % ROWS for name in names}):
                await held.enter_async_context(self.house.lock("registry", str(row)))
            yield

    async def _weighed(
        self, request: Request, call: str, body: dict[str, Any], closed: contextlib.AsyncExitStack
    ) -> Response | None:
        """None where the call may go on, or what MLflow says of a version that is not there.

        ``closed`` keeps the folder of a version that is let in as it is until the call is done.
        """
        gate = self.house.policy.gate
        if call == "registered-models/alias" and request.method != "DELETE":
            if gate.asks_alias(_text(body, "alias")):
                return await self._let_in(request, body, PRODUCTION, closed)
        elif call == "model-versions/transition-stage":
            if stage := gate.asks_stage(_text(body, "stage")):
                return await self._let_in(request, body, stage, closed)
        elif call == "registered-models/rename":
            return await self._renamed(request, body)
        elif call.endswith("/create"):
            self._check_made(body)
        return None

    async def _let_in(
        self, request: Request, body: dict[str, Any], stage: str, closed: contextlib.AsyncExitStack
    ) -> Response | None:
        name, version = _text(body, "name"), _version(body)
        self._check_workspace(request)
        known = await self._asked(request, "model-versions/get", name=name, version=str(version))
        if isinstance(known, Response):
            return known
        if known["model_version"].get("source") in _PROMPT_SOURCES:
            return None
        kept = await self._asked(request, "model-versions/get-download-uri", name=name, version=str(version))
        if isinstance(kept, Response):
            return kept
        uri = str(kept.get("artifact_uri", ""))
        if folder := folder_of(uri):
            await closed.enter_async_context(self.seals.closed(folder, f"{name}@{version}"))
        model = await admit(self.house, ModelRef(name, version))
        await let_in(self.house, model, stage)
        _check_fixed(uri, name)
        await check_files(self.house, model)
        return None

    async def _renamed(self, request: Request, body: dict[str, Any]) -> Response | None:
        """A verdict is about a name too: a model that stands in production keeps it."""
        name, gate = _text(body, "name"), self.house.policy.gate
        known = await self._asked(request, "registered-models/get", name=name)
        if isinstance(known, Response):
            return known
        model = known["registered_model"]
        stages = [v.get("current_stage", "") for v in model.get("latest_versions", ())]
        held = [f"stage {stage}" for stage in stages if gate.asks_stage(stage)]
        for alias in model.get("aliases", ()):
            if gate.asks_alias(str(alias["alias"])):
                version = str(alias["version"])
                seen = await self._asked(request, "model-versions/get", name=name, version=version)
                if isinstance(seen, Response) or seen["model_version"].get("source") not in _PROMPT_SOURCES:
                    held.append(f"alias {alias['alias']}")
        if held:
            raise Refused(
                f"model {name} has {' and '.join(sorted(set(held)))}, and under another name no verdict",
                where="gate",
                hint="take that away, rename it, then judge it under its new name: tally judge NAME",
            )
        return None

    def _check_made(self, body: Mapping[str, Any]) -> None:
        """No version is made with a gated alias or stage: MLflow 3 has no such thing."""
        gate, said = self.house.policy.gate, [body.get(key) for key in ("alias", "aliases", "stage")]
        said += [body.get(key) for key in ("current_stage", "currentStage")]
        texts = {t for value in said for t in _texts_in(value)}
        if held := sorted(t for t in texts if gate.asks_alias(t) or gate.asks_stage(t)):
            text = f"a version is not made with {held[0]!r:.100}"
            raise Refused(text, where="gate", hint="make it, judge it, then give it that")

    def _check_workspace(self, request: Request) -> None:
        said = {value.strip() for value in request.headers.getlist(WORKSPACE)}
        if said - {DEFAULT_WORKSPACE, ""}:
            raise Refused(
                f"the hub judges models of workspace {DEFAULT_WORKSPACE} alone",
                where=f"workspace {max(said)!r:.100}",
                hint=f"register the model in workspace {DEFAULT_WORKSPACE}, and judge it there",
            )

    async def _asked(self, request: Request, call: str, **said: str) -> dict[str, Any] | Response:
        """What MLflow knows, or its own error where it knows nothing; Unavailable where it cannot say."""
        query = "&".join(f"{key}={quote(value, safe='')}" for key, value in said.items())
        path = f"/api/2.0/mlflow/{call}"
        headers = [(k, v) for k, v in request.headers.raw if k == WORKSPACE.encode()]
        target = Target(f"{path}?{query}".encode(), path)
        status, answer = await ask(self.child, "GET", target, headers=headers)
        if status >= 500:
            raise Unavailable("MLflow cannot say how this model stands", where="MLflow", hint="try again")
        if status != 200:
            return Response(answer, status, media_type="application/json")
        found: dict[str, Any] = json.loads(answer)
        return found


def _text(body: Mapping[str, Any], key: str) -> str:
    """A field as MLflow takes it, empty where it is not there; BadInput for what is no text."""
    value = body.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadInput(f"{key!r} is a text", where="MLflow")
    return value


def _version(body: dict[str, Any]) -> int:
    """The version that is meant, which the body then says in the plain way; BadInput where it is none."""
    try:
        version = int(_text(body, "version"))
    except ValueError:
        version = 0
    if not 0 < version < 2**31:
        raise BadInput("a version is a number from 1 on", where="version")
    body["version"] = str(version)
    return version


def _check_fixed(uri: str, name: str) -> None:
    """Refused for an address that is resolved anew at every download, or that some client reads otherwise."""
    if uri.startswith("runs:"):
        raise Refused(
            f"what {uri[:200]} means is looked up at every download, so its files can be others each time",
            where="gate",
            hint=f"register it so that it is looked up once: mlflow.register_model({uri[:200]!r}, {name!r})",
        )
    if not folder_of(uri) and uri.startswith("mlflow-artifacts:"):
        raise Refused(
            f"{uri[:200]!r} can be read in more than one way",
            where="gate",
            hint="register the model from the address of its run, or of the logged model",
        )


def _texts_in(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [t for inner in value.values() for t in _texts_in(inner)]
    return [t for inner in value for t in _texts_in(inner)] if isinstance(value, list) else []


def _understood(raw: bytes) -> Any:
    """A body as MLflow reads it: JSON, or a text of JSON in JSON; what is neither says nothing."""
    try:
        said = json.loads(raw) if raw else {}
        said = json.loads(said) if isinstance(said, str) else said
    except (ValueError, RecursionError):
        said = {}
    return {} if said is None else said


def _anew(request: Request, said: Any) -> Request:
    """The request with a body that can be read in one way only."""
    sent = json.dumps(said).encode()
    dropped = (b"content-length", b"transfer-encoding", b"content-encoding", b"expect")
    headers = [(k, v) for k, v in request.scope["headers"] if k not in dropped]
    headers.append((b"content-length", b"%d" % len(sent)))
    waiting: list[Message] = [{"type": "http.request", "body": sent, "more_body": False}]

    async def receive() -> Message:
        return waiting.pop() if waiting else await request.receive()

    return Request({**request.scope, "headers": headers}, receive)
