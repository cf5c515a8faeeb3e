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
from tallystick.doors.mlflow.artifacts import artifact_routes
from tallystick.doors.mlflow.gate import RegistryGate
from tallystick.doors.mlflow.holders import Holders
from tallystick.doors.mlflow.proxy import mlflow_routes
from tallystick.hub.house import House
from tallystick.hub.register import admit
from tallystick.judging.seals import Seals
from tallystick.ports.files import Files
from tallystick.ports.tile import Place
from tallystick.tiles.database.sqlite import open_tile as open_database
from tallystick.tiles.files.local import open_tile as open_files
from tallystick.tiles.files.s3 import open_tile as open_s3
from tallystick.tiles.registry.mlflow import MlflowRegistry, open_tile
from tallystick.tiles.tracking.record import Record
from tallystick.tiles.tracking.record import open_tile as open_record
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
    seals: Seals
    files: Files
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
async def opened(home: Path, native: bool = False, store: str = "") -> AsyncIterator[Gated]:
    """The hub and MLflow, until the block is left; ``native``: the record is read past MLflow."""
    registry = open_tile(
        Place(home / "mlflow", {"artifact_store": store}, {"process_sandbox": PlainSandbox()})
    )

    async def inspect(order, say):
        return SEEN

    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(registry.close)
        house = make_house(home, errands={"inspect": inspect}, registry=registry)
        stack.push_async_callback(house.traffic.close)
        stack.push_async_callback(house.sandbox.close)
        record = await _record(home / "mlflow", registry) if native else None
        if record:
            stack.push_async_callback(record.close)
        place = Place(home / "mlflow", {"artifact_store": store})
        kept: Files = open_s3(place) if store else open_files(place)
        stack.push_async_callback(kept.close)
        seals = Seals(
            lambda: house.policy.gate, Holders(registry.child, lambda: house.policy.gate, record).held
        )
        gate = RegistryGate(house, registry.child, seals)
        routes = [*artifact_routes(kept, seals), *mlflow_routes(registry.child, None, gate)]
        url = await stack.enter_async_context(served(Starlette(routes=routes)))
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=60))
        yield Gated(house, registry, http, url, home, seals, kept)


async def _record(home: Path, registry: MlflowRegistry) -> Record:
    """The record natively, once MLflow's own server has made it."""
    await registry.child.client()
    record = open_record(
        Place(home, {}, {"database": open_database(Place(home, {"database": f"sqlite:///{home}/mlflow.db"}))})
    )
    assert await record.ready()
    return record


def refused(answer: httpx.Response, *words: str) -> str:
    """The message of an answer in MLflow's own shape that refuses, and says all these words."""
    said = answer.json()
    assert (answer.status_code, said["error_code"]) == (403, "PERMISSION_DENIED"), said
    assert all(word in said["message"] for word in words), said["message"]
    return str(said["message"])
