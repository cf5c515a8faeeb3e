"""Which versions have an alias or a stage: from MLflow's record natively, or from MLflow's own server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from tallystick.core.errors import Unavailable
from tallystick.doors.mlflow.paths import Target
from tallystick.doors.mlflow.relay import MlflowServer, ask
from tallystick.evidence.policy import Gate
from tallystick.judging.seals import counts
from tallystick.ports.tracking import DEFAULT_WORKSPACE, Tracking
from tallystick.record.asks import NotPlain
from tallystick.record.entries import Held
from tallystick.record.model_asks import HeldVersions

__all__ = ["Holders"]

_API = "/api/2.0/mlflow/"
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Holders:
    """The versions of one record. The gate judges models of the default workspace alone, so does this."""

    child: MlflowServer
    gate: Callable[[], Gate]
    tracking: Tracking | None = None

    async def held(self) -> Sequence[Held]:
        """All that the gate could ask about, and maybe others; Unavailable where nobody can say."""
        if self.tracking and await self.tracking.ready():
            try:
                return await self.tracking.read(HeldVersions(), DEFAULT_WORKSPACE)
            except NotPlain:  # a schema that the native half does not know
                pass
        return [one async for one in self._asked()]

    async def _asked(self) -> AsyncIterator[Held]:
        gate = self.gate()
        aliases: dict[tuple[str, str], list[str]] = {}
        async for model in self._pages("registered-models/search", "registered_models"):
            for alias in model.get("aliases", ()):
                aliases.setdefault((model["name"], str(alias["version"])), []).append(str(alias["alias"]))
        async for version in self._pages("model-versions/search", "model_versions"):
            name, number = str(version["name"]), str(version["version"])
            stage, source = version.get("current_stage"), version.get("source")
            for alias in aliases.get((name, number), [None]):
                one = Held(name, int(number), alias, stage, source, None)
                if counts(gate, one):
                    kept = await self._get("model-versions/get-download-uri", name=name, version=number)
                    yield one._replace(storage_location=kept.get("artifact_uri"))

    async def _pages(self, call: str, field: str) -> AsyncIterator[dict[str, Any]]:
        token = ""
        while True:
            more = {"page_token": token} if token else {}
            page = await self._get(call, max_results=str(_PAGE), **more)
            for item in page.get(field, ()):
                yield item
            token = str(page.get("next_page_token") or "")
            if not token:
                return

    async def _get(self, call: str, **said: str) -> dict[str, Any]:
        path = _API + call
        status, answer = await ask(self.child, "GET", Target(f"{path}?{urlencode(said)}".encode(), path))
        if status == 404:  # a version that was taken away meanwhile
            return {}
        if status != 200:
            text = "MLflow cannot say which versions hold an alias"
            raise Unavailable(text, where="MLflow", hint="try again")
        found: dict[str, Any] = json.loads(answer)
        return found
