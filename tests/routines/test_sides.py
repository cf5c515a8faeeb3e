"""Two runs of a house beside each other: everything that it holds of them counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tallystick.core.errors import Damaged, NotFound, NotSupported
from tallystick.core.pipeline.spec import Dag, Function, Pipeline, Task
from tallystick.core.run.events import Run
from tallystick.core.run.options import RunOptions
from tallystick.hub.execute import execute
from tallystick.routines.sides import LINES_MAX, compare_runs, compare_sides, side_of
from tests.fakes.house import make_house
from tests.hub.runs.steps import chain, component

SAID = {"text": "hello"}


@pytest.fixture
async def house(tmp_path):
    def write(text):
        Path(text.path).write_text(SAID["text"])
        text.log_metric("length", len(SAID["text"]))
        return len(SAID["text"])

    SAID["text"] = "hello"
    house = make_house(tmp_path, {"write": write, "read": lambda text: 5, "one": lambda: 1})
    yield house
    await house.sandbox.close()
    await house.traffic.close()


async def run_it(house, key: str, pipeline: Pipeline | None = None, **more) -> Run:
    pipeline = pipeline or chain()
    run = replace(Run(key, pipeline.name, key, {}, options=RunOptions(cache=False)), **more)
    await house.tell("run", key, "planned", run)
    return await execute(house, pipeline, run)


def reader(**pipelines: Pipeline):
    """Reads pipelines by the keys of runs; of others there is a chain."""

    async def read(spec_digest: str) -> Pipeline:
        return pipelines.get(spec_digest.replace("-", "_"), chain())

    return read


def named(difference):
    return {name: [(c.where, c.what) for c in group] for name, group in difference.groups.items() if group}


async def test_two_runs_of_the_same_are_alike(house):
    await run_it(house, "run-1")
    await run_it(house, "run-2")
    difference = await compare_runs(house, reader(), "run-1", "run-2")
    assert difference.alike
    assert (difference.steps, difference.steps_alike) == (2, 2)
    assert named(difference).keys() <= {"course"}


async def test_what_a_step_made_otherwise_is_named_and_so_is_what_read_it(house):
    await run_it(house, "run-1")
    SAID["text"] = "hello, you"
    await run_it(house, "run-2")
    difference = await compare_runs(house, reader(), "run-1", "run-2")
    said = named(difference)
    said.pop("course", None)
    assert said == {
        "inputs": [("read", "artifact text")],
        "outputs": [("write", "param Output"), ("write", "artifact text"), ("write", "metadata text.length")],
    }
    assert difference.steps_alike == 0


async def test_packages_come_from_what_the_ledger_knows_of_them(house):
    await run_it(house, "run-1")
    house.executor._environment = "another"
    await run_it(house, "run-2")
    difference = await compare_runs(house, reader(), "run-1", "run-2")
    (change,) = difference.groups["packages"]
    assert (change.what, change.before, change.after, change.more) == ("package it", "fake", "another", 1)
    assert difference.steps_alike == 0


async def test_what_mlflow_has_counts_too_and_may_be_gone(house):
    one, two = await run_it(house, "run-1"), await run_it(house, "run-2")
    for run, loss in ((one, 0.5), (two, 0.25)):
        house.registry.log_figures(run.record_id, {"loss": loss}, {"depth": "3"})
    difference = await compare_runs(house, reader(), "run-1", "run-2")
    assert named(difference)["metrics"] == [("", "logged metric loss")]
    assert (await compare_runs(house, reader(), "run-1", "run-2", 0.9)).alike
    del house.registry.runs[two.record_id]
    difference = await compare_runs(house, reader(), "run-1", "run-2")
    assert named(difference)["metrics"] == [("", "logged metric loss"), ("", "logged param depth")]


async def test_sources_are_compared_line_by_line(house):
    def of(source: str) -> Pipeline:
        return Pipeline("p", Dag((Task("one", replace(component("one"), code=Function("one", source))),)))

    one, two = of("def one():\n    x = 1\n    return x\n"), of("def one():\n    x = 2\n    return x\n")
    await run_it(house, "run-1", one)
    await run_it(house, "run-2", two)
    difference = await compare_runs(house, reader(run_1=one, run_2=two), "run-1", "run-2")
    (change,) = difference.groups["code"]
    assert (change.where, change.what, change.before, change.after) == ("one", "source", None, None)
    assert "-    x = 1\n+    x = 2" in change.diff
    long = of("x = 1\n" * (LINES_MAX + 1))
    difference = await compare_runs(house, reader(run_1=long, run_2=two), "run-1", "run-2")
    assert "too many" in difference.groups["code"][0].diff


@pytest.mark.parametrize("wrong", [NotFound("it was never stored"), Damaged("it is not what it was")])
async def test_a_pipeline_that_cannot_be_read_is_said_to_differ(house, wrong):
    async def read(spec_digest: str) -> Pipeline:
        if spec_digest == "run-2":
            raise wrong
        return chain()

    await run_it(house, "run-1")
    await run_it(house, "run-2")
    assert (await side_of(house, read, "run-2")).pipeline is None
    difference = await compare_runs(house, read, "run-1", "run-2")
    assert named(difference)["code"] == [("", "pipeline file")]


async def test_a_run_that_nobody_knows(house):
    with pytest.raises(NotFound):
        await compare_runs(house, reader(), "run-1", "run-2")


async def test_a_run_under_way_can_be_compared(house):
    await run_it(house, "run-1")
    run = Run("run-2", "p", "run-2", {})
    await house.tell("run", "run-2", "planned", run)
    difference = await compare_runs(house, reader(), "run-1", "run-2")
    assert ("", "state") in named(difference)["states"]


async def test_what_is_nested_too_deeply_is_a_clear_error(house):
    await run_it(house, "run-1")
    side = await side_of(house, reader(), "run-1")
    one, two = (["end"] if n else ["other"] for n in range(2))
    for _ in range(5000):
        one, two = [one], [two]
    sides = [replace(side, run=replace(side.run, params={"deep": deep})) for deep in (one, two)]
    with pytest.raises(NotSupported, match="too deeply"):
        await compare_sides(*sides)
