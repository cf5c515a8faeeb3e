"""What importers bring in that is stored already: outputs of other runs, models, what a step was given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tallystick.core.data import ARTIFACT_URI, RUN_URI
from tallystick.core.errors import BadInput, NotFound
from tallystick.core.model import MODEL_URI
from tallystick.core.pipeline.spec import (
    Constant,
    Dag,
    DagOutput,
    FromInput,
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


def maybe(text=None):
    return Path(text.path).read_text() if text else "nothing"


def where(text):
    return str(text.path)


@pytest.fixture
def steps():
    return {"write": write, "read": read, "where": where, "maybe": maybe}


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


async def test_an_output_of_a_step_of_another_run(house):
    made = await run_it(house, MADE, "run-1")
    uri = f"{RUN_URI}run-1/write/text"
    run = await run_it(house, importing(Constant(uri)), "run-2")
    assert run.step("read").outputs.params == {"Output": "hello"}
    [ref] = imported_by(run.step("load"))
    assert (ref.digest, ref.uri) == (made.step("write").outputs.artifacts["text"][0].digest, uri)


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("run-1/nobody/text", NotFound, "run run-1 has no step 'nobody'"),
        ("run-1/write/lost", BadInput, "step write has no single output 'lost'"),
        ("run-9/write/text", NotFound, "no run 'run-9'"),
    ],
)
async def test_an_output_of_a_step_that_is_not_there(house, name, kind, words):
    await run_it(house, MADE, "run-1")
    with pytest.raises(kind, match=words):
        await plan(house, importing(Constant(RUN_URI + name)), b"", {})


async def test_by_its_digest_alone(house):
    made = await run_it(house, MADE, "run-1")
    digest = made.outputs.artifacts["kept"][0].digest
    pipeline = importing(Constant(ARTIFACT_URI + digest))
    assert (await foresee(house, pipeline, {}))[0].state is Foreseen.HIT
    run = await run_it(house, pipeline, "run-2")
    assert run.step("read").outputs.params == {"Output": "hello"}
    [ref] = imported_by(run.step("load"))
    assert (ref.digest, ref.schema, ref.uri) == (digest, "system.Model", ARTIFACT_URI + digest)
    # It counts by its content: whichever way it was named, who read it before need not read it again.
    again = await run_it(house, importing(Constant(f"{RUN_URI}run-1/kept")), "run-3")
    assert again.step("read").state == "cached"
    assert again.step("read").cache_key == run.step("read").cache_key


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [("sha256:" + "0" * 64, NotFound, "no artifact has this digest"), ("0" * 64, BadInput, "is not a digest"),
     ("../../etc/passwd", BadInput, "is not a digest"), ("", BadInput, "is not a digest")],
)  # fmt: skip
async def test_a_digest_that_nothing_has(house, name, kind, words):
    with pytest.raises(kind, match=words):
        await plan(house, importing(Constant(ARTIFACT_URI + name)), b"", {})


MAYBE = replace(READ, name="maybe", code=component("maybe").code, artifacts=(Slot("text", optional=True),))
PERHAPS = Pipeline(
    "perhaps",
    Dag(
        (
            Task("load", Importer(FromInput("data"), optional=True)),
            Task("maybe", MAYBE, {"text": FromTask("load", "artifact")}),
            Task(
                "within",
                Dag((Task("maybe", MAYBE, {"text": FromInput("text")}),)),
                {"text": FromTask("load", "artifact")},
            ),
        )
    ),
    (Param("data", ParamType.STRING, optional=True),),
)


async def perhaps(house, key, given):
    return await execute(house, PERHAPS, await plan(house, PERHAPS, b"", given, key=key))


async def test_one_that_need_not_be_given(house):
    await run_it(house, MADE, "run-1")
    run = await perhaps(house, "run-2", {})
    assert run.state is RunState.SUCCEEDED, run.error
    assert (run.step("load").note, run.step("load").outputs.artifacts) == ("nothing was given", {})
    for path in ("maybe", "within/maybe"):
        assert run.step(path).outputs.params == {"Output": "nothing"}
        assert run.step(path).inputs.artifacts == {}
    given = {"data": f"{RUN_URI}run-1/kept"}
    run = await perhaps(house, "run-3", given)
    assert {run.step(path).outputs.params["Output"] for path in ("maybe", "within/maybe")} == {"hello"}
    for said, key in (({}, "run-4"), (given, "run-5")):  # that there is none is in the key too
        assert {step.state for step in (await foresee(house, PERHAPS, said))} == {Foreseen.HIT}
        again = await perhaps(house, key, said)
        assert again.step("maybe").state == again.step("within/maybe").state == "cached"


async def test_one_that_need_not_be_given_is_still_refused_where_it_is_not_there(house):
    with pytest.raises(NotFound, match="no run 'run-9'"):
        await plan(house, PERHAPS, b"", {"data": f"{RUN_URI}run-9/kept"})
    with pytest.raises(BadInput, match="must be STRING"):
        await plan(house, PERHAPS, b"", {"data": 1})


async def test_a_step_that_needs_what_was_not_given_says_so(house):
    pipeline = replace(
        PERHAPS,
        root=Dag(
            (
                *PERHAPS.root.tasks[:1],
                Task("g", Dag((Task("read", READ, {"text": FromInput("text")}),)),
                     {"text": FromTask("load", "artifact")}),
            )
        ),
    )  # fmt: skip
    run = await execute(house, pipeline, await plan(house, pipeline, b"", {}))
    assert run.state is RunState.FAILED
    assert "nobody gave 'text'" in run.step("g/read").error


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
