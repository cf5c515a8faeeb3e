"""What all runs and judgements together may do at once, and how much may stand in their facts."""

from __future__ import annotations

import asyncio

import pytest

from tallystick.core.errors import TooLarge
from tallystick.core.pipeline.spec import (
    Component,
    Dag,
    FromInput,
    Function,
    Param,
    ParamType,
    Pipeline,
    Slot,
    Task,
)
from tallystick.core.run.events import Run, RunState, StepState
from tallystick.hub.execute import cancel, execute
from tallystick.hub.house.bounds import VALUES_BYTES_MAX, check_values
from tallystick.hub.plan import plan
from tallystick.hub.register import register
from tallystick.judging.judge import begin_judging, finish_judging
from tests.fakes.house import POLICY, SEEN, add_model, add_run, events, until
from tests.fakes.house.judge import judge_script
from tests.hub.runs.steps import HeldExecutor, planned, side_by_side

BIG = "ä" * (VALUES_BYTES_MAX // 2)


async def some_turns():
    for _ in range(50):
        await asyncio.sleep(0)


# ---------------------------------------------------------------------- steps


async def begin(house, key, *names, on=""):
    pipeline = side_by_side(*names)
    run = await planned(house, pipeline, key, on=on)
    return asyncio.create_task(execute(house, pipeline, run))


async def test_steps_at_once_holds_for_all_runs_together(house):
    house.executor = held = HeldExecutor()
    runs = [await begin(house, f"run-{n}", f"a{n}", f"b{n}") for n in range(3)]
    await until(lambda: len(held.held) == house.limits.steps_at_once)
    await some_turns()
    assert len(held.held) == house.limits.steps_at_once == 2
    for count in range(3, 7):
        next(step for step in held.held.values() if not step.done()).cancel()
        await until(lambda: len(held.held) == count)  # noqa: B023  reason: it is awaited at once
        await some_turns()
        assert len(held.held) == count
    for step in held.held.values():
        step.cancel()
    assert all(run.state.ended for run in await asyncio.gather(*runs))
    assert not house.step_slots.locked()


async def test_an_executor_with_places_of_its_own_is_given_as_many_as_it_says(house):
    """Of all runs together, and whatever the house's own executor has to do meanwhile."""
    house.executor, elsewhere = HeldExecutor(), HeldExecutor()
    elsewhere.steps_at_once = 5
    house.executors["away"] = elsewhere
    own = [await begin(house, f"run-{n}", f"a{n}", f"b{n}") for n in range(2)]
    away = [await begin(house, f"away-{n}", f"c{n}", f"d{n}", f"e{n}", on="away") for n in range(2)]
    await until(lambda: len(elsewhere.held) == 5)
    await some_turns()
    assert (len(house.executor.held), len(elsewhere.held)) == (2, 5)
    next(step for step in elsewhere.held.values() if not step.done()).cancel()
    await until(lambda: len(elsewhere.held) == 6)
    for run in (*own, *away):
        run.cancel()
    await asyncio.gather(*own, *away, return_exceptions=True)
    assert not house.step_slots.locked()
    assert not house.slots_of("away")[0].locked()


async def test_a_step_that_waits_for_its_turn_can_be_cancelled(house):
    house.executor = held = HeldExecutor()
    first = await begin(house, "run-1", "a", "b")
    await held.until("a", "b")
    second = await begin(house, "run-2", "c", "d")
    await until(lambda: events(house, "run", "run-2") == ["planned", "began"])
    await some_turns()
    await cancel(house, "run-2")
    run = await asyncio.wait_for(second, 5)
    assert run.state is RunState.CANCELLED
    assert {s.state for s in run.steps} == {StepState.CANCELLED}
    assert list(held.held) == ["a", "b"]
    for name in ("a", "b"):
        held.let_go(name)
    assert (await first).state is RunState.SUCCEEDED
    assert list(house.scratch.iterdir()) == []


# ---------------------------------------------------------------------- errands


@pytest.fixture
def go(house):
    """Errands that wait for this, all of them."""
    go = asyncio.Event()

    def waits(answer):
        async def play(order, say):
            await go.wait()
            return answer

        return play

    async def judge(order, say):
        await go.wait()
        return await judge_script()(order, say)

    house.sandbox.table |= {"inspect": waits(SEEN), "judge": judge}
    return go


async def test_what_loads_and_attacks_models_takes_turns(house, go):
    runs = [await add_run(house, mark=f"{n}") for n in range(3)]
    model = await add_model(house, name="other", run=runs[0])
    work = [asyncio.create_task(register(house, f"m{n}", r.key, "model")) for n, r in enumerate(runs)]
    verdict, rows = await begin_judging(house, model, "", POLICY, "label")
    await until(lambda: len(house.sandbox.started) == 2)
    work.append(asyncio.create_task(finish_judging(house, verdict, model, rows, POLICY, "label")))
    await until(lambda: house.progress.get(verdict.key) == (0.0, "waiting for its turn"))
    await some_turns()
    assert len(house.sandbox.started) == house.limits.steps_at_once == 2
    go.set()
    await asyncio.gather(*work)
    assert len(house.sandbox.started) == 4
    assert not house.errand_slots.locked()


async def test_whoever_waits_for_a_turn_can_be_cancelled(house, go):
    runs = [await add_run(house, mark=f"{n}") for n in range(3)]
    work = [asyncio.create_task(register(house, f"m{n}", r.key, "model")) for n, r in enumerate(runs)]
    await until(lambda: len(house.sandbox.started) == 2)
    await some_turns()
    work[2].cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(work[2], 5)
    go.set()
    await asyncio.gather(*work[:2])
    assert len(house.sandbox.started) == 2
    assert list(house.scratch.glob("register-*")) == []


# ---------------------------------------------------------------------- what stands in facts


def test_the_largest_value_is_named():
    check_values("output", {"a": "x" * (VALUES_BYTES_MAX - 2)}, "")
    with pytest.raises(TooLarge, match="output 'b' is 262,146 bytes of JSON, and may be 256 KiB"):
        check_values("output", {"a": 1, "b": BIG}, "")
    with pytest.raises(TooLarge, match="'a5' the largest"):
        check_values("output", {f"a{n}": "x" * 50_000 * (1 + (n == 5)) for n in range(6)}, "")


@pytest.mark.parametrize("where", ["output", "metadata"])
async def test_a_step_whose_outputs_do_not_belong_into_facts_fails(house, steps, where):
    def make(**given):
        if where == "metadata":
            given["made"].metadata["text"] = BIG
        with open(given["made"].path, "w") as file:  # noqa: PTH123  reason: as users write it
            file.write("x")
        return BIG if where == "output" else "small"

    steps["make"] = make
    out = (Param("Output", ParamType.STRING),)
    made = Component(
        "make", Function("make", "def make(): ..."), out_params=out, out_artifacts=(Slot("made"),)
    )
    pipeline = Pipeline("p", Dag((Task("make", made),)))
    run = await execute(house, pipeline, await planned(house, pipeline))
    name = "'Output'" if where == "output" else "metadata of output 'made'"
    assert run.state is RunState.FAILED
    assert name in run.step("make").error
    assert "256 KiB" in run.step("make").error
    assert max(len(str(fact.state)) for fact in house.ledger.facts) < 10_000
    assert events(house, "step") == []


async def test_a_run_whose_parameters_do_not_belong_into_facts_is_refused(house):
    text = Param("text", ParamType.STRING)
    step = Component("step", Function("f", "def f(): ..."), params=(text,))
    pipeline = Pipeline("p", Dag((Task("a", step, {"text": FromInput("text")}),)), (text,))
    with pytest.raises(TooLarge, match="parameter 'text'"):
        await plan(house, pipeline, b"", {"text": BIG})
    assert await house.all("run", Run) == []
    assert (await plan(house, pipeline, b"", {"text": "x" * 1000})).params == {"text": "x" * 1000}
