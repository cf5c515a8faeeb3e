from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tallystick.core.errors import BadInput, Conflict, Failed, MissingTile, NotFound, Unavailable
from tallystick.core.model import ModelVersion, TensorSpec
from tallystick.core.run import Run, RunState
from tallystick.hub.register import register
from tests.fakes.house import SEEN, add_run, events
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
    _, record = await house.registry.begin_run("digits", "run", {})
    house.registry.log_figures(record, {"accuracy": 0.9}, {"depth": "8"})
    run = await add_run(house)
    ref = replace(run.outputs.artifacts["model"][0], metadata={"mlflow_run_id": record})
    run = replace(run, outputs=replace(run.outputs, artifacts={"model": (ref,)}))
    await house.tell("run", run.key, "succeeded", run)
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


async def test_a_record_that_mlflow_has_forgotten_is_no_hindrance(house):
    run = await add_run(house)
    ref = replace(run.outputs.artifacts["model"][0], metadata={"mlflow_run_id": "gone"})
    run = replace(run, outputs=replace(run.outputs, artifacts={"model": (ref,)}))
    await house.tell("run", run.key, "succeeded", run)
    with pytest.raises(NotFound):  # from the registry's own register: it cannot belong to that run
        await register(house, "digits", run.key, "model")
    leave_nothing(house)


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


def dies():
    raise Exit(-9)


def refuses():
    raise BadInput("no such operator", where="model")


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (refuses, BadInput, "no such operator"),
        (dies, Failed, "signal 9"),
        (dict, BadInput, "'flavors' is missing"),
        (lambda: {**SEEN, "inputs": [{"name": "x"}]}, BadInput, r"inspect.inputs\[0\]"),
        (lambda: {**SEEN, "flavors": "onnx"}, BadInput, "inspect.flavors"),
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


async def test_a_registry_that_refuses_leaves_nothing_here(house, monkeypatch):
    async def down(*args, **more):
        raise Unavailable("MLflow is down")

    monkeypatch.setattr(house.registry, "register", down)
    run: Run = await add_run(house)
    with pytest.raises(Unavailable):
        await register(house, "digits", run.key, "model")
    leave_nothing(house)
