"""The stock client, MLflow's pages, and the way back to a stock server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sqlite3
import sys
from pathlib import Path

import httpx
import pytest

from tallystick.core.errors import Unavailable
from tallystick.ports.tile import Place
from tallystick.tiles.registry.mlflow import open_tile
from tests.doors.mlflow.house import API, TRAIN, House
from tests.fakes.plain_sandbox import PlainSandbox

CHROMIUM = Path("/usr/bin/chromium")

pytestmark = pytest.mark.asyncio(loop_scope="module")

REGISTER = """
version = mlflow.register_model(info.model_uri, "relu")
client = mlflow.MlflowClient()
client.set_registered_model_alias("relu", "champion", version.version)
loaded = mlflow.onnx.load_model("models:/relu@champion")
found = mlflow.search_runs(["1"], "metrics.acc > 0.6", output_format="list")
print(json.dumps({
    "run": run.info.run_id,
    "tags": {k: v for k, v in client.get_run(run.info.run_id).data.tags.items()},
    "history": [m.value for m in client.get_metric_history(run.info.run_id, "acc")],
    "text": mlflow.artifacts.load_text(f"{run.info.artifact_uri}/notes/a b.txt"),
    "files": [f.path for f in client.list_artifacts(run.info.run_id)],
    "found": [r.info.run_id for r in found],
    "version": int(version.version),
    "nodes": [n.op_type for n in loaded.graph.node],
}))
"""


@pytest.mark.slow
async def test_the_stock_client_does_its_work_through_the_hub(house: House, tmp_path: Path) -> None:
    _, parent = await house.registry.begin_run("stock", "pipeline", {})
    context = {"tally.run": "run-1", "mlflow.parentRunId": parent}
    said = await house.python(TRAIN + REGISTER, MLFLOW_RUN_CONTEXT=json.dumps(context))
    assert said["tags"]["tally.run"] == "run-1"
    assert said["tags"]["mlflow.parentRunId"] == parent, "so that MLflow's pages nest it"
    assert said["history"] == [0.5, 0.6, 0.7]
    assert said["text"] == "hello"
    assert "notes" in said["files"]
    assert said["found"] == [said["run"]]
    assert said["nodes"] == ["Relu"]
    (version,) = await house.registry.versions("relu")
    assert (version.version, version.run_id, version.aliases) == (1, said["run"], ("champion",))
    await house.registry.fetch("relu", 1, tmp_path / "relu")
    assert {p.name for p in (tmp_path / "relu").iterdir()} >= {"MLmodel", "model.onnx"}
    data = await house.registry.run_data(said["run"])
    assert (data.metrics, data.params) == ({"acc": 0.7}, {"lr": "0.1"})


async def test_a_trailing_slash_in_the_address_does_no_harm(house: House) -> None:
    code = "import json, mlflow; mlflow.set_experiment('slash'); print(json.dumps(1))"
    assert await house.python(code, house.url + "/") == 1


async def test_the_pages_are_under_mlflow(house: House) -> None:
    moved = await house.http.get("/mlflow?a=1")
    assert (moved.status_code, moved.headers["location"]) == (307, "/mlflow/?a=1")
    index = await house.http.get("/mlflow/")
    assert index.status_code == 200
    assert "<title>MLflow</title>" in index.text
    assert "default-src 'self'" in index.headers["content-security-policy"]
    script = index.text.split('src="static-files/')[1].split('"')[0]
    got = await house.http.get(f"/mlflow/static-files/{script}")
    assert (got.status_code, "javascript" in got.headers["content-type"]) == (200, True)
    assert (await house.http.get("/version")).text == (await house.http.get("/mlflow/version")).text


async def test_what_is_not_mlflows_is_left_to_the_hub(house: House) -> None:
    for path in ("/", "/favicon.ico", "/mlflows", "/apis/x"):
        answer = await house.http.get(path)
        assert (answer.status_code, answer.text) == (404, "Not Found"), path


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no system Chromium")
async def test_a_run_is_seen_in_the_browser(house: House) -> None:
    from playwright.async_api import async_playwright

    experiment_id, run_id = await house.registry.begin_run("seen", "a-run-to-see", {})
    switches = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update"
    called: list[str] = []
    broken: list[str] = []
    async with async_playwright() as player:
        browser = await player.chromium.launch(
            executable_path=str(CHROMIUM), args=[*switches.split(), "--disable-sync", "--no-first-run"]
        )
        page = await browser.new_page()
        page.on("request", lambda request: called.append(request.url))
        page.on("console", lambda said: broken.append(said.text) if said.type == "error" else None)
        await page.goto(f"{house.url}/mlflow/#/experiments/{experiment_id}/runs/{run_id}")
        await page.get_by_text("a-run-to-see").first.wait_for(timeout=60_000)
        await browser.close()
    local = ("data:", "blob:", house.url)
    assert [url for url in called if not url.startswith(local)] == [], "nothing is asked of another host"
    assert [text for text in broken if "Content Security Policy" in text] == []


@pytest.mark.slow
async def test_a_stock_server_opens_the_same_database(tmp_path: Path) -> None:
    """Whoever leaves takes all with them: our own tables beside MLflow's do not disturb it."""
    registry = open_tile(Place(tmp_path, {}, {"process_sandbox": PlainSandbox()}))
    try:
        _, run_id = await registry.begin_run("kept", "run", {})
    finally:
        await registry.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as db:
        db.execute("create table tally_facts (seq integer primary key, body text)")
        db.execute("insert into tally_facts (body) values ('ours')")
        db.commit()
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        port = str(door.getsockname()[1])
    command = [str(Path(sys.executable).with_name("mlflow")), "server", "--host", "127.0.0.1", "--port", port]
    where = ["--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db", "--workers", "1"]
    files = ["--artifacts-destination", (tmp_path / "mlartifacts").as_uri()]
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "MLFLOW_DISABLE_TELEMETRY": "true"}
    env["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # eight processes more, which nothing here needs
    stock = await asyncio.create_subprocess_exec(
        *(*command, *where, *files), env=env, start_new_session=True,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            answer = await answered(http, f"{API}runs/get?run_id={run_id}")
        assert answer.json()["run"]["info"]["run_name"] == "run"
    finally:
        os.killpg(stock.pid, signal.SIGKILL)
        await stock.wait()
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as db:
        assert db.execute("select body from tally_facts").fetchall() == [("ours",)]


async def answered(http: httpx.AsyncClient, path: str) -> httpx.Response:
    """The first answer of a server that is starting; it tells nobody when it is ready, so it is asked."""
    async with asyncio.timeout(90):
        while True:
            with contextlib.suppress(httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError):
                answer = await http.get(path)
                if answer.is_success:
                    return answer
            await asyncio.sleep(0.2)
    raise Unavailable("it did not start")
