"""``log_metrics`` beside MLflow's own: the same is recorded, and raised, whatever is said."""

from __future__ import annotations

import math
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import mlflow
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mlflow.data.meta_dataset import MetaDataset
from mlflow.data.sources import LocalArtifactDatasetSource
from mlflow.entities import LoggedModelOutput
from mlflow.exceptions import MlflowException
from mlflow.tracking.fluent import _get_active_model_context
from mlflow.utils.workspace_context import ServerWorkspaceContext

import tallystick.client
from tallystick.client import log_metrics
from tallystick.client.store import TallyStore
from tests.client.keeper import COLUMNS, Keeper

NOW_MS = 1_234
Call = dict[str, Any]
RUNS_GET = "/api/2.0/mlflow/runs/get"
LOG_BATCH = "/api/2.0/mlflow/runs/log-batch"
RUN = "a" * 32


class Tensor:
    """As torch's, as far as MLflow looks."""

    def __init__(self, value: float) -> None:
        self.value = value

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return self

    def item(self) -> float:
        return self.value


class Torch:
    """The module, as far as MLflow looks."""

    Tensor = Tensor


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlflow.tracking.fluent.get_current_time_millis", lambda: NOW_MS)
    monkeypatch.setattr("tallystick.client.metrics.get_current_time_millis", lambda: NOW_MS)


@pytest.fixture
def quick(store: TallyStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Whether each call went the quick way."""
    went: list[bool] = []
    real = store.log_row

    def log_row(*args: Any) -> bool:
        went.append(real(*args))
        return went[-1]

    monkeypatch.setattr(store, "log_row", log_row)
    return went


def outcome(log: Callable[..., Any], call: Call) -> str:
    """What a call comes to for its caller."""
    try:
        return type(log(**call)).__name__
    except Exception as error:  # noqa: BLE001 - whatever MLflow raises
        return f"{type(error).__name__}: {error}"


def recorded(keeper: Keeper, log: Callable[..., Any], calls: list[Call]) -> tuple[Any, ...]:
    """Outcomes, points, and all other requests of calls in a run of their own, the run's id left out."""
    with mlflow.start_run() as run:
        run_id = run.info.run_id
        asked = len(keeper.asked)
        named = [call | {"run_id": run_id} if call.get("run_id") else call for call in calls]
        outcomes = [outcome(log, call).replace(run_id, "RUN") for call in named]
        mlflow.flush_async_logging()
        others = [
            f"{one.method} {one.path} {one.body}".replace(run_id, "RUN")
            for one in keeper.asked[asked:]
            if one.path not in (COLUMNS, RUNS_GET)
        ]
    return outcomes, sorted(map(str, keeper.points(run_id))), others


VALUES = st.one_of(
    st.floats(),
    st.integers(),
    st.sampled_from([True, None, "0.5", "nan", "high", 10**400, [1.0], np.float32(0.1), np.int64(-3)]),
    st.sampled_from([np.array([0.75]), np.array([1.0, 2.0]), np.float64("nan"), math.inf, -math.inf]),
)
KEYS = st.one_of(
    st.sampled_from(
        ["loss", "val/loss", "a b", "../x", "", "k" * 251, "é", "a\nb", np.str_("loss"), 7, None]
    ),
    st.sampled_from(["loss", "acc", "rate"]),
)
CALLS = st.fixed_dictionaries(
    {"metrics": st.dictionaries(KEYS, VALUES, max_size=4)},
    optional={
        "step": st.one_of(
            st.none(), st.integers(-(2**64), 2**64), st.sampled_from([0.0, 2.5, True, np.int64(4), "1"])
        ),
        "timestamp": st.one_of(st.none(), st.integers(-1, 2**64), st.sampled_from([1.5, "now", np.int64(9)])),
        "synchronous": st.sampled_from([None, True]),
        "run_id": st.just(True),
    },
)


@pytest.mark.slow
@example([{"metrics": {"loss": 0.5, "acc": 1.0}, "step": step} for step in range(3)])
@example([{"metrics": {"loss": np.float32(0.1), "acc": 1}}, {"metrics": {"loss": 2, "acc": np.array([0.5])}}])
@example([{"metrics": {np.str_("loss"): 0.5}}, {"metrics": {"loss": 0.5}, "run_id": True}] * 2)
@example([{"metrics": {"loss": 0.5}, "timestamp": 0}, {"metrics": {"loss": 0.5}, "timestamp": -1}] * 2)
@example([{"metrics": {"a": 1.0, "b": value}} for value in (2.0, "high", None, math.nan, 10**400)])
@example([{"metrics": {f"k{at}": 1.0 for at in range(1001)}, "step": step} for step in range(2)])
@given(st.lists(CALLS, max_size=4).map(lambda calls: calls + calls))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_same_is_recorded_and_raised_as_by_mlflow(tracked: Keeper, calls: list[Call]) -> None:
    theirs = recorded(tracked, mlflow.log_metrics, calls)
    for _ in range(2):  # the second time all names are known
        assert recorded(tracked, log_metrics, calls) == theirs


def test_it_is_quick_from_the_second_call_on(tracked: Keeper, quick: list[bool]) -> None:
    with mlflow.start_run() as run:
        for step in range(3):
            log_metrics({"loss": step / 2, "acc": np.float32(0.5)}, step)
            log_metrics({"rate": 1}, step=step, run_id=run.info.run_id)
    assert quick == [False, True, True, True, True]
    assert len(tracked.calls(RUNS_GET)) == 2, "for the first call with run_id, and by the client for the end"
    points = tracked.points(run.info.run_id)
    assert [(value, step) for key, value, _, step in points if key == "loss"] == [
        (0.0, 0),
        (0.5, 1),
        (1.0, 2),
    ]
    assert {at for _, _, at, _ in points} == {NOW_MS}


def test_tensors_are_numbers(tracked: Keeper, quick: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", Torch)
    calls = [{"metrics": {"loss": Tensor(step / 2)}, "step": step} for step in range(3)]
    assert recorded(tracked, log_metrics, calls) == recorded(tracked, mlflow.log_metrics, calls)
    assert quick == [False, True, True]


def test_a_run_is_started_where_none_is(tracked: Keeper) -> None:
    log_metrics({"loss": 1.0})
    run = mlflow.active_run()
    assert run is not None
    log_metrics({"loss": 2.0}, 1)
    tallystick.client.flush()
    assert [value for _, value, _, _ in tracked.points(run.info.run_id)] == [1.0, 2.0]


def test_what_belongs_to_a_model_or_a_data_set_goes_mlflows_way(tracked: Keeper, quick: list[bool]) -> None:
    data = MetaDataset(LocalArtifactDatasetSource("data"), name="d", digest="1")
    known: list[Call] = [{"metrics": {"m": 1.0}}] * 2
    for odd in ({"model_id": "m-1"}, {"dataset": data}, {"synchronous": False}):
        calls = [*known, {"metrics": {"m": 2.0}, "step": 1, **odd}]
        assert recorded(tracked, log_metrics, calls) == recorded(tracked, mlflow.log_metrics, calls)
    assert quick == [False, True] * 3, "a run's first call, and its second"


def test_an_active_model_is_noticed_at_once(tracked: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    context = _get_active_model_context()

    def logged(log: Callable[..., Any]) -> tuple[Any, ...]:
        def do(active: str | None, **call: Any) -> None:
            monkeypatch.setattr(context, "_model_id", active)
            log(**call)

        return recorded(
            tracked, do, [{"metrics": {"m": 1.0}, "active": m} for m in (None, None, "m-1", None)]
        )

    assert logged(log_metrics) == logged(mlflow.log_metrics)
    assert len(tracked.calls(LOG_BATCH)) == 2


def test_models_of_a_resumed_run_get_the_metrics_of_their_step(tracked: Keeper) -> None:
    tracked.models[RUN] = [{"model_id": "m-1", "step": 1}]
    for log in (mlflow.log_metrics, log_metrics):
        with mlflow.start_run(RUN):
            for step in (0, 0, 1, 2):
                log({"m": 1.0}, step)
    theirs, ours = tracked.calls(LOG_BATCH)
    assert ours.body == theirs.body
    assert [metric["model_id"] for metric in ours.body["metrics"]] == ["m-1"]
    points = [str(point) for point in tracked.points(RUN)]
    assert points[:3] == points[3:]


def test_models_that_a_run_gets_meanwhile_are_noticed(tracked: Keeper, quick: list[bool]) -> None:
    for _ in range(2):
        log_metrics({"m": 1.0}, 1, run_id=RUN)
    mlflow.MlflowClient().log_outputs(RUN, [LoggedModelOutput("m-1", 1)])
    log_metrics({"m": 1.0}, 1, run_id=RUN)
    assert quick == [True]
    (sent,) = tracked.calls(LOG_BATCH)
    assert [metric["model_id"] for metric in sent.body["metrics"]] == ["m-1"]


def test_a_run_that_is_not_there_is_said_at_once(tracked: Keeper) -> None:
    with pytest.raises(MlflowException):
        log_metrics({"m": 1.0}, run_id="../x")
    assert mlflow.active_run() is None


def test_async_logging_goes_mlflows_way(
    tracked: Keeper, quick: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    with mlflow.start_run() as run:
        for _ in range(2):
            log_metrics({"m": 1.0})
        monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "true")
        done = log_metrics({"m": 2.0})
        assert done is not None
        done.wait()
        assert [value for _, value, _, _ in tracked.points(run.info.run_id)] == [1.0, 1.0, 2.0]
        assert log_metrics({"m": 3.0}, synchronous=True) is None
    assert quick == [False, True, True]


def test_a_mapping_that_is_no_dict_is_as_good(tracked: Keeper) -> None:
    calls = [{"metrics": OrderedDict(m=1.0, n=2.0), "step": step} for step in range(3)]
    assert recorded(tracked, log_metrics, calls) == recorded(tracked, mlflow.log_metrics, calls)


def test_rows_keep_the_workspace_that_they_were_logged_in(tracked: Keeper, store: TallyStore) -> None:
    with mlflow.start_run() as run:
        log_metrics({"m": 1.0, "n": 1.0})
        with ServerWorkspaceContext("red"):
            log_metrics({"m": 1.0, "n": 1.0}, 1)
        store.flush()
        sent = {asked.headers.get("x-mlflow-workspace"): asked for asked in tracked.calls(COLUMNS)}
        assert set(sent) == {"red", None}
    assert len(tracked.points(run.info.run_id)) == 4


def test_elsewhere_it_is_mlflows_own(tracked: Keeper) -> None:
    mlflow.set_tracking_uri(tracked.url)
    calls: list[Call] = [{"metrics": {"m": step / 2, "n": 1}, "step": step} for step in range(3)]
    theirs = recorded(tracked, mlflow.log_metrics, calls)
    assert recorded(tracked, log_metrics, calls) == theirs
    assert tracked.calls(COLUMNS) == []
    assert len(theirs[2]) == 3


def test_more_sets_of_names_than_are_remembered(
    store: TallyStore, tracked: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallystick.client.store._SETS_MAX", 3)
    with mlflow.start_run() as run:
        for step in range(40):
            log_metrics({f"m{step % 5}": 1.0, **({"n": 1.0, "o": 1.0, "p": 1.0} if step % 3 else {})}, step)
    assert len(tracked.points(run.info.run_id)) == 40 + 3 * 26


def test_only_what_is_there_can_be_imported() -> None:
    with pytest.raises(AttributeError, match="log_everything"):
        _ = tallystick.client.log_everything
