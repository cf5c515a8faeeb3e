from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tallystick.core.errors import BadInput, Conflict, Failed, MissingTile, NotFound, Refused, Unavailable
from tallystick.core.facts import to_json
from tallystick.core.model import ModelVersion, TensorSpec
from tallystick.core.run.events import Run, RunState, Step, StepState
from tallystick.core.values import ArtifactRef, Values
from tallystick.evidence.supply import Inspected, Looked, Standing
from tallystick.hub.loading import check_loadable, inspected_of
from tallystick.hub.register import register
from tests.fakes.house import SEEN, add_model, add_run, events, keep_steps
from tests.fakes.house.sandbox import Exit


@pytest.fixture(autouse=True)
def _inspecting(house):
    async def inspect(order, say):
        say(progress=0.5, text="loading")
        return SEEN

    house.sandbox.table["inspect"] = inspect


def leave_nothing(house):
    """Nothing is registered, and no work is left lying about."""
    assert events(house, "model") == []
    assert house.registry.registered == []
    assert list(house.scratch.glob("register-*")) == []
    assert house.sandbox.alive() == []


async def test_an_output_becomes_a_version_with_all_that_is_known_of_it(house):
    run = await add_run(house)
    model = await register(house, "digits", run.key, "model")
    assert (model.key, model.digest) == ("digits@1", run.outputs.artifacts["model"][0].digest)
    assert (model.flavors, model.has_input_example) == (("onnx",), True)
    assert (model.runtime, model.runs_code) == ("onnx", False)
    assert model.inputs == (TensorSpec("x", "FP32", (-1, 2)),)
    [snapshot] = house.ledger.facts[0:1]
    assert model.origin.snapshots == {snapshot.key: snapshot.state["digest"]}
    assert (model.origin.run, model.origin.output) == (run.key, "model")
    assert await house.get("model", "digits@1", ModelVersion) == model
    assert list(house.scratch.glob("register-*")) == []


async def test_the_model_is_loaded_behind_a_wall_that_shows_it_alone(house):
    run = await add_run(house)
    await register(house, "digits", run.key, "model")
    [played] = house.sandbox.started
    assert played.wall.readable == (played.order["folder"],)
    assert played.wall.writable == ()
    assert not played.wall.network


async def test_the_registry_gets_the_version_with_its_tags(house):
    run = await add_run(house)
    record = await logged(house, run.key)
    run = await saying(house, run, mlflow_run_id=record)
    [ref] = run.outputs.artifacts["model"]
    model = await register(house, "digits", run.key, "model")
    assert (model.metrics, model.params, model.origin.record_id) == (
        {"accuracy": 0.9},
        {"depth": "8"},
        record,
    )
    [made] = house.registry.registered
    assert made.tags["tally.digest"] == ref.digest
    assert (made.run_id, made.tags["tally.run"]) == (record, run.key)
    assert made.tags["tally.snapshot.0"].startswith("digits@")


async def logged(house, run_key):
    """An MLflow run that a step of this run logged to; its id."""
    _, record = await house.registry.begin_run("digits", "run", {"tally.run": run_key})
    house.registry.log_figures(record, {"accuracy": 0.9}, {"depth": "8"})
    return record


async def saying(house, run, **metadata):
    """The run, its model's metadata as a step may have written them."""
    ref = replace(run.outputs.artifacts["model"][0], metadata=metadata)
    run = replace(run, outputs=replace(run.outputs, artifacts={**run.outputs.artifacts, "model": (ref,)}))
    await house.tell("run", run.key, "succeeded", run)
    return run


@pytest.mark.parametrize("of", ["run-of-another", "", None])
async def test_a_record_that_is_not_this_runs_is_not_taken(house, of):
    record = "gone" if of is None else await logged(house, of)
    run = await saying(house, await add_run(house), mlflow_run_id=record)
    model = await register(house, "digits", run.key, "model")
    assert (model.metrics, model.params, model.origin.record_id) == ({}, {}, "")
    assert house.registry.registered[0].run_id == ""


async def test_what_is_registered_is_what_was_judged_whatever_a_step_says(house, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "MLmodel").write_text("never judged")
    model_id = house.registry.log_model(other)
    run = await saying(house, await add_run(house), mlflow_model_id=model_id)
    model = await register(house, "digits", run.key, "model")
    await house.registry.fetch("digits", model.version, tmp_path / "got")
    assert (tmp_path / "got" / "model.onnx").read_bytes() == b"one"


async def test_only_what_the_importer_brought_is_an_origin(house):
    run = await add_run(house)
    [made] = run.outputs.artifacts["test"]
    forged = {"snapshot": "secret@1", "snapshot_digest": "sha256:" + "f" * 64}
    step = Step(
        "train", StepState.SUCCEEDED, outputs=Values(artifacts={"o": (replace(made, metadata=forged),)})
    )
    await keep_steps(house, run, step)
    run = await saying(house, run, **forged)
    model = await register(house, "digits", run.key, "model")
    assert [key.partition("@")[0] for key in model.origin.snapshots] == ["digits"]


async def test_an_output_from_the_cache_keeps_the_record_of_the_run_that_made_it(house):
    record = await logged(house, "run-before")
    run = await saying(house, await add_run(house), mlflow_run_id=record)
    outputs = Values(artifacts={"model": run.outputs.artifacts["model"]})
    step = Step("train", StepState.CACHED, outputs=outputs, cache_key="sha256:" + "c" * 64)
    await house.tell("step", step.cache_key, "made", outputs, "run-before train")
    await keep_steps(house, run, step)
    model = await register(house, "digits", run.key, "model")
    assert (model.metrics, model.origin.record_id) == ({"accuracy": 0.9}, record)


async def test_the_same_files_are_the_same_version(house):
    run = await add_run(house)
    first = await register(house, "digits", run.key, "model")
    again = await register(house, "digits", (await add_run(house)).key, "model")
    other = await register(house, "others", run.key, "model")
    assert again == first
    assert (other.key, other.digest) == ("others@1", first.digest)
    assert len(house.registry.registered) == 2


async def test_registering_twice_at_once_makes_one_version(house):
    run = await add_run(house)
    both = await asyncio.gather(*(register(house, "digits", run.key, "model") for _ in range(3)))
    assert len({m.key for m in both}) == 1
    assert len(house.sandbox.started) == 1


async def test_other_files_are_the_next_version(house):
    for number, mark in enumerate(("one", "two"), 1):
        model = await register(house, "digits", (await add_run(house, mark)).key, "model")
        assert model.version == number


async def test_without_mlflow_the_ledger_counts_the_versions(house, monkeypatch):
    async def missing(*args, **more):
        raise MissingTile("no MLflow")

    run = await add_run(house)
    model = await register(house, "digits", run.key, "model")
    gap = replace(model, version=7, digest="sha256:" + "7" * 64)
    await house.tell("model", gap.key, "admitted", gap)
    monkeypatch.setattr(house.registry, "register", missing)
    assert (await register(house, "digits", (await add_run(house, "two")).key, "model")).key == "digits@8"
    assert (await register(house, "fresh", run.key, "model")).key == "fresh@1"


@pytest.mark.parametrize("output", ["test", "nothing", "accuracy"])
async def test_only_a_model_output_is_one(house, output):
    run = await add_run(house)
    with pytest.raises(BadInput, match="it has: model"):
        await register(house, "digits", run.key, output)
    leave_nothing(house)


@pytest.mark.parametrize("state", [RunState.RUNNING, RunState.FAILED, RunState.CANCELLED])
async def test_only_a_run_that_succeeded_has_outputs(house, state):
    run = await add_run(house, state=state)
    with pytest.raises(Conflict, match=state):
        await register(house, "digits", run.key, "model")
    leave_nothing(house)


async def test_names_and_runs_must_be_good(house):
    run = await add_run(house)
    with pytest.raises(BadInput):
        await register(house, "../digits", run.key, "model")
    with pytest.raises(NotFound, match=run.key):
        await register(house, "digits", "run-none", "model")
    leave_nothing(house)


X = {"name": "x", "datatype": "FP32", "shape": [-1, 2]}


def dies():
    raise Exit(-9)


def refuses():
    raise BadInput("no such operator", where="model")


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (refuses, BadInput, "no such operator"),
        (dies, Failed, "signal 9"),
        (dict, BadInput, "expected Inspected"),
        (lambda: {k: v for k, v in SEEN.items() if k != "flavors"}, BadInput, "'flavors' is missing"),
        (lambda: {**SEEN, "loaded": False}, Failed, "not loaded"),
        (lambda: {**SEEN, "inputs": [{"name": "x"}]}, BadInput, r"inspect.inputs\[0\]"),
        (lambda: {**SEEN, "flavors": "onnx"}, BadInput, "inspect.flavors"),
        (lambda: {**SEEN, "flavors": ["f"] * 101}, BadInput, "over 100 flavors"),
        (lambda: {**SEEN, "flavors": ["f" * 101]}, BadInput, "over 100 flavors"),
        (lambda: {**SEEN, "runtime": "../x"}, BadInput, "not a valid runtime name"),
        (lambda: {**SEEN, "runs_code": 0}, BadInput, "inspect.runs_code"),
        (lambda: {**SEEN, "inputs": [X] * 2}, BadInput, "two of one name"),
        (lambda: {**SEEN, "outputs": [{**X, "name": str(n)} for n in range(4097)]}, BadInput, "4096 tensors"),
        (lambda: {**SEEN, "inputs": [{**X, "name": "x" * 1001}]}, BadInput, "is no tensor"),
        (lambda: {**SEEN, "inputs": [{**X, "datatype": "FP8"}]}, BadInput, "is no tensor"),
        (lambda: {**SEEN, "inputs": [{**X, "shape": [-2]}]}, BadInput, "has shape"),
        (lambda: {**SEEN, "inputs": [{**X, "shape": [1] * 17}]}, BadInput, "has shape"),
    ],
)
async def test_what_does_not_load_registers_nothing(house, answer, kind, words):
    async def inspect(order, say):
        return answer()

    house.sandbox.table["inspect"] = inspect
    run = await add_run(house)
    with pytest.raises(kind, match=words):
        await register(house, "digits", run.key, "model")
    leave_nothing(house)


async def test_a_model_that_does_not_say_whether_it_runs_code_may(house):
    async def inspect(order, say):
        return {key: value for key, value in SEEN.items() if key not in ("runtime", "runs_code")}

    house.sandbox.table["inspect"] = inspect
    model = await register(house, "digits", (await add_run(house)).key, "model")
    assert (model.runtime, model.runs_code) == ("", True)


async def test_a_registry_that_refuses_leaves_nothing_here(house, monkeypatch):
    async def down(*args, **more):
        raise Unavailable("MLflow is down")

    monkeypatch.setattr(house.registry, "register", down)
    run: Run = await add_run(house)
    with pytest.raises(Unavailable):
        await register(house, "digits", run.key, "model")
    leave_nothing(house)


def found(*files, **more):
    """What the errand says where it looked at these files: (path, kind, standing, why)."""
    looked = [Looked(p, kind, standing, "sha256:" + "5" * 64, 3, why) for p, kind, standing, why in files]
    return {**SEEN, **more, "inspected": to_json(Inspected(tuple(looked)))}


PICKLE = ("model.pkl", "pickle", Standing.CODE, "a pickle of allowed names")
DATA = ("MLmodel", "mlmodel", Standing.DATA, "")


async def coded(house):
    """The errand, for a model whose files are code: it is loaded only where it is vouched for."""
    orders = []

    async def inspect(order, say):
        orders.append(order["vouched"])
        forged = found(DATA, runtime="pyfunc", runs_code=False)  # what its own code would like to be said
        return forged if order["vouched"] else found(PICKLE, DATA, loaded=False)

    house.sandbox.table["inspect"] = inspect
    return orders


async def test_what_is_refused_is_not_registered_and_the_error_names_file_and_reason(house):
    async def inspect(order, say):
        bad = ("a/model.pkl", "pickle", Standing.REFUSED, "it names os.system")
        return found(PICKLE, bad, DATA, loaded=False)

    house.sandbox.table["inspect"] = inspect
    house.unsigned_code = True
    run = await add_run(house)
    with pytest.raises(
        Refused, match=r"digits: it is never loaded: a/model.pkl: it names os.system"
    ) as wrong:
        await register(house, "digits", run.key, "model")
    assert "ONNX or skops" in wrong.value.hint
    leave_nothing(house)


async def test_code_that_this_hubs_own_run_put_out_is_vouched_for_by_its_builder(house):
    orders = await coded(house)
    model = await register(house, "digits", (await add_run(house)).key, "model")
    assert orders == [False, True]
    assert (model.standing, model.runtime) == ("code", "pyfunc")
    assert model.files == ("model.pkl: a pickle of allowed names",)


@pytest.mark.parametrize("uri", ["tally://models/evil@1", "/scratch/0-0-5"])
async def test_files_that_a_run_only_imported_are_not_vouched_for_by_it(house, uri):
    """A stranger's code, brought in by an importer: the run did not build it."""
    orders = await coded(house)
    run, evil = await add_run(house), await add_model(house, name="evil")
    brought = Values(artifacts={"artifact": (ArtifactRef("artifact", evil.digest, "system.Model"),)})
    load = Step("load", StepState.SUCCEEDED, inputs=Values({"uri": uri}), outputs=brought)
    await keep_steps(house, run, load)
    outputs = Values({}, {"model": brought.artifacts["artifact"]})
    await house.tell("run", run.key, "succeeded", replace(run, outputs=outputs))
    with pytest.raises(Refused, match=f"run {run.key} did not make it, .* files of evil@1") as wrong:
        await register(house, "digits", run.key, "model")
    assert wrong.value.hint == "use evil@1 itself"
    assert orders == house.registry.registered == []
    await keep_steps(house, run, replace(load, path="train", inputs=Values()))
    assert (await register(house, "digits", run.key, "model")).digest == evil.digest


async def test_what_is_said_of_files_is_from_before_any_of_them_ran(house):
    """The second time, its code had a word in the answer: the standing is that of the first."""
    await coded(house)
    model = await register(house, "digits", (await add_run(house)).key, "model")
    kept = await inspected_of(house, model)
    assert kept.standing is Standing.CODE
    assert [f.path for f in kept.worst] == ["model.pkl"]


async def test_a_model_of_data_is_loaded_at_once(house):
    model = await register(house, "digits", (await add_run(house)).key, "model")
    assert (model.standing, model.files) == ("data", ())
    assert [played.order["vouched"] for played in house.sandbox.started] == [False]
    await check_loadable(house, model)


async def test_an_answer_without_files_registers_nothing(house):
    async def inspect(order, say):
        return found()

    house.sandbox.table["inspect"] = inspect
    with pytest.raises(Refused, match="it has no files"):
        await register(house, "digits", (await add_run(house)).key, "model")
    leave_nothing(house)
