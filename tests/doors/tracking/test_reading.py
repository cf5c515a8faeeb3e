"""Which calls are native, as what they are understood, and which go to MLflow's own server."""

from __future__ import annotations

import json
import math
from typing import Any

import httpx
import pytest

from tallystick.core.errors import Unavailable
from tallystick.doors.tracking.table import find
from tallystick.doors.tracking.words import new_name
from tests.doors.tracking.heard import HOST, Heard, Hub, asked
from tests.doors.tracking.plain_calls import MODEL, PLAIN, POINT, TAGS


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


@pytest.mark.parametrize(("headers", "native"), HEADERS)
async def test_headers_matter_where_there_is_no_body_too(headers: dict[str, str], native: bool) -> None:
    found = await asked("DELETE", f"logged-models/{MODEL}/tags/a", None, **headers)
    assert (found is not None) is (native or "content_type" in headers)


async def test_points_of_a_model_that_are_no_numbers_are_each_other_ones() -> None:
    """MLflow takes what is there twice for one, but NaN is unlike NaN, and in one place that is an error."""
    point = {"key": "a", "value": "NaN", "timestamp": 1, "model_id": MODEL}
    ask = await asked("POST", "runs/log-batch", {"run_id": POINT["run_id"], "metrics": [point, point]})
    assert len(ask.of_models) == 2


async def test_a_header_said_twice_is_not_plain() -> None:
    hub = Hub(Heard())
    twice = [("content-type", "application/json")] * 2
    await hub.http.post("/api/2.0/mlflow/runs/log-metric", content=json.dumps(POINT), headers=twice)
    assert hub.record.asked == []


async def test_a_query_beside_a_body_and_a_body_beside_a_query_are_not_plain() -> None:
    hub = Hub(Heard())
    await hub.call("POST", "/api/2.0/mlflow/runs/log-metric?run_id=x", POINT)
    await hub.http.request("GET", f"/api/2.0/mlflow/runs/get?run_id={POINT['run_id']}", content=b"{}")
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
        ("DELETE", f"/api/2.0/mlflow/logged-models/{MODEL}/tags"),
        ("DELETE", f"/api/2.0/mlflow/logged-models/{MODEL}/tags/"),
        ("DELETE", f"/api/2.0/mlflow/logged-models/{MODEL}/tags/.."),
        ("DELETE", f"/api/2.0/mlflow/logged-models/{MODEL}/tags/a/b"),
        ("DELETE", f"/api/2.0/mlflow/logged-models/{MODEL}/tags/a%2Fb"),
        ("DELETE", "/api/2.0/mlflow/logged-models/{id}/tags/{key}"),
        ("PATCH", "/api/2.0/mlflow/logged-models/{id}/tags"),
        ("PATCH", f"/api/2.0/mlflow/logged-models/{MODEL}/tags/a"),
        ("POST", f"/api/2.0/mlflow/logged-models/{MODEL}/params/a"),
        ("POST", f"/api/2.0/mlflow/runs/{MODEL}/params"),
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


async def test_an_order_of_more_than_mlflow_could_join_is_refused_at_once() -> None:
    """MLflow would take minutes over it, and then fail."""
    hub = Hub(Heard())
    said = {"experiment_ids": ["0"], "order_by": [f"tags.t{n}" for n in range(101)]}
    answer = await hub.call("POST", "runs/search", said)
    assert (answer.status_code, hub.behind.bodies, hub.record.asked) == (400, [], [])
    assert "at most 100" in answer.text
