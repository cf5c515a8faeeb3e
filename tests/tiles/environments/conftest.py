"""The index and the tile that the tests here have in common."""

from __future__ import annotations

import pytest

from tallystick.ports.tile import Place
from tallystick.tiles.environments import local
from tallystick.tiles.sandbox import process
from tests.tiles.environments.index import Index, served, wheel


@pytest.fixture
def index(monkeypatch):
    """What this machine is set up for, as far as any test here knows."""
    index = Index(
        wheel("tinyone", "1.0"), wheel("tinyone", "2.0"), wheel("tinytwo", "0.5", needs=["tinyone<2"])
    )
    with served(index) as url:
        index.url = url
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "UV_FIND_LINKS", "UV_INDEX"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("UV_DEFAULT_INDEX", url)
        monkeypatch.setenv("UV_HTTP_TIMEOUT", "20")
        yield index


@pytest.fixture
async def sandbox(tmp_path):
    sandbox = process.open_tile(Place(tmp_path))
    yield sandbox
    await sandbox.close()


@pytest.fixture
def opened(tmp_path, sandbox):
    """Opens the tile in one home, with options."""

    def open_it(**options):
        return local.open_tile(Place(tmp_path / "home", options, {"process_sandbox": sandbox}))

    return open_it
