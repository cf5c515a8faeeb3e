"""The proof, on the fake, and on Iceberg behind a wall."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest_asyncio

from tallystick.core.errors import (
    Unavailable,
)
from tallystick.ports.catalogue import Catalogue
from tallystick.ports.sandbox import Sandbox
from tallystick.ports.tile import Place
from tallystick.proofs.catalogue import CatalogueProof
from tallystick.tiles.catalogue.iceberg import IcebergCatalogue, open_tile
from tests.fakes.catalogue import FakeCatalogue
from tests.fakes.plain_sandbox import PlainSandbox

Open = Callable[..., IcebergCatalogue]


class TestFakeCatalogue(CatalogueProof):
    async def open(self, home: Path) -> Catalogue:
        return FakeCatalogue()


def _bubblewrap(folder: Path) -> Sandbox:
    found: Any = importlib.import_module("tallystick.tiles.sandbox.bubblewrap")
    sandbox: Sandbox = found.open_tile(Place(folder))
    return sandbox


class TestIcebergCatalogue(CatalogueProof):
    """Behind bubblewrap, and without a wall only where that does not work: all else here has none."""

    @pytest_asyncio.fixture(autouse=True)
    async def sandbox(self, tmp_path: Path) -> AsyncIterator[Sandbox]:
        (tmp_path / "sandboxes").mkdir()
        try:
            self._sandbox = _bubblewrap(tmp_path / "sandboxes")
        except Unavailable:
            self._sandbox = PlainSandbox()
        yield self._sandbox
        await self._sandbox.close()

    async def open(self, home: Path) -> Catalogue:
        return open_tile(Place(home, parts={"sandbox": self._sandbox}))
