"""A house in memory that has keys."""

from __future__ import annotations

import pytest

from tests.fakes.house import make_house
from tests.fakes.signing import MemorySigning


@pytest.fixture
async def house(tmp_path):
    house = make_house(tmp_path, signing=MemorySigning())
    yield house
    await house.sandbox.close()
    await house.traffic.close()
