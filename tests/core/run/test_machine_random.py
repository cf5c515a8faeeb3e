"""Random pipelines in a world where steps fail, people cancel and the hub dies: what always holds."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.core.pipeline.check import check_pipeline
from tallystick.core.pipeline.spec import Dag, Pipeline
from tallystick.core.run.events import RunState, StepState
from tests.core.run.worlds import World, pipelines

lots = st.integers(0, 2**32 - 1).map(random.Random)


@given(pipeline=pipelines, slots=st.integers(1, 4), lots=lots, cancels=st.integers(0, 2))
@settings(max_examples=300, deadline=None)
def test_every_run_ends_and_every_step_once(
    pipeline: Pipeline, slots: int, lots: random.Random, cancels: int
) -> None:
    check_pipeline(pipeline)
    world = World(pipeline, slots, lots, cancels)
    machine = world.live()
    assert len(world.ends) == 1
    assert machine.state.ended
    assert machine.state is world.ends[0].state
    assert all(step.state.ended for step in machine.steps.values())
    bad = [s for s in machine.steps.values() if s.state in (StepState.FAILED, StepState.CANCELLED)]
    assert (machine.state is RunState.SUCCEEDED) <= (not bad)
    assert bool(machine.error) == (machine.state is not RunState.SUCCEEDED)


@given(pipeline=pipelines, lots=lots, cancels=st.integers(0, 1))
@settings(max_examples=300, deadline=None)
def test_what_runs_regardless_always_runs(pipeline: Pipeline, lots: random.Random, cancels: int) -> None:
    """Exit handlers: in each graph that was begun, whatever failed in it, and when the run was cancelled."""
    world = World(pipeline, 2, lots, cancels)
    machine = world.live()
    started = {start.path for start in world.starts}
    for path, dag in _begun(pipeline.root, "", machine.steps.keys()):
        for task in dag.tasks:
            step = machine.steps.get(path + task.name)
            if task.trigger.regardless and not isinstance(task.body, Dag):
                assert step is not None
                no = task.trigger.condition == "no"
                unbound = step.state is StepState.FAILED and step.attempt == 0
                assert (path + task.name in started) or no or unbound


def _begun(dag: Dag, prefix: str, paths: object) -> list[tuple[str, Dag]]:
    """Each graph that was laid out, with its prefix: some step in it has a record."""
    known = list(paths)  # type: ignore[call-overload]  # keys of a dict
    found = [(prefix, dag)]
    for task in dag.tasks:
        if not isinstance(task.body, Dag):
            continue
        heads = [f"{prefix}{task.name}/"]
        if task.loop:
            heads = [f"{prefix}{task.name}[{turn}]/" for turn in range(5)]
        for head in heads:
            if any(path.startswith(head) for path in known):
                found += _begun(task.body, head, known)
    return found
