"""Which calls are native, as what they are understood, and which go to MLflow's own server."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import httpx
import pytest

from tallystick.core.errors import Unavailable
from tallystick.core.tracking import asks
from tallystick.core.tracking.entries import DatasetInput, ModelOutput
from tallystick.doors.tracking.table import find
from tallystick.doors.tracking.words import new_name
from tests.doors.tracking.heard import HOST, NOW_MS, RUN, Heard, Hub, asked

POINT = {"run_id": RUN, "key": "loss", "value": 0.5, "timestamp": 7}
TAGS = [{"key": "a", "value": "b"}]
TOKEN = base64.b64encode(b'{"offset": 100}').decode()
MODEL = "m-" + RUN
MODEL_JSON = {
    "artifact_path": "model",
    "flavors": {"spark": {"config": {"x": 1}, "code": None}, "python_function": {"env": 1.0}},
    "run_id": RUN,
    "utc_time_created": "2026-01-01",
    "mlflow_version": "3",
}
MODEL_KEPT = {
    "run_id": RUN,
    "artifact_path": "model",
    "utc_time_created": "2026-01-01",
    "model_uuid": None,
    "flavors": {"spark": {"code": None}, "python_function": {"env": 1.0}},
}
DATASET = {"name": "rows", "digest": "d", "source_type": "local", "source": "{}", "schema": "[]"}
PLAIN: list[tuple[str, str, dict[str, Any], Any]] = [
    ("POST", "runs/log-metric", POINT, asks.LogMetric(RUN, "loss", 0.5, 7, 0)),
    (
        "POST",
        "runs/log-metric",
        {**POINT, "run_uuid": RUN, "step": -3},
        asks.LogMetric(RUN, "loss", 0.5, 7, -3),
    ),
    (
        "POST",
        "runs/log-metric",
        {**POINT, "value": "-Infinity"},
        asks.LogMetric(RUN, "loss", -math.inf, 7, 0),
    ),
    ("POST", "runs/log-metric", {**POINT, "value": 3}, asks.LogMetric(RUN, "loss", 3.0, 7, 0)),
    (
        "POST",
        "runs/log-batch",
        {
            "run_id": RUN,
            "metrics": [{"key": "x/y", "value": "Infinity", "timestamp": 1, "step": 2, "run_id": RUN}],
            "params": [{"key": "lr", "value": ""}],
            "tags": [*TAGS, {"key": "a"}, {"key": "mlflow.runName", "value": "n"}],
        },
        asks.LogBatch(
            RUN,
            asks.Columns(["x/y"], [math.inf], [1], [2]),
            (("lr", ""),),
            (("a", "b"), ("a", ""), ("mlflow.runName", "n")),
        ),
    ),
    ("POST", "runs/log-batch", {"run_id": RUN}, asks.LogBatch(RUN, asks.Columns([], [], [], []))),
    (
        "POST",
        "runs/log-parameter",
        {"run_uuid": RUN, "key": "k", "value": "é" * 6000},
        asks.LogParam(RUN, "k", "é" * 6000),
    ),
    ("POST", "runs/set-tag", {"run_id": RUN, "key": "k", "value": "v"}, asks.SetTag(RUN, "k", "v")),
    ("POST", "runs/delete-tag", {"run_id": RUN, "key": "k"}, asks.DeleteTag(RUN, "k")),
    (
        "POST",
        "runs/update",
        {"run_id": RUN, "run_uuid": RUN, "status": "FINISHED", "end_time": 9, "run_name": "n"},
        asks.UpdateRun(RUN, "FINISHED", 9, "n"),
    ),
    ("POST", "runs/update", {"run_id": RUN, "status": 4}, asks.UpdateRun(RUN, "FAILED")),
    ("POST", "runs/delete", {"run_id": RUN}, asks.MoveRun(RUN, "deleted", NOW_MS)),
    ("POST", "runs/restore", {"run_id": RUN}, asks.MoveRun(RUN, "active", NOW_MS)),
    (
        "POST",
        "runs/log-inputs",
        {
            "run_id": RUN,
            "datasets": [{"dataset": DATASET, "tags": [{"key": "mlflow.data.context", "value": "train"}]}],
            "models": [{"model_id": MODEL}],
        },
        asks.LogInputs(
            RUN,
            (DatasetInput("rows", "d", "local", "{}", "[]", None, [("mlflow.data.context", "train")]),),
            (MODEL,),
        ),
    ),
    (
        "POST",
        "runs/outputs",
        {"run_id": RUN, "models": [{"model_id": MODEL, "step": 4}]},
        asks.LogOutputs(RUN, (ModelOutput(MODEL, 4),)),
    ),
    (
        "POST",
        "runs/log-model",
        {"run_id": RUN, "model_json": json.dumps(MODEL_JSON)},
        asks.LogModel(RUN, json.dumps(MODEL_KEPT)),
    ),
    ("GET", "runs/get", {"run_id": RUN, "run_uuid": RUN}, asks.GetRun(RUN)),
    (
        "POST",
        "runs/search",
        {"experiment_ids": ["0", "17"], "run_view_type": "ALL", "max_results": 5, "page_token": TOKEN},
        asks.SearchRuns((0, 17), (), ("active", "deleted"), (), 5, 100),
    ),
    (
        "GET",
        "metrics/get-history",
        {"run_id": RUN, "metric_key": "a b+c", "max_results": 3, "page_token": TOKEN},
        asks.History(RUN, "a b+c", 3, 100),
    ),
    ("GET", "metrics/get-history", {"run_uuid": RUN, "metric_key": "ü"}, asks.History(RUN, "ü")),
    (
        "GET",
        "/ajax-api/2.0/mlflow/metrics/get-history-bulk",
        {"run_id": [RUN, "b"], "metric_key": "k", "max_results": 99_999},
        asks.HistoryBulk((RUN, "b"), "k", 25_000),
    ),
    (
        "GET",
        "/mlflow/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval",
        {"run_ids": [RUN], "metric_key": "k", "start_step": -1, "end_step": 4, "max_results": 320},
        asks.HistoryInterval((RUN,), "k", 320, -1, 4),
    ),
    (
        "POST",
        "experiments/create",
        {"name": "n", "tags": TAGS},
        asks.CreateExperiment("n", "", NOW_MS, (("a", "b"),)),
    ),
    ("GET", "experiments/get", {"experiment_id": "12"}, asks.GetExperiment(12)),
    ("GET", "experiments/get-by-name", {"experiment_name": "a & b"}, asks.GetExperiment(None, "a & b")),
    (
        "GET",
        "experiments/search",
        {"max_results": 10, "view_type": "DELETED_ONLY"},
        asks.SearchExperiments((), ("deleted",), (), 10),
    ),
    ("POST", "experiments/search", {"max_results": 10}, asks.SearchExperiments((), ("active",), (), 10)),
    (
        "POST",
        "experiments/update",
        {"experiment_id": "1", "new_name": "m"},
        asks.RenameExperiment(1, "m", NOW_MS),
    ),
    ("POST", "experiments/delete", {"experiment_id": "1"}, asks.MoveExperiment(1, "deleted", NOW_MS)),
    ("POST", "experiments/restore", {"experiment_id": "1"}, asks.MoveExperiment(1, "active", NOW_MS)),
    (
        "POST",
        "experiments/set-experiment-tag",
        {"experiment_id": "1", "key": "k", "value": "v" * 20_000},
        asks.SetExperimentTag(1, "k", "v" * 20_000),
    ),
    (
        "POST",
        "experiments/delete-experiment-tag",
        {"experiment_id": "1", "key": "k"},
        asks.DeleteExperimentTag(1, "k"),
    ),
    ("GET", f"logged-models/{MODEL}", None, asks.GetLoggedModel(MODEL)),
    (
        "PATCH",
        f"logged-models/{MODEL}",
        {"model_id": MODEL, "status": "LOGGED_MODEL_READY"},
        asks.FinalizeLoggedModel(MODEL, 2, NOW_MS),
    ),
    (
        "POST",
        "logged-models/search",
        {"experiment_ids": ["3"], "filter": ""},
        asks.SearchLoggedModels((3,), 50, 0),
    ),
    ("GET", "registered-models/get", {"name": "m"}, asks.GetRegisteredModel("m")),
    ("GET", "model-versions/get", {"name": "m", "version": "3"}, asks.GetModelVersion("m", 3)),
    (
        "GET",
        "registered-models/alias",
        {"name": "m", "alias": "Best"},
        asks.GetModelVersion("m", alias="Best"),
    ),
]


@pytest.mark.parametrize(("method", "path", "said", "ask"), PLAIN, ids=[f"{m}-{p}" for m, p, _, _ in PLAIN])
async def test_a_plain_call_is_asked_of_the_record(method: str, path: str, said: Any, ask: Any) -> None:
    assert await asked(method, path, said) == ask


async def test_not_a_number_is_one() -> None:
    ask = await asked("POST", "runs/log-metric", {**POINT, "value": "NaN"})
    assert math.isnan(ask.value)


async def test_what_is_new_gets_an_id_and_a_name() -> None:
    run = await asked(
        "POST", "runs/create", {"experiment_id": "0", "user_id": "u", "start_time": 5, "tags": TAGS}
    )
    assert (run.experiment_id, run.user_id, run.start_ms, run.tags) == (0, "u", 5, (("a", "b"),))
    assert (len(run.run_id), run.name.count("-")) == (32, 2)
    named = [{"key": "mlflow.runName", "value": "n"}]
    for said in ({"run_name": "n"}, {"tags": named}, {"run_name": "n", "tags": named}):
        run = await asked("POST", "runs/create", {"experiment_id": "0", **said})
        assert (run.name, run.tags) == ("n", ())
    model = await asked("POST", "logged-models", {"experiment_id": "0"})
    assert (model.source_run_id, model.model_type) == ("", ""), "MLflow's record has them empty"
    assert (model.model_id[:2], model.name.count("-")) == ("m-", 2)
    assert all(len(new_name()) <= 20 for _ in range(200))


async def test_of_a_field_said_twice_the_last_counts_as_for_mlflow() -> None:
    hub = Hub(Heard())
    raw = b'{"key":"a","key":"b","run_id":"a","value":1,"timestamp":1}'
    await hub.call("POST", "runs/log-metric", raw=raw)
    assert hub.record.asked[0][0].key == json.loads(raw)["key"]


HEADERS: list[tuple[dict[str, str], bool]] = [
    ({}, True),
    ({"content_type": "application/json; charset=utf-8"}, True),
    ({"content_type": "text/plain"}, False),
    ({"content_type": "Application/JSON"}, False),
    ({"content_encoding": "gzip"}, False),
    ({"transfer_encoding": "chunked"}, False),
    ({"x_mlflow_workspace": "red"}, False),
    ({"origin": HOST, "sec_fetch_site": "same-origin"}, True),
    ({"origin": "http://localhost:5000"}, False),
    ({"origin": HOST, "sec_fetch_site": "cross-site"}, False),
    ({"authorization": "Bearer x"}, True),
]


@pytest.mark.parametrize(("headers", "native"), HEADERS)
async def test_headers_say_whether_a_call_is_plain(headers: dict[str, str], native: bool) -> None:
    assert (await asked("POST", "runs/log-metric", POINT, **headers) is not None) is native


async def test_a_header_said_twice_is_not_plain() -> None:
    hub = Hub(Heard())
    twice = [("content-type", "application/json")] * 2
    await hub.http.post("/api/2.0/mlflow/runs/log-metric", content=json.dumps(POINT), headers=twice)
    assert hub.record.asked == []


async def test_a_query_beside_a_body_and_a_body_beside_a_query_are_not_plain() -> None:
    hub = Hub(Heard())
    await hub.call("POST", "/api/2.0/mlflow/runs/log-metric?run_id=x", POINT)
    await hub.http.request("GET", f"/api/2.0/mlflow/runs/get?run_id={RUN}", content=b"{}")
    for query in ("run_id=a=b", "run_id", "run_id=%FF", "run%5Fid=a&&", ""):
        await hub.call("GET", f"/api/2.0/mlflow/runs/get?{query}")
    assert (hub.record.asked, len(hub.behind.bodies)) == ([], 7)


@pytest.mark.parametrize(
    ("said", "workspace"),
    [({}, "default"), ({"x_mlflow_workspace": "red-1"}, "red-1"), ({"x_mlflow_workspace": "Red"}, None)],
)
async def test_with_workspaces_a_call_is_its_workspaces(said: dict[str, str], workspace: str | None) -> None:
    hub = Hub(Heard(), workspaces=True)
    await hub.call("POST", "runs/log-metric", POINT, **said)
    assert [w for _, w in hub.record.asked] == ([workspace] if workspace else [])


async def test_twins_are_native_and_other_spellings_are_not() -> None:
    for root in ("/api", "/ajax-api", "/mlflow/api", "/mlflow/ajax-api"):
        assert find("POST", f"{root}/2.0/mlflow/runs/create".encode())
        assert find("GET", f"{root}/2.0/mlflow/logged-models/{MODEL}".encode())
    assert find("GET", b"/ajax-api/2.0/mlflow/metrics/get-history-bulk")
    for method, path in [
        ("GET", "/api/2.0/mlflow/metrics/get-history-bulk"),
        ("HEAD", "/api/2.0/mlflow/runs/get"),
        ("GET", "/api/2.0/mlflow/runs/create"),
        ("POST", "/api/3.0/mlflow/runs/create"),
        ("POST", "/api/2.0/mlflow/runs/create/"),
        ("POST", "/api/2.0/mlflow/runs%2Fcreate"),
        ("POST", "//api/2.0/mlflow/runs/create"),
        ("GET", "/api/2.0/mlflow/logged-models/{id}"),
        ("GET", "/api/2.0/mlflow/logged-models/m-1"),
        ("GET", f"/api/2.0/mlflow/logged-models/{MODEL}/artifacts/directories"),
        ("DELETE", f"/api/2.0/mlflow/logged-models/{MODEL}"),
    ]:
        assert find(method, path.encode()) is None, (method, path)


async def test_until_the_record_is_ready_all_goes_to_mlflow_and_then_nobody_asks_again() -> None:
    hub = Hub(Heard())
    hub.record.is_ready = False
    assert (await hub.call("POST", "runs/log-metric", POINT)).status_code == 299
    hub.record.is_ready = True
    for _ in range(3):
        assert (await hub.call("POST", "runs/log-metric", POINT)).json() == {}
    assert (hub.record.readies, len(hub.record.asked)) == (2, 3)


async def test_what_the_record_cannot_do_now_is_said_in_mlflows_form() -> None:
    hub = Hub(Heard(Unavailable("the disk is full", where="db", hint="make room")))
    answer = await hub.call("POST", "runs/log-metric", POINT)
    said = answer.json()
    assert (answer.status_code, said["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
    assert (said["what"], said["hint"], answer.headers["retry-after"]) == (
        "the disk is full",
        "make room",
        "1",
    )
    assert hub.behind.bodies == [], "it is not tried again elsewhere"


async def test_an_answer_looks_as_mlflows() -> None:
    answer: httpx.Response = await Hub(Heard()).call("POST", "runs/log-metric", POINT)
    assert (answer.status_code, answer.content) == (200, b"{}")
    assert {k: v for k, v in answer.headers.items() if k != "date"} == {
        "content-type": "application/json",
        "content-length": "2",
        "x-content-type-options": "nosniff",
        "x-frame-options": "SAMEORIGIN",
    }
