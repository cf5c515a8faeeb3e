"""Dry runs: what is foreseen of a run is what happens, and nothing is done for it."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallystick.core.data import TABLE_URI
from tallystick.core.errors import BadInput, NotFound, NotSupported
from tallystick.core.pipeline.spec import (
    Cache,
    Command,
    Component,
    Constant,
    Dag,
    DagOutput,
    FromInput,
    FromTask,
    Function,
    Importer,
    Loop,
    Param,
    ParamType,
    Pipeline,
    Slot,
    Source,
    Task,
    Template,
    Trigger,
)
from tallystick.core.run.events import StepState
from tallystick.core.run.foresee import Foreseen
from tallystick.core.run.options import RunOptions
from tallystick.hub.execute import execute
from tallystick.routines.foresee import foresee
from tests.fakes.house import add_table, make_house
from tests.hub.runs.steps import chain, component, planned

HIT, MISS, UNKNOWN, SKIPPED = Foreseen.HIT, Foreseen.MISS, Foreseen.UNKNOWN, Foreseen.SKIPPED
X = Param("x", ParamType.INTEGER)


def write(text):
    Path(text.path).write_text("hello")
    return 1


@pytest.fixture
def steps():
    return {"write": write, "read": lambda text: 5, "add": lambda x: x + 1}


def add(source="add", **more) -> Component:
    return Component(
        "add", Function("add", source), params=(X,), out_params=(Param("Output", X.type),), **more
    )


def pipeline(*tasks, outputs=()):
    return Pipeline("p", Dag(tuple(tasks), tuple(outputs)))


async def run_it(house, what, key="run-1", **options):
    run = replace(await planned(house, what, key), options=RunOptions(**options))
    return await execute(house, what, run)


async def foreseen(house, what, **options):
    return {f.path: f.state for f in await foresee(house, what, {}, RunOptions(**options))}


async def test_what_is_foreseen_first_then_done_then_foreseen_again(house):
    before = len(house.ledger.facts)
    found = await foresee(house, chain(), {})
    assert [(f.path, f.state, f.note) for f in found] == [
        ("write", MISS, "miss: never made"), ("read", UNKNOWN, "unknown: depends on write")
    ]  # fmt: skip
    assert (len(house.ledger.facts), house.executor.ran, list(house.scratch.iterdir())) == (before, [], [])
    run = await run_it(house, chain())
    again = await foresee(house, chain(), {})
    assert {f.path: f.state for f in again} == {"write": HIT, "read": HIT}
    assert [f.cache_key for f in again] == [step.cache_key for step in run.steps]
    assert again[0].note == "hit: made by run-1 write, less than 1 s ago"


async def test_options_count(house):
    await run_it(house, chain())
    assert await foreseen(house, chain(), cache=False) == {"write": MISS, "read": UNKNOWN}
    assert await foreseen(house, chain(), seed=3) == {"write": MISS, "read": UNKNOWN}
    house.clock.advance(100)
    assert await foreseen(house, chain(), cache_age_ms_max=1000) == {"write": MISS, "read": UNKNOWN}
    (first, _) = await foresee(house, chain(), {}, RunOptions(verify_share=1.0))
    assert (first.state, first.note.endswith("to be made again, to verify it")) == (HIT, True)


async def test_only_what_depends_on_something_new_is_unknown(house):
    tasks = [
        Task("a", add(), {"x": Constant(1)}),
        Task("b", add(), {"x": Constant(2)}, after=("a",)),
        Task("c", add(), {"x": FromTask("a", "Output")}),
        Task("d", add(), {"x": Template("{{$.inputs.parameters['y']}}"), "y": FromTask("c", "Output")}),
    ]
    await run_it(house, pipeline(tasks[1], Task("a", add(), {"x": Constant(9)})))
    assert await foreseen(house, pipeline(*tasks)) == {"a": MISS, "b": HIT, "c": UNKNOWN, "d": UNKNOWN}
    await run_it(house, pipeline(*tasks), "run-2")
    assert set((await foreseen(house, pipeline(*tasks))).values()) == {HIT}


def deciding(condition="inputs.parameter_values['x'] == 2"):
    """``a`` gives 2 for 1; ``if`` is a graph behind a condition on that, ``last`` reads what it gives."""
    inner = Dag((Task("in", add(), {"x": FromInput("x")}),), (DagOutput("o", (Source("in", "Output"),)),))
    return pipeline(
        Task("a", add(), {"x": Constant(1)}),
        Task("if", inner, {"x": FromTask("a", "Output")}, trigger=Trigger(condition)),
        Task("last", add("last"), {"x": FromTask("if", "o")}),
        Task("else", add(), {"x": FromTask("a", "Output")}, trigger=Trigger(f"!({condition})")),
    )


async def test_a_condition_on_something_unknown_is_said(house):
    found = {f.path: f for f in await foresee(house, deciding(), {})}
    assert {path: f.state for path, f in found.items()} == {
        "a": MISS, "if": UNKNOWN, "else": UNKNOWN, "last": UNKNOWN
    }  # fmt: skip
    assert found["if"].note == "unknown: whether it runs depends on a"
    assert found["last"].note == "unknown: whether it runs depends on a"
    await run_it(house, deciding())
    assert await foreseen(house, deciding()) == {"a": HIT, "if/in": HIT, "last": HIT, "else": SKIPPED}


def looping(items):
    inner = Dag((Task("in", add(), {"x": FromInput("item")}),), (DagOutput("o", (Source("in", "Output"),)),))
    return pipeline(
        Task("list", component("list"), {}),
        Task("loop", inner, {}, loop=Loop(items, "item")),
        Task("sum", add("sum"), {"x": Constant(1), "all": FromTask("loop", "o")}, after=("loop",)),
    )


async def test_a_loop_over_something_unknown_is_said(house, steps):
    steps["list"] = lambda: 1
    fixed = looping(Constant([1, 2]))
    assert await foreseen(house, fixed) == {"list": MISS, "loop[0]/in": MISS, "loop[1]/in": MISS, "sum": MISS}
    found = {f.path: f for f in await foresee(house, looping(FromTask("list", "Output")), {})}
    assert found["loop"].note == "unknown: how often it runs depends on list"
    await run_it(house, fixed)
    grown = await foreseen(house, looping(Constant([2, 1, 3])))
    assert [grown[f"loop[{n}]/in"] for n in range(3)] == [HIT, HIT, MISS]


async def test_steps_that_make_the_same_are_said_to(house):
    twins = pipeline(*(Task(name, add(), {"x": Constant(1)}) for name in "ab"))
    first, second = await foresee(house, twins, {})
    assert first.note == "miss: never made"
    assert second.note == "miss: never made; a makes the same, so whichever comes first"


async def test_an_import_is_foreseen_and_what_reads_it(house, steps):
    await add_table(house)
    steps["count"] = lambda rows: 3
    load = Importer(Constant(f"{TABLE_URI}digits"), metadata={"by": "{{$.pipeline_job_name}}"})
    count = component("count", artifacts=(Slot("rows"),))
    what = pipeline(Task("load", load), Task("count", count, {"rows": FromTask("load", "artifact")}))
    assert await foreseen(house, what) == {"load": MISS, "count": UNKNOWN}
    await run_it(house, what)
    assert await foreseen(house, what) == {"load": HIT, "count": HIT}
    await add_table(house)
    assert await foreseen(house, what) == {"load": MISS, "count": UNKNOWN}


async def test_what_cannot_be_planned_cannot_be_foreseen(house):
    command = pipeline(Task("c", Component("c", Command("image"))))
    with pytest.raises(NotSupported, match="task c"):
        await foresee(house, command, {})
    with pytest.raises(NotFound):
        await foresee(house, pipeline(Task("l", Importer(Constant(f"{TABLE_URI}none")))), {})
    with pytest.raises(BadInput):
        await foresee(house, chain(), {"x": 1})
    with pytest.raises(BadInput, match="between 0 and 1"):
        await foresee(house, chain(), {}, RunOptions(verify_share=2))
    with pytest.raises(NotSupported, match="no executor 'ray'"):
        await foresee(house, chain(), {}, RunOptions(on="ray"))


async def test_an_input_that_cannot_be_made_is_foreseen_as_a_failure(house):
    bad = pipeline(Task("a", add(), {"x": Constant("text")}))
    [found] = await foresee(house, bad, {})
    assert (found.state, "must be" in found.note or "text" in found.note) == (Foreseen.FAILED, True)


# ---------------------------------------------------------------------- against what happens


@st.composite
def graphs(draw):
    """Two pipelines of the same tasks, of which some have changed; each adds to constants or to others."""
    before, after = [], []
    for n in range(draw(st.integers(1, 6))):
        names = [task.name for task in before]
        source = FromTask(draw(st.sampled_from(names)), "Output") if names and draw(st.booleans()) else None
        x = source or Constant(draw(st.integers(0, 3)))
        cache = Cache(draw(st.integers(0, 5)) > 0)
        waits = tuple(draw(st.lists(st.sampled_from(names), unique=True, max_size=2))) if names else ()
        condition = f"inputs.parameter_values['x'] {draw(st.sampled_from(['<', '>=']))} 2"
        trigger = Trigger(condition if draw(st.integers(0, 4)) == 0 else "", draw(st.integers(0, 4)) == 0)
        more = {"after": waits, "trigger": trigger, "cache": cache}
        before.append(Task(f"t{n}", add(), {"x": x}, **more))
        body = add(draw(st.sampled_from(["add", "add", "add", "anew"])))
        x = x if source or draw(st.booleans()) else Constant(draw(st.integers(0, 3)))
        after.append(Task(f"t{n}", body, {"x": x}, **more))
    return pipeline(*before), pipeline(*after)


@given(graphs())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_hits_that_are_foreseen_are_hits(both):
    async def try_it(home):
        house = make_house(home, {"add": lambda x: x + 1})
        try:
            first, second = both
            await run_it(house, first)
            found = await foresee(house, second, {})
            run = await run_it(house, second, "run-2")
            return found, {step.path: step.state for step in run.steps}
        finally:
            await house.sandbox.close()
            await house.traffic.close()

    with tempfile.TemporaryDirectory() as home:
        found, states = asyncio.run(try_it(Path(home)))
    keys = Counter(f.cache_key for f in found if f.state is MISS)
    unclear = any(f.state is UNKNOWN for f in found)
    for forecast in found:
        state = states[forecast.path]
        if forecast.state is HIT:
            assert state is StepState.CACHED, forecast
        elif forecast.state is MISS and keys[forecast.cache_key] == 1 and not unclear:
            assert state is StepState.SUCCEEDED, forecast
        elif forecast.state is SKIPPED:
            assert state is StepState.SKIPPED, forecast
        elif forecast.state is Foreseen.FAILED:
            assert state is StepState.FAILED, forecast
