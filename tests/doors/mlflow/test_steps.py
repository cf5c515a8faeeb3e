"""The narrower door, for the steps of a pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.doors.mlflow.house import API, FILES, TRAIN, House, raw

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_step_logs_runs_and_models_with_the_stock_client(house: House) -> None:
    code = (
        TRAIN
        + """
client = mlflow.MlflowClient()
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
print(json.dumps({"refused": refused, "acc": client.get_run(run.info.run_id).data.metrics["acc"]}))
"""
    )
    said = await house.python(code, house.step_url)
    assert said["acc"] == pytest.approx(0.7)
    assert [("a pipeline's step may not" in text) or ("is finished" in text) for text in said["refused"]] == [
        True
    ] * 5


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
    ("DELETE", API + "logged-models/m-1"),
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


async def test_a_step_cannot_change_a_finished_model(house: House, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "MLmodel").write_text("flavors: {}")
    made = await house.registry.register("finished", folder, {})
    address = f"{API}logged-models/{made.model_id}"
    info = (await house.step.get(address)).json()["model"]["info"]
    path = info["artifact_uri"].removeprefix("mlflow-artifacts:/") + "/MLmodel"
    for answer in (
        await house.step.put(f"{FILES}/{path}", content=b"evil"),
        await house.step.patch(address, json={"model_id": made.model_id, "status": "LOGGED_MODEL_PENDING"}),
    ):
        assert answer.status_code == 403
        assert "finished" in answer.json()["message"]
    assert (await house.step.get(f"{FILES}/{path}")).text == "flavors: {}"
