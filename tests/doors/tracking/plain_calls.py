"""Calls that are plain, each with the ask that it makes."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

from tallystick.record import asks, model_asks
from tallystick.record.entries import DatasetInput, ModelOutput, ModelPoint
from tests.doors.tracking.heard import NOW_MS, RUN

__all__ = ["MODEL", "PLAIN", "POINT", "TAGS"]

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
SIGNED = {
    "signature": {
        "inputs": '[{"type": "long", "name": "a", "required": true}, {"type": "string", "name": "b"}]',
        "outputs": '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3]}}]',
        "params": None,
    },
    "is_signature_from_type_hint": False,
    "type_hint_from_example": False,
    "saved_input_example_info": {"artifact_path": "input_example.json", "type": "dataframe"},
    "model_size_bytes": 123,
    "metadata": {"k": ["v"]},
    "model_id": None,
    "prompts": None,
}
ON_ROWS = {"dataset_name": "rows", "dataset_digest": "d"}
ONE_POINT = asks.Columns(["loss"], [0.5], [7], [2])
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
    (
        "POST",
        "runs/log-metric",
        {**POINT, "step": 2, "model_id": MODEL},
        asks.LogBatch(RUN, ONE_POINT, (), (), (ModelPoint(MODEL, "loss", 0.5, 7, 2),)),
    ),
    (
        "POST",
        "runs/log-metric",
        {**POINT, "step": 2, "model_id": MODEL, **ON_ROWS},
        asks.LogBatch(RUN, ONE_POINT, (), (), (ModelPoint(MODEL, "loss", 0.5, 7, 2, "rows", "d"),)),
    ),
    ("POST", "runs/log-metric", {**POINT, "step": 2, **ON_ROWS}, asks.LogBatch(RUN, ONE_POINT)),
    (
        "POST",
        "runs/log-metric",
        {**POINT, "model_id": "", "dataset_name": "", "dataset_digest": ""},
        asks.LogMetric(RUN, "loss", 0.5, 7, 0),
    ),
    (
        "POST",
        "runs/log-batch",
        {
            "run_id": RUN,
            "metrics": [
                {"key": "a", "value": 1, "timestamp": 1},
                {"key": "a", "value": 1, "timestamp": 1, "model_id": MODEL, **ON_ROWS},
                {"key": "a", "value": 1.0, "timestamp": 1, "model_id": MODEL, **ON_ROWS},
                {"key": "a", "value": 1, "timestamp": 1, "model_id": MODEL, "run_id": RUN},
                {"key": "b", "value": "Infinity", "timestamp": 1, "step": 3, "model_id": MODEL},
            ],
            "params": [{"key": "lr", "value": "1"}],
        },
        asks.LogBatch(
            RUN,
            asks.Columns(["a", "a", "a", "a", "b"], [1.0, 1.0, 1.0, 1.0, math.inf], [1] * 5, [0, 0, 0, 0, 3]),
            (("lr", "1"),),
            (),
            (
                ModelPoint(MODEL, "a", 1.0, 1, 0, "rows", "d"),
                ModelPoint(MODEL, "a", 1.0, 1, 0),
                ModelPoint(MODEL, "b", math.inf, 1, 3),
            ),
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
    (
        "POST",
        "runs/log-model",
        {"run_id": RUN, "model_json": json.dumps({**MODEL_JSON, **SIGNED})},
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
    ("GET", f"logged-models/{MODEL}", None, model_asks.GetLoggedModel(MODEL)),
    (
        "PATCH",
        f"logged-models/{MODEL}",
        {"model_id": MODEL, "status": "LOGGED_MODEL_READY"},
        model_asks.FinalizeLoggedModel(MODEL, 2, NOW_MS),
    ),
    (
        "POST",
        "logged-models/search",
        {"experiment_ids": ["3"], "filter": ""},
        model_asks.SearchLoggedModels((3,), 50, 0),
    ),
    (
        "POST",
        "logged-models/search",
        {"experiment_ids": ["3"], "filter": "name='a ü-1'", "max_results": 2},
        model_asks.SearchLoggedModels((3,), 2, 0, "a ü-1"),
    ),
    (
        "POST",
        f"logged-models/{MODEL}/params",
        {"model_id": MODEL, "params": TAGS},
        model_asks.LogModelParams(MODEL, (("a", "b"),)),
    ),
    (
        "PATCH",
        f"logged-models/{MODEL}/tags",
        {"tags": TAGS},
        model_asks.SetModelTags(MODEL, (("a", "b"),)),
    ),
    (
        "PATCH",
        f"logged-models/{MODEL}/tags",
        {"model_id": MODEL},
        model_asks.SetModelTags(MODEL, ()),
    ),
    (
        "DELETE",
        f"logged-models/{MODEL}/tags/mlflow.a_b-c",
        None,
        model_asks.DeleteModelTag(MODEL, "mlflow.a_b-c"),
    ),
    (
        "GET",
        "model-versions/get-download-uri",
        {"name": "m", "version": "3"},
        model_asks.GetModelVersion("m", 3),
    ),
    ("GET", "registered-models/get", {"name": "m"}, model_asks.GetRegisteredModel("m")),
    ("GET", "model-versions/get", {"name": "m", "version": "3"}, model_asks.GetModelVersion("m", 3)),
    (
        "GET",
        "registered-models/alias",
        {"name": "m", "alias": "Best"},
        model_asks.GetModelVersion("m", alias="Best"),
    ),
]
