"""Any two runs whatever beside each other: hypothesis looks for a change that is not named, or is made up."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallystick.core.facts import from_json, to_json
from tallystick.core.pipeline.spec import Dag, Pipeline
from tallystick.core.run.events import Run
from tallystick.core.values import Environment, Values
from tallystick.routines.differ import Difference, Side, alike, compare
from tests.core.pipelines import random_pipeline
from tests.core.strategies import json_values, of, seeded

UNHURRIED = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def sides(draw: st.DrawFn) -> Side:
    run: Run = draw(of(Run))
    return Side(
        replace(run, steps=tuple({step.path: step for step in run.steps}.values())),
        draw(st.none() | seeded.map(random_pipeline)),
        draw(st.dictionaries(st.sampled_from([s.environment for s in run.steps] or [""]), of(Environment))),
        draw(st.dictionaries(st.text(max_size=3), st.floats(allow_nan=False), max_size=2)),
    )


def turned(found: Difference) -> Any:
    """A difference seen from its other side, whatever the order."""
    groups = {
        n: sorted((replace(c, before=c.after, after=c.before) for c in g), key=repr)
        for n, g in found.groups.items()
    }
    return found.after, found.before, groups, found.steps, found.steps_alike


@given(sides())
@UNHURRIED
def test_a_run_is_like_itself(side: Side) -> None:
    again: Run = from_json(Run, json.loads(json.dumps(to_json(side.run))))
    found = compare(side, replace(side, run=again))
    assert not any(found.groups.values())
    assert found.alike
    assert found.steps == found.steps_alike == len(side.run.steps)


@given(sides(), sides())
@UNHURRIED
def test_it_is_the_same_from_either_side(one: Side, two: Side) -> None:
    found, back = compare(one, two), compare(two, one)
    ordered = {name: sorted(changes, key=repr) for name, changes in found.groups.items()}
    assert (found.before, found.after, ordered, found.steps, found.steps_alike) == turned(back)
    assert from_json(Difference, json.loads(json.dumps(to_json(found)))).alike == found.alike


@given(sides(), st.data())
@UNHURRIED
def test_any_output_that_changes_is_named(side: Side, data: st.DataObject) -> None:
    if not side.run.steps:
        return
    index = data.draw(st.integers(0, len(side.run.steps) - 1))
    step, value = side.run.steps[index], data.draw(json_values)
    other = data.draw(json_values.filter(lambda v: not alike(v, value)))
    before, after = list(side.run.steps), list(side.run.steps)
    for steps, each in ((before, value), (after, other)):
        outputs = Values({**step.outputs.params, "new": each}, step.outputs.artifacts)
        steps[index] = replace(step, outputs=outputs)
    found = compare(*(replace(side, run=replace(side.run, steps=tuple(s))) for s in (before, after)))
    assert [(c.where, c.what) for c in found.groups["outputs"]] == [(step.path, "param new")]
    assert not any(changes for name, changes in found.groups.items() if name != "outputs")


@given(seeded.map(random_pipeline), seeded.map(random_pipeline))
@UNHURRIED
def test_pipelines_differ_exactly_when_they_say_something_else(one: Pipeline, two: Pipeline) -> None:
    run = Run("run-1", "p", "", {})
    assert not compare(Side(run, one), Side(run, one)).groups["code"]
    assert bool(compare(Side(run, one), Side(run, two)).groups["code"]) == (_tasks(one) != _tasks(two))


def _tasks(pipeline: Pipeline) -> Any:
    """What a pipeline says, whatever the order of its tasks."""

    def of_dag(dag: Dag) -> Any:
        inner = {
            task.name: (
                of_dag(task.body) if isinstance(task.body, Dag) else to_json(task.body),
                to_json(replace(task, body=Dag(()))),
            )
            for task in dag.tasks
        }
        return inner, to_json(dag.outputs)

    return to_json(replace(pipeline, root=Dag(()))), of_dag(pipeline.root)
