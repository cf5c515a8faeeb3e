"""A house that is taken apart: nothing of it goes on."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from tallystick.wiring.house import Built
from tests.fakes.house import make_house


async def nothing() -> None:
    pass


async def test_work_that_others_begin_as_they_end_is_ended_too(tmp_path):
    """A study lets its tuner go while a trial of it is being planned: that run would go on."""
    house, part = make_house(tmp_path), SimpleNamespace(child=None, close=nothing)
    went_on = asyncio.Event()

    async def forever() -> None:
        await asyncio.Event().wait()
        went_on.set()

    async def study() -> None:
        try:
            await forever()
        finally:
            house.start("run-1", forever())
            await asyncio.sleep(0)

    house.start("study-1", study())
    await asyncio.sleep(0)
    parts: Any = part
    left: list[Any] = []
    catalogue_close = house.catalogue.close

    async def closing() -> None:
        left.extend(house.tasks)
        await catalogue_close()

    house.catalogue.close = closing
    await Built(house, parts, {}, parts, parts, parts).close()
    assert left == []
