"""The one line, against a hub as its user starts it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.exceptions import MlflowException

import tallystick.client
from tests.fakes.mlflow.schema import WithRecord
from tests.journeys.conftest import RunningHub, start_hub

pytestmark = [pytest.mark.journey, pytest.mark.slow]


class Doubles(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """A model that is small."""

    def predict(self, context: Any, model_input: list[float], params: Any = None) -> list[float]:
        return [2 * value for value in model_input]


@pytest.fixture
def tracked_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_record: WithRecord
) -> Iterator[RunningHub]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    hub = start_hub(with_record(tmp_path / "home"))
    mlflow.set_tracking_uri(hub.url.replace("http://", "tally://"))
    yield hub
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(None)
    if hub.process.poll() is None:
        hub.end()


@pytest.mark.filterwarnings("ignore")  # MLflow's own, as it logs a model
def test_all_of_mlflow_works_by_the_one_line(tracked_hub: RunningHub, tmp_path: Path) -> None:
    with mlflow.start_run() as run:
        mlflow.log_params({"depth": 3, "rate": 0.1})
        for step in range(5000):
            mlflow.log_metric("loss", 1 / (1 + step), step=step)
        mlflow.log_metrics({"nan": float("nan"), "inf": float("inf")})
        mlflow.log_text("hello", "notes/hello.txt")
        model = mlflow.pyfunc.log_model(
            name="doubles", python_model=Doubles(), registered_model_name="doubles", pip_requirements=[]
        )
        with mlflow.start_run(nested=True) as inner:
            mlflow.log_metric("depth", 2.0)
    client = mlflow.MlflowClient()
    found = client.get_run(run.info.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params == {"depth": "3", "rate": "0.1"}
    assert found.data.metrics["loss"] == 1 / 5000
    assert found.data.metrics["inf"] > 1e308
    assert [m.step for m in client.get_metric_history(run.info.run_id, "loss")] == list(range(5000))
    assert client.get_run(inner.info.run_id).data.metrics == {"depth": 2.0}
    best = client.search_runs(["0"], "metrics.depth > 1")
    assert [r.info.run_id for r in best] == [inner.info.run_id]
    assert mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/notes/hello.txt") == "hello"
    assert [f.path for f in client.list_artifacts(run.info.run_id, "notes")] == ["notes/hello.txt"]
    assert mlflow.pyfunc.load_model(model.model_uri).predict([1.0]) == [2.0]
    assert mlflow.pyfunc.load_model("models:/doubles/1").predict([4.0]) == [8.0]
    client.set_registered_model_alias("doubles", "best", 1)
    assert client.get_model_version_by_alias("doubles", "best").version == "1"


def test_our_own_call_records_what_mlflows_does(tracked_hub: RunningHub) -> None:
    client = mlflow.MlflowClient()
    runs = []
    for log in (mlflow.log_metrics, tallystick.client.log_metrics):
        with mlflow.start_run() as run:
            for step in range(-2, 50):
                odd = [float("nan"), float("inf"), float("-inf")][step % 3]
                log({"loss": step / 7, "odd": odd, "val/loss": step}, step, timestamp=1000 - step)
                log({"loss": 1.0}, step, timestamp=1000)
        runs.append(run.info.run_id)
    told = [
        [[(m.step, m.timestamp, str(m.value)) for m in client.get_metric_history(run, key)] for run in runs]
        for key in ("loss", "odd", "val/loss")
    ]
    assert all(ours == theirs for theirs, ours in told)
    assert [len(ours) for _, ours in told] == [104, 52, 52]
    theirs, ours = (client.get_run(run).data.metrics for run in runs)
    assert ours == theirs


def test_a_hub_killed_while_many_log_has_every_point_once(tracked_hub: RunningHub) -> None:
    client = mlflow.MlflowClient()
    runs = [client.create_run("0").info.run_id for _ in range(4)]
    begun = threading.Barrier(len(runs) + 1)

    def log(run: str) -> None:
        begun.wait(60)
        for step in range(20_000):
            client.log_metric(run, "m", float(step), step=step, timestamp=1)

    threads = [threading.Thread(target=log, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    begun.wait(60)
    hub = tracked_hub
    for _ in range(3):
        hub.kill()
        hub = start_hub(hub.home, "--port", hub.url.rpartition(":")[2])
    for thread in threads:
        thread.join(120)
    tallystick.client.flush()
    hub.kill()
    hub = start_hub(hub.home, "--port", hub.url.rpartition(":")[2])
    try:
        for run in runs:
            kept = client.get_metric_history(run, "m")
            assert [m.step for m in kept] == list(range(20_000))
    finally:
        hub.end()


def test_a_deleted_run_is_named_and_the_others_keep_theirs(tracked_hub: RunningHub) -> None:
    client = mlflow.MlflowClient()
    gone, there = (client.create_run("0").info.run_id for _ in range(2))
    client.delete_run(gone)
    missing = "f" * 32
    for run in (gone, there, missing):
        client.log_metric(run, "m", 1.0)
    with pytest.raises(MlflowException, match=f"{gone}.*{missing}|{missing}.*{gone}"):
        tallystick.client.flush()
    assert client.get_run(there).data.metrics == {"m": 1.0}
    client.restore_run(gone)
    client.log_metric(gone, "m", 2.0)
    assert client.get_run(gone).data.metrics == {"m": 2.0}
