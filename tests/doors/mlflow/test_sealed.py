"""The files of a version in production stay those that were judged, whoever asks for what and when."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette

from tallystick.core.model import ModelRef
from tallystick.doors.mlflow.gate import RegistryGate
from tallystick.doors.mlflow.own import Own
from tallystick.doors.mlflow.proxy import mlflow_routes
from tallystick.doors.mlflow.step import step_app
from tallystick.hub.register import admit
from tallystick.judging.seals import Seals
from tests.doors.mlflow.gated import Gated, opened, refused
from tests.doors.mlflow.house import API, FILES, Echo, served
from tests.doors.mlflow.house import House as DoorHouse
from tests.fakes.house import add_verdict, model_files

pytestmark = pytest.mark.asyncio(loop_scope="module")

SIGNED = f"{API}artifacts/presigned-upload-url"
ALIAS, MOVE, CREATE = "registered-models/alias", "model-versions/transition-stage", "model-versions/create"


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[True, False], ids=["native", "asked"])
async def gated(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AsyncIterator[Gated]:
    """The hub, which reads the record itself, or asks MLflow's own server."""
    async with opened(tmp_path_factory.mktemp("home"), native=request.param) as found:
        yield found


async def put(gated: Gated, path: str, content: bytes = b"other") -> httpx.Response:
    return await gated.http.put(f"{FILES}/{path}", content=content)


async def champion(gated: Gated, name: str, version: int = 1) -> None:
    answer = await gated.ask(ALIAS, name=name, alias="champion", version=str(version))
    assert answer.status_code == 200, answer.text


async def folder_of(gated: Gated, name: str, version: int = 1) -> str:
    """Where MLflow's client would take the version's files from."""
    said = await gated.http.get(
        f"{API}model-versions/get-download-uri", params={"name": name, "version": str(version)}
    )
    return str(said.json()["artifact_uri"]).removeprefix("mlflow-artifacts:/")


async def of_a_run(gated: Gated, name: str) -> tuple[str, str]:
    """A version as clients before MLflow 3 make them: a folder among its run's files. Both folders."""
    experiment, run = await gated.registry.begin_run("sealed", name, {})
    below = f"{experiment}/{run}/artifacts"
    for file, content in model_files(name).items():
        assert (await put(gated, f"{below}/model/{file}", content)).status_code == 200
    await gated.ask("registered-models/create", name=name)
    made = await gated.ask(CREATE, name=name, source=f"mlflow-artifacts:/{below}/model", run_id=run)
    assert made.status_code == 200, made.text
    await add_verdict(gated.house, await admit(gated.house, ModelRef(name, 1)))
    return below, f"{below}/model"


async def check_sealed(gated: Gated, folder: str, *words: str) -> None:
    file = f"{folder}/model.onnx"
    before = (await gated.http.get(f"{FILES}/{file}")).content
    refused(await put(gated, file), "are those that were judged", *words)
    refused(await put(gated, f"{folder}/more/code.py"), *words)
    for path in (file, folder, folder.rpartition("/")[0], folder.partition("/")[0]):
        refused(await gated.http.delete(f"{FILES}/{path}"), *words)
        refused(await gated.http.delete(f"/mlflow/ajax-api{FILES.removeprefix('/api')}/{path}"), *words)
    assert (await gated.http.get(f"{FILES}/{file}")).content == before
    assert len(await gated.files.list(folder)) == 2


async def test_a_logged_model_stays_as_it_was_judged(gated: Gated) -> None:
    await gated.passed("logged")
    folder = await folder_of(gated, "logged")
    assert (await put(gated, f"{folder}/notes.txt")).status_code == 200
    assert (await gated.http.delete(f"{FILES}/{folder}/notes.txt")).status_code == 200
    await champion(gated, "logged")
    (version,) = await gated.registry.versions("logged")
    signed = {"model_id": version.model_id, "path": "code.py"}
    refused(await gated.http.post(SIGNED, json=signed), "logged@1")
    await check_sealed(
        gated,
        folder,
        "logged@1",
        "it has alias champion",
        "delete_registered_model_alias('logged', 'champion')",
    )
    assert (await gated.ask(ALIAS, "DELETE", name="logged", alias="champion")).status_code == 200
    assert (await put(gated, f"{folder}/model.onnx")).status_code == 200
    answer = await gated.ask(ALIAS, name="logged", alias="champion", version="1")
    refused(answer, "the registry's files of logged@1 are not those that were judged")


async def test_a_folder_of_a_run_stays_and_the_run_goes_on(gated: Gated) -> None:
    below, folder = await of_a_run(gated, "early")
    await champion(gated, "early")
    await check_sealed(gated, folder, "early@1")
    for beside in ("notes.txt", "plots/roc.png", "model2/MLmodel", "modelled"):
        assert (await put(gated, f"{below}/{beside}")).status_code == 200
        assert (await gated.http.delete(f"{FILES}/{below}/{beside}")).status_code == 200
    refused(await gated.http.delete(f"{FILES}/{below}"), "early@1")


async def test_a_stage_closes_its_folder_too(gated: Gated) -> None:
    await gated.passed("moved")
    folder = await folder_of(gated, "moved")
    body = {"name": "moved", "version": "1"}
    assert (await gated.ask(MOVE, **body, stage="Staging")).status_code == 200
    assert (await put(gated, f"{folder}/beside")).status_code == 200
    assert (await gated.http.delete(f"{FILES}/{folder}/beside")).status_code == 200
    assert (await gated.ask(MOVE, **body, stage="production")).status_code == 200
    await check_sealed(gated, folder, "moved@1", "it is in stage Production", "'Archived'")
    assert (await gated.ask(MOVE, **body, stage="Archived")).status_code == 200
    assert (await put(gated, f"{folder}/model.onnx")).status_code == 200


async def test_a_copy_in_production_closes_the_folder_that_it_shares(gated: Gated) -> None:
    await gated.passed("original")
    folder = await folder_of(gated, "original")
    await gated.ask("registered-models/create", name="copy")
    made = await gated.ask(CREATE, name="copy", source="models:/original/1")
    assert made.status_code == 200, made.text
    await add_verdict(gated.house, await admit(gated.house, ModelRef("copy", 1)))
    await champion(gated, "copy")
    await check_sealed(gated, folder, "copy@1")
    await gated.ask("model-versions/delete", "DELETE", name="copy", version="1")
    assert (await put(gated, f"{folder}/model.onnx")).status_code == 200


async def test_an_address_that_is_looked_up_anew_gets_nothing(gated: Gated) -> None:
    below, _ = await of_a_run(gated, "fixed")
    run = below.split("/")[1]
    await gated.ask("registered-models/create", name="loose")
    assert (await gated.ask(CREATE, name="loose", source=f"runs:/{run}/model", run_id=run)).status_code == 200
    await add_verdict(gated.house, await admit(gated.house, ModelRef("loose", 1)))
    answer = await gated.ask(ALIAS, name="loose", alias="champion", version="1")
    refused(answer, "looked up at every download", f"mlflow.register_model('runs:/{run}/model', 'loose')")
    assert await gated.aliases("loose") == {}


async def test_an_upload_that_began_before_is_refused_when_it_is_whole(gated: Gated) -> None:
    """Sent slowly: it began while nobody minded, and ends after the version was let in."""
    await gated.passed("slow")
    folder, go_on, begun = await folder_of(gated, "slow"), asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"anot"
        begun.set()
        await go_on.wait()
        yield b"her"

    sending = asyncio.create_task(gated.http.put(f"{FILES}/{folder}/model.onnx", content=slowly()))
    await begun.wait()
    await champion(gated, "slow")  # does not wait for it
    go_on.set()
    refused(await sending, "slow@1")
    await gated.registry.fetch("slow", 1, gated.home / "slow")
    judged = await admit(gated.house, ModelRef("slow", 1))
    assert (await gated.house.artifacts.put_folder(gated.home / "slow")).digest == judged.digest


@pytest.mark.parametrize("round_", range(4))
async def test_writers_and_the_gate_at_once(gated: Gated, round_: int) -> None:
    """Many uploads and removals beside the alias: where it was given, the judged files lie there."""
    name = f"race-{round_}"
    await gated.passed(name)
    folder, judged = await folder_of(gated, name), (await admit(gated.house, ModelRef(name, 1))).digest
    pairs = [(put(gated, f"{folder}/model.onnx", b"%d" % n), put(gated, f"{folder}/{n}")) for n in range(6)]
    removes = gated.http.delete(f"{FILES}/{folder}/model.onnx")
    writes: list[Any] = [write for pair in pairs for write in pair]
    writes.insert(round_ * 3, removes)
    alias = gated.ask(ALIAS, name=name, alias="champion", version="1")
    writes.insert((round_ * 5) % len(writes), alias)
    answers = await asyncio.gather(*writes)
    assert {answer.status_code for answer in answers} <= {200, 403, 404}
    if await gated.aliases(name):
        await gated.registry.fetch(name, 1, gated.home / name)
        assert (await gated.house.artifacts.put_folder(gated.home / name)).digest == judged


async def test_a_step_may_not_change_it_either(gated: Gated) -> None:
    below, folder = await of_a_run(gated, "stepped")
    own = Own({})
    run = below.split("/")[1]
    own.learn("runs/create", {"run": {"info": {"run_id": run, "artifact_uri": f"mlflow-artifacts:/{below}"}}})
    app = step_app(gated.registry.child, own=own, seals=gated.seals)
    async with served(app) as url, httpx.AsyncClient(base_url=url, timeout=60) as step:
        assert (await step.put(f"{FILES}/{folder}/more", content=b"x")).status_code == 200
        assert (await gated.http.delete(f"{FILES}/{folder}/more")).status_code == 200
        await champion(gated, "stepped")
        refused(await step.put(f"{FILES}/{folder}/more", content=b"x"), "stepped@1")
        assert (await step.put(f"{FILES}/{below}/more", content=b"x")).status_code == 200


async def test_what_mlflow_s_pages_log_to_a_run(gated: Gated) -> None:
    below, folder = await of_a_run(gated, "paged")
    await champion(gated, "paged")
    run, to_run = below.split("/")[1], "/ajax-api/2.0/mlflow/upload-artifact"
    for path in ("model/model.onnx", "model%2Fnew", "%256dodel/x", "./model//x", "model/a/b"):
        for address in (to_run, f"/mlflow{to_run}", to_run.upper().replace("/AJAX-API", "/ajax-api")):
            answer = await gated.http.post(f"{address}?run_uuid={run}&path={path}&path=free", content=b"x")
            assert answer.status_code in (403, 404), (address, answer.text)
    assert (await gated.http.post(f"{to_run}?run_uuid={run}&path=free", content=b"x")).status_code == 200
    assert (await gated.http.get(f"{FILES}/{below}/free")).content == b"x"
    assert (await gated.http.post(f"{to_run}?run_uuid=none&path=free", content=b"x")).status_code == 404
    for field in ("run_id", "runId"):  # an address to upload to past the hub: here MLflow has none to give
        signed = {field: run, "path": "model/model.onnx"}
        refused(await gated.http.post(SIGNED, json=signed), "paged@1")
        free = await gated.http.post(SIGNED, json={**signed, "path": "free"})
        assert "not supported for proxied" in free.text
    assert len(await gated.files.list(folder)) == 2


async def test_uploads_in_parts_and_of_other_workspaces(gated: Gated) -> None:
    """They go to MLflow's own server, here one that says yes to all."""
    await gated.passed("parts")
    folder = await folder_of(gated, "parts")
    await champion(gated, "parts")
    echo = Echo(body=b"{}")
    seals: Seals = gated.seals
    app = Starlette(routes=mlflow_routes(echo, None, RegistryGate(gated.house, echo, seals)))
    async with served(app) as url, httpx.AsyncClient(base_url=url, timeout=60) as http:
        mpu, above, name = "/api/2.0/mlflow-artifacts/mpu", *folder.rsplit("/", 1)
        for call in ("create", "complete"):
            refused(await http.post(f"{mpu}/{call}/{folder}", json={"path": "x/model.onnx"}), "parts@1")
            refused(await http.post(f"{mpu}/{call}/{folder}/data", json={"path": "model.onnx"}), "parts@1")
            refused(await http.post(f"{mpu}/{call}/{above}", json={"path": name}), "parts@1")
            long = json.dumps({"path": "model.onnx", "parts": ["x" * 1024] * 1100})
            refused(await http.post(f"{mpu}/{call}/{folder}", content=long), "parts@1")
            assert echo.seen == []
            said = {"path": "data/big.bin", "parts": [{"part_number": 1, "etag": "e"}]}
            assert (await http.post(f"{mpu}/{call}/{above}", json=said)).status_code == 200
            assert json.loads(echo.bodies.pop()) == said
            echo.seen.clear()
        head = {"x-mlflow-workspace": "team"}
        refused(await http.put(f"{FILES}/{folder}/x", content=b"x", headers=head), "parts@1")
        refused(await http.delete(f"{FILES}/{above}", headers=head), "parts@1")
        assert echo.seen == []


STOCK = """
import json, mlflow, os, pathlib
from mlflow.exceptions import MlflowException
client, said = mlflow.MlflowClient(), {}
pathlib.Path("model.onnx").write_bytes(b"another")
def what(do):
    try:
        return str(do())
    except Exception as wrong:
        return "refused: " + str(wrong)
version = client.get_model_version_by_alias("theirs", "champion")
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
repo = get_artifact_repository("models:/" + os.environ["MODEL"])
said["put"] = what(lambda: repo.log_artifact("model.onnx"))
said["delete"] = what(lambda: get_artifact_repository(os.environ["PLACE"]).delete_artifacts())
copy = client.copy_model_version("models:/theirs/1", "theirs-copy")
said["copy"] = copy.version
client.delete_registered_model_alias("theirs", "champion")
client.set_registered_model_alias("theirs", "champion", "1")
with mlflow.start_run() as run:
    mlflow.log_text("hello", "notes/a.txt")
client.delete_run(run.info.run_id)
client.restore_run(run.info.run_id)
client.log_text(run.info.run_id, "more", "notes/b.txt")
said["notes"] = sorted(f.path for f in client.list_artifacts(run.info.run_id, "notes"))
folder = mlflow.artifacts.download_artifacts("models:/theirs@champion")
said["model"] = pathlib.Path(folder, "model.onnx").read_bytes().decode()
print(json.dumps(said))
"""


@pytest.mark.slow
async def test_the_stock_client_is_told_and_goes_on_with_all_else(gated: Gated) -> None:
    await gated.passed("theirs")
    mark = f"theirs {gated.made}"
    await champion(gated, "theirs")
    (version,) = await gated.registry.versions("theirs")
    folder = await folder_of(gated, "theirs")
    door = DoorHouse(gated.home, gated.registry, gated.url, "", gated.http, gated.http)
    said = await door.python(
        STOCK,
        MODEL=version.model_id,
        PLACE=f"mlflow-artifacts:/{folder}",
    )
    for how in ("put", "delete"):
        assert said[how].startswith("refused: 403"), said[how]
        assert "the files of theirs@1 are those that were judged" in said[how]
        assert "PERMISSION_DENIED" in said[how]
    assert (said["copy"], said["notes"], said["model"]) == ("1", ["notes/a.txt", "notes/b.txt"], mark)


async def test_mlflow_s_garbage_collector_leaves_it(gated: Gated) -> None:
    """A run that was deleted is collected with its files, but not those that stand in production."""
    below, folder = await of_a_run(gated, "kept")
    await champion(gated, "kept")
    run = below.split("/")[1]
    assert (await gated.ask("runs/delete", run_id=run)).status_code == 200
    database = f"sqlite:///{gated.home}/mlflow/mlflow.db"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-m", "mlflow", "gc", "--backend-store-uri", database),
        *("--run-ids", run, "--tracking-uri", gated.url),
        cwd=gated.home,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode != 0
    assert b"the files of kept@1 are those that were judged" in said
    assert len(await gated.files.list(folder)) == 2
