"""The narrower door, for one step of a pipeline."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.doors.mlflow.house import API, FILES, TRAIN, House, raw

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_step_logs_runs_and_models_with_the_stock_client(house: House) -> None:
    code = (
        TRAIN
        + """
client = mlflow.MlflowClient()
with mlflow.start_run(run_id=run.info.run_id):
    mlflow.set_tags({"a": "b", "c": "d"})
    mlflow.delete_tag("c")
    mlflow.log_metrics({"late": 1.0}, model_id=info.model_id)
    data = mlflow.data.from_numpy(__import__("numpy").zeros((2, 2)), name="rows")
    mlflow.log_input(data, context="training")
mlflow.set_logged_model_tags(info.model_id, {"kind": "relu"})
refused = []
for act in (
    lambda: mlflow.register_model(info.model_uri, "by-step"),
    lambda: client.create_registered_model("by-step"),
    lambda: client.delete_run(run.info.run_id),
    lambda: client.delete_experiment(run.info.experiment_id),
    lambda: client.log_model_artifact(info.model_id, __import__("onnx").__file__),
):
    try:
        act()
        refused.append("")
    except Exception as wrong:
        refused.append(str(wrong))
data = client.get_run(run.info.run_id)
print(json.dumps({
    "refused": refused, "acc": data.data.metrics["acc"], "tags": data.data.tags,
    "inputs": [i.dataset.name for i in data.inputs.dataset_inputs],
    "outputs": [o.model_id == info.model_id for o in data.outputs.model_outputs],
    "model": client.get_logged_model(info.model_id).tags,
}))
"""
    )
    forged = json.dumps({"tally.run": "run-2", "mlflow.parentRunId": "0" * 32})
    said = await house.python(code, house.step_url, MLFLOW_RUN_CONTEXT=forged)
    assert said["acc"] == pytest.approx(0.7)
    assert [("a pipeline's step may not" in text) or ("is finished" in text) for text in said["refused"]] == [
        True
    ] * 5
    assert (said["inputs"], said["outputs"]) == (["rows"], [True])
    assert (said["model"]["kind"], said["model"]["tally.run"]) == ("relu", "run-1")
    tags = said["tags"]
    assert (tags["tally.run"], tags["tally.step"]) == ("run-1", "train"), "the door says which, not the step"
    assert (tags["a"], tags.get("c"), tags["mlflow.parentRunId"]) == ("b", None, "0" * 32)


STEP_CLOSED = [
    ("POST", API + "registered-models/create"),
    ("DELETE", API + "registered-models/delete"),
    ("POST", API + "registered-models/alias"),
    ("POST", API + "model-versions/create"),
    ("PATCH", API + "model-versions/update"),
    ("POST", API + "experiments/delete"),
    ("POST", API + "experiments/update"),
    ("POST", API + "runs/delete"),
    ("DELETE", FILES + "/1/x"),
    ("PUT", FILES + "/1/x"),
    ("POST", FILES + "/1/x"),
    ("POST", "/api/2.0/mlflow-artifacts/mpu/create/1/x"),
    ("DELETE", API + "logged-models/m-1"),
    ("DELETE", API + "logged-models/m-1/tags/a"),
    ("GET", "/"),
    ("GET", "/mlflow/"),
    ("GET", "/graphql"),
    ("GET", "/get-artifact"),
    ("POST", "/ajax-api/2.0/mlflow/runs/search"),
    ("GET", "/ajax-api/3.0/mlflow/assistant/config"),
    ("POST", API + "webhooks"),
    ("GET", "/api/runs"),
    ("POST", "/v2/models/x/infer"),
    ("GET", "/api/2.0/mlflow/../../x"),
]


@pytest.mark.parametrize(("method", "path"), STEP_CLOSED)
async def test_a_step_reaches_tracking_alone(house: House, method: str, path: str) -> None:
    answer = await raw(house.step_url, f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0")
    assert answer.status in (400, 403), answer.body


@dataclass
class Victim:
    """Somebody else's run and finished model, with a file each, and the step's own run and pending model."""

    experiment: str
    run: str
    model: str
    run_file: str
    model_file: str
    own_run: str
    own_model: str
    own_file: str


async def made(http: httpx.AsyncClient, experiment: str) -> tuple[str, str, str, str]:
    """Run, logged model, and the paths of a file of each, put there."""
    run = (await http.post(API + "runs/create", json={"experiment_id": experiment, "start_time": 1})).json()
    info = run["run"]["info"]
    body = {"experiment_id": experiment, "name": "model", "source_run_id": info["run_id"]}
    model = (await http.post(API + "logged-models", json=body)).json()["model"]["info"]
    folders = [u["artifact_uri"].removeprefix("mlflow-artifacts:/") for u in (info, model)]
    paths = [f"{FILES}/{folders[0]}/model/MLmodel", f"{FILES}/{folders[1]}/MLmodel"]
    for path in paths:
        assert (await http.put(path, content=b"good")).status_code == 200
    return info["run_id"], model["model_id"], *paths  # type: ignore[return-value]  # two paths


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["flat", "deep"])
async def victim(house: House, request: pytest.FixtureRequest) -> AsyncIterator[Victim]:
    """In an experiment with the usual place for artifacts, and in one with a place of its own."""
    place = {"artifact_location": "mlflow-artifacts:/team/a"} if request.param == "deep" else {}
    body = {"name": f"victim {request.param}", **place}
    experiment = (await house.http.post(API + "experiments/create", json=body)).json()["experiment_id"]
    run, model, run_file, model_file = await made(house.http, experiment)
    ready = {"model_id": model, "status": "LOGGED_MODEL_READY"}
    assert (await house.http.patch(API + f"logged-models/{model}", json=ready)).status_code == 200
    tag = {"tags": [{"key": "kept", "value": "v"}]}
    assert (await house.http.patch(API + f"logged-models/{model}/tags", json=tag)).status_code == 200
    own_run, own_model, _, own_file = await made(house.step, experiment)
    yield Victim(experiment, run, model, run_file, model_file, own_run, own_model, own_file)


async def record(house: House, victim: Victim) -> Any:
    """All that is on record of the victim's, its files included."""
    run = (await house.http.get(API + "runs/get", params={"run_id": victim.run})).json()
    model = (await house.http.get(API + f"logged-models/{victim.model}")).json()
    files = [(await house.http.get(path)).content for path in (victim.run_file, victim.model_file)]
    asked = {"experiment_id": victim.experiment}
    experiment = (await house.http.get(API + "experiments/get", params=asked)).json()["experiment"]
    return run, model, files, experiment.get("tags", [])


def attacks(v: Victim) -> list[tuple[str, str, Any]]:
    """Method, path and body of every call that would write to the victim's."""
    metric = {"key": "m", "value": 1.0, "timestamp": 1, "step": 0}
    tag = {"key": "a", "value": "evil"}
    pending = {"model_id": v.model, "status": "LOGGED_MODEL_PENDING"}
    twice = v.model_file.replace("/models/", "/mod%2565ls/")
    calls = [
        ("runs/update", {"run_id": v.run, "status": "FAILED", "run_name": "evil"}),
        ("runs/update", {"run_uuid": v.run, "status": "FAILED"}),
        ("runs/update", {"runUuid": v.run, "status": "FAILED"}),
        ("runs/update", {"run_id": v.own_run, "runId": v.run, "status": "FAILED"}),
        ("runs/set-tag", {"run_id": v.run, **tag}),
        ("runs/set-tag", {"run_uuid": v.run, "run_id": "", **tag}),
        ("runs/delete-tag", {"run_id": v.run, "key": "mlflow.runName"}),
        ("runs/log-metric", {"run_id": v.run, **metric}),
        ("runs/log-metric", {"run_id": v.own_run, "model_id": v.model, **metric}),
        ("runs/log-metric", {"run_id": [v.run], **metric}),
        ("runs/log-parameter", {"run_id": v.run, **tag}),
        ("runs/log-batch", {"run_id": v.run, "metrics": [metric]}),
        ("runs/log-batch", {"run_id": v.own_run, "metrics": [{**metric, "model_id": v.model}]}),
        ("runs/log-batch", {"run_id": v.own_run, "metrics": [{**metric, "modelId": v.model}]}),
        ("runs/log-inputs", {"run_id": v.run, "datasets": []}),
        ("runs/outputs", {"run_id": v.run, "models": [{"model_id": v.own_model, "step": 0}]}),
        ("runs/outputs", {"run_id": v.own_run, "models": [{"model_id": v.model, "step": 0}]}),
        ("runs/log-model", {"run_id": v.run, "model_json": "{}"}),
        ("logged-models", {"experiment_id": v.experiment, "name": "x", "source_run_id": v.run}),
        ("logged-models", {"experiment_id": v.experiment, "name": "x", "sourceRunId": v.run}),
        (f"logged-models/{v.model}/params", {"model_id": v.model, "params": [tag]}),
        (f"logged-models/{v.own_model}/params", {"model_id": v.model, "params": [tag]}),
        ("experiments/set-experiment-tag", {"experiment_id": v.experiment, **tag}),
        ("experiments/set-experiment-tag", {"experimentId": v.experiment, **tag}),
    ]
    return [
        *(("POST", API + path, body) for path, body in calls),
        ("PUT", v.run_file, b"evil"),
        ("PUT", v.model_file, b"evil"),
        ("PUT", twice, b"evil"),
        ("PUT", v.model_file.replace(v.model, "%6d" + v.model[1:]), b"evil"),
        ("PUT", v.own_file.replace("/MLmodel", "/../../" + v.model + "/artifacts/MLmodel"), b"evil"),
        ("PUT", v.own_file.rpartition("/")[0], b"evil"),
        ("PUT", v.own_file.replace(v.own_model, v.own_model + "x"), b"evil"),
        ("PUT", FILES + "/MLmodel", b"evil"),
        ("PATCH", API + f"logged-models/{v.model}", pending),
        ("PATCH", API + f"logged-models/{v.own_model}", pending),
        ("PATCH", API + "logged-models/m-deadbeef", pending),
        ("PATCH", API + f"logged-models/{v.own_model}", {**pending, "model_id": "", "modelId": v.model}),
        ("PATCH", API + f"logged-models/{v.model}/tags", {"tags": [tag]}),
        ("PATCH", API + f"logged-models/{v.own_model}/tags", {"model_id": v.model, "tags": [tag]}),
        ("DELETE", API + f"logged-models/{v.model}/tags/kept", {}),
    ]


async def test_a_step_changes_nothing_that_it_did_not_make(house: House, victim: Victim) -> None:
    before = await record(house, victim)
    for method, path, body in attacks(victim):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = f"Host: x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
        answer = await raw(house.step_url, f"{method} {path} HTTP/1.1\r\n{headers}", content)
        assert answer.status in (400, 403), (method, path, body, answer.body)
        assert answer.status == 400 or b"may not change what it did not make" in answer.body
    assert await record(house, victim) == before
    own = (await house.step.get(API + f"logged-models/{victim.own_model}")).json()["model"]["info"]
    assert own["status"] == "LOGGED_MODEL_PENDING", "the victim's call was not taken for one on its own"


async def test_of_two_ids_the_one_that_was_looked_at_is_sent_on(house: House, victim: Victim) -> None:
    before = await record(house, victim)
    body = f'{{"run_id": "{victim.run}", "key": "a", "value": "b", "run_id": "{victim.own_run}"}}'
    answer = await house.step.post(
        API + f"runs/set-tag?run_id={victim.run}", content=body, headers={"content-type": "text/plain"}
    )
    assert answer.status_code == 200
    twice = await house.step.post(API + "runs/set-tag", json=body)  # as MLflow's older clients do
    assert (twice.status_code, "not a JSON object" in twice.text) == (400, True)
    assert await record(house, victim) == before


async def test_what_others_logged_can_be_read(house: House, victim: Victim) -> None:
    for path in (victim.run_file, victim.model_file):
        assert (await house.step.get(path)).content == b"good"
    body = {"experiment_ids": [victim.experiment]}
    found = (await house.step.post(API + "runs/search", json=body)).json()["runs"]
    assert victim.run in [r["info"]["run_id"] for r in found]
    read = {"run_id": victim.own_run, "models": [{"model_id": victim.model}]}
    assert (await house.step.post(API + "runs/log-inputs", json=read)).status_code == 200


@pytest.mark.parametrize("place", ["s3://evil/x", "mlflow-artifacts:/1", "/etc", "mlflow-artifacts:/"])
@pytest.mark.parametrize("field", ["artifact_location", "artifactLocation"])
async def test_a_step_does_not_say_where_artifacts_are(house: House, place: str, field: str) -> None:
    answer = await house.step.post(
        API + "experiments/create", json={"name": f"{field} {place}", field: place}
    )
    assert answer.status_code == 403
    assert "where artifacts are kept" in answer.json()["message"]


async def test_a_step_tags_an_experiment_that_it_made(house: House) -> None:
    made = await house.step.post(API + "experiments/create", json={"name": "of the step's own"})
    body = {"experiment_id": made.json()["experiment_id"], "key": "a", "value": "b"}
    assert (await house.step.post(API + "experiments/set-experiment-tag", json=body)).status_code == 200


async def test_the_hubs_tags_are_not_the_steps(house: House, victim: Victim) -> None:
    run = {"run_id": victim.own_run}
    for path, body in (
        ("set-tag", {"key": "tally.run", "value": "run-2"}),
        ("set-tag", {"key": "tally.new", "value": "x"}),
        ("delete-tag", {"key": "tally.run"}),
        ("log-batch", {"tags": [{"key": "tally.run", "value": "run-2"}]}),
    ):
        answer = await house.step.post(API + f"runs/{path}", json={**run, **body})
        assert (answer.status_code, "are the hub's" in answer.text) == (403, True), path
    same = {**run, "key": "tally.run", "value": "run-1"}
    assert (await house.step.post(API + "runs/set-tag", json=same)).status_code == 200
    assert (await house.registry.run_data(victim.own_run)).tags["tally.run"] == "run-1"


async def test_a_step_cannot_change_a_model_of_its_own_that_is_finished(house: House) -> None:
    _, model, _, path = await made(house.step, "0")
    address = f"{API}logged-models/{model}"
    ready = {"model_id": model, "status": "LOGGED_MODEL_READY"}
    assert (await house.step.patch(address, json=ready)).status_code == 200
    for answer in (
        await house.step.put(path, content=b"evil"),
        await house.step.patch(address, json={**ready, "status": "LOGGED_MODEL_PENDING"}),
    ):
        assert (answer.status_code, "finished" in answer.json()["message"]) == (403, True)
    assert (await house.step.get(path)).content == b"good"


async def test_no_file_arrives_after_a_models_end(house: House) -> None:
    """An upload begun before would end after it, when the model may have been judged."""
    _, model, _, path = await made(house.step, "0")
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"late"
        begun.set()
        await go_on.wait()

    upload = asyncio.create_task(house.step.put(path, content=slowly()))
    await begun.wait()
    ready = {"model_id": model, "status": "LOGGED_MODEL_READY"}
    early = await house.step.patch(f"{API}logged-models/{model}", json=ready)
    assert (early.status_code, "on their way" in early.text) == (409, True)
    go_on.set()
    assert (await upload).status_code == 200
    assert (await house.step.patch(f"{API}logged-models/{model}", json=ready)).status_code == 200
    assert (await house.step.get(path)).content == b"late"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[", 400), (b"[]", 400), (b'"{}"', 400), (b"[" * 100_000, 400), (b"\xff", 400),
        (b'{"tags": 1}', 400), (b'{"tags": [1]}', 400), (b" " * (5 * 2**20), 413),
        (b'{"x": [' + b"0," * 200_001 + b"0]}", 413),
    ],
)  # fmt: skip
async def test_a_body_is_a_small_json_object(house: House, body: bytes, status: int) -> None:
    answer = await house.step.post(API + "runs/create", content=body)
    assert answer.status_code == status, answer.text


async def test_a_broken_upload_of_a_model_ends(house: House, tmp_path: Path) -> None:
    """Whoever goes away in its middle does not keep the model open for ever."""
    _, model, _, path = await made(house.step, "0")
    reader, writer = await asyncio.open_connection(*house.step_url.removeprefix("http://").split(":"))
    writer.write(f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf".encode())
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert reader.at_eof() or not await reader.read()
    address, ready = f"{API}logged-models/{model}", {"model_id": model, "status": "LOGGED_MODEL_READY"}
    async with asyncio.timeout(60):
        # The door tells nobody when a connection has ended, so it is asked.
        while (await house.step.patch(address, json=ready)).status_code == 409:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
