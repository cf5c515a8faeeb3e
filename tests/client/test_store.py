"""The store, as MLflow's fluent API and its client use it."""

from __future__ import annotations

import math
import threading

import mlflow
import numpy as np
import pytest
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.rest_store import RestStore
from mlflow.utils.workspace_context import ServerWorkspaceContext

import tallystick.client
from tallystick.client.store import TallyStore, open_store
from tests.client.keeper import COLUMNS, Keeper

RUN = "a" * 32


def test_logging_asks_nothing_and_the_end_of_a_run_sends_all(tracked: Keeper) -> None:
    with mlflow.start_run() as run:
        for step in range(100):
            mlflow.log_metric("loss", 1 / (1 + step), step=step)
        mlflow.log_metrics({"a": 1.0, "b": 2.0}, step=7)
        assert tracked.calls(COLUMNS) == []
    points = tracked.points(run.info.run_id)
    assert [(key, step) for key, _, _, step in points[:100]] == [("loss", step) for step in range(100)]
    assert {(key, value, step) for key, value, _, step in points[100:]} == {("a", 1.0, 7), ("b", 2.0, 7)}
    assert len(tracked.calls(COLUMNS)) == 1
    ended = tracked.runs[run.info.run_id]
    assert (ended["status"], ended["points_at_end"]) == ("FINISHED", 102)


def test_nested_runs_each_get_theirs(tracked: Keeper) -> None:
    with mlflow.start_run() as outer:
        mlflow.log_metric("depth", 1)
        with mlflow.start_run(nested=True) as inner:
            mlflow.log_metric("depth", 2)
        mlflow.log_metric("depth", 3)
    assert [value for _, value, _, _ in tracked.points(outer.info.run_id)] == [1.0, 3.0]
    assert [value for _, value, _, _ in tracked.points(inner.info.run_id)] == [2.0]


def test_a_run_that_fails_still_has_what_it_logged(tracked: Keeper) -> None:
    def fail() -> None:
        with mlflow.start_run():
            mlflow.log_metric("loss", 1.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [(run["status"], run["points_at_end"]) for run in tracked.runs.values()] == [("FAILED", 1)]


def test_a_program_reads_what_it_wrote(tracked: Keeper) -> None:
    client = mlflow.MlflowClient()
    client.log_metric(RUN, "loss", 0.25)
    assert client.get_run(RUN).data.metrics == {"loss": 0.25}
    client.log_metric(RUN, "loss", 0.5, step=1)
    assert [metric.value for metric in client.get_metric_history(RUN, "loss")] == [0.25, 0.5]
    for ask in (
        lambda: client.search_runs(["0"]),
        lambda: client.delete_run(RUN),
        lambda: client.delete_experiment("0"),
    ):
        sent = len(tracked.points(RUN))
        client.log_metric(RUN, "loss", 0.5, step=2 + sent)
        ask()
        assert len(tracked.points(RUN)) == sent + 1


def test_params_and_tags_go_at_once_and_metrics_wait(tracked: Keeper) -> None:
    client = mlflow.MlflowClient()
    client.log_batch(RUN, [Metric("m", 1.0, 2, 3)], [Param("p", "1")], [RunTag("t", "2")])
    (batch,) = tracked.calls("/api/2.0/mlflow/runs/log-batch")
    assert batch.body == {
        "run_id": RUN,
        "params": [{"key": "p", "value": "1"}],
        "tags": [{"key": "t", "value": "2"}],
    }
    client.log_param(RUN, "q", 2)
    client.set_tag(RUN, "u", 3)
    assert tracked.calls(COLUMNS) == []
    tallystick.client.flush()
    assert tracked.points(RUN) == [("m", 1.0, 2, 3)]


def test_flush_is_the_stores_too(tracked: Keeper, store: TallyStore) -> None:
    mlflow.MlflowClient().log_metric(RUN, "m", 1.0)
    store.flush()
    assert len(tracked.points(RUN)) == 1
    mlflow.MlflowClient().log_metric(RUN, "m", 2.0)
    mlflow.flush_async_logging()
    assert len(tracked.points(RUN)) == 2


def test_what_was_logged_async_is_durable_when_waited_for(tracked: Keeper) -> None:
    client = mlflow.MlflowClient()
    client.log_metric(RUN, "m", 1.0, synchronous=False).wait()
    assert len(tracked.points(RUN)) == 1
    done = client.log_batch(
        RUN, [Metric("m", 2.0, 1, 1), Metric("n", 2.0, 1, 1)], [Param("p", "1")], synchronous=False
    )
    done.wait()
    assert len(tracked.points(RUN)) == 3
    assert len(tracked.calls("/api/2.0/mlflow/runs/log-batch")) == 1


def test_metrics_of_a_model_or_a_data_set_go_the_usual_way(tracked: Keeper) -> None:
    client = mlflow.MlflowClient()
    client.log_metric(RUN, "m", 1.0, model_id="m-1")
    client.log_metric(RUN, "m", 1.0, dataset_name="d", dataset_digest="1")
    client.log_batch(RUN, [Metric("m", 1.0, 1, 1, model_id="m-1"), Metric("n", 1.0, 1, 1)])
    assert len(tracked.calls("/api/2.0/mlflow/runs/log-metric")) == 2
    (batch,) = tracked.calls("/api/2.0/mlflow/runs/log-batch")
    assert [metric["key"] for metric in batch.body["metrics"]] == ["m"]
    tallystick.client.flush()
    assert [key for key, *_ in tracked.points(RUN)] == ["n"]


@pytest.mark.parametrize(
    ("key", "value", "timestamp", "step"),
    [
        ("", 1.0, 1, 1),
        ("a\nb", 1.0, 1, 1),
        ("../a", 1.0, 1, 1),
        ("k" * 251, 1.0, 1, 1),
        (None, 1.0, 1, 1),
        (7, 1.0, 1, 1),
        ("m", None, 1, 1),
        ("m", "high", 1, 1),
        ("m", True, 1, 1),
        ("m", 1.0, -1, 1),
        ("m", 1.0, "now", 1),
        ("m", 1.0, 1, "one"),
        ("m", 1.0, 1, 2.5),
        ("m", 1.0, 1, 1 << 63),
        ("m", 1.0, 1 << 63, 1),
    ],
)
def test_what_cannot_be_logged_is_an_error_at_the_call(
    store: TallyStore, tracked: Keeper, key: object, value: object, timestamp: object, step: object
) -> None:
    metric = Metric(key, value, timestamp, step)  # type: ignore[arg-type]
    with pytest.raises((MlflowException, TypeError, ValueError)):
        store.log_metric(RUN, metric)
    with pytest.raises((MlflowException, TypeError, ValueError)):
        store.log_batch(RUN, [Metric("fine", 1.0, 1, 1), metric], [Param("p", "1")], [])
    store.flush()
    assert tracked.asked == []


@pytest.mark.parametrize("run_id", ["", "a/b", "a" * 300])
def test_a_run_id_that_cannot_be_is_an_error_at_the_call(store: TallyStore, run_id: str) -> None:
    with pytest.raises(MlflowException):
        store.log_metric(run_id, Metric("m", 1.0, 1, 1))


def test_numbers_of_any_kind_are_numbers(store: TallyStore, tracked: Keeper) -> None:
    client = mlflow.MlflowClient()
    client.log_metric(np.str_(RUN), np.str_("m"), np.float32(0.5), step=np.int64(3), timestamp=np.int64(4))
    client.log_metric(RUN, "m", 7, step=4, timestamp=4)
    client.log_metric(RUN, "m", "0.25", step=5, timestamp=4)
    client.log_metric(RUN, "m", np.array([0.75]), step=-6, timestamp=4)
    store.flush()
    assert tracked.points(RUN) == [("m", 0.5, 4, 3), ("m", 7.0, 4, 4), ("m", 0.25, 4, 5), ("m", 0.75, 4, -6)]


def test_nan_and_infinities_arrive(store: TallyStore, tracked: Keeper) -> None:
    for value in (math.nan, math.inf, -math.inf):
        mlflow.MlflowClient().log_metric(RUN, "m", value)
    store.flush()
    assert [value for _, value, _, _ in tracked.points(RUN)] == ["NaN", "Infinity", "-Infinity"]


def test_more_names_than_are_remembered(
    store: TallyStore, tracked: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallystick.client.store._KNOWN_MAX", 3)
    for at in range(20):
        store.log_metric(f"run{at % 5}", Metric(f"m{at}", 1.0, 1, 1))
    store.flush()
    assert sum(len(tracked.points(f"run{at}")) for at in range(5)) == 20


def test_a_run_that_was_deleted_is_named_at_its_end(tracked: Keeper) -> None:
    run = mlflow.start_run()
    tracked.refused[run.info.run_id] = (400, "INVALID_PARAMETER_VALUE")
    mlflow.log_metric("m", 1.0)
    with pytest.raises(MlflowException, match=run.info.run_id) as error:
        mlflow.end_run()
    assert error.value.error_code == "INVALID_PARAMETER_VALUE"


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
def test_a_busy_hub_is_asked_again_under_the_same_id(store: TallyStore, tracked: Keeper, status: int) -> None:
    tracked.scripted.append((status, {"error_code": "X", "message": "not now"}, {"retry-after": "0"}))
    mlflow.MlflowClient().log_metric(RUN, "m", 1.0)
    store.flush()
    first, second = tracked.calls(COLUMNS)
    assert first.body == second.body
    assert len(tracked.points(RUN)) == 1


def test_an_answer_that_was_lost_applies_nothing_twice(store: TallyStore, tracked: Keeper) -> None:
    tracked.mute = 2
    mlflow.MlflowClient().log_metric(RUN, "m", 1.0)
    store.flush()
    assert len(tracked.calls(COLUMNS)) == 3
    assert len(tracked.points(RUN)) == 1


@pytest.mark.parametrize(
    ("status", "said"), [(404, {}), (405, {"detail": "x"}), (200, {"hello": "proxy"}), (401, {}), (403, {})]
)
def test_a_server_that_is_no_hub_is_said_so_at_once_and_points_are_kept(
    store: TallyStore, tracked: Keeper, status: int, said: dict[str, str]
) -> None:
    tracked.scripted.append((status, said, {}))
    mlflow.MlflowClient().log_metric(RUN, "m", 1.0)
    with pytest.raises(MlflowException, match=rf"HTTP {status}"):
        store.flush()
    store.flush()
    assert len(tracked.points(RUN)) == 1


def test_a_request_over_the_hubs_limit_is_split(store: TallyStore, tracked: Keeper) -> None:
    tracked.scripted.append((413, {"error_code": "INVALID_PARAMETER_VALUE", "message": "too large"}, {}))
    mlflow.MlflowClient().log_batch(RUN, [Metric("m", 1.0, 1, step) for step in range(10)])
    store.flush()
    assert [step for *_, step in tracked.points(RUN)] == list(range(10))
    assert len(tracked.calls(COLUMNS)) == 3


def test_credentials_and_workspace_go_along(
    store: TallyStore, tracked: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")
    client = mlflow.MlflowClient()
    with ServerWorkspaceContext("red"):
        client.log_metric(RUN, "m", 1.0)
    client.log_metric(RUN, "m", 2.0)
    store.flush()
    sent = {asked.headers.get("x-mlflow-workspace"): asked for asked in tracked.calls(COLUMNS)}
    assert set(sent) == {"red", None}
    assert all(asked.headers["authorization"] == "Bearer secret" for asked in sent.values())
    assert all(asked.headers["content-type"] == "application/json" for asked in sent.values())


def test_points_of_no_workspace_stay_so(
    store: TallyStore, tracked: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow.MlflowClient().log_metric(RUN, "m", 1.0)
    monkeypatch.setenv("MLFLOW_WORKSPACE", "red")
    tallystick.client.flush()
    assert [asked.headers.get("x-mlflow-workspace") for asked in tracked.calls(COLUMNS)] == ["default"]


def test_threads_share_a_run(tracked: Keeper) -> None:
    client = mlflow.MlflowClient()
    threads = [
        threading.Thread(
            target=lambda at=at: [client.log_metric(RUN, f"m{at}", 1.0, step=step) for step in range(200)]
        )
        for at in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tallystick.client.flush()
    points = tracked.points(RUN)
    for at in range(8):
        assert [step for key, _, _, step in points if key == f"m{at}"] == list(range(200))


def test_links_are_http(tracked: Keeper, capsys: pytest.CaptureFixture[str]) -> None:
    with mlflow.start_run():
        pass
    assert f"at: {tracked.url}/#/experiments/0" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["FLUSH_MS", "BUFFER_POINTS", "RETRY_S"])
@pytest.mark.parametrize("word", ["soon", "-1", "1.5", "99999999999"])
def test_a_variable_that_is_no_number_is_named(monkeypatch: pytest.MonkeyPatch, name: str, word: str) -> None:
    monkeypatch.setenv(f"TALLY_CLIENT_{name}", word)
    with pytest.raises(MlflowException, match=f"TALLY_CLIENT_{name} is '{word}'"):
        open_store("tally://127.0.0.1:5000")


@pytest.mark.parametrize(
    ("uri", "host"),
    [
        ("tally://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("tally+http://hub:1/", "http://hub:1"),
        ("tally+https://hub/under/", "https://hub/under"),
    ],
)
def test_addresses(uri: str, host: str) -> None:
    store = open_store(uri, None)
    assert isinstance(store, RestStore)
    assert store.get_host_creds().host == host


@pytest.mark.parametrize("uri", ["tally://", "tally:///x", "tally:127.0.0.1", "tally://h?flush=1"])
def test_addresses_that_cannot_be(uri: str) -> None:
    with pytest.raises(MlflowException, match="no address of a hub"):
        open_store(uri)
