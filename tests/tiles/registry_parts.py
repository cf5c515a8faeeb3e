"""What the tests of the registry share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tallystick.core.wall import Wall
from tallystick.ports.sandbox import Confined
from tallystick.ports.tile import Place
from tallystick.tiles.registry.mlflow import MlflowRegistry, open_tile
from tests.fakes.plain_sandbox import PlainSandbox


class Counting(PlainSandbox):
    """Counts what is started, and may start something else instead."""

    def __init__(self, instead: Sequence[str] = ()) -> None:
        super().__init__()
        self.spawned = 0
        self.spawning = asyncio.Event()
        self.instead = list(instead)

    async def spawn(self, argv: Sequence[str], wall: Wall) -> Confined:
        self.spawned += 1
        self.spawning.set()
        return await super().spawn(self.instead or argv, wall)


def mlflow_registry(home: Path, **options: Any) -> MlflowRegistry:
    return open_tile(Place(home, options, {"process_sandbox": Counting()}))
