"""A hub in memory with its gate before a real MLflow, as the gate's tests use it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette

from tallystick.core.model import ModelRef
from tallystick.core.verdict import VerdictState
from tallystick.doors.mlflow.gate import RegistryGate
from tallystick.doors.mlflow.proxy import mlflow_routes
from tallystick.hub.house import House
from tallystick.hub.register import admit
from tallystick.ports.tile import Place
from tallystick.tiles.registry.mlflow import MlflowRegistry, open_tile
from tests.doors.mlflow.house import API, served
from tests.fakes.house import SEEN, add_verdict, folder_of, make_house, model_files
from tests.fakes.plain_sandbox import PlainSandbox

__all__ = ["Gated", "opened", "refused"]


@dataclass
class Gated:
    """A hub in memory before a real MLflow, its door, and versions that a stock client registered."""

    house: House
    registry: MlflowRegistry
    http: httpx.AsyncClient
    url: str
    home: Path
    made: int = 0

    async def version(self, name: str) -> int:
        """Another version of a model, from outside: the hub has not seen it."""
        self.made += 1
        folder = folder_of(model_files(f"{name} {self.made}"), self.home / f"made-{self.made}")
        return (await self.registry.register(name, folder, {})).version

    async def passed(self, name: str, state: VerdictState = VerdictState.PASSED, **more: Any) -> int:
        """Another version with a verdict on it."""
        version = await self.version(name)
        await add_verdict(self.house, await admit(self.house, ModelRef(name, version)), state, **more)
        return version

    async def ask(self, path: str, method: str = "POST", **body: Any) -> httpx.Response:
        return await self.http.request(method, path if path.startswith("/") else API + path, json=body)

    async def aliases(self, name: str) -> dict[str, int]:
        return {a: v.version for v in await self.registry.versions(name) for a in v.aliases}

    async def stages(self, name: str) -> dict[str, str]:
        answer = await self.http.get(API + "registered-models/get", params={"name": name})
        found = answer.json()["registered_model"].get("latest_versions", ())
        return {v["version"]: v["current_stage"] for v in found}


@contextlib.asynccontextmanager
async def opened(home: Path) -> AsyncIterator[Gated]:
    """The hub and MLflow, until the block is left."""
    registry = open_tile(Place(home / "mlflow", {}, {"process_sandbox": PlainSandbox()}))

    async def inspect(order, say):
        return SEEN

    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(registry.close)
        house = make_house(home, errands={"inspect": inspect}, registry=registry)
        stack.push_async_callback(house.traffic.close)
        stack.push_async_callback(house.sandbox.close)
        gate = RegistryGate(house, registry.child)
        url = await stack.enter_async_context(
            served(Starlette(routes=mlflow_routes(registry.child, None, gate)))
        )
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=60))
        yield Gated(house, registry, http, url, home)


def refused(answer: httpx.Response, *words: str) -> str:
    """The message of an answer in MLflow's own shape that refuses, and says all these words."""
    said = answer.json()
    assert (answer.status_code, said["error_code"]) == (403, "PERMISSION_DENIED"), said
    assert all(word in said["message"] for word in words), said["message"]
    return str(said["message"])
