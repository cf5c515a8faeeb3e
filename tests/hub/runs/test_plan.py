from __future__ import annotations

import pytest

from tallystick.core.data import TABLE_URI
from tallystick.core.errors import BadInput, NotFound, NotSupported, Unavailable
from tallystick.core.pipeline.spec import (
    Component,
    Constant,
    Dag,
    FromInput,
    FromTask,
    Function,
    Importer,
    Param,
    ParamType,
    Pipeline,
    Task,
    Trigger,
)
from tallystick.core.run.events import Run, RunState
from tallystick.hub.plan import plan
from tests.fakes.house import add_table, events

NUMBER = Param("number", ParamType.INTEGER, 1)
TABLE = Param("table", ParamType.STRING, f"{TABLE_URI}digits")
STEP = Component("step", Function("f", "def f(): ..."), params=(NUMBER,))
SPEC = b"# a pipeline\n"


def pipeline(*tasks: Task, params=(NUMBER,)) -> Pipeline:
    return Pipeline("p", Dag(tasks or (Task("a", STEP, {"number": FromInput("number")}),)), params)


def importing(uri) -> Pipeline:
    return pipeline(Task("load", Importer(uri)), params=(TABLE,))


async def test_a_run_is_recorded_with_its_file_and_all_its_parameters(house):
    run = await plan(house, pipeline(), SPEC, {})
    assert await house.get("run", run.key, Run) == run
    assert (run.state, run.params, run.pipeline) == (RunState.RUNNING, {"number": 1}, "p")
    assert house.artifacts.blobs[run.spec_digest] == SPEC
    assert list(house.scratch.iterdir()) == []


async def test_two_runs_have_two_keys(house):
    keys = [(await plan(house, pipeline(), SPEC, {"number": 2})).key for _ in range(50)]
    assert len(set(keys)) == 50


REFUSED = [
    (pipeline(), {"unknown": 1}, BadInput, "no parameter 'unknown'"),
    (pipeline(), {"number": "one"}, BadInput, "must be"),
    (pipeline(params=(Param("number", ParamType.INTEGER),)), {}, BadInput, "has no value"),
    (pipeline(Task("a", STEP, {"number": FromTask("b", "o")})), {}, BadInput, "'b', which does not exist"),
    (importing(FromInput("table")), {}, NotFound, "tally ingest digits FILE"),
    (importing(Constant(f"{TABLE_URI}other")), {}, NotFound, "no table 'other'"),
    (importing(FromInput("table")), {"table": "s3://bucket/x"}, NotSupported, "cannot import from"),
    (importing(FromInput("table")), {"table": f"{TABLE_URI}../x"}, BadInput, "valid table name"),
    (importing(FromInput("table")), {"table": f"{TABLE_URI}digits@9"}, NotFound, "no data 'digits@9'"),
]


@pytest.mark.parametrize(("asked", "given", "kind", "words"), REFUSED)
async def test_what_cannot_run_is_refused_and_nothing_is_written(house, asked, given, kind, words):
    with pytest.raises(kind, match=words):
        await plan(house, asked, SPEC, given)
    assert house.ledger.facts == []
    assert house.artifacts.blobs == {}
    assert list(house.scratch.iterdir()) == []


async def test_a_component_that_cannot_run_is_named_by_its_path(house):
    needy = Component("c", Function("f", "def f(): ...", ("left-pad",)))
    inner = Dag((Task("deep", needy),))
    with pytest.raises(NotSupported, match=r"task outer/deep.*left-pad"):
        await plan(house, pipeline(Task("outer", inner), params=()), SPEC, {})
    assert house.ledger.facts == []


@pytest.mark.parametrize("text", ["1 ==", "inputs.parameter_values['x'] ==", "'open"])
async def test_a_condition_that_is_none_is_named_by_its_task(house, text):
    inner = Dag((Task("deep", STEP, trigger=Trigger(text)),))
    with pytest.raises(BadInput) as refused:
        await plan(house, pipeline(Task("outer", inner), params=()), SPEC, {})
    assert refused.value.where == "task outer/deep"
    assert house.ledger.facts == []


async def test_tables_that_exist_are_found_in_graphs_of_graphs_too(house):
    snapshot = await add_table(house)
    inner = Dag((Task("load", Importer(Constant(f"{TABLE_URI}{snapshot.key}"))),))
    asked = pipeline(Task("outer", inner), Task("top", Importer(FromInput("table"))), params=(TABLE,))
    await plan(house, asked, SPEC, {})
    missing = Dag((Task("load", Importer(Constant(f"{TABLE_URI}none"))),))
    with pytest.raises(NotFound, match="'none'"):
        await plan(house, pipeline(Task("outer", missing), params=()), SPEC, {})


async def test_a_store_that_refuses_leaves_no_run_and_no_folder(house, monkeypatch):
    async def full(path):
        raise Unavailable("the disk is full")

    monkeypatch.setattr(house.artifacts, "put_file", full)
    with pytest.raises(Unavailable):
        await plan(house, pipeline(), SPEC, {})
    assert events(house, "run") == []
    assert list(house.scratch.iterdir()) == []
