"""Beginning a run in MLflow's record, natively."""

from __future__ import annotations

import pytest

from tallystick.tiles.registry.native import begin_natively
from tests.fakes.mlflow.tracking import FakeTracking


@pytest.mark.parametrize("tag", ["tally.run", "tally.study"])
async def test_a_hub_that_died_before_it_told_finds_its_record_again(tag: str) -> None:
    tracking = FakeTracking()
    first = await begin_natively(tracking, "e", "r", {tag: "one", "k": "v"}, 1)
    assert first
    assert await begin_natively(tracking, "e", "r", {tag: "one", "k": "v"}, 2) == first
    assert await begin_natively(tracking, "e", "r", {tag: "two", "k": "v"}, 3) != first


async def test_what_is_not_ours_is_begun_each_time() -> None:
    tracking = FakeTracking()
    begun = [await begin_natively(tracking, "e", "r", {"k": "v"}, 1) for _ in range(2)]
    assert begun[0] != begun[1]
