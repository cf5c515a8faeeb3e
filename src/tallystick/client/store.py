"""The tracking store behind ``tally://``: MLflow's own over HTTP, with metrics through a buffer.

MLflow imports this module whenever it is imported itself and tallystick is installed: so nothing starts here,
and nothing is imported that MLflow has not loaded by then, or that weighs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from mlflow.entities import Metric, Param, RunTag
from mlflow.store.tracking.rest_store import RestStore
from mlflow.utils.async_logging.run_operations import RunOperations, get_combined_run_operations
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.validation import _validate_metric, _validate_run_id
from mlflow.utils.workspace_context import get_request_workspace

from tallystick.client.address import http_of
from tallystick.client.buffer import Buffer
from tallystick.client.post import Post
from tallystick.client.settings import Limits, read_limits
from tallystick.client.wire import Point

__all__ = ["TallyStore", "open_store"]

_INT64 = 1 << 63
_KNOWN_MAX = 10_000
"""Names and runs that are remembered as valid; beyond that they are checked anew."""


def open_store(store_uri: str, artifact_uri: str | None = None, **_: Any) -> TallyStore:
    """What MLflow calls for ``tally://HOST:PORT``, ``tally+http://`` and ``tally+https://`` (entry point).

    ``artifact_uri`` is not used: the hub says where artifacts lie. MlflowException for an address or a
    variable of the environment that cannot be used; nothing is asked of the hub yet.
    """
    return TallyStore(http_of(store_uri), read_limits())


class TallyStore(RestStore):
    """MLflow's store over HTTP, except that plain metrics wait in a buffer.

    Whatever could show a run's metrics, and whatever ends a run, waits until they are durable: so a program
    reads what it wrote. Metrics of a logged model or a data set go the way that they always go.
    """

    def __init__(self, url: str, limits: Limits) -> None:
        super().__init__(partial(get_default_host_creds, url))
        self._buffer = Buffer(Post(self.get_host_creds), limits)
        self._keys: set[str] = set()
        self._runs: set[str] = set()

    # ------------------------------------------------------------------------------------------- logging

    def log_metric(self, run_id: str, metric: Metric) -> None:
        """Buffer one metric; MlflowException here for what MLflow would never take."""
        if _is_plain(metric):
            self._buffer.put(self._point(run_id, metric, get_request_workspace()))
        else:
            super().log_metric(run_id, metric)

    def log_batch(
        self, run_id: str, metrics: Sequence[Metric], params: Sequence[Param], tags: Sequence[RunTag]
    ) -> None:
        """Buffer the metrics; params and tags are durable on return, as ever."""
        points, rest = self._sort(run_id, metrics)
        if rest or params or tags:
            super().log_batch(run_id, rest, params, tags)
        self._buffer.put_all(points)

    def log_metric_async(self, run_id: str, metric: Metric) -> RunOperations:
        """As :meth:`log_metric`; the operation's ``wait`` returns when it is durable."""
        return self.log_batch_async(run_id, [metric], [], [])

    def log_batch_async(
        self, run_id: str, metrics: Sequence[Metric], params: Sequence[Param], tags: Sequence[RunTag]
    ) -> RunOperations:
        """Metrics through the buffer, params and tags through MLflow's own queue."""
        points, rest = self._sort(run_id, metrics)
        self._buffer.put_all(points)
        done = [RunOperations([_Durable(self._buffer, run_id)])] if points else []
        if rest or params or tags:
            done.append(super().log_batch_async(run_id, rest, params, tags))
        return get_combined_run_operations(done) if done else RunOperations([])

    def flush(self, timeout_s: float | None = None) -> None:
        """Return when everything logged before, in any thread, is durable on the hub.

        MlflowException names what was refused, or says that the hub is away; with ``timeout_s``, also after
        so many seconds.
        """
        self._buffer.flush(timeout_s)

    def flush_async_logging(self) -> None:
        """What MLflow flushes, and the buffer."""
        super().flush_async_logging()
        self._buffer.flush()

    # -------------------------------------------------------------- what sees metrics, or ends their run

    def get_run(self, run_id: str) -> Any:
        """As MLflow's, with what this process logged."""
        self._buffer.settle(run_id)
        return super().get_run(run_id)

    def get_metric_history(
        self, run_id: str, metric_key: str, max_results: int | None = None, page_token: str | None = None
    ) -> Any:
        """As MLflow's, with what this process logged."""
        self._buffer.settle(run_id)
        return super().get_metric_history(run_id, metric_key, max_results, page_token)

    def search_runs(self, *args: Any, **kwargs: Any) -> Any:
        """As MLflow's, with what this process logged."""
        self._buffer.settle()
        return super().search_runs(*args, **kwargs)

    def update_run_info(self, run_id: str, *args: Any, **kwargs: Any) -> Any:
        """As MLflow's; the run's metrics are durable before its end is."""
        self._buffer.settle(run_id)
        return super().update_run_info(run_id, *args, **kwargs)

    def delete_run(self, run_id: str) -> None:
        """As MLflow's; what was logged before is in the deleted run."""
        self._buffer.settle(run_id)
        super().delete_run(run_id)

    def delete_experiment(self, experiment_id: str) -> None:
        """As MLflow's; its runs get what was logged before."""
        self._buffer.settle()
        super().delete_experiment(experiment_id)

    # -------------------------------------------------------------------------------------------- points

    def _sort(self, run_id: str, metrics: Iterable[Metric]) -> tuple[list[Point], list[Metric]]:
        """Points to buffer, and metrics that go the usual way; each checked."""
        points, rest = [], []
        workspace = get_request_workspace()
        for at, metric in enumerate(metrics):
            if _is_plain(metric):
                points.append(self._point(run_id, metric, workspace, f"metrics[{at}]"))
            else:
                rest.append(metric)
        return points, rest

    def _point(self, run_id: str, metric: Metric, workspace: str | None, path: str = "") -> Point:
        key, value, timestamp, step = metric.key, metric.value, metric.timestamp, metric.step
        if (
            type(value) is float
            and type(step) is int
            and type(timestamp) is int
            and 0 <= timestamp < _INT64
            and -_INT64 <= step < _INT64
            and type(key) is str
            and key in self._keys
            and type(run_id) is str
            and run_id in self._runs
        ):
            return run_id, key, value, timestamp, step, workspace
        return self._odd_point(run_id, metric, workspace, path)

    def _odd_point(self, run_id: str, metric: Metric, workspace: str | None, path: str) -> Point:
        """A first name or run, or unusual types: checked and converted as by MLflow's client and server."""
        _validate_run_id(run_id)
        _validate_metric(metric.key, metric.value, metric.timestamp, metric.step, path)
        sent = metric.to_proto()  # also refuses what does not fit into its types
        if len(self._keys) >= _KNOWN_MAX:
            self._keys.clear()
        if len(self._runs) >= _KNOWN_MAX:
            self._runs.clear()
        self._keys.add(str(sent.key))
        self._runs.add(str(run_id))
        return str(run_id), str(sent.key), float(sent.value), int(sent.timestamp), int(sent.step), workspace


class _Durable:
    """Stands where MLflow's async logging has a future: its result is there when the points are durable."""

    def __init__(self, buffer: Buffer, run_id: str) -> None:
        self._buffer = buffer
        self._run_id = run_id

    def result(self) -> None:
        self._buffer.settle(self._run_id)


def _is_plain(metric: Metric) -> bool:
    return metric.model_id is None and metric.dataset_name is None
