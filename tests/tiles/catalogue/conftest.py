"""A catalogue to open, and the files and stock tools around it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest_asyncio

from tallystick.ports.tile import Place
from tallystick.tiles.catalogue.iceberg import IcebergCatalogue, open_tile
from tests.fakes.plain_sandbox import PlainSandbox

Open = Callable[..., IcebergCatalogue]


@pytest_asyncio.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens catalogues, on one home unless told otherwise, and closes them."""
    made: list[IcebergCatalogue] = []

    def open_(home: Path = tmp_path / "home", **options: Any) -> IcebergCatalogue:
        home.mkdir(exist_ok=True)
        made.append(open_tile(Place(home, options, {"sandbox": PlainSandbox()})))
        return made[-1]

    yield open_
    for catalogue in made:
        await catalogue.close()
