"""How a run is ended from outside: by request, by its hub, by a ledger that breaks."""

from __future__ import annotations

import asyncio

import pytest

from tallystick.core.errors import NotFound, TooLarge, Unavailable
from tallystick.core.run.events import CancelAsked, Run, RunState, StepEnded, StepState
from tallystick.hub.execute import cancel, execute
from tests.fakes.house import events
from tests.hub.runs.steps import HeldExecutor, planned, side_by_side


@pytest.fixture
def held(house):
    house.executor = HeldExecutor()
    return house.executor


async def begin(house, held, *names):
    """A run of these steps, begun; at most two of them run."""
    pipeline = side_by_side(*names)
    running = asyncio.create_task(execute(house, pipeline, await planned(house, pipeline)))
    await held.until(*names[:2])
    return running


async def test_cancelling_ends_the_steps_and_the_run(house, held):
    running = await begin(house, held, "a", "b", "c")
    assert (await cancel(house, "run-1")).state is RunState.RUNNING
    run = await running
    assert run.state is RunState.CANCELLED
    assert {s.path: (s.state, s.error) for s in run.steps} == {
        "a": (StepState.CANCELLED, "cancelled"),
        "b": (StepState.CANCELLED, "cancelled"),
    }
    assert sorted(held.cancelled) == ["a", "b"]
    assert house.registry.runs[run.record_id].status == "KILLED"
    assert list(house.scratch.iterdir()) == []


async def test_cancelling_twice_or_after_the_end_changes_nothing(house, held):
    running = await begin(house, held, "a")
    await cancel(house, "run-1")
    await cancel(house, "run-1")
    await running
    told = len(house.ledger.facts)
    assert (await cancel(house, "run-1")).state is RunState.CANCELLED
    assert len(house.ledger.facts) == told
    with pytest.raises(NotFound, match="there is run-1"):
        await cancel(house, "run-2")


async def test_cancelling_before_the_first_step(house, held):
    pipeline = side_by_side("a")
    run = await planned(house, pipeline)
    house.inboxes[run.key] = asyncio.Queue()
    house.inboxes[run.key].put_nowait(CancelAsked(1))
    assert (await execute(house, pipeline, run)).state is RunState.CANCELLED
    assert held.held == {}


async def test_a_step_that_is_cancelled_before_it_could_begin_ends_too(house, held):
    """The end of one step starts the next, and the request to cancel is taken together with that end."""
    running = await begin(house, held, "a", "b", "c")
    inbox = house.inboxes["run-1"]
    inbox.put_nowait(StepEnded("a", StepState.SUCCEEDED, 1))
    inbox.put_nowait(CancelAsked(1))
    async with asyncio.timeout(5):
        run = await running
    assert (run.state, run.step("c").state) == (RunState.CANCELLED, StepState.CANCELLED)
    assert "c" not in held.held


async def test_a_hub_that_ends_takes_its_steps_with_it(house, held):
    running = await begin(house, held, "a", "b")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert sorted(held.cancelled) == ["a", "b"]
    assert house.inboxes == {}
    # It is for recover, at the next start, to say that it was interrupted.
    assert (await house.get("run", "run-1", Run)).state is RunState.RUNNING


async def test_a_ledger_that_breaks_ends_the_steps(house, held):
    running = await begin(house, held, "a", "b")
    house.ledger.broken = Unavailable("the disk is full")
    held.let_go("a")
    with pytest.raises(Unavailable, match="the disk is full"):
        await running
    assert held.cancelled == ["b"]
    [record] = house.registry.runs.values()
    assert record.status == "FAILED"
    assert list(house.scratch.iterdir()) == []


async def test_a_state_that_cannot_be_kept_fails_the_run_from_the_last_that_was(house, held, monkeypatch):
    running = await begin(house, held, "a", "b", "c")
    append = house.ledger.append

    async def too_large(facts):
        if any(s["path"] == "c" for f in facts for s in f.state.get("steps", ())):
            raise TooLarge("over FACT_BYTES_MAX")
        return await append(facts)

    monkeypatch.setattr(house.ledger, "append", too_large)
    held.let_go("a")
    with pytest.raises(TooLarge):
        await running
    run = await house.get("run", "run-1", Run)
    assert (run.state, run.error) == (RunState.FAILED, "over FACT_BYTES_MAX")
    assert {s.path: s.state for s in run.steps} == dict.fromkeys("ab", StepState.CANCELLED)
    assert events(house, "run")[-1] == "failed"
    assert held.cancelled == ["b"]
