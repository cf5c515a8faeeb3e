"""A plain session of the stock client is answered by the hub alone: MLflow's own server is never started."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.differential.asked.corners import API, of_model, pairs, points, post
from tests.differential.conftest import ON_POSTGRES, Pair
from tests.differential.servers import child_runs, hub_at
from tests.differential.twin import Call, Side
from tests.journeys.conftest import RunningHub

pytestmark = [pytest.mark.slow, pytest.mark.skipif(ON_POSTGRES, reason="it copies stock's file")]

SESSION = """
import json, mlflow
client = mlflow.MlflowClient()
mlflow.set_experiment(experiment_id=client.create_experiment("plain"))
with mlflow.start_run(run_name="first", description="words") as run:
    mlflow.log_params({"lr": 0.1, "depth": 3})
    mlflow.log_param("opt", "adam")
    for step in range(5):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
    mlflow.log_metrics({"acc": 0.5, "f1": float("nan")}, step=1)
    mlflow.set_tag("stage", "dev")
    mlflow.set_tags({"a": "1", "b": "2"})
    mlflow.delete_tag("a")
    with mlflow.start_run(nested=True, run_name="child"):
        mlflow.log_metric("loss", 2)
run_id = run.info.run_id
with mlflow.start_run(run_id=run_id):
    mlflow.log_metric("loss", 0.01, step=9)
found = mlflow.search_runs(
    experiment_names=["plain"], filter_string="metrics.loss < 1 and tags.stage = 'dev'",
    order_by=["metrics.loss DESC"], output_format="list")
client.delete_run(found[0].info.run_id)
client.restore_run(found[0].info.run_id)
print(json.dumps({
    "found": [r.info.run_id for r in found],
    "run": run_id,
    "status": client.get_run(run_id).info.status,
    "history": [m.value for m in client.get_metric_history(run_id, "loss")],
    "experiments": sorted(e.name for e in mlflow.search_experiments()),
}))
"""


@pytest.fixture
def hub(pair: Pair, tmp_path: Path) -> Iterator[RunningHub]:
    """A hub on a database that MLflow made."""
    mine, database = tmp_path / "old mlflow.db", pair.databases[0].removeprefix("sqlite:///")
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(mine)) as copy:
        source.backup(copy)
    with hub_at(tmp_path / "home", "--database", f"sqlite:///{mine}") as running:
        yield running


FITS = """
import json, mlflow
import pandas as pd
from sklearn.linear_model import LogisticRegression
client = mlflow.MlflowClient()
experiment_id = client.create_experiment("fits")
mlflow.set_experiment(experiment_id=experiment_id)
x = pd.DataFrame({"a": range(20), "b": [n % 3 for n in range(20)]})
y = x["a"] > 9
mlflow.sklearn.autolog(log_datasets=True)
with mlflow.start_run() as run:
    fitted = LogisticRegression().fit(x, y)
    fitted.score(x, y)
mlflow.sklearn.autolog(disable=True)
rows = mlflow.data.from_pandas(x.assign(y=y), name="rows", targets="y")
with mlflow.start_run():
    info = mlflow.sklearn.log_model(
        fitted, name="by hand", signature=mlflow.models.infer_signature(x, fitted.predict(x)),
        input_example=x.head(2), params={"lr": 1}, tags={"stage": "dev"}, metadata={"of": "ours"})
    mlflow.log_input(rows, context="eval")
    mlflow.log_metric("acc", 0.5, step=1, model_id=info.model_id, dataset=rows)
    mlflow.log_metrics({"f1": 0.5, "odd": float("nan")}, step=1, model_id=info.model_id, dataset=rows)
    mlflow.log_model_params({"late": "1"}, model_id=info.model_id)
client.set_logged_model_tags(info.model_id, {"a": "1", "b": "2"})
client.delete_logged_model_tag(info.model_id, "a")
(auto,) = mlflow.search_logged_models(
    [experiment_id], filter_string="name = 'model'", output_format="list")
found = mlflow.get_logged_model(info.model_id)
mlflow.set_active_model(name="by hand")
print(json.dumps({
    "auto": sorted(m.key for m in auto.metrics),
    "auto_run": sorted(client.get_run(run.info.run_id).data.metrics),
    "auto_rows": sorted({(m.dataset_name, bool(m.dataset_digest)) for m in auto.metrics if m.dataset_name}),
    "metrics": sorted((m.key, m.value, m.dataset_name) for m in found.metrics),
    "params": found.params,
    "tags": {k: v for k, v in found.tags.items() if "." not in k},
    "status": str(found.status),
}))
"""


def said_by(hub: RunningHub, session: str) -> dict[str, Any]:
    """What a session of the stock client prints in the end."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(hub.home),
        "MPLCONFIGDIR": str(hub.home),
        "MLFLOW_TRACKING_URI": hub.url,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_PYTHON_REFRESH": "quiet",
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", session],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return said


def test_a_fit_with_its_model(hub: RunningHub) -> None:
    """Autologging and a logged model need the hub alone, artifacts included."""
    said = said_by(hub, FITS)
    assert said["auto"] == said["auto_run"]
    assert "training_accuracy_score" in said["auto"]
    assert said["auto_rows"] == [["dataset", True]]
    assert said["metrics"] == [["acc", 0.5, "rows"], ["f1", 0.5, "rows"], ["odd", 0.0, "rows"]]
    assert said["params"] == {"lr": "1", "late": "1"}
    assert said["tags"] == {"stage": "dev", "b": "2"}
    assert said["status"] == "READY"
    assert not child_runs(hub.home), "MLflow's own server was started for a fit"


def test_the_stock_client(hub: RunningHub) -> None:
    said = said_by(hub, SESSION)
    assert said["found"] == [said["run"]]
    assert said["status"] == "FINISHED"
    assert said["history"] == [1, 0.5, 1 / 3, 0.25, 0.2, 0.01]
    assert "plain" in said["experiments"]
    assert not child_runs(hub.home), "MLflow's own server was started for a plain session"


MODEL_JSON = json.dumps(
    {
        "artifact_path": "m",
        "flavors": {},
        "utc_time_created": "2020-01-01 00:00:00.000000",
        "run_id": "@run:0@",
    }
)
SIGNED_JSON = json.dumps(
    {
        **json.loads(MODEL_JSON),
        "signature": {"inputs": '[{"type": "double", "name": "a", "required": true}]', "params": None},
        "model_size_bytes": 1,
        "is_signature_from_type_hint": False,
    }
)
ROWS = {"dataset_name": "rows", "dataset_digest": "1"}
DATASET = {
    "dataset": {"name": "d", "digest": "1", "source_type": "local", "source": "{}"},
    "tags": [{"key": "mlflow.data.context", "value": "train"}],
}
RUN, EXPERIMENT = {"run_id": "@run:0@"}, {"experiment_id": "@experiment:0@"}
HISTORY = (("run_id", "@run:0@"), ("metric_key", "m1"))

PLAIN = [
    post("experiments/create", name="hot", tags=pairs(2)),
    Call("GET", f"{API}/experiments/get", params=(("experiment_id", "@experiment:0@"),)),
    Call("GET", f"{API}/experiments/get-by-name", params=(("experiment_name", "hot"),)),
    post("experiments/search", max_results=100, filter="name LIKE 'h%'", order_by=["name DESC"]),
    post("experiments/update", **EXPERIMENT, new_name="hotter"),
    post("experiments/set-experiment-tag", **EXPERIMENT, key="t", value="v"),
    post("experiments/delete-experiment-tag", **EXPERIMENT, key="t"),
    post("runs/create", **EXPERIMENT, start_time=1, run_name="r", user_id="me", tags=pairs(2)),
    post("runs/log-metric", **RUN, key="m1", value=0.5, timestamp=1, step=1),
    post("runs/log-metric", **RUN, key="odd", value="NaN", timestamp=1, step=2),
    post("runs/log-metric", **RUN, key="odd", value="Infinity", timestamp=1, step=3),
    post("runs/log-batch", **RUN, metrics=points(10), params=pairs(3), tags=pairs(3)),
    post("runs/log-parameter", **RUN, key="p", value="v"),
    post("runs/log-parameter", **RUN, key="p", value="v"),
    post("runs/set-tag", **RUN, key="t", value="ünï"),
    post("runs/delete-tag", **RUN, key="t"),
    post("runs/log-inputs", **RUN, datasets=[DATASET]),
    post("runs/log-model", **RUN, model_json=MODEL_JSON),
    post("runs/log-model", **RUN, model_json=SIGNED_JSON),
    post("logged-models", **EXPERIMENT, name="lm", source_run_id="@run:0@", params=pairs(2), tags=pairs(2)),
    Call(
        "PATCH", f"{API}/logged-models/@model:0@", {"model_id": "@model:0@", "status": "LOGGED_MODEL_READY"}
    ),
    Call("GET", f"{API}/logged-models/@model:0@"),
    post("logged-models/search", experiment_ids=["@experiment:0@"], max_results=10),
    post("logged-models/search", experiment_ids=["@experiment:0@"], filter="name = 'lm'"),
    post("runs/log-metric", **RUN, key="one", value=0.5, timestamp=1, model_id="@model:0@"),
    post("runs/log-metric", **RUN, key="one", value=0.5, timestamp=1, model_id="@model:0@"),
    post("runs/log-metric", **RUN, key="two", value="NaN", timestamp=1, model_id="@model:0@", **ROWS),
    post("runs/log-metric", **RUN, key="three", value=1, timestamp=1, **ROWS),
    post("runs/log-batch", **RUN, metrics=[{**p, **ROWS} for p in of_model(9, run_id="@run:0@")]),
    post("logged-models/@model:0@/params", model_id="@model:0@", params=[{"key": "late", "value": "1"}]),
    Call("PATCH", f"{API}/logged-models/@model:0@/tags", {"tags": pairs(3, "w")}),
    Call("DELETE", f"{API}/logged-models/@model:0@/tags/k2"),
    Call("GET", f"{API}/logged-models/@model:0@"),
    post("runs/outputs", **RUN, models=[{"model_id": "@model:0@", "step": 1}]),
    Call("GET", f"{API}/runs/get", params=(("run_id", "@run:0@"),)),
    Call("GET", f"{API}/metrics/get-history", params=HISTORY),
    Call("GET", f"{API}/metrics/get-history", params=(*HISTORY, ("max_results", "2"))),
    Call("GET", "/ajax-api/2.0/mlflow/metrics/get-history-bulk", params=HISTORY),
    Call(
        "GET",
        f"{API}/metrics/get-history-bulk-interval",
        params=(("run_ids", "@run:0@"), *HISTORY[1:], ("max_results", "2")),
    ),
    post(
        "runs/search",
        experiment_ids=["@experiment:0@"],
        filter="metrics.m1 > 0 AND params.p ILIKE 'V%'",
        order_by=["metrics.m1 DESC", "start_time"],
    ),
    post("runs/search", experiment_ids=["@experiment:0@"], run_view_type="ALL", max_results=1),
    Call("POST", "/ajax-api/2.0/mlflow/runs/search", {"experiment_ids": ["@experiment:0@"]}),
    post("runs/update", **RUN, status="FINISHED", end_time=9, run_name="done"),
    post("runs/delete", **RUN),
    post("runs/restore", **RUN),
    Call("GET", f"{API}/registered-models/get", params=(("name", "native model"),)),
    Call("GET", f"{API}/registered-models/alias", params=(("name", "native model"), ("alias", "champion"))),
    Call("GET", f"{API}/model-versions/get", params=(("name", "native model"), ("version", "1"))),
    Call(
        "GET", f"{API}/model-versions/get-download-uri", params=(("name", "native model"), ("version", "1"))
    ),
    post("experiments/delete", **EXPERIMENT),
    post("experiments/restore", **EXPERIMENT),
]
"""One or more plain requests of each hot route."""


@pytest.fixture
def registered(pair: Pair) -> None:
    """Stock has a registered model with a version and an alias; the hub's database is a copy of stock's."""
    with closing(Side("stock", pair.stock.url)) as side:
        side.send(post("registered-models/create", name="native model"))
        side.send(post("model-versions/create", name="native model", source="s3://b/m"))
        side.send(post("registered-models/alias", name="native model", alias="champion", version="1"))


@pytest.fixture
def side(hub: RunningHub) -> Iterator[Side]:
    with closing(Side("hub", hub.url)) as one:
        yield one


def test_every_hot_route(registered: None, hub: RunningHub, side: Side) -> None:
    for call in PLAIN:
        answer = side.send(call)
        assert answer.status == 200, (call, answer)
        for kind, find in (
            ("experiment", ("experiment_id",)),
            ("run", ("run", "info", "run_id")),
            ("model", ("model", "info", "model_id")),
        ):
            value = answer.body
            for name in find:
                value = value.get(name) if isinstance(value, dict) else None
            if value:
                side.learn(kind, value)
        assert not child_runs(hub.home), f"MLflow's own server was started for {call}"


def test_it_starts_for_what_is_not_plain(hub: RunningHub, side: Side) -> None:
    answer = side.send(post("runs/log-metric", run_id="missing", key="m", value=1, timestamp=1))
    assert (answer.status, answer.body["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert child_runs(hub.home)


def test_the_hub_itself_stays_light(hub: RunningHub, side: Side) -> None:
    for call in PLAIN[:9]:
        side.send(call)
    maps = Path(f"/proc/{hub.process.pid}/maps").read_text()
    for heavy in ("numpy", "pyarrow", "sqlalchemy", "pandas", "google/_upb"):
        assert heavy not in maps, f"{heavy} is loaded in the hub's own process"
