"""Runs, played through with random pipelines, random ends of steps and random cancelling."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tallystick.core.frontier import ITEMS_MAX, frontier
from tallystick.core.run.UNKNOWN import Effect, decide

from tallystick.core.errors import BadInput, Conflict
from tallystick.core.facts import from_json, to_json
from tallystick.core.names import canonical_json
from tallystick.core.pipeline.check import check_pipeline
from tallystick.core.pipeline.order import upstream
from tallystick.core.pipeline.spec import (
    Component,
    Constant,
    Dag,
    DagOutput,
    FromInput,
    FromTask,
    Loop,
    Param,
    ParamType,
    Pipeline,
    Slot,
    Task,
)
from tallystick.core.run.events import (
    Began,
    CancelAsked,
    EndRun,
    Event,
    Run,
    RunState,
    StartStep,
    StepEnded,
    StepState,
    StopStep,
)
from tallystick.core.values import ArtifactRef, Values, cache_key
from tests.core.pipelines import random_pipeline
from tests.core.strategies import seeded

UNHURRIED = settings(max_examples=80, deadline=None)
STEP = Component("c", "f", "def f(): ...", out_params=(Param("out", ParamType.INTEGER),))


def new_run(**params: object) -> Run:
    return Run("r", "p", "sha256:" + "0" * 64, {"items": [1, 2], "number": 1, **params})


class Play:
    """One run from its beginning, with everything that must hold checked at each turn."""

    def __init__(
        self, pipeline: Pipeline, lots: Random, slots: int, failing: float, cancelling: float
    ) -> None:
        self.pipeline = check_pipeline(pipeline)
        self.lots, self.slots, self.failing, self.cancelling = lots, slots, failing, cancelling
        self.run = new_run()
        self.running: list[str] = []
        self.ended: list[str] = []
        self.ends: list[RunState] = []
        self.now = 0

    def to_its_end(self) -> Run:
        self.tell(Began(0))
        while not self.run.state.ended:
            assert self.running, "nothing runs and the run has not ended"
            if self.lots.random() < self.cancelling:
                self.tell(CancelAsked(self.now))
            else:
                self.end_a_step()
        return self.run

    def end_a_step(self) -> None:
        path = self.running.pop(self.lots.randrange(len(self.running)))
        self.ended.append(path)
        chance = self.lots.random()
        if self.run.state is RunState.CANCELLING and chance < 0.5:
            self.tell(StepEnded(path, StepState.CANCELLED, self.now))
        elif chance < self.failing:
            self.tell(StepEnded(path, StepState.FAILED, self.now, error="boom"))
        else:
            state = self.lots.choice([StepState.SUCCEEDED, StepState.CACHED])
            outputs = Values({"out": self.lots.randint(0, 9)})
            self.tell(StepEnded(path, state, self.now, outputs))

    def tell(self, event: Event) -> None:
        self.now += 1
        before, record = self.run, json.loads(canonical_json(to_json(self.run)))
        self.run, effects = decide(before, self.pipeline, event, self.slots)
        again = decide(from_json(Run, record), self.pipeline, event, self.slots)
        assert again == (self.run, effects), "a run read from its record goes on as if it had never ended"
        self.check_same_frontier()
        for effect in effects:
            self.check(effect, before)
        assert len(self.running) <= self.slots
        assert {s.path for s in self.run.steps if s.state is StepState.RUNNING} == set(self.running)

    def check(self, effect: Effect, before: Run) -> None:
        if isinstance(effect, StartStep):
            assert before.state is RunState.RUNNING
            assert effect.ready.path not in self.running
            assert effect.ready.path not in self.ended
            self.check_inputs(effect)
            self.running.append(effect.ready.path)
        elif isinstance(effect, StopStep):
            assert effect.path in self.running
        else:
            self.ends.append(effect.state)

    def check_inputs(self, effect: StartStep) -> None:
        """All that the step waits for has ended well, and each of its inputs has a value."""
        task, path = effect.ready.task, effect.ready.path
        prefix = path.removesuffix(task.name)
        for name in upstream(task):
            steps = [s for s in self.run.steps if _below(s.path, prefix + name)]
            assert all(s.state.done for s in steps), f"{path} started before {name} had ended"
        values = effect.ready.inputs
        assert all(name in values.params or name in values.artifacts for name in task.inputs)

    def check_same_frontier(self) -> None:
        started = {s.path: s.outputs if s.state.done else None for s in self.run.steps}
        assert frontier(self.pipeline, self.run.params, started) == frontier(
            self.pipeline, self.run.params, dict(reversed(started.items()))
        )


def _below(path: str, task: str) -> bool:
    return path == task or path.startswith((f"{task}/", f"{task}["))


def _expected_paths(dag: Dag, prefix: str, run: Run) -> Iterator[str]:
    """Every step that a run that succeeded must have had, with as many iterations as it shows."""
    for task in dag.tasks:
        path = prefix + task.name
        if not isinstance(task.body, Dag):
            yield path
        elif not task.loop:
            yield from _expected_paths(task.body, f"{path}/", run)
        else:
            seen = {
                s.path.removeprefix(f"{path}[").split("]")[0]
                for s in run.steps
                if s.path.startswith(f"{path}[")
            }
            if isinstance(task.loop.items, Constant):
                assert seen <= {str(n) for n in range(len(task.loop.items.value))}
                if not all(isinstance(inner.body, Dag) for inner in task.body.tasks):
                    assert len(seen) == len(task.loop.items.value)  # else it may be loops over nothing
            for n in sorted(seen, key=int):
                yield from _expected_paths(task.body, f"{path}[{n}]/", run)


@given(seeded, st.integers(1, 4))
@UNHURRIED
def test_a_run_whose_steps_succeed_runs_each_once_and_succeeds(lots: Random, slots: int) -> None:
    play = Play(random_pipeline(lots), lots, slots, failing=0, cancelling=0)
    run = play.to_its_end()
    assert play.ends == [run.state] == [RunState.SUCCEEDED]
    assert sorted(play.ended) == sorted(s.path for s in run.steps)
    assert sorted(play.ended) == sorted(_expected_paths(play.pipeline.root, "", run))
    assert run.ended_ms == play.now - 1


@given(
    seeded,
    st.integers(1, 4),
    st.sampled_from([0.0, 0.1, 0.5]),
    st.sampled_from([0.0, 0.1, 0.3]),
)
@UNHURRIED
def test_every_run_ends_once_whatever_happens(
    lots: Random, slots: int, failing: float, cancelling: float
) -> None:
    play = Play(random_pipeline(lots), lots, slots, failing, cancelling)
    run = play.to_its_end()
    assert play.ends == [run.state]
    assert sorted(play.ended) == sorted(s.path for s in run.steps), "each step that began ended, once"
    assert not play.running
    if run.state is RunState.FAILED:
        assert run.error
    later: list[Event] = [
        Began(99),
        CancelAsked(99),
        StepEnded("t0", StepState.FAILED, 99),
        StepEnded("?", StepState.CACHED, 99),
    ]
    for event in later:
        assert decide(run, play.pipeline, event, slots) == (run, ())


def chain(*names: str) -> Pipeline:
    tasks = [Task(name, STEP, after=names[max(0, n - 1) : n]) for n, name in enumerate(names)]
    return Pipeline("p", Dag(tuple(tasks), (DagOutput("out", names[-1], "out"),)))


def started(effects: tuple[Effect, ...]) -> list[str]:
    return [effect.ready.path for effect in effects if isinstance(effect, StartStep)]


def test_the_pipeline_s_outputs_are_the_run_s() -> None:
    run, effects = decide(new_run(), chain("a", "b"), Began(5), 1)
    assert (started(effects), run.started_ms) == (["a"], 5)
    run, effects = decide(run, chain("a", "b"), StepEnded("a", StepState.SUCCEEDED, 6), 1)
    assert started(effects) == ["b"]
    run, effects = decide(run, chain("a", "b"), StepEnded("b", StepState.CACHED, 7, Values({"out": 3})), 1)
    assert effects == (EndRun(RunState.SUCCEEDED),)
    assert (run.outputs, run.ended_ms) == (Values({"out": 3}), 7)


def test_after_a_failure_what_runs_may_finish_and_nothing_starts() -> None:
    both = Pipeline("p", Dag((Task("a", STEP), Task("b", STEP), Task("c", STEP))))
    run, effects = decide(new_run(), both, Began(1), 2)
    assert started(effects) == ["a", "b"]
    run, effects = decide(run, both, StepEnded("a", StepState.FAILED, 2, error="boom"), 2)
    assert (run.state, effects) == (RunState.FAILING, ())
    run, effects = decide(run, both, StepEnded("b", StepState.SUCCEEDED, 3), 2)
    assert (run.state, effects, run.error) == (RunState.FAILED, (EndRun(RunState.FAILED),), "a: boom")


def test_cancelling_stops_what_runs_and_ends_when_it_has_stopped() -> None:
    run, _ = decide(new_run(), chain("a", "b"), Began(1), 1)
    run, effects = decide(run, chain("a", "b"), CancelAsked(2), 1)
    assert effects == (StopStep("a"),)
    run, effects = decide(run, chain("a", "b"), StepEnded("a", StepState.CANCELLED, 3), 1)
    assert (run.state, effects) == (RunState.CANCELLED, (EndRun(RunState.CANCELLED),))
    assert started(effects) == []


def test_a_run_cancelled_before_anything_ran_ends_at_once() -> None:
    run, effects = decide(new_run(), chain("a"), CancelAsked(2), 1)
    assert (run.state, effects) == (RunState.CANCELLED, (EndRun(RunState.CANCELLED),))


@pytest.mark.parametrize("path", ["never", "b"])
def test_a_step_that_does_not_run_cannot_end(path: str) -> None:
    run, _ = decide(new_run(), chain("a", "b"), Began(1), 1)
    with pytest.raises(Conflict):
        decide(run, chain("a", "b"), StepEnded(path, StepState.SUCCEEDED, 2), 1)


def test_a_step_that_was_stopped_though_nobody_cancelled_does_not_leave_the_run_hanging() -> None:
    run, _ = decide(new_run(), chain("a", "b"), Began(1), 1)
    run, effects = decide(run, chain("a", "b"), StepEnded("a", StepState.CANCELLED, 2, error="killed"), 1)
    assert run.state.ended
    assert [type(effect) for effect in effects] == [EndRun]


def looped(items: object, inner: Component = STEP, **loop: object) -> Pipeline:
    body = Dag((Task("s", inner, {"x": FromInput("item")}),), (DagOutput("out", "s", "out"),))
    after = Component("c", "f", "s", params=(Param("all", ParamType.LIST),))
    tasks = (
        Task("l", body, loop=Loop(Constant(items), "item", **loop)),  # type: ignore[arg-type] # any value, for once
        Task("z", after, {"all": FromTask("l", "out")}),
    )
    return Pipeline("p", Dag(tasks))


def test_a_loop_gathers_its_outputs_in_the_order_of_its_items() -> None:
    run, effects = decide(new_run(), looped([7, 8, 9]), Began(1), 9)
    assert [(e.ready.path, e.ready.inputs.params["x"]) for e in effects if isinstance(e, StartStep)] == [
        ("l[0]/s", 7), ("l[1]/s", 8), ("l[2]/s", 9),
    ]  # fmt: skip
    for n in (2, 0, 1):
        run, effects = decide(
            run, looped([7, 8, 9]), StepEnded(f"l[{n}]/s", StepState.SUCCEEDED, 2, Values({"out": n})), 9
        )
    assert [e.ready.inputs.params for e in effects if isinstance(e, StartStep)] == [{"all": [0, 1, 2]}]


def test_a_loop_gathers_artifacts() -> None:
    refs = [ArtifactRef("out", "sha256:" + f"{n}" * 64) for n in range(2)]
    done = {f"l[{n}]/s": Values(artifacts={"out": (ref,)}) for n, ref in enumerate(refs)}
    maker = Component("c", "f", "s", out_artifacts=(Slot("out"),))
    ready, _ = frontier(looped([1, 2], maker), {}, done)
    assert [r.inputs.artifacts for r in ready] == [{"all": tuple(refs)}]


def test_a_loop_over_nothing_gives_an_empty_list() -> None:
    ready, _ = frontier(looped([]), {}, {})
    assert [r.inputs.params for r in ready] == [{"all": []}]


def test_a_loop_keeps_its_own_limit() -> None:
    ready, _ = frontier(looped([1, 2, 3], parallel_max=2), {}, {})
    assert [r.path for r in ready] == ["l[0]/s", "l[1]/s"]
    ready, _ = frontier(looped([1, 2, 3], parallel_max=2), {}, {"l[0]/s": Values({"out": 1}), "l[1]/s": None})
    assert [r.path for r in ready] == ["l[2]/s"]


@pytest.mark.parametrize("items", ["abc", 3, None, {"a": 1}, [0] * (ITEMS_MAX + 1)])
def test_a_loop_over_what_is_no_list_fails_the_run(items: object) -> None:
    with pytest.raises(BadInput):
        frontier(looped(items), {}, {})
    run, effects = decide(new_run(), looped(items), Began(1), 1)
    assert (run.state, effects) == (RunState.FAILED, (EndRun(RunState.FAILED),))
    assert "the loop" in run.error


def test_a_field_of_a_loop_item() -> None:
    body = Dag((Task("s", STEP, {"x": FromInput("item", "a")}),))
    pipeline = Pipeline("p", Dag((Task("l", body, loop=Loop(Constant([{"a": 1}, {"b": 2}]), "item")),)))
    with pytest.raises(BadInput, match="no field 'a'"):
        frontier(pipeline, {}, {})


def test_an_output_that_was_not_given_fails_the_run() -> None:
    tasks = (Task("a", STEP), Task("b", STEP, {"x": FromTask("a", "out")}))
    pipeline = Pipeline("p", Dag(tasks))
    run, _ = decide(new_run(), pipeline, Began(1), 1)
    run, effects = decide(run, pipeline, StepEnded("a", StepState.SUCCEEDED, 2, Values()), 1)
    assert (run.state, effects) == (RunState.FAILED, (EndRun(RunState.FAILED),))
    assert "gave no output 'out'" in run.error


def test_defaults_stand_where_no_input_is_bound() -> None:
    step = Component(
        "c", "f", "s", params=(Param("x", ParamType.INTEGER, 5), Param("y", ParamType.STRING, optional=True))
    )
    ready, _ = frontier(Pipeline("p", Dag((Task("a", step),))), {}, {})
    assert ready[0].inputs == Values({"x": 5})


def test_a_cache_key_covers_what_the_outputs_depend_on() -> None:
    reader = Component("c", "f", "s", artifacts=(Slot("data"),))
    ref = ArtifactRef("data", "sha256:" + "a" * 64, uri="somewhere")
    values = Values({"x": 1}, {"data": (ref,)})
    key = cache_key(reader, values, "env")
    assert key == cache_key(reader, Values({"x": 1}, {"data": (replace(ref, name="n", uri="else"),)}), "env")
    others = [
        cache_key(replace(reader, source="t"), values, "env"),
        cache_key(reader, Values({"x": 2}, values.artifacts), "env"),
        cache_key(reader, Values({"x": 1}, {"data": (replace(ref, digest="sha256:" + "b" * 64),)}), "env"),
        cache_key(reader, Values({"x": 1}, {"data": (ref, ref)}), "env"),
        cache_key(reader, values, "other env"),
    ]
    assert len({key, *others}) == 6
