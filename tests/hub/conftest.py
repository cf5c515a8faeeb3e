"""A house in memory for each test, with the steps and errands that the test puts into it."""

from __future__ import annotations

import pytest

from tests.fakes.house import make_house


@pytest.fixture
def steps():
    """What the house's executor calls, by component name."""
    return {}


@pytest.fixture
async def house(tmp_path, steps):
    house = make_house(tmp_path, steps)
    yield house
    await house.sandbox.close()
    await house.traffic.close()
