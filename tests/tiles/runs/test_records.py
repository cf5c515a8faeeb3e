"""Steps in MLflow's record, natively and by a real server of MLflow's, which reads back what is there."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tallystick.core.errors import Conflict, NotFound
from tallystick.core.run.events import Run, Step, StepState
from tallystick.core.values import ArtifactRef, Values
from tallystick.ports.runs.records import StepRecords
from tallystick.ports.tile import Place
from tallystick.record.asks import NotPlain
from tallystick.tiles.registry.mlflow import MlflowRegistry
from tests.fakes.mlflow.record import open_record
from tests.tiles.registry_parts import mlflow_registry

NUMBERS = count()
FAILED = StepState.FAILED

pytestmark = pytest.mark.asyncio(loop_scope="module")


class NoRecord:
    """A native record that knows nothing of this database's schema."""

    async def ready(self) -> bool:
        return False

    async def write(self, ask: Any, workspace: str) -> Any:
        raise NotPlain

    read = write


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory, sqlite_schema: Path) -> Path:
    """One file for both: what is written natively is read by MLflow's server."""
    return Path(shutil.copy(sqlite_schema, tmp_path_factory.mktemp("home") / "mlflow.db"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def registry(database: Path) -> AsyncIterator[MlflowRegistry]:
    registry = mlflow_registry(database.parent)
    yield registry
    await registry.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def native(registry: MlflowRegistry, database: Path) -> AsyncIterator[StepRecords]:
    tracking = open_record(Place(database.parent, {"database": f"sqlite:///{database}"}))
    yield registry.steps(tracking)
    await tracking.close()


@pytest.fixture(params=["native", "rest"])
def records(request: pytest.FixtureRequest, registry: MlflowRegistry, native: StepRecords) -> StepRecords:
    return native if request.param == "native" else registry.steps(NoRecord())


def step(path: str, state: StepState = StepState.SUCCEEDED, **more: Any) -> Step:
    refs = (ArtifactRef("m", "sha256:1", "system.Metrics", metadata={"accuracy": 0.5, "name": "x"}),)
    inputs, outputs = Values({"rate": 0.1, **more}), Values({}, {"metrics": refs})
    return Step(path, state, 1, inputs, outputs, started_ms=1000, ended_ms=2000)


async def begun(registry: MlflowRegistry) -> Run:
    key = f"run-{next(NUMBERS)}"
    experiment, record = await registry.begin_run(key, key, {})
    return Run(key, "p", "sha256:0", {}, experiment_id=experiment, record_id=record)


async def children(registry: MlflowRegistry, run: Run) -> dict[str, Any]:
    found = await registry._rest.post(
        "runs/search",
        experiment_ids=[run.experiment_id],
        filter=f"tags.`mlflow.parentRunId` = '{run.record_id}'",
    )
    names = [run["info"]["run_name"] for run in found.get("runs", ())]
    assert len(set(names)) == len(names)
    return {run["info"]["run_name"]: run["info"] for run in found.get("runs", ())}


async def test_a_run_begins_and_ends_alike_either_way(registry: MlflowRegistry, records: StepRecords) -> None:
    experiment, record = await registry.begin_run("an experiment", "a run", {"k": "v"})
    assert (await registry.begin_run("an experiment", "another", {}))[0] == experiment
    await registry.end_run(record, "FAILED")
    found = (await registry._rest.get("runs/get", run_id=record))["run"]
    assert (found["info"]["run_name"], found["info"]["status"]) == ("a run", "FAILED")
    assert found["info"]["end_time"] >= found["info"]["start_time"] > 0
    assert (await registry.run_data(record)).tags == {"k": "v", "mlflow.runName": "a run"}
    with pytest.raises(NotFound):
        await registry.end_run("f" * 32, "FINISHED")


async def test_an_experiment_that_was_deleted_takes_no_run(
    registry: MlflowRegistry, records: StepRecords
) -> None:
    name = f"deleted {next(NUMBERS)}"
    experiment, _ = await registry.begin_run(name, "a run", {})
    await registry._rest.post("experiments/delete", experiment_id=experiment)
    with pytest.raises(Conflict):
        await registry.begin_run(name, "a run", {})


async def test_natively_no_server_is_started(sqlite_schema: Path, tmp_path: Path) -> None:
    database = Path(shutil.copy(sqlite_schema, tmp_path / "mlflow.db"))
    registry = mlflow_registry(tmp_path)
    tracking = open_record(Place(tmp_path, {"database": f"sqlite:///{database}"}))
    registry.steps(tracking)
    try:
        _, record = await registry.begin_run("an experiment", "a run", {})
        await registry.end_run(record, "FINISHED")
        assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())
        assert str(registry.child.state) == "rests"
    finally:
        await tracking.close()
        await registry.close()


async def test_steps_are_there_with_all_that_is_told_of_them(
    registry: MlflowRegistry, records: StepRecords
) -> None:
    run = await begun(registry)
    await records.record_steps(run, [step("loop[1]/train"), step("loop[2]/train", FAILED)])
    found = await children(registry, run)
    assert set(found) == {"loop[1]/train", "loop[2]/train"}
    info = found["loop[2]/train"]
    assert (info["status"], info["start_time"], info["end_time"]) == ("FAILED", 1000, 2000)
    data = await registry.run_data(found["loop[1]/train"]["run_id"])
    assert (data.params, data.metrics) == ({"rate": "0.1"}, {"accuracy": 0.5})
    tags = {"tally.run": run.key, "tally.step": "loop[1]/train", "tally.output.metrics": "sha256:1"}
    assert {**data.tags, **tags, "mlflow.parentRunId": run.record_id} == data.tags


async def test_steps_that_are_told_again_are_there_once(
    registry: MlflowRegistry, records: StepRecords
) -> None:
    run, steps = await begun(registry), [step(f"s{n}") for n in range(4)]
    await records.record_steps(run, steps[:2])
    await records.record_steps(run, steps, again=True)
    assert len(await children(registry, run)) == 4


async def test_more_params_than_one_call_takes(registry: MlflowRegistry, records: StepRecords) -> None:
    run = await begun(registry)
    await records.record_steps(run, [step("a", **{f"p{n}": "x" * 7000 for n in range(130)})])
    [info] = (await children(registry, run)).values()
    params = (await registry.run_data(info["run_id"])).params
    assert (len(params), len(params["p7"]), params["p7"][-1]) == (131, 6000, "\u2026")


async def test_an_experiment_that_is_not_there(registry: MlflowRegistry, records: StepRecords) -> None:
    run = replace(await begun(registry), experiment_id="999999")
    with pytest.raises(NotFound):
        await records.record_steps(run, [step("a")])
