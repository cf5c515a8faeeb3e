"""The registry over a real MLflow server, and the one in memory."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio

from tallystick.core.errors import (
    BadInput,
    Conflict,
    Failed,
    MissingTile,
    NotFound,
    NotSupported,
    Refused,
    TooLarge,
    Unavailable,
)
from tallystick.core.wall import Wall
from tallystick.crew import mlflow_child
from tallystick.ports.registry import Registry
from tallystick.ports.sandbox import Confined
from tallystick.ports.tile import Place
from tallystick.proofs.registry import RegistryProof, contents, new_name
from tallystick.tiles.registry import transfer
from tallystick.tiles.registry.child import MlflowChild
from tallystick.tiles.registry.mlflow import MlflowRegistry, open_tile
from tallystick.tiles.registry.rest import Rest
from tests.fakes.plain_sandbox import PlainSandbox
from tests.fakes.registry import MemoryRegistry

API = "/api/2.0/mlflow/"
FILES = "/api/2.0/mlflow-artifacts/artifacts"


class Counting(PlainSandbox):
    """Counts what is started, and may start something else instead."""

    def __init__(self, instead: Sequence[str] = ()) -> None:
        super().__init__()
        self.spawned = 0
        self.spawning = asyncio.Event()
        self.instead = list(instead)

    async def spawn(self, argv: Sequence[str], wall: Wall) -> Confined:
        self.spawned += 1
        self.spawning.set()
        return await super().spawn(self.instead or argv, wall)


def mlflow_registry(home: Path, **options: Any) -> MlflowRegistry:
    return open_tile(Place(home, options, {"process_sandbox": Counting()}))


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
        points = [{"key": k, "value": str(v), "timestamp": stamp, "step": 0} for k, v in metrics.items()]
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


# ------------------------------------------------------------------------------------------------ the child


async def test_first_requests_at_once_start_one_server_and_a_killed_one_is_replaced(tmp_path: Path) -> None:
    sandbox = Counting()
    child = MlflowChild(tmp_path, sandbox)
    try:
        registry = MlflowRegistry(child)
        assert child.pid == 0, "nothing is started before it is needed"
        await asyncio.gather(*(registry.versions() for _ in range(10)))
        first = child.pid
        assert sandbox.spawned == 1
        os.kill(first, signal.SIGKILL)
        await asyncio.gather(*(registry.versions() for _ in range(10)))
        assert sandbox.spawned == 2
        assert child.pid not in (0, first)
    finally:
        await child.close()
        await child.close()
    assert not child.socket.exists()
    with pytest.raises(Unavailable):
        await child.client()


async def test_closing_ends_a_start_under_way(tmp_path: Path) -> None:
    sandbox = Counting()
    child = MlflowChild(tmp_path, sandbox)
    asking = asyncio.create_task(child.client())
    await sandbox.spawning.wait()
    await child.close()
    with pytest.raises((asyncio.CancelledError, Unavailable)):
        await asking
    assert child.pid == 0


async def test_an_older_schema_is_said_and_never_upgraded(tmp_path: Path) -> None:
    registry = mlflow_registry(tmp_path)
    await registry.versions()
    await registry.close()
    with sqlite3.connect(tmp_path / "tally.db") as db:
        db.execute("update alembic_version set version_num = '451aebb31d03'")
    db.close()
    sandbox = Counting()
    child = MlflowChild(tmp_path, sandbox)
    for _ in range(2):
        with pytest.raises(Conflict, match="mlflow db upgrade sqlite:///"):
            await child.client()
    assert sandbox.spawned == 1, "what has just failed is not tried again at once"
    await child.close()
    with sqlite3.connect(tmp_path / "tally.db") as db:
        assert db.execute("select version_num from alembic_version").fetchone() == ("451aebb31d03",)
    db.close()


async def test_a_database_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "tally.db").write_bytes(b"no database at all" * 100)
    child = MlflowChild(tmp_path, Counting())
    with pytest.raises(Failed, match="not a database"):
        await child.client()
    await child.close()


@pytest.mark.parametrize("words", ["import sys; sys.exit('it broke')", "import os; os.kill(os.getpid(), 9)"])
async def test_a_server_that_does_not_start_is_held_back(tmp_path: Path, words: str) -> None:
    sandbox = Counting([sys.executable, "-c", words])
    child = MlflowChild(tmp_path, sandbox)
    for _ in range(3):
        with pytest.raises(Failed, match=r"ended with status 1: it broke|signal 9"):
            await child.client()
    assert sandbox.spawned == 1
    await child.close()


async def test_without_mlflow_the_command_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    registry = mlflow_registry(tmp_path)
    with pytest.raises(MissingTile, match=r"pip install 'tallystick\[mlflow\]'"):
        await registry.versions()
    await registry.close()


@pytest.mark.parametrize("name", ["a?b", "a#b", "a%20b", "x" * 120])
async def test_a_home_that_cannot_be_said_is_refused(tmp_path: Path, name: str) -> None:
    child = MlflowChild(tmp_path / name, Counting())
    with pytest.raises(BadInput):
        await child.client()
    await child.close()


@pytest.mark.parametrize("roots", ["s3://bucket", [1]])
def test_roots_are_a_list_of_uris(tmp_path: Path, roots: Any) -> None:
    with pytest.raises(BadInput):
        mlflow_registry(tmp_path, artifact_roots=roots)


def test_unfinished_uploads_are_swept_but_for_new_ones(tmp_path: Path) -> None:
    old, new, kept = (tmp_path / "1" / n for n in (".artifact.uploading.a", ".artifact.uploading.b", "model"))
    old.parent.mkdir()
    for path in (old, new, kept):
        path.touch()
    os.utime(old, (1000, 1000))
    os.utime(kept, (1000, 1000))
    assert mlflow_child.sweep(tmp_path, 2000) == 1
    assert sorted(p.name for p in old.parent.iterdir()) == [new.name, "model"]


def test_the_hubs_own_process_stays_light() -> None:
    code = (
        "import sys, tallystick.tiles.registry.mlflow, tallystick.doors.mlflow.proxy;"
        "print([m for m in ('mlflow', 'numpy', 'flask', 'sqlalchemy', 'pandas') if m in sys.modules])"
    )
    said = subprocess.check_output([sys.executable, "-c", code], text=True, timeout=60)
    assert said.strip() == "[]"


# ------------------------------------------------------------------------------- a server that means harm


class Hostile:
    """A server that answers as ``answer`` says."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        self.opened = httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://localhost")

    async def client(self, dead: httpx.AsyncClient | None = None) -> httpx.AsyncClient:
        return self.opened

    async def close(self) -> None:
        await self.opened.aclose()


def listing(*entries: dict[str, Any], content: bytes = b"x") -> Callable[[httpx.Request], httpx.Response]:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == FILES:
            return httpx.Response(200, json={"files": list(entries)})
        return httpx.Response(200, content=content)

    return answer


@pytest.mark.parametrize(
    "name", ["..", ".", "", "../x", "a/b", "/etc/x", "a\\..\\b", "a\0b", "a\nb", "x" * 300, "../../home/x"]
)
@pytest.mark.parametrize("is_dir", [False, True])
async def test_a_listing_cannot_lead_out_of_the_folder(tmp_path: Path, name: str, is_dir: bool) -> None:
    server = Hostile(listing({"path": "fine", "is_dir": False}, {"path": name, "is_dir": is_dir}))
    with pytest.raises(Refused):
        await transfer.pull(Rest(server), "mlflow-artifacts:/1/x", tmp_path / "in" / "got")
    assert contents(tmp_path) == {}
    await server.close()


@pytest.mark.parametrize("uri", ["mlflow-artifacts:/1/../2", "mlflow-artifacts:/a\\b"])
async def test_an_address_cannot_lead_elsewhere(tmp_path: Path, uri: str) -> None:
    server = Hostile(listing())
    with pytest.raises(Refused):
        await transfer.pull(Rest(server), uri, tmp_path / "got")
    await server.close()


@pytest.mark.parametrize(
    "uri", ["file:///etc", "http://x/y", "s3://b/x", "mlflow-artifacts://host/x", "/etc", "models:/a/1"]
)
async def test_another_store_is_not_supported(tmp_path: Path, uri: str) -> None:
    server = Hostile(listing())
    with pytest.raises(NotSupported):
        await transfer.pull(Rest(server), uri, tmp_path / "got")
    await server.close()


async def test_downloads_have_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "FILES_MAX", 3)
    files = [{"path": f"f{i}", "is_dir": False} for i in range(4)]
    endless = {"path": "again", "is_dir": True}
    for server, limit in (
        (Hostile(listing(*files)), 100),
        (Hostile(listing(files[0], content=b"x" * 101)), 100),
        (Hostile(listing(*files[:3], content=b"x" * 40)), 100),
        (Hostile(listing(endless)), 100),
    ):
        with pytest.raises(TooLarge):
            await transfer.pull(Rest(server), "mlflow-artifacts:/1", tmp_path / "got", limit)
        assert contents(tmp_path) == {}, "nothing is left of what was refused"
        await server.close()


async def test_a_model_without_files_is_not_found(tmp_path: Path) -> None:
    server = Hostile(listing())
    with pytest.raises(NotFound):
        await transfer.pull(Rest(server), "mlflow-artifacts:/1", tmp_path / "got")
    await server.close()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "m"}, NotFound),
        (400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "m"}, BadInput),
        (403, {"error_code": "PERMISSION_DENIED", "message": "m"}, Refused),
        (503, {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "m"}, Unavailable),
        (500, {"error_code": "INTERNAL_ERROR", "message": "m"}, Failed),
        (500, [], Failed),
        (404, None, NotFound),
    ],
)
async def test_errors_are_ours(status: int, body: Any, kind: type[Exception]) -> None:
    server = Hostile(lambda _: httpx.Response(status, json=body))
    with pytest.raises(kind) as told:
        await MlflowRegistry(server).run_data("x")
    assert type(told.value) is kind
    await server.close()
