"""What importers bring in that is stored already: outputs of other runs, models, what a step was given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tallystick.core.data import RUN_URI
from tallystick.core.errors import BadInput, NotFound
from tallystick.core.model import MODEL_URI
from tallystick.core.pipeline.spec import (
    Constant,
    Dag,
    DagOutput,
    FromTask,
    Importer,
    Param,
    ParamType,
    Pipeline,
    Slot,
    Source,
    Task,
    Template,
)
from tallystick.core.run.events import RunState
from tallystick.core.run.foresee import Foreseen
from tallystick.hub.execute import execute
from tallystick.hub.house.whole import imported_by
from tallystick.hub.plan import plan
from tallystick.routines.foresee import foresee
from tests.fakes.house import add_model
from tests.hub.runs.steps import component, planned

MAKE = component("write", out_artifacts=(Slot("text", "system.Dataset"),))
READ = replace(component("read", artifacts=(Slot("text"),)), out_params=(Param("Output", ParamType.STRING),))
MADE = Pipeline("maker", Dag((Task("write", MAKE),), (DagOutput("kept", (Source("write", "text"),)),)))


def write(text):
    Path(text.path).write_text("hello")
    return 1


def read(text):
    return Path(text.path).read_text()


def where(text):
    return str(text.path)


@pytest.fixture
def steps():
    return {"write": write, "read": read, "where": where}


async def run_it(house, pipeline, key):
    return await execute(house, pipeline, await planned(house, pipeline, key))


def importing(uri, **more):
    load = Task("load", Importer(uri, "system.Model", **more))
    return Pipeline("p", Dag((load, Task("read", READ, {"text": FromTask("load", "artifact")}))))


async def test_an_output_of_another_run(house):
    made = await run_it(house, MADE, "run-1")
    pipeline = importing(Constant(f"{RUN_URI}run-1/kept"), metadata={"by": "{{$.pipeline_job_name}}"})
    [load, _] = await foresee(house, pipeline, {})
    assert (load.state, load.note) == (Foreseen.HIT, "hit: it is there already")
    run = await run_it(house, pipeline, "run-2")
    assert run.step("read").outputs.params == {"Output": "hello"}
    [ref] = imported_by(run.step("load"))  # with a URI, so that a run that reproduces this one takes the same
    assert ref == replace(
        made.outputs.artifacts["kept"][0],
        name="artifact", schema="system.Model", uri=f"{RUN_URI}run-1/kept", metadata={"by": "p"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind"), [("run-9/kept", NotFound), ("run-1/lost", BadInput), ("", NotFound)]
)
async def test_an_output_that_is_not_there_is_refused_before_anything_runs(house, name, kind):
    await run_it(house, MADE, "run-1")
    pipeline = importing(Constant(RUN_URI + name))
    with pytest.raises(kind):
        await plan(house, pipeline, b"", {})
    with pytest.raises(kind):
        await foresee(house, pipeline, {})


async def test_a_model_that_is_registered(house):
    model, uri = await add_model(house, 2), f"{MODEL_URI}digits@2"
    ref = (
        (await run_it(house, importing(Constant(uri)), "run-1")).step("load").outputs.artifacts["artifact"][0]
    )
    assert (ref.digest, ref.schema, ref.uri) == (model.digest, "system.Model", uri)
    for name in ("digits@3", "digits", ""):
        with pytest.raises(NotFound):
            await plan(house, importing(Constant(MODEL_URI + name)), b"", {})


async def test_by_the_place_where_a_step_had_it(house):
    told = replace(READ, name="where", code=component("where").code)
    tasks = (
        Task("write", MAKE), Task("where", told, {"text": FromTask("write", "text")}),
        *importing(FromTask("where", "Output")).root.tasks,
    )  # fmt: skip
    for key in ("run-1", "run-2"):  # the second takes the place from the cache, and it is gone by then
        run = await run_it(house, Pipeline("p", Dag(tasks)), key)
        assert run.state is RunState.SUCCEEDED, run.error
        assert run.step("read").outputs.params == {"Output": "hello"}
        assert Path(run.step("where").outputs.params["Output"]).is_relative_to(house.scratch)
        assert imported_by(run.step("load")) == []
    assert list(house.scratch.iterdir()) == []


async def test_a_place_where_no_step_had_anything(house):
    lost = str(house.scratch / "step-1.in" / f"0-0-{'0' * 64}")
    run = await run_it(house, importing(Template(lost)), "run-1")
    assert "is not among the artifacts" in run.step("load").error
    elsewhere = f"/etc/0-0-{'0' * 64}"
    run = await run_it(house, importing(Template(elsewhere)), "run-2")
    assert "cannot import from" in run.step("load").error
