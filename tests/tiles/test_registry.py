"""The registry over a real MLflow server, and the one in memory."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from tallystick.core.errors import (
    BadInput,
    Conflict,
    NotSupported,
)
from tallystick.ports.registry import Registry
from tallystick.proofs.registry import RegistryProof, contents, new_name
from tallystick.tiles.registry import transfer
from tallystick.tiles.registry.child import MlflowChild
from tallystick.tiles.registry.mlflow import MlflowRegistry
from tests.fakes.registry import MemoryRegistry
from tests.tiles.registry_parts import mlflow_registry

API = "/api/2.0/mlflow/"
FILES = "/api/2.0/mlflow-artifacts/artifacts"


def logged_as(registry: Registry) -> MlflowRegistry:
    assert isinstance(registry, MlflowRegistry)
    return registry


async def post(registry: MlflowRegistry, path: str, **body: Any) -> Any:
    answer = await (await registry.child.client()).post(API + path, json=body)
    assert answer.is_success, answer.text
    return answer.json()


class TestMemoryRegistry(RegistryProof):
    async def open(self, home: Path) -> Registry:
        return MemoryRegistry()

    async def close(self, registry: Registry) -> None:
        pass

    async def log_figures(
        self, registry: Registry, run_id: str, metrics: Mapping[str, float], params: Mapping[str, str]
    ) -> None:
        assert isinstance(registry, MemoryRegistry)
        registry.log_figures(run_id, metrics, params)

    async def log_model(self, registry: Registry, folder: Path, run_id: str) -> str:
        assert isinstance(registry, MemoryRegistry)
        return registry.log_model(folder)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MlflowRegistry]:
    registry = mlflow_registry(tmp_path_factory.mktemp("home"))
    yield registry
    await registry.close()


@pytest.mark.asyncio(loop_scope="module")
class TestMlflowRegistry(RegistryProof):
    """All tests share one server: a start takes 2 s."""

    async def open(self, home: Path) -> Registry:
        return mlflow_registry(home)

    async def close(self, registry: Registry) -> None:
        await logged_as(registry).close()

    @pytest.fixture
    def registry(self, served: MlflowRegistry) -> Registry:
        return served

    async def log_figures(
        self, registry: Registry, run_id: str, metrics: Mapping[str, float], params: Mapping[str, str]
    ) -> None:
        stamp = time.time_ns() // 1000
        said = {k: "NaN" if math.isnan(v) else v for k, v in metrics.items()}  # as protobuf's JSON has it
        points = [{"key": k, "value": v, "timestamp": stamp, "step": 0} for k, v in said.items()]
        pairs = [{"key": k, "value": v} for k, v in params.items()]
        await post(logged_as(registry), "runs/log-batch", run_id=run_id, metrics=points, params=pairs)

    async def log_model(self, registry: Registry, folder: Path, run_id: str) -> str:
        mlflow = logged_as(registry)
        run = (await (await mlflow.child.client()).get(API + "runs/get", params={"run_id": run_id})).json()
        experiment = run["run"]["info"]["experiment_id"]
        body = {"experiment_id": experiment, "source_run_id": run_id, "name": "classifier"}
        model = (await post(mlflow, "logged-models", **body))["model"]["info"]
        root = model["artifact_uri"].removeprefix("mlflow-artifacts:/")
        client = await mlflow.child.client()
        for name, content in contents(folder).items():
            answer = await client.put(f"{FILES}/{root}/{quote(name)}", content=content)
            assert answer.is_success, answer.text
        outputs = [{"model_id": model["model_id"], "step": 0}]
        await post(mlflow, "runs/outputs", run_id=run_id, models=outputs)
        return str(model["model_id"])

    async def test_a_model_registered_by_its_run_is_fetched(
        self, registry: Registry, folder: Path, tmp_path: Path
    ) -> None:
        """``runs:/<id>/classifier``: MLflow 3 keeps the files with the logged model, not with the run."""
        mlflow, name = logged_as(registry), new_name()
        _, run_id = await mlflow.begin_run(new_name(), "run", {})
        await self.log_model(mlflow, folder, run_id)
        await post(mlflow, "registered-models/create", name=name)
        source = f"runs:/{run_id}/classifier"
        await post(mlflow, "model-versions/create", name=name, source=source, run_id=run_id)
        assert (await mlflow.fetch(name, 1, tmp_path / "got")).run_id == run_id
        assert contents(tmp_path / "got") == contents(folder)

    async def test_a_model_in_a_runs_own_folder_is_fetched(self, registry: Registry, tmp_path: Path) -> None:
        """As MLflow 2 did, and as ``log_artifacts`` does."""
        mlflow, name = logged_as(registry), new_name()
        experiment_id, run_id = await mlflow.begin_run(new_name(), "run", {})
        client = await mlflow.child.client()
        path = f"{FILES}/{experiment_id}/{run_id}/artifacts/mine/MLmodel"
        (await client.put(path, content=b"flavors: {}")).raise_for_status()
        await post(mlflow, "registered-models/create", name=name)
        for source in (f"runs:/{run_id}/mine", f"mlflow-artifacts:/{experiment_id}/{run_id}/artifacts/mine"):
            await post(mlflow, "model-versions/create", name=name, source=source, run_id=run_id)
        for version in (1, 2):
            await mlflow.fetch(name, version, tmp_path / str(version))
            assert contents(tmp_path / str(version)) == {"MLmodel": b"flavors: {}"}

    async def test_files_kept_elsewhere_are_not_fetched(self, registry: Registry, tmp_path: Path) -> None:
        mlflow, name = logged_as(registry), new_name()
        place = (tmp_path / "elsewhere").as_uri()
        made = await post(mlflow, "experiments/create", name=new_name(), artifact_location=place)
        run = await post(mlflow, "runs/create", experiment_id=made["experiment_id"], start_time=1)
        run_id = run["run"]["info"]["run_id"]
        await post(mlflow, "registered-models/create", name=name)
        source = f"{place}/{run_id}/artifacts/model"
        await post(mlflow, "model-versions/create", name=name, source=source, run_id=run_id)
        with pytest.raises(NotSupported, match="elsewhere"):
            await mlflow.fetch(name, 1, tmp_path / "got")

    async def test_the_server_opens_no_artifacts_outside_its_own(
        self, registry: Registry, tmp_path: Path
    ) -> None:
        """Whoever may create an experiment says where its artifacts are: the server must not read there."""
        client = await logged_as(registry).child.client()
        (tmp_path / "secret").write_text("secret")
        for place in (tmp_path.as_uri(), str(tmp_path), "s3://bucket/x", f"file://localhost{tmp_path}"):
            body = {"name": new_name(), "artifact_location": place}
            made = await client.post(API + "experiments/create", json=body)
            experiment_id = made.json()["experiment_id"]
            body = {"experiment_id": experiment_id, "start_time": 1}
            run = (await client.post(API + "runs/create", json=body)).json()["run"]["info"]
            asked = {"run_id": run["run_id"], "run_uuid": run["run_id"], "path": "secret"}
            listed = await client.get(API + "artifacts/list", params={"run_id": run["run_id"]})
            got = await client.get("/get-artifact", params=asked)
            put = await client.post(
                "/ajax-api/2.0/mlflow/upload-artifact", params={**asked, "path": "new"}, content=b"x"
            )
            assert [r.status_code for r in (listed, got, put)] == [403, 403, 403], place
            assert "secret" not in got.text.replace(str(tmp_path), "")
        assert set(contents(tmp_path)) == {"secret"}

    async def test_a_deleted_experiment_is_said(self, registry: Registry) -> None:
        mlflow, experiment = logged_as(registry), new_name()
        experiment_id, _ = await mlflow.begin_run(experiment, "run", {})
        await post(mlflow, "experiments/delete", experiment_id=experiment_id)
        with pytest.raises(Conflict, match="mlflow experiments restore"):
            await mlflow.begin_run(experiment, "run", {})

    async def test_only_the_owner_reaches_the_socket(self, registry: Registry) -> None:
        child = logged_as(registry).child
        assert isinstance(child, MlflowChild)
        await child.client()
        assert child.socket.stat().st_mode & 0o777 == 0o600
        assert child.socket.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["a%20b", "a#b", "a;b", "a\\b", "a\nb"])
def test_a_name_that_mlflow_would_change_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(BadInput, match="cannot keep"):
        transfer.files_of(tmp_path)
