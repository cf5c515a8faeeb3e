"""Requests that random sessions seldom hold: batches at their limits, and odd spellings."""

from __future__ import annotations

import json
from typing import Any

from tests.differential.twin import Call

__all__ = ["API", "BATCHES", "RUN", "SPELLINGS", "of_model", "pairs", "points", "post"]

API = "/api/2.0/mlflow"
RUN = {"run_id": "@run:0@"}


def post(route: str, **body: Any) -> Call:
    return Call("POST", f"{API}/{route}", body)


def points(count: int, key: str = "m") -> list[dict[str, Any]]:
    return [{"key": f"{key}{n}", "value": n, "timestamp": 1, "step": 0} for n in range(count)]


def of_model(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{**point, "model_id": "@model:0@", **more} for point in points(count)]


def pairs(count: int, value: str = "v") -> list[dict[str, str]]:
    return [{"key": f"k{n}", "value": value} for n in range(count)]


BATCHES: dict[str, dict[str, Any]] = {
    "1000 metrics": {"metrics": points(1000)},
    "1001 metrics": {"metrics": points(1001)},
    "100 params": {"params": pairs(100)},
    "101 params": {"params": pairs(101)},
    "100 tags": {"tags": pairs(100)},
    "101 tags": {"tags": pairs(101)},
    "1000 together": {"metrics": points(800), "params": pairs(100), "tags": pairs(100)},
    "1001 together": {"metrics": points(801), "params": pairs(100), "tags": pairs(100)},
    "a megabyte": {"params": pairs(100, "x" * 6000), "tags": pairs(100, "y" * 5000)},
    "nothing": {},
    "empty": {"metrics": [], "params": [], "tags": []},
    "one key twice, one value": {"params": [*pairs(1), *pairs(1)]},
    "one key twice, two values": {"params": [*pairs(1), *pairs(1, "w")]},
    "one tag twice": {"tags": [*pairs(1), *pairs(1, "w")]},
    "one point twice": {"metrics": [*points(1), *points(1)]},
    "a param of 6000": {"params": pairs(1, "ü" * 6000)},
    "a param of 6001": {"params": pairs(1, "x" * 6001)},
    "a tag of 8000": {"tags": pairs(1, "ü" * 8000)},
    "a tag of 8001": {"tags": pairs(1, "x" * 8001)},
    "a key of 250": {"metrics": [{"key": "ü" * 250, "value": 1, "timestamp": 1}]},
    "a key of 251": {"metrics": [{"key": "k" * 251, "value": 1, "timestamp": 1}]},
    "a bad key last": {"metrics": [*points(2), {"key": "a:b", "value": 1, "timestamp": 1}], "tags": pairs(1)},
    "a bad param, good metrics": {"metrics": points(2), "params": pairs(1, "x" * 6001), "tags": pairs(1)},
    "a value without its key": {"metrics": [{"value": 1, "timestamp": 1}]},
    "a point without its value": {"metrics": [{"key": "a", "timestamp": 1}]},
    "a point without its time": {"metrics": [{"key": "a", "value": 1}]},
    "a tag without a value": {"tags": [{"key": "a"}]},
    "a param without a value": {"params": [{"key": "a"}]},
    "a null in a list": {"metrics": [None]},
    "not a list": {"metrics": {"key": "a", "value": 1, "timestamp": 1}},
    "null for a list": {"metrics": None, "params": None, "tags": None},
    "a run's name": {"tags": [{"key": "mlflow.runName", "value": "renamed"}]},
    "an empty name": {"tags": [{"key": "mlflow.runName", "value": ""}]},
    "a point with a model twice": {"metrics": [*of_model(1), *of_model(1)]},
    "a point with a model twice, two values": {"metrics": [*of_model(1), *of_model(1, value=5)]},
    "a point with a model twice, two runs": {"metrics": [*of_model(1), *of_model(1, run_id="@run:1@")]},
    "a point with a model twice, not a number": {"metrics": of_model(1, value="NaN") * 2},
    "zeros of a model": {"metrics": [*of_model(1, value=0.0), *of_model(1, value=-0.0)]},
    "a point with a model and one without": {"metrics": [*of_model(1), *points(1), *points(2)]},
    "infinities of a model": {"metrics": [*of_model(1, value="-Infinity"), *of_model(2, value="Infinity")]},
    "a model that nobody made": {
        "metrics": [*of_model(2), *of_model(1, model_id="m-none")],
        "params": pairs(1),
    },
    "a dataset without its digest": {"metrics": of_model(1, dataset_name="d")},
    "a dataset without a model": {"metrics": of_model(1, model_id="", dataset_name="d", dataset_digest="1")},
    "half a dataset without a model": {"metrics": of_model(1, model_id="", dataset_digest="1")},
    "a dataset's long name": {"metrics": of_model(1, dataset_name="d" * 501, dataset_digest="1")},
    "a model and a bad param": {"metrics": of_model(1), "params": pairs(1, "x" * 6001)},
    "1000 with a model": {"metrics": of_model(1000)},
    "points with a model": {
        "metrics": [
            {**p, "model_id": "@model:0@", "dataset_name": "d", "dataset_digest": "1"} for p in points(2)
        ]
    },
}

SPELLINGS: dict[str, Call] = {
    "camelCase": post("runs/log-metric", runId="@run:0@", key="m", value=1, timestamp=1),
    "run_uuid": post("runs/log-metric", run_uuid="@run:0@", key="m", value=1, timestamp=1),
    "runUuid": post("runs/log-metric", runUuid="@run:0@", key="m", value=1, timestamp=1),
    "both, alike": post("runs/log-metric", run_id="@run:0@", runId="@run:0@", key="m", value=1, timestamp=1),
    "run_id and run_uuid": post(
        "runs/log-metric", run_id="@run:0@", run_uuid="@run:1@", key="m", value=1, timestamp=1
    ),
    "numbers as text": post("runs/log-metric", **RUN, key="m", value="1.5", timestamp="12", step="-3"),
    "whole floats": post("runs/log-metric", **RUN, key="m", value=1, timestamp=12.0, step=3.0),
    "a step of 2^63": post("runs/log-metric", **RUN, key="m", value=1, timestamp=12, step=2**63),
    "a step of 2^63 - 1": post(
        "runs/log-metric", **RUN, key="m", value=1, timestamp=2**63 - 1, step=2**63 - 1
    ),
    "a value of 2^64": post("runs/log-metric", **RUN, key="m", value=2**64, timestamp=1),
    "a value beyond doubles": Call(
        "POST",
        f"{API}/runs/log-metric",
        raw='{"run_id": "@run:0@", "key": "m", "value": 1e999, "timestamp": 1}',
    ),
    "a status by number": post("runs/update", **RUN, status=3),
    "a status by text number": post("runs/update", **RUN, status="3"),
    "no status": post("runs/update", **RUN),
    "an end of 0": post("runs/update", **RUN, status="FINISHED", end_time=0),
    "an empty name": post("runs/update", **RUN, run_name=""),
    "a long name": post("runs/update", **RUN, run_name="n" * 251),
    "a very long name": post("runs/update", **RUN, run_name="n" * 9000),
    "nothing at all": Call("POST", f"{API}/runs/log-metric", raw=""),
    "null": Call("POST", f"{API}/runs/log-metric", raw="null"),
    "a number": Call("POST", f"{API}/runs/log-metric", raw="5"),
    "a list": Call("POST", f"{API}/runs/log-metric", raw="[]"),
    "a BOM": Call("POST", f"{API}/runs/set-tag", raw='\ufeff{"run_id": "@run:0@", "key": "k", "value": "v"}'),
    "JSON in JSON": Call(
        "POST", f"{API}/runs/set-tag", raw=json.dumps('{"run_id": "@run:0@", "key": "k", "value": "v"}')
    ),
    "no JSON in JSON": Call("POST", f"{API}/runs/set-tag", raw='"x"'),
    "a lone surrogate": Call(
        "POST", f"{API}/runs/set-tag", raw='{"run_id": "@run:0@", "key": "k", "value": "\\ud800"}'
    ),
    "a pair of surrogates": Call(
        "POST", f"{API}/runs/set-tag", raw='{"run_id": "@run:0@", "key": "k", "value": "\\ud83d\\ude00"}'
    ),
    "a NUL": Call(
        "POST", f"{API}/runs/set-tag", raw='{"run_id": "@run:0@", "key": "k", "value": "a\\u0000b"}'
    ),
    "no content type": Call(
        "POST",
        f"{API}/runs/set-tag",
        raw='{"run_id": "@run:0@", "key": "k", "value": "v"}',
        headers={"content-type": ""},
    ),
    "a form": Call(
        "POST",
        f"{API}/runs/set-tag",
        raw="run_id=@run:0@&key=k&value=v",
        headers={"content-type": "application/x-www-form-urlencoded"},
    ),
    "the query of a POST": Call(
        "POST", f"{API}/runs/set-tag", {"key": "k", "value": "v"}, params=(("run_id", "@run:0@"),)
    ),
    "a GET with a body": Call("GET", f"{API}/runs/get", {"run_id": "@run:0@"}),
    "a GET with both": Call("GET", f"{API}/runs/get", {"run_id": "@run:0@"}, params=(("run_id", "@run:1@"),)),
    "a GET with an id twice": Call(
        "GET", f"{API}/runs/get", params=(("run_id", "@run:1@"), ("run_id", "@run:0@"))
    ),
    "a GET by camelCase": Call("GET", f"{API}/runs/get", params=(("runId", "@run:0@"),)),
    "a GET by run_uuid": Call("GET", f"{API}/runs/get", params=(("run_uuid", "@run:0@"),)),
    "a GET for nothing": Call("GET", f"{API}/runs/get"),
    "a HEAD": Call("HEAD", f"{API}/runs/get", params=(("run_id", "@run:0@"),)),
    "the wrong method": Call("GET", f"{API}/runs/create"),
    "another wrong method": Call(
        "PUT", f"{API}/runs/log-metric", {**RUN, "key": "m", "value": 1, "timestamp": 1}
    ),
    "a slash at the end": Call(
        "POST", f"{API}/runs/log-metric/", {**RUN, "key": "m", "value": 1, "timestamp": 1}
    ),
    "another version": Call(
        "POST", "/api/1.0/mlflow/runs/log-metric", {**RUN, "key": "m", "value": 1, "timestamp": 1}
    ),
    "an upper-case id": post("runs/log-metric", run_id="ABCDEF", key="m", value=1, timestamp=1),
    "a key with NUL": post("runs/log-metric", **RUN, key="a\x00b", value=1, timestamp=1),
    "an experiment by number": post("runs/create", experiment_id=0, start_time=77),
    "an experiment of text": post("runs/create", experiment_id="x", start_time=77),
    "an experiment of blanks": post("runs/create", experiment_id=" 0", start_time=77),
    "an experiment with zeros": post("runs/create", experiment_id="00", start_time=77),
    "an experiment nobody made": post("runs/create", experiment_id="123456", start_time=77),
    "name and tag alike": post(
        "runs/create",
        experiment_id="@experiment:0@",
        start_time=77,
        run_name="n",
        tags=[{"key": "mlflow.runName", "value": "n"}],
    ),
    "name and tag unlike": post(
        "runs/create",
        experiment_id="@experiment:0@",
        start_time=77,
        run_name="n",
        tags=[{"key": "mlflow.runName", "value": "o"}],
    ),
    "a name by its tag": post(
        "runs/create",
        experiment_id="@experiment:0@",
        start_time=77,
        tags=[{"key": "mlflow.runName", "value": "o"}],
    ),
    "a parent": post(
        "runs/create",
        experiment_id="@experiment:0@",
        start_time=77,
        tags=[{"key": "mlflow.parentRunId", "value": "@run:0@"}],
    ),
    "a tag twice": post(
        "runs/create",
        experiment_id="@experiment:0@",
        start_time=77,
        tags=[{"key": "a", "value": "1"}, {"key": "a", "value": "2"}],
    ),
    "no start": post("runs/create", experiment_id="@experiment:0@"),
    "an experiment's name again": post("experiments/create", name="Default"),
    "an experiment's empty name": post("experiments/create", name=""),
    "an experiment's long name": post("experiments/create", name="n" * 501),
    "an experiment with a NUL": post("experiments/create", name="a\x00corner"),
    "an artifact location up": post(
        "experiments/create", name="corner up", artifact_location="mlflow-artifacts:/../x"
    ),
    "an artifact location with a fragment": post(
        "experiments/create", name="corner fragment", artifact_location="s3://b/x#y"
    ),
    "a model's name": post("logged-models", experiment_id="@experiment:0@", name="a:b"),
    "a model without a name": post("logged-models", experiment_id="@experiment:0@"),
    "a tag's removal that is not there": post("runs/delete-tag", **RUN, key="none"),
}
