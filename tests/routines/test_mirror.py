"""A run on a cluster: it is handed over once, followed, and stopped as its people want it."""

from __future__ import annotations

import asyncio

import pytest

from tallystick.core.errors import Unavailable
from tallystick.core.run.events import RunState, Step, StepState
from tallystick.core.run.options import KUBEFLOW, RunOptions
from tallystick.hub.execute import cancel
from tallystick.ports.runs.cluster import Seen
from tallystick.routines.mirror import hand_over, mirror
from tests.fakes.house import until
from tests.hub.runs.steps import side_by_side

OPTIONS = RunOptions(on=KUBEFLOW, host="http://localhost:1")


class FakeCluster:
    """A run goes on until it is stopped; nobody can reach it while it is ``away``."""

    def __init__(self) -> None:
        self.submitted: list[str] = []
        self.stopped: list[str] = []
        self.away = False

    async def submit(self, name, spec, params, *, experiment="", cache=True):
        await self.look("")
        self.submitted += [] if name in self.submitted else [name]
        return f"id-{name}"

    async def look(self, run):
        await asyncio.sleep(0.001)
        if self.away:
            raise Unavailable("nobody is there")
        ended = run in self.stopped
        steps = [Step("a", StepState.CANCELLED if ended else StepState.RUNNING)]
        return Seen(RunState.CANCELLED if ended else RunState.RUNNING, steps)

    async def stop(self, run):
        await self.look("")
        self.stopped.append(run)

    def page(self, run):
        return run


@pytest.fixture
async def run(house):
    return await hand_over(house, side_by_side("a"), b"spec", {}, OPTIONS)


async def test_to_cancel_a_run_that_is_elsewhere_stops_it_there(house, run):
    """By whatever door: the hub alone knows where it is."""
    cluster = FakeCluster()
    going = asyncio.create_task(mirror(house, cluster, run))
    await until(lambda: cluster.submitted)
    await cancel(house, run.key)
    async with asyncio.timeout(5):
        ended = await going
    assert (ended.state, cluster.stopped) == (RunState.CANCELLED, [f"id-{run.key}"])


async def test_one_that_could_not_be_handed_over_yet_is_cancelled_and_stays_so(house, run):
    cluster = FakeCluster()
    cluster.away = True
    going = asyncio.create_task(mirror(house, cluster, run))
    await until(lambda: house.clock.slept)
    going.cancel()
    await asyncio.gather(going, return_exceptions=True)
    await cancel(house, run.key)
    cluster.away = False
    async with asyncio.timeout(5):
        ended = await mirror(house, cluster, run)
    assert (ended.state, cluster.submitted) == (RunState.CANCELLED, [])
    assert ended.error == "cancelled before it was handed over"
