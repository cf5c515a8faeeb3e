"""What is odd in a call that could be native: it reaches MLflow's own server as it came."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.doors.tracking.heard import RUN, Heard, Hub

POINT = {"run_id": RUN, "key": "loss", "value": 0.5, "timestamp": 7}
TAGS = [{"key": "a", "value": "b"}]
TOKEN = base64.b64encode(b'{"offset": 100}').decode()
MODEL = "m-" + RUN
OF_MODEL = {"key": "m", "value": 1, "timestamp": 1, "model_id": MODEL}
TENSOR = '{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3]}}'
MODEL_JSON = {"artifact_path": "model", "flavors": {}, "run_id": RUN, "utc_time_created": "2026-01-01"}
DATASET = {"name": "rows", "digest": "d", "source_type": "local", "source": "{}"}
ODD: list[tuple[str, str, Any]] = [
    *(
        ("POST", "runs/log-metric", {**POINT, **odd})
        for odd in (
            {"value": "0.5"},
            {"value": True},
            {"value": None},
            {"value": "nan"},
            {"timestamp": "7"},
            {"timestamp": -1},
            {"timestamp": 7.0},
            {"timestamp": 2**63},
            {"step": -(2**63) - 1},
            {"step": None},
            {"run_id": ""},
            {"run_id": None},
            {"run_id": 5},
            {"run_id": "a b"},
            {"run_uuid": "another"},
            {"runId": RUN},
            {"model_id": None},
            {"model_id": 5},
            {"model_id": "a b"},
            {"dataset_name": "d"},
            {"dataset_digest": "d"},
            {"model_id": MODEL, "dataset_digest": "d"},
            {"model_id": MODEL, "dataset_name": "d" * 501, "dataset_digest": "d"},
            {"model_id": MODEL, "dataset_name": "d", "dataset_digest": "d" * 37},
            {"model_id": MODEL, "dataset_name": "d\0", "dataset_digest": "d"},
            {"extra": 1},
            *(
                {"key": key}
                for key in ("", ".", "..", "../x", "/x", "x/", "a//b", "a/./b", "x\n", "a?b", "k" * 251)
            ),
        )
    ),
    ("POST", "runs/log-metric", {"run_id": RUN, "key": "k", "value": 1}),
    ("POST", "runs/log-metric", [POINT]),
    ("POST", "runs/log-metric", json.dumps(POINT)),
    ("POST", "runs/log-batch", {"run_uuid": RUN}),
    ("POST", "runs/log-batch", {"run_id": RUN, "metrics": None}),
    ("POST", "runs/log-batch", {"run_id": RUN, "params": [{"key": "p"}] * 2}),
    ("POST", "runs/log-batch", {"run_id": RUN, "params": [{"key": f"p{i}"} for i in range(101)]}),
    ("POST", "runs/log-batch", {"run_id": RUN, "tags": [{"key": f"p{i}"} for i in range(101)]}),
    ("POST", "runs/log-batch", {"run_id": RUN, "tags": [{"key": "mlflow.runName", "value": ""}]}),
    (
        "POST",
        "runs/log-batch",
        {"run_id": RUN, "metrics": [{"key": "m", "value": i, "timestamp": 1} for i in range(1001)]},
    ),
    (
        "POST",
        "runs/log-batch",
        {
            "run_id": RUN,
            "metrics": [{"key": "m", "value": i, "timestamp": 1} for i in range(1000)],
            "tags": TAGS,
        },
    ),
    *(
        ("POST", "runs/log-batch", {"run_id": RUN, "metrics": [OF_MODEL, OF_MODEL | odd]})
        for odd in (
            {"model_id": 5},
            {"model_id": "/"},
            {"model_id": None},
            {"dataset_name": "d"},
            {"dataset_name": "d", "dataset_digest": "d" * 37},
            {"model": MODEL},
            {"value": "x"},
            {"key": "a:b/../c"},
        )
    ),
    ("POST", "runs/log-parameter", {"run_id": RUN, "key": "k", "value": "v" * 6001}),
    ("POST", "runs/log-parameter", {"run_id": RUN, "key": "k", "value": "a\0b"}),
    ("POST", "runs/set-tag", {"run_id": RUN, "key": "k", "value": "v" * 8001}),
    ("POST", "runs/set-tag", {"run_id": RUN, "key": "mlflow.runName", "value": ""}),
    ("POST", "runs/delete-tag", {"run_uuid": RUN, "key": "k"}),
    ("POST", "runs/create", {"experiment_id": ""}),
    ("POST", "runs/create", {"experiment_id": "007"}),
    ("POST", "runs/create", {"experiment_id": 0}),
    ("POST", "runs/create", {"experiment_id": "0", "tags": TAGS * 2}),
    (
        "POST",
        "runs/create",
        {"experiment_id": "0", "run_name": "a", "tags": [{"key": "mlflow.runName", "value": "b"}]},
    ),
    ("POST", "runs/update", {"run_id": RUN, "status": "DONE"}),
    ("POST", "runs/update", {"run_id": RUN, "status": 0}),
    ("POST", "runs/log-inputs", {"run_id": RUN, "datasets": [{"dataset": {**DATASET, "digest": "d" * 37}}]}),
    ("POST", "runs/log-inputs", {"run_id": RUN, "datasets": [{"dataset": DATASET, "tags": TAGS * 2}]}),
    ("POST", "runs/log-model", {"run_id": RUN, "model_json": "{"}),
    *(
        ("POST", "runs/log-model", {"run_id": RUN, "model_json": json.dumps({**MODEL_JSON, **odd})})
        for odd in (
            {"signature": {}},
            {"signature": "inputs"},
            {"signature": {"inputs": "[]"}},
            {"signature": {"inputs": "no JSON"}},
            {"signature": {"inputs": '[{"type": "decimal"}]'}},
            {"signature": {"inputs": '[{"type": "array", "items": {"type": "long"}}]'}},
            {"signature": {"inputs": '[{"type": "long", "name": "a"}, {"type": "long"}]'}},
            {"signature": {"inputs": '[{"type": "long", "required": false}]'}},
            {"signature": {"inputs": '[{"type": "tensor"}]'}},
            {"signature": {"outputs": f"[{TENSOR}, {TENSOR}]"}},
            {"signature": {"outputs": TENSOR}},
            {"signature": {"outputs": f"[{TENSOR}]", "params": "[]"}},
            {"resources": "a/file.yaml"},
            {"never_heard_of": 1},
            {"flavors": None},
        )
    ),
    ("GET", "runs/get", None),
    ("GET", "runs/get", {"run_id": [RUN, RUN]}),
    ("GET", "runs/get", {"run_id": RUN, "x": "1"}),
    ("POST", "runs/search", {"experiment_ids": ["0"], "max_results": 0}),
    ("POST", "runs/search", {"experiment_ids": ["0"], "max_results": 50_001}),
    ("POST", "runs/search", {"experiment_ids": ["0"], "run_view_type": "SOME"}),
    ("POST", "runs/search", {"experiment_ids": ["0"], "filter": "metrics.loss <"}),
    ("POST", "runs/search", {"experiment_ids": ["0"], "order_by": ["no such thing at all"]}),
    ("POST", "runs/search", {"experiment_ids": ["x"]}),
    *(
        ("POST", "runs/search", {"experiment_ids": ["0"], "page_token": token})
        for token in ("x", "é", base64.b64encode(b'{"offset": "3"}').decode(), TOKEN[:-1])
    ),
    ("GET", "metrics/get-history", {"run_id": RUN, "metric_key": "k", "max_results": "1_0"}),
    ("GET", "metrics/get-history", {"run_id": RUN, "metric_key": "k", "max_results": 0}),
    ("GET", "metrics/get-history", {"run_id": RUN, "metric_key": "k", "max_results": 2**31}),
    ("GET", "/ajax-api/2.0/mlflow/metrics/get-history-bulk", {"run_id": [RUN] * 101, "metric_key": "k"}),
    ("GET", "metrics/get-history-bulk-interval", {"run_ids": RUN, "metric_key": "k", "start_step": 1}),
    (
        "GET",
        "metrics/get-history-bulk-interval",
        {"run_ids": RUN, "metric_key": "k", "start_step": 2, "end_step": 1},
    ),
    ("POST", "experiments/create", {"name": "n", "artifact_location": "s3://b"}),
    ("POST", "experiments/create", {"name": ""}),
    ("POST", "experiments/create", {"name": "n" * 257}),
    ("GET", "experiments/search", {"view_type": "ALL"}),
    ("POST", "experiments/set-experiment-tag", {"experiment_id": "1", "key": "mlflow.trace.archiveNow"}),
    ("POST", "experiments/set-experiment-tag", {"experiment_id": "1", "key": "k", "value": "v" * 20_001}),
    ("POST", "logged-models", {"experiment_id": "0", "name": "a/b"}),
    *(
        ("POST", "logged-models/search", {"experiment_ids": ["0"], "filter": filter_})
        for filter_ in (
            "name != 'x'",
            "name = 'it''s'",
            "name = 'x' AND name = 'y'",
            "name = x",
            "name  =  'x'",
        )
    ),
    ("POST", f"logged-models/{MODEL}/params", {"params": TAGS}),
    ("POST", f"logged-models/{MODEL}/params", {"model_id": "m-other", "params": TAGS}),
    ("POST", f"logged-models/{MODEL}/params", {"model_id": MODEL, "params": TAGS * 2}),
    (
        "POST",
        f"logged-models/{MODEL}/params",
        {"model_id": MODEL, "params": [{"key": "k", "value": "v" * 6001}]},
    ),
    ("PATCH", f"logged-models/{MODEL}/tags", {"model_id": "m-other", "tags": TAGS}),
    ("PATCH", f"logged-models/{MODEL}/tags", {"tags": TAGS * 2}),
    ("PATCH", f"logged-models/{MODEL}/tags", {"tags": {"a": "b"}}),
    ("PATCH", f"logged-models/{MODEL}/tags", [TAGS]),
    ("DELETE", f"logged-models/{MODEL}/tags/a%20b", None),
    ("DELETE", f"logged-models/{MODEL}/tags/a?x=1", None),
    ("DELETE", f"logged-models/{MODEL}/tags/a", {"model_id": MODEL}),
    ("DELETE", f"logged-models/{MODEL}/tags/{'a' * 251}", None),
    ("GET", "model-versions/get-download-uri", {"name": "m", "version": "1.0"}),
    ("POST", "logged-models/search", {"experiment_ids": ["0"], "order_by": [{"field_name": "name"}]}),
    ("PATCH", f"logged-models/{MODEL}", {"model_id": "m-other", "status": 2}),
    ("PATCH", f"logged-models/{MODEL}", {"model_id": MODEL, "status": 0}),
    ("GET", f"logged-models/{MODEL}", {"allow_deleted": "true"}),
    ("GET", "model-versions/get", {"name": "m", "version": "v3"}),
    ("GET", "registered-models/alias", {"name": "m", "alias": "Latest"}),
    ("GET", "registered-models/alias", {"name": "m", "alias": "v1"}),
]


@pytest.mark.parametrize(("method", "path", "said"), ODD, ids=[f"{m}-{p}-{str(s)[-40:]}" for m, p, s in ODD])
async def test_what_is_odd_reaches_mlflow_as_it_came(method: str, path: str, said: Any) -> None:
    hub = Hub(Heard())
    answer = await hub.call(method, path, said)
    assert (answer.status_code, hub.record.asked) == (299, [])
    assert hub.behind.bodies == [b"" if method == "GET" or said is None else json.dumps(said).encode()]


HOSTILE = [
    b"",
    b"nul",
    b"\xff\xfe{}",
    b"\xef\xbb\xbf" + json.dumps(POINT).encode(),
    b"[" * 200_000,
    b'{"run_id":' * 100_000,
    b'{"key":"\\ud800","run_id":"a","value":1,"timestamp":1}',
    b'{"key":"k","run_id":"a","value":NaN,"timestamp":1}',
    b'{"key":"k","run_id":"a","value":1e999,"timestamp":1}',
    b'{"key":"k","run_id":"a","value":' + b"9" * 100_000 + b',"timestamp":1}',
    b'{"key":"k","run_id":"a","value":1,"timestamp":' + b"9" * 100_000 + b"}",
    b'{"key":"k\xff","run_id":"a","value":1,"timestamp":1}',
    b'{"key":"k","run_id":"a","value":1,"timestamp":1}{}',
    b'{"key":"k","key":5,"run_id":"a","value":1,"timestamp":1}',
]


@pytest.mark.parametrize("raw", HOSTILE, ids=[repr(raw[:40]) for raw in HOSTILE])
async def test_a_hostile_body_reaches_mlflow_as_it_came(raw: bytes) -> None:
    hub = Hub(Heard())
    assert (await hub.call("POST", "runs/log-metric", raw=raw)).status_code == 299
    assert (hub.record.asked, hub.behind.bodies) == ([], [raw])
