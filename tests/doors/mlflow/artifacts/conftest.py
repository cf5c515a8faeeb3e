"""The native routes over a folder, and what stands where MLflow's own server does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from tallystick.doors.mlflow.artifacts import artifact_routes
from tallystick.ports.tile import Place
from tallystick.tiles.files.local import LocalFiles, open_tile
from tests.doors.mlflow.artifacts.asking import relayed, unsealed
from tests.doors.mlflow.house import served


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "mlartifacts"


@pytest.fixture
async def files(root: Path) -> AsyncIterator[LocalFiles]:
    files = open_tile(Place(root.parent))
    yield files
    await files.close()


@pytest.fixture
async def url(files: LocalFiles) -> AsyncIterator[str]:
    rest = Route("/{rest:path}", relayed, methods=["GET", "HEAD", "PUT", "DELETE", "POST"])
    async with served(Starlette(routes=[*artifact_routes(files, unsealed()), rest])) as url:
        yield url


@pytest.fixture
async def http(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        yield http
