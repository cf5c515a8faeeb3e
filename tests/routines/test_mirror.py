"""A run on a cluster: it is handed over once, followed, and stopped as its people want it."""

from __future__ import annotations

import asyncio

import pytest

from tallystick.core.errors import BadInput, Conflict, NotSupported, Unavailable
from tallystick.core.run.events import RunState, StepState
from tallystick.core.run.options import KUBEFLOW, RunOptions
from tallystick.hub.execute import cancel
from tallystick.hub.house.whole import run_since, whole_run
from tallystick.routines.mirror import hand_over, mirror
from tests.fakes.house import until
from tests.fakes.runs.cluster import FakeCluster
from tests.hub.runs.steps import side_by_side

OPTIONS = RunOptions(on=KUBEFLOW, host="http://localhost:1")


@pytest.fixture
def cluster(house):
    house.clusters = {OPTIONS.host: FakeCluster()}.__getitem__
    return house.cluster_at(OPTIONS.host)


@pytest.fixture
async def run(house, cluster):
    return await hand_over(house, side_by_side("a"), b"spec", {}, OPTIONS)


async def test_to_cancel_a_run_that_is_elsewhere_stops_it_there(house, cluster, run):
    """By whatever door: the hub alone knows where it is."""
    going = asyncio.create_task(mirror(house, cluster, run))
    await until(lambda: cluster.submitted)
    await cancel(house, run.key)
    async with asyncio.timeout(5):
        ended = await going
    assert (ended.state, cluster.stopped) == (RunState.CANCELLED, [f"id-{run.key}"])
    assert house.inboxes == {}


async def test_one_that_could_not_be_handed_over_yet_is_cancelled_and_stays_so(house, cluster, run):
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


async def test_while_it_cannot_be_reached_the_run_says_so(house, cluster, run):
    cluster.away = True
    going = asyncio.create_task(mirror(house, cluster, run))
    await until(lambda: len(house.clock.slept) > 3)
    assert (await whole_run(house, run.key)).error == "nobody is there"
    cluster.away = False
    await until(lambda: cluster.looked > 2)
    assert (await whole_run(house, run.key)).error == ""
    cluster.ended[f"id-{run.key}"] = RunState.SUCCEEDED
    async with asyncio.timeout(5):
        assert ((await going).state, (await going).error) == (RunState.SUCCEEDED, "")
    told = [fact.event for fact in house.ledger.facts if fact.key == run.key]
    assert told == ["planned", "not reached", "submitted", "reached", "succeeded"]


async def test_the_journal_is_read_once_however_often_is_looked(house, cluster, run):
    read, asked = house.journal.events, []

    async def counted(*of):
        asked.append(of)
        return await read(*of)

    house.journal.events = counted
    going = asyncio.create_task(mirror(house, cluster, run))
    await until(lambda: cluster.looked > 20)
    assert len(asked) == 1
    cluster.ended[f"id-{run.key}"] = RunState.SUCCEEDED
    async with asyncio.timeout(5):
        assert (await going).state is RunState.SUCCEEDED


async def test_what_changed_is_told_to_whoever_looks_on(house, cluster, run):
    going = asyncio.create_task(mirror(house, cluster, run))
    await until(lambda: cluster.looked > 2)
    seen, mark = await run_since(house, run.key, 0)
    assert [(s.path, s.state) for s in seen.steps] == [("a", StepState.RUNNING)]
    assert (await run_since(house, run.key, mark))[0].steps == ()
    cluster.ended[f"id-{run.key}"] = RunState.SUCCEEDED
    await going
    assert [s.state for s in (await whole_run(house, run.key)).steps] == [StepState.SUCCEEDED]


async def test_who_wants_it_to_stop_hears_when_that_cannot_be_written_down(house, cluster, run):
    going = asyncio.create_task(mirror(house, cluster, run))
    await until(lambda: cluster.looked > 2)
    record, full = house.journal.record, True

    async def sometimes(*what):
        if full:
            raise Unavailable("the disk is full")
        await record(*what)

    house.journal.record = sometimes
    with pytest.raises(Unavailable, match="full"):
        await cancel(house, run.key)
    assert not cluster.stopped
    full = False
    await cancel(house, run.key)
    async with asyncio.timeout(5):
        assert (await going).state is RunState.CANCELLED


async def test_nobody_follows_it_twice(house, cluster, run):
    going = asyncio.create_task(mirror(house, cluster, run))
    await until(lambda: cluster.looked)
    with pytest.raises(Conflict, match="followed"):
        await mirror(house, cluster, run)
    cluster.ended[f"id-{run.key}"] = RunState.FAILED
    assert (await going).state is RunState.FAILED


@pytest.mark.parametrize(
    "what", [{"seed": 7}, {"verify_share": 0.5}, {"cache_age_ms_max": 5}, {"no_gpus": True}]
)
async def test_what_a_cluster_knows_nothing_of_is_refused(house, cluster, what):
    options = RunOptions(on=KUBEFLOW, host=OPTIONS.host, **what)
    with pytest.raises(NotSupported, match="Kubeflow knows nothing") as refused:
        await hand_over(house, side_by_side("a"), b"spec", {}, options)
    assert refused.value.where == next(iter(what))
    assert not house.ledger.facts


async def test_a_house_without_clusters_hands_nothing_over(house):
    with pytest.raises(NotSupported, match="hands nothing"):
        await hand_over(house, side_by_side("a"), b"spec", {}, OPTIONS)
    house.clusters = lambda host: FakeCluster()
    with pytest.raises(BadInput, match="strange"):
        await hand_over(house, side_by_side("a"), b"spec", {"strange": 1}, OPTIONS)
