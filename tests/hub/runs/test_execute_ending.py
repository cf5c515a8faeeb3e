"""How a run is ended from outside: by request, by its hub, by a ledger or a journal that breaks."""

from __future__ import annotations

import asyncio

import pytest

from tallystick.core.errors import Conflict, NotFound, TooLarge, Unavailable
from tallystick.core.pipeline.spec import Dag, Pipeline, Task, Trigger
from tallystick.core.run.events import Run, RunState, StepEnded, StepState
from tallystick.core.run.record import read_event
from tallystick.hub.execute import cancel, execute
from tallystick.hub.house.whole import whole_run
from tests.fakes.house import events
from tests.hub.runs.steps import HeldExecutor, component, planned, side_by_side

FULL = Unavailable("the disk is full")


@pytest.fixture
def held(house):
    house.executor = HeldExecutor()
    return house.executor


async def begin(house, held, *names, pipeline=None):
    """A run of these steps, begun; at most two of them run."""
    pipeline = pipeline or side_by_side(*names)
    running = asyncio.create_task(execute(house, pipeline, await planned(house, pipeline)))
    await held.until(*names[:2])
    return running


async def journal(house):
    """The kinds of the events of run-1."""
    return [type(read_event(text)).__name__ for text in await house.journal.events("default", "run-1")]


def with_exit() -> Pipeline:
    """``clean`` runs after ``a``, however that ended."""
    clean = Task("clean", component("clean"), after=("a",), trigger=Trigger(regardless=True))
    return Pipeline("p", Dag((Task("a", component("a")), clean)))


async def test_cancelling_ends_the_steps_and_the_run(house, held):
    running = await begin(house, held, "a", "b", "c")
    assert (await cancel(house, "run-1")).state is RunState.RUNNING
    assert (await journal(house))[:2] == ["Began", "CancelAsked"], "it is durable before it is acknowledged"
    run = await running
    assert run.state is RunState.CANCELLED
    assert {s.path: (s.state, s.error) for s in run.steps} == {
        "a": (StepState.CANCELLED, "cancelled"),
        "b": (StepState.CANCELLED, "cancelled"),
        "c": (StepState.SKIPPED, "the run was cancelling"),
    }
    assert sorted(held.cancelled) == ["a", "b"]
    assert house.registry.runs[run.record_id].status == "KILLED"
    assert events(house, "run") == ["planned", "began", "cancelling", "cancelled"]
    assert list(house.scratch.iterdir()) == []
    assert (house.inboxes, house.locks) == ({}, {})


async def test_cancelling_after_the_end_changes_nothing(house, held):
    running = await begin(house, held, "a")
    await cancel(house, "run-1")
    await running
    told, kept = len(house.ledger.facts), await journal(house)
    assert (await cancel(house, "run-1")).state is RunState.CANCELLED
    assert (len(house.ledger.facts), await journal(house)) == (told, kept)
    with pytest.raises(NotFound, match="there is run-1"):
        await cancel(house, "run-2")


async def test_an_exit_handler_runs_after_a_cancel_and_a_second_one_stops_it(house, held):
    running = await begin(house, held, "a", pipeline=with_exit())
    await cancel(house, "run-1")
    await held.until("a", "clean")
    await cancel(house, "run-1")
    run = await running
    assert (run.state, held.cancelled) == (RunState.CANCELLED, ["a", "clean"])


async def test_a_run_that_nobody_executes_is_cancelled_when_it_is_taken_up(house, held):
    pipeline = side_by_side("a")
    run = await planned(house, pipeline)
    assert (await cancel(house, "run-1")).state is RunState.RUNNING
    assert await journal(house) == ["CancelAsked"]
    ended = await execute(house, pipeline, run)
    assert (ended.state, ended.step("a").state) == (RunState.CANCELLED, StepState.SKIPPED)
    assert held.held == {}


async def test_a_cancel_that_cannot_be_kept_is_not_acknowledged(house, held):
    running = await begin(house, held, "a")
    house.journal.broken = FULL
    with pytest.raises(Unavailable, match="the disk is full"):
        await cancel(house, "run-1")
    with pytest.raises(Unavailable):
        await running
    house.journal.broken = FULL
    await planned(house, side_by_side("a"), "run-2")
    with pytest.raises(Unavailable):
        await cancel(house, "run-2")


async def test_a_step_that_is_cancelled_before_it_could_begin_ends_too(house, held):
    """The end of one step starts the next, and the request to cancel is taken together with that end."""
    running = await begin(house, held, "a", "b", "c")
    house.inboxes["run-1"].put(StepEnded("a", StepState.SUCCEEDED, 1))
    async with asyncio.timeout(60):
        await cancel(house, "run-1")
        run = await running
    assert (run.state, run.step("c").state) == (RunState.CANCELLED, StepState.CANCELLED)
    assert "c" not in held.held


async def test_a_run_is_executed_once_at_a_time(house, held):
    running = await begin(house, held, "a")
    with pytest.raises(Conflict, match="executed already"):
        await execute(house, side_by_side("a"), await house.get("run", "run-1", Run))
    held.let_go("a")
    assert (await running).state is RunState.SUCCEEDED


async def test_a_hub_that_ends_takes_its_steps_with_it_and_leaves_the_run_to_the_next(house, held):
    running = await begin(house, held, "a", "b")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert sorted(held.cancelled) == ["a", "b"]
    assert house.inboxes == {}
    run = await whole_run(house, "run-1")
    assert (run.state, run.step("a").state) == (RunState.RUNNING, StepState.RUNNING)
    [record] = [record for record in house.registry.runs.values() if record.name == "run-1"]
    assert record.status == "RUNNING"


async def test_who_waits_for_a_cancel_hears_that_the_hub_ends(house, held):
    running = await begin(house, held, "a")
    kept = house.inboxes["run-1"].put(StepEnded("a", StepState.SUCCEEDED, 1))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    with pytest.raises(Unavailable, match="not executed any more"):
        await kept


@pytest.mark.parametrize("part", ["ledger", "journal"])
async def test_a_record_that_breaks_ends_the_steps(house, held, part):
    running = await begin(house, held, "a", "b")
    getattr(house, part).broken = FULL
    held.let_go("a", error="no" if part == "ledger" else "")
    with pytest.raises(Unavailable, match="the disk is full"):
        await running
    assert held.cancelled == ["b"]
    [record] = [record for record in house.registry.runs.values() if record.name == "run-1"]
    assert record.status == "FAILED"
    assert list(house.scratch.iterdir()) == []


async def test_a_step_that_cannot_be_kept_fails_the_run(house, held, monkeypatch):
    running = await begin(house, held, "a", "b", "c")
    record = house.journal.record

    async def too_large(tenant, run, entries):
        if any(path == "c" for entry in entries for path, _ in entry.steps):
            raise TooLarge("over ENTRY_BYTES_MAX")
        await record(tenant, run, entries)

    monkeypatch.setattr(house.journal, "record", too_large)
    held.let_go("a")
    with pytest.raises(TooLarge):
        await running
    run = await whole_run(house, "run-1")
    assert (run.state, run.error) == (RunState.FAILED, "over ENTRY_BYTES_MAX")
    assert {s.path: s.state for s in run.steps} == dict.fromkeys("ab", StepState.CANCELLED)
    assert run.step("b").error == "the run was given up"
    assert events(house, "run")[-1] == "failed"
    assert held.cancelled == ["b"]


async def test_outputs_that_no_fact_can_hold_fail_the_run(house, held, monkeypatch):
    running = await begin(house, held, "a")
    append = house.ledger.append

    async def too_large(facts):
        if any(fact.event == "succeeded" for fact in facts):
            raise TooLarge("over FACT_BYTES_MAX")
        return await append(facts)

    monkeypatch.setattr(house.ledger, "append", too_large)
    held.let_go("a")
    with pytest.raises(TooLarge):
        await running
    run = await whole_run(house, "run-1")
    assert (run.state, run.error, run.outputs.params) == (RunState.FAILED, "over FACT_BYTES_MAX", {})
    assert run.step("a").state is StepState.SUCCEEDED


async def test_a_step_is_made_ready_while_its_start_is_written_and_begins_after_that(
    house, held, monkeypatch
):
    record, run_it, asked, may = house.journal.record, held.run, asyncio.Queue(), asyncio.Event()

    async def slow(tenant, run, entries):
        await may.wait()
        await record(tenant, run, entries)

    async def noted(job, on_log):
        asked.put_nowait(job.kept)
        return await run_it(job, on_log)

    monkeypatch.setattr(house.journal, "record", slow)
    monkeypatch.setattr(held, "run", noted)
    pipeline = side_by_side("a")
    running = asyncio.create_task(execute(house, pipeline, await planned(house, pipeline)))
    kept = await asyncio.wait_for(asked.get(), 60)
    assert (kept.is_set(), await journal(house)) == (False, [])
    may.set()
    await held.until("a")
    assert (kept.is_set(), await journal(house)) == (True, ["Began"])
    held.let_go("a")
    assert (await running).state is RunState.SUCCEEDED


async def test_who_stops_one_step_that_waits_for_the_disk_stops_no_other(house, held, monkeypatch):
    running = await begin(house, held, "a", "b", "c", "d")
    record, waits, may = house.journal.record, asyncio.Event(), asyncio.Event()

    async def slow(tenant, run, entries):
        waits.set()
        await may.wait()
        await record(tenant, run, entries)

    monkeypatch.setattr(house.journal, "record", slow)
    held.let_go("a")
    held.let_go("b")
    await asyncio.wait_for(waits.wait(), 60)
    [task] = [task for task in asyncio.all_tasks() if task.get_name() == "run-1 c"]
    task.cancel()
    may.set()
    await held.until("a", "b", "d")
    held.let_go("d")
    run = await running
    assert {s.path: s.state for s in run.steps}["c"] is StepState.CANCELLED
