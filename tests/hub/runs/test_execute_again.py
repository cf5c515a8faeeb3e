"""Runs that are taken up, tried again, branch and loop: the machine in a house."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tallystick.core.data import TABLE_URI
from tallystick.core.errors import Damaged
from tallystick.core.pipeline.spec import (
    Constant,
    Dag,
    DagOutput,
    FromInput,
    Importer,
    Loop,
    Pipeline,
    Retry,
    Source,
    Task,
    Trigger,
)
from tallystick.core.run.events import Run, RunState, StepState
from tallystick.core.run.record import read_event, write_event
from tallystick.hub.execute import execute
from tallystick.hub.house import Limits
from tallystick.hub.house.whole import whole_run
from tallystick.ports.runs.journal import Entry
from tests.fakes.house import add_table, events, until
from tests.hub.runs.steps import HeldExecutor, component, planned, side_by_side

S = StepState.SUCCEEDED


@pytest.fixture
def held(house):
    house.executor = HeldExecutor()
    return house.executor


async def killed(house, held, pipeline, *running, done=()):
    """A run whose hub went away while the steps ``running`` ran, after ``done`` were done."""
    work = asyncio.create_task(execute(house, pipeline, await planned(house, pipeline)))
    for name in done:
        await until(lambda name=name: name in held.held)
        held.let_go(name)
    await until(lambda: set(running) <= held.held.keys())

    async def recorded():
        return sum(step.state.done for step in (await whole_run(house, "run-1")).steps) == len(done)

    await until(recorded)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    held.held.clear()
    return await house.get("run", "run-1", Run)


async def kinds(house):
    return [type(read_event(text)).__name__ for text in await house.journal.events("default", "run-1")]


async def test_a_run_is_taken_up_where_it_stood(house, held):
    pipeline = side_by_side("a", "b", "c")
    run = await killed(house, held, pipeline, "b", "c", done=("a",))
    again = asyncio.create_task(execute(house, pipeline, run))
    await held.until("b", "c")
    held.let_go("b")
    held.let_go("c")
    ended = await again
    assert (ended.state, {s.path: s.state for s in ended.steps}) == (
        RunState.SUCCEEDED,
        {"a": S, "b": S, "c": S},
    )
    assert events(house, "run") == ["planned", "began", "resumed", "succeeded"]
    assert await kinds(house) == ["Began", "StepEnded", "Resumed", "StepEnded", "StepEnded"]
    names = sorted(record.name for record in house.registry.runs.values())
    assert names == ["a", "b", "c", "run-1"], "it has one record in MLflow, and each step has one"
    assert house.registry.runs[ended.record_id].status == "FINISHED"


async def test_a_hub_with_other_limits_takes_it_up_as_well(house, held):
    pipeline = side_by_side("a", "b", "c", "d")
    run = await killed(house, held, pipeline, "b", "c", done=("a",))
    house.limits = Limits(steps_at_once=1)
    again = asyncio.create_task(execute(house, pipeline, run))
    for name in ("b", "c", "d"):
        await until(lambda name=name: name in held.held)
        held.let_go(name)
    assert (await again).state is RunState.SUCCEEDED


async def test_a_run_that_ended_as_its_hub_did_is_told_so_and_runs_nothing(house, held, monkeypatch):
    pipeline = side_by_side("a")
    work = asyncio.create_task(execute(house, pipeline, await planned(house, pipeline)))
    await held.until("a")
    record, recorded = house.journal.record, asyncio.Event()

    async def then_die(*args):
        await record(*args)
        recorded.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(house.journal, "record", then_die)
    held.let_go("a")
    await recorded.wait()
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    monkeypatch.undo()
    held.held.clear()
    run = await execute(house, pipeline, await house.get("run", "run-1", Run))
    assert (run.state, held.held) == (RunState.SUCCEEDED, {})
    assert house.registry.runs[run.record_id].status == "FINISHED"
    assert await kinds(house) == ["Began", "StepEnded"]


async def test_a_journal_that_does_not_fit_fails_the_run(house, held):
    run = await killed(house, held, side_by_side("a", "b"), "b", done=("a",))
    with pytest.raises(Damaged, match="does not fit its pipeline"):
        await execute(house, side_by_side("x", "y"), run)
    ended = await house.get("run", "run-1", Run)
    assert (ended.state, "does not fit" in ended.error) == (RunState.FAILED, True)


async def test_a_journal_that_cannot_be_read_fails_the_run(house, held):
    run = await killed(house, held, side_by_side("a"), "a")
    await house.journal.record("default", "run-1", [Entry('{"event": "dancing"}')])
    with pytest.raises(Damaged):
        await execute(house, side_by_side("a"), run)
    assert (await house.get("run", "run-1", Run)).state is RunState.FAILED


async def test_a_step_is_tried_again_after_a_while(house, held):
    pipeline = side_by_side("a")
    task = replace(pipeline.root.tasks[0], retry=Retry(2, 3.0))
    work = asyncio.create_task(execute(house, Pipeline("p", Dag((task,))), await planned(house, pipeline)))
    for error in ("first", "second", ""):
        await until(lambda: "a" in held.held)
        future = held.held.pop("a")
        held.held["a"] = future
        held.let_go("a", error)
        del held.held["a"]
    run = await work
    assert (run.state, run.step("a").state, run.step("a").attempt) == (RunState.SUCCEEDED, S, 3)
    assert house.clock.slept == [3.0, 6.0]
    assert (await kinds(house)).count("RetryDue") == 2
    assert events(house, "run") == ["planned", "began", "succeeded"]


async def test_a_branch_that_is_not_taken_is_skipped(house, steps):
    steps |= {"coin": lambda: 1, "heads": lambda: 5, "tails": lambda: 6}
    coin = Task("coin", component("coin"))
    value = {"x": FromInput("x")}
    branches = [
        Task(name, component(name), value, ("coin",), trigger=Trigger(f"inputs.parameter_values['x'] {op} 1"))
        for name, op in (("heads", "=="), ("tails", "!="))
    ]
    output = DagOutput("o", (Source("tails", "Output"), Source("heads", "Output")))
    pipeline = Pipeline("p", Dag((coin, *branches), (output,)))
    run = await execute(house, pipeline, replace(await planned(house, pipeline), params={"x": 1}))
    assert run.outputs.params == {"o": 5}
    assert (run.step("tails").state, run.step("tails").error) == (StepState.SKIPPED, "its condition is false")
    assert run.counts == {"succeeded": 2, "skipped": 1}


async def test_a_loop_of_many_items(house, steps):
    steps["twice"] = lambda: 2
    body = Dag((Task("s", component("twice")),), (DagOutput("o", (Source("s", "Output"),)),))
    loop = Task("l", body, loop=Loop(Constant(list(range(300))), "item"))
    pipeline = Pipeline("p", Dag((loop,), (DagOutput("all", (Source("l", "o"),)),)))
    run = await execute(house, pipeline, await planned(house, pipeline))
    assert run.outputs.params == {"all": [2] * 300}
    assert len(run.steps) == 300
    assert events(house, "run") == ["planned", "began", "succeeded"], "no fact for each step"
    assert (await house.get("run", "run-1", Run)).steps == ()


async def test_what_a_run_brought_in_stands_in_its_fact(house):
    snapshot = await add_table(house)
    pipeline = Pipeline("p", Dag((Task("load", Importer(Constant(f"{TABLE_URI}digits"))),)))
    run = await execute(house, pipeline, await planned(house, pipeline))
    assert run.snapshots == (snapshot.key,)
    kept = await house.get("run", "run-1", Run)
    assert (kept.snapshots, kept.counts) == ((snapshot.key,), {"succeeded": 1})
    assert await whole_run(house, "run-1") == run


async def test_events_are_written_as_they_are_read(house, held):
    await killed(house, held, side_by_side("a"), "a")
    texts = await house.journal.events("default", "run-1")
    assert [write_event(read_event(text)) for text in texts] == list(texts)


async def test_a_table_is_the_same_snapshot_after_the_hub_came_back(house, held):
    """Rows that came in while no hub ran are for the next run."""
    before = await add_table(house)
    load = Importer(Constant(f"{TABLE_URI}digits"))
    tasks = (
        Task("first", load), Task("wait", component("wait"), after=("first",)),
        Task("second", load, after=("wait",)),
    )  # fmt: skip
    pipeline = Pipeline("p", Dag(tasks))
    work = asyncio.create_task(execute(house, pipeline, await planned(house, pipeline)))
    await held.until("wait")
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    held.held.clear()
    assert (await add_table(house)).key != before.key
    again = asyncio.create_task(execute(house, pipeline, await house.get("run", "run-1", Run)))
    await held.until("wait")
    held.let_go("wait")
    ended = await again
    assert ended.snapshots == (before.key,)
    assert ended.step("second").outputs == ended.step("first").outputs
