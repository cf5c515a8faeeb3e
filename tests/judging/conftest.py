"""A house in memory for each test, as the verbs' tests have it."""

from __future__ import annotations

import pytest

from tests.fakes.house import add_model, add_run
from tests.hub.conftest import house, steps
from tests.judging.gathering import three_probes

__all__ = ["house", "model", "steps", "three"]


@pytest.fixture
async def model(house):
    return await add_model(house, run=await add_run(house))


@pytest.fixture
async def three(house, model, monkeypatch):
    return await three_probes(house, monkeypatch)
