"""MLflow's record of steps, logs of steps that run, and looking on while a run goes on."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from tallystick.core.errors import NotFound, Unavailable
from tallystick.core.pipeline.spec import (
    Constant,
    Dag,
    FromInput,
    Loop,
    Param,
    ParamType,
    Pipeline,
    Retry,
    Slot,
    Task,
)
from tallystick.core.run.events import Run, RunState, Step, StepEnded, StepState
from tallystick.core.run.record import write_event, write_step
from tallystick.core.values import ArtifactRef, Values
from tallystick.doors.api.logs import PIECE_BYTES, read_log
from tallystick.hub.execute import execute
from tallystick.hub.house import recorder
from tallystick.hub.house.inbox import Inbox
from tallystick.hub.house.recorder import Recorder
from tallystick.hub.house.whole import run_since
from tallystick.ports.executor import Outcome
from tallystick.ports.runs.journal import Entry
from tallystick.routines.recover import recover
from tallystick.tiles.registry.steps import told_of
from tests.fakes.executor import FakeExecutor
from tests.fakes.house import until
from tests.fakes.registry import MemoryRegistry
from tests.hub.runs.steps import HeldExecutor, component, planned, side_by_side

RUN = Run("run-1", "p", "sha256:0", {}, record_id="f" * 32, experiment_id="1")


def measure(rate, text, metrics):
    Path(text.path).write_text("hello")
    Path(metrics.path).touch()
    metrics.metadata |= {"accuracy": 0.9, "n": 10**400, "name": "m", "ok": True, "bad/name": 1}
    return 1


def broken():
    raise ValueError("no")


@pytest.fixture
def steps():
    return {"measure": measure, "broken": broken}


def measuring():
    slots = (Slot("text"), Slot("metrics", "system.Metrics"))
    body = component("measure", params=(Param("rate", ParamType.DOUBLE),), out_artifacts=slots)
    return Pipeline("p", Dag((Task("measure", body, {"rate": Constant(0.5)}),)))


async def run_it(house, pipeline, key="run-1"):
    return await execute(house, pipeline, await planned(house, pipeline, key))


def children(house, run):
    found = house.registry.runs.values()
    return {r.name: r for r in found if r.tags.get("mlflow.parentRunId") == run.record_id}


async def test_each_step_is_a_run_of_mlflows_below_that_of_its_run(house):
    run = await run_it(house, measuring())
    [record] = children(house, run).values()
    assert (record.name, record.status, record.params) == ("measure", "FINISHED", {"rate": "0.5"})
    assert record.metrics == {"accuracy": 0.9, "bad_name": 1.0}, "numbers that are one"
    digest = run.step("measure").outputs.artifacts["text"][0].digest
    expected = {"tally.run": "run-1", "tally.step": "measure", "tally.cache": "miss: never made"}
    assert {**record.tags, **expected, "tally.output.text": digest} == record.tags
    again = await run_it(house, measuring(), "run-2")
    [record] = children(house, again).values()
    assert record.tags["tally.cache"].startswith("hit: made by run-1")
    assert record.metrics["accuracy"] == 0.9


async def test_failed_ones_are_there_and_skipped_ones_are_not(house):
    tasks = (Task("broken", component("broken")), Task("after", component("after"), after=("broken",)))
    run = await run_it(house, Pipeline("p", Dag(tasks)))
    [record] = children(house, run).values()
    assert (record.name, record.status) == ("broken", "FAILED")
    assert record.tags["tally.error"] == "ValueError: no"


def test_what_is_too_long_ends_with_an_ellipsis():
    inputs = Values(
        {"text": "x" * 7000, "list": [1, {"a": "ü"}], "none": None},
        {"data": (ArtifactRef("d", "sha256:1"),) * 2},
    )
    said = told_of(RUN, Step("a" * 300, StepState.CANCELLED, inputs=inputs, started_ms=1, ended_ms=2))
    assert (len(said.name), said.name[-1], said.status) == (250, "\u2026", "KILLED")
    assert (len(said.params["text"]), said.params["text"][-1]) == (6000, "\u2026")
    assert said.params["list"] == '[1,{"a":"ü"}]'
    assert "none" not in said.params
    assert said.tags["tally.input.data"] == "sha256:1 sha256:1"
    assert (len(said.run_id), said.started_ms, said.ended_ms) == (32, 1, 2)


def test_names_that_mlflow_would_not_take():
    metadata = {"../../etc": 1, "a b": 2, "": 3, "ä/ö": 4}
    refs = {"m": (ArtifactRef("m", "d", "system.Metrics", metadata=metadata),)}
    step = Step("a", StepState.SUCCEEDED, outputs=Values({}, {**refs, "n": refs["m"]}))
    names = set(told_of(RUN, step).metrics)
    assert {"_.._etc", "a b", "_", "ä_ö", "n a b"} <= names


async def test_many_steps_are_told_at_once_and_an_mlflow_that_is_away_is_asked_again(caplog, monkeypatch):
    class Slow(MemoryRegistry):
        broken: Unavailable | None = Unavailable("MLflow is down")
        calls: list[tuple[int, bool]]

        async def record_steps(self, run, steps, *, again=False):
            self.calls = [*getattr(self, "calls", []), (len(steps), again)]
            if self.broken:
                raise self.broken
            await super().record_steps(run, steps, again=again)

    monkeypatch.setattr(recorder, "EVERY_S", 0.01)
    registry = Slow()
    writing = Recorder(registry, RUN, again=False)
    for n in range(3):
        writing.add(Step(f"s{n}", StepState.SUCCEEDED))
    await until(lambda: getattr(registry, "calls", None))
    registry.broken = None
    await until(lambda: len(registry.runs) == 3)
    assert (registry.calls[0], registry.calls[-1]) == ((3, False), (3, True))
    registry.broken = Unavailable("MLflow is down")
    writing.add(Step("late", StepState.SUCCEEDED))
    with caplog.at_level(logging.ERROR):
        await writing.close()
    assert "1 steps of run-1 are not in MLflow's record" in caplog.text


async def test_a_run_that_a_killed_hub_left_has_each_step_once(house):
    """Its steps that ended are told again under the same ids."""
    pipeline = side_by_side("a", "b")
    run = replace(await planned(house, pipeline), record_id="f" * 32, experiment_id="1")
    house.executor = held = HeldExecutor()
    going = asyncio.create_task(execute(house, pipeline, run))
    await held.until("a", "b")
    held.let_go("a")
    await until(
        lambda: house.inboxes["run-1"].since(0)[1][-1:] and not house.inboxes["run-1"]._events.qsize()
    )
    going.cancel()
    await asyncio.gather(going, return_exceptions=True)
    house.executor = FakeExecutor({"a": lambda: 1, "b": lambda: 1})
    house.registry.runs["f" * 32] = house.registry.runs.get("f" * 32) or await _begun(house)
    ended = await execute(house, pipeline, run)
    assert ended.state is RunState.SUCCEEDED
    assert sorted(children(house, ended)) == ["a", "b"]


async def _begun(house):
    _, run_id = await house.registry.begin_run("p", "run-1", {})
    return house.registry.runs.pop(run_id)


async def test_a_hub_that_dies_as_a_run_ends_leaves_its_record_to_the_next(house, steps):
    steps["measure"] = measure
    told = house.registry.record_steps

    async def away(*_, **__):
        await asyncio.Event().wait()

    house.registry.record_steps = away
    going = asyncio.create_task(run_it(house, measuring()))

    async def ended():
        run = await house.find("run", "run-1", Run)
        return run and run.state.ended

    await until(ended)
    going.cancel()
    await asyncio.gather(going, return_exceptions=True)
    house.registry.record_steps = told
    run = await house.get("run", "run-1", Run)
    assert house.registry.runs[run.record_id].status == "RUNNING"
    for _ in range(2):
        await recover(house, unread)
        await until(lambda: not house.tasks)
        assert house.registry.runs[run.record_id].status == "FINISHED"
        assert [r.status for r in children(house, run).values()] == ["FINISHED"]
        assert not list(house.scratch.iterdir())


async def test_a_hub_that_dies_before_it_tells_the_end_tells_mlflow_all_the_same(house, steps):
    """The last event is in the journal, and the ledger does not know of it."""
    steps["measure"] = measure
    run = await run_it(house, measuring())
    before = replace(run, state=RunState.RUNNING, steps=(), ended_ms=0)
    house.registry.runs = {run.record_id: house.registry.runs[run.record_id]}
    house.registry.runs[run.record_id].status = "RUNNING"
    await house.tell("run", run.key, "began", before)
    assert (await execute(house, measuring(), before)).state is RunState.SUCCEEDED
    assert house.registry.runs[run.record_id].status == "FINISHED"
    assert list(children(house, run)) == ["measure"]


async def unread(spec_digest):
    raise NotFound("the pipeline is gone", where="artifacts")


# ---------------------------------------------------------------------- logs as they come


async def test_a_log_can_be_read_while_its_step_runs(house):
    went_on = asyncio.Event()

    class Saying(HeldExecutor):
        async def run(self, job, on_log):
            for line in ("first", "zweite \u00fc"):
                on_log(line)
            self.held["a"] = asyncio.get_running_loop().create_future()
            self.began.set()
            await went_on.wait()
            on_log("last")
            return Outcome({"Output": 1})

    house.executor = held = Saying()
    going = asyncio.create_task(run_it(house, side_by_side("a")))
    await held.until("a")
    piece = await read_log(house, "run-1", "a", 0)
    assert (piece.text, piece.ended, piece.attempt) == ("first\nzweite \u00fc\n", False, 1)
    assert (await read_log(house, "run-1", "a", piece.next)).text == ""
    assert (await read_log(house, "run-1", "a", piece.next - 2)).text == "\ufffd\n", "from amid a character"
    went_on.set()
    await going
    rest = await read_log(house, "run-1", "a", piece.next)
    assert (rest.text, rest.ended) == ("last\n", True)
    assert house.logs == {}
    assert (await read_log(house, "run-1", "a", 10**9)).text == ""


async def test_a_long_log_comes_in_pieces_of_whole_characters(house, steps):
    def talk():
        print("x" + "\u00fc" * PIECE_BYTES)  # noqa: T201  reason: what a step prints is its log
        return 1

    steps["talk"] = talk
    await run_it(house, side_by_side("talk"))
    text, start, ended = "", 0, False
    while not ended:
        piece = await read_log(house, "run-1", "talk", start)
        text, start, ended = text + piece.text, piece.next, piece.ended
    assert text == "x" + "\u00fc" * PIECE_BYTES + "\n"


async def test_why_there_is_no_log(house, steps):
    steps["quiet"] = lambda: 1
    tasks = (Task("broken", component("broken")), Task("after", component("quiet"), after=("broken",)))
    await run_it(house, Pipeline("p", Dag(tasks)))
    with pytest.raises(NotFound, match="it was skipped: broken failed"):
        await read_log(house, "run-1", "after", 0)
    for path in ("none", ""):
        with pytest.raises(NotFound, match="has begun"):
            await read_log(house, "run-1", path, 0)
    with pytest.raises(NotFound, match="no run"):
        await read_log(house, "run-none", "broken", 0)
    for key in ("run-2", "run-3"):
        await run_it(house, side_by_side("quiet"), key)
    with pytest.raises(NotFound, match="came from the cache"):
        await read_log(house, "run-3", "quiet", 0)


async def test_between_two_tries_the_log_is_that_of_the_last(house, steps):
    tries = []

    def flaky():
        tries.append(1)
        print(f"try {len(tries)}")  # noqa: T201  reason: what a step prints is its log
        if len(tries) == 1:
            raise ValueError("no")
        return 1

    steps["flaky"] = flaky
    run = await run_it(house, Pipeline("p", Dag((Task("flaky", component("flaky"), retry=Retry(1, 0.5)),))))
    assert run.step("flaky").attempt == 2
    piece = await read_log(house, "run-1", "flaky", 0)
    assert (piece.text, piece.attempt, piece.ended) == ("try 2\n", 2, True)
    event = StepEnded("flaky", StepState.FAILED, 1)
    resting = replace(run.step("flaky"), state=StepState.BACKING_OFF, attempt=1)
    await house.journal.record(
        "default", "run-9", [Entry(write_event(event), [("flaky", write_step(resting))])]
    )
    await house.tell("run", "run-9", "began", replace(run, key="run-9", state=RunState.RUNNING, steps=()))
    piece = await read_log(house, "run-9", "flaky", 0)
    assert (piece.text, piece.ended) == ("try 2\n", False)


# ---------------------------------------------------------------------- looking on


def test_who_looks_on_sees_each_change_once_and_in_order():
    inbox = Inbox()
    a, b = Step("a", StepState.RUNNING), Step("b", StepState.RUNNING)
    assert inbox.since(0) == (0, [])
    inbox.show([a, b], 1000)
    first, steps = inbox.since(0)
    assert steps == [a, b]
    inbox.show([replace(a, state=StepState.SUCCEEDED)], 1000)
    second, steps = inbox.since(first)
    assert [s.path for s in steps] == ["a"]
    assert inbox.since(second) == (second, [])
    assert [s.path for s in inbox.since(0)[1]] == ["b", "a"]
    later = Inbox()
    later.show([a], 2000)
    assert later.since(second)[1] == [a], "the hub that comes after tells all anew"


async def test_a_run_tells_only_what_changed(house):
    house.executor = held = HeldExecutor()
    going = asyncio.create_task(run_it(house, side_by_side("a", "b")))
    await held.until("a", "b")
    run, mark = await run_since(house, "run-1", 0)
    assert [s.path for s in run.steps] == ["a", "b"]
    assert (await run_since(house, "run-1", mark))[0].steps == ()
    held.let_go("a")

    async def changed():
        return (await run_since(house, "run-1", mark))[0].steps

    await until(changed)
    assert [(s.path, s.state) for s in await changed()] == [("a", StepState.SUCCEEDED)]
    held.let_go("b")
    await going
    assert len((await run_since(house, "run-1", mark))[0].steps) == 2, "of one that has ended all are told"


async def test_a_long_loop_is_driven_through_and_nothing_of_it_stays(house, steps):
    steps["add"] = lambda x: x + 1
    add = component("add", params=(Param("x", ParamType.INTEGER),))
    inner = Dag((Task("add", add, {"x": FromInput("item")}),))
    loop = Task("loop", inner, loop=Loop(Constant(list(range(300))), "item"))
    run = await run_it(
        house, Pipeline("p", Dag((loop, Task("add", add, {"x": Constant(1)}, after=("loop",)))))
    )
    assert run.counted == {"succeeded": 300, "cached": 1}
    assert (house.logs, house.inboxes) == ({}, {})
    assert len(children(house, run)) == 301
    assert {f.key for f in house.ledger.facts if f.event == "last"} == {"last p loop/add", "last p add"}
