"""One hub for the tests of each module."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette

from tallystick.doors.mlflow.proxy import mlflow_routes
from tallystick.doors.mlflow.step import step_app
from tallystick.ports.tile import Place
from tallystick.tiles.registry.mlflow import open_tile
from tests.doors.mlflow.house import House, served
from tests.fakes.plain_sandbox import PlainSandbox

__all__ = ["house"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory, sqlite_schema: Path) -> AsyncIterator[House]:
    home = tmp_path_factory.mktemp("home")
    shutil.copy(sqlite_schema, home / "mlflow.db")
    registry = open_tile(Place(home, {}, {"process_sandbox": PlainSandbox()}))
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(registry.close)
        url = await stack.enter_async_context(served(Starlette(routes=mlflow_routes(registry.child))))
        step_url = await stack.enter_async_context(
            served(step_app(registry.child, {"tally.run": "run-1", "tally.step": "train"}))
        )
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=60))
        step = await stack.enter_async_context(httpx.AsyncClient(base_url=step_url, timeout=60))
        yield House(home, registry, url, step_url, http, step)
