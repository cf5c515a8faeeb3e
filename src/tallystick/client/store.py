"""The tracking store behind ``tally://``: MLflow's own over HTTP, with metrics through a buffer.

MLflow imports this module whenever it is imported itself and tallystick is installed: so nothing starts here,
and nothing is imported that MLflow has not loaded by then, or that weighs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from mlflow.entities import Metric, Param, RunTag
from mlflow.store.tracking.rest_store import RestStore
from mlflow.tracking.metric_value_conversion_utils import convert_metric_value_to_float_if_possible
from mlflow.utils.async_logging.run_operations import RunOperations, get_combined_run_operations
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.validation import _validate_metric, _validate_run_id
from mlflow.utils.workspace_context import get_request_workspace

from tallystick.client.address import http_of
from tallystick.client.buffer import Buffer
from tallystick.client.post import Post
from tallystick.client.settings import Limits, read_limits
from tallystick.client.wire import Row

__all__ = ["TallyStore", "open_store"]

_INT64 = 1 << 63
_KNOWN_MAX = 10_000
"""Names and runs that are remembered as valid; beyond that they are checked anew."""
_SETS_MAX = 1_000
"""Sets of names that are logged together, and how many names one has, at most."""


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
        self._sets: dict[tuple[str, ...], str | tuple[str, ...]] = {}  # as they come, and as a row has them
        self._without_models: set[str] = set()

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
        rows, rest = self._sort(run_id, metrics)
        if rest or params or tags:
            super().log_batch(run_id, rest, params, tags)
        self._buffer.put_all(rows)

    def log_row(self, run_id: str, metrics: dict[str, Any], timestamp: int, step: int) -> bool:
        """Buffer metrics of one time and step; False where that is for :meth:`log_batch` to do, or to refuse.

        So it is with names that are logged together for the first time, and with unusual types of numbers.
        """
        keys = self._sets.get(tuple(metrics))
        if not keys or not self._is_usual(run_id, timestamp, step):
            return False
        values = [*metrics.values()]
        if not _are_floats(values):
            values = list(map(convert_metric_value_to_float_if_possible, values))
            if not _are_floats(values):
                return False
        told = values[0] if type(keys) is str else tuple(values)
        self._buffer.put((run_id, keys, told, timestamp, step, get_request_workspace()))
        return True

    def has_no_models(self, run_id: str) -> bool:
        """Whether this process has seen that no logged model is an output of the run, and has made none."""
        return run_id in self._without_models

    def log_metric_async(self, run_id: str, metric: Metric) -> RunOperations:
        """As :meth:`log_metric`; the operation's ``wait`` returns when it is durable."""
        return self.log_batch_async(run_id, [metric], [], [])

    def log_batch_async(
        self, run_id: str, metrics: Sequence[Metric], params: Sequence[Param], tags: Sequence[RunTag]
    ) -> RunOperations:
        """Metrics through the buffer, params and tags through MLflow's own queue."""
        rows, rest = self._sort(run_id, metrics)
        self._buffer.put_all(rows)
        done = [RunOperations([_Durable(self._buffer, run_id)])] if rows else []
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
        run = super().get_run(run_id)
        if not (run.outputs and run.outputs.model_outputs):
            self._remember(self._without_models, run.info.run_id)
        return run

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

    def log_outputs(self, run_id: str, models: list[Any]) -> None:
        """As MLflow's."""
        self._without_models.discard(run_id)
        super().log_outputs(run_id, models)

    # ---------------------------------------------------------------------------------------------- rows

    def _sort(self, run_id: str, metrics: Sequence[Metric]) -> tuple[Sequence[Row], list[Metric]]:
        """Rows to buffer, and metrics that go the usual way; each checked."""
        workspace = get_request_workspace()
        if row := self._row(run_id, metrics, workspace):
            return (row,), []
        points, rest = [], []
        for at, metric in enumerate(metrics):
            if _is_plain(metric):
                points.append(self._point(run_id, metric, workspace, f"metrics[{at}]"))
            else:
                rest.append(metric)
        names = tuple([point[1] for point in points])
        if 0 < len(names) == len(set(names)) <= _SETS_MAX:
            if len(self._sets) >= _SETS_MAX:
                self._sets.clear()
            self._sets[names] = names if len(names) > 1 else names[0]
        return points, rest

    def _row(self, run_id: str, metrics: Sequence[Metric], workspace: str | None) -> Row | None:
        """Metrics as one row, where that is quickly told: known names, one time and step, all floats."""
        keys = self._sets.get(tuple([metric.key for metric in metrics]))
        if type(keys) is not tuple:
            return None
        step, timestamp = metrics[0].step, metrics[0].timestamp
        if not self._is_usual(run_id, timestamp, step):
            return None
        for metric in metrics:
            if metric.step is not step or metric.timestamp is not timestamp or not _is_plain(metric):
                return None
        values = tuple([metric.value for metric in metrics])
        return (run_id, keys, values, timestamp, step, workspace) if _are_floats(values) else None

    def _point(
        self, run_id: str, metric: Metric, workspace: str | None, path: str = ""
    ) -> tuple[str, str, float, int, int, str | None]:
        key, value, timestamp, step = metric.key, metric.value, metric.timestamp, metric.step
        if (
            type(value) is float
            and type(key) is str
            and key in self._keys
            and self._is_usual(run_id, timestamp, step)
        ):
            return run_id, key, value, timestamp, step, workspace
        return self._odd_point(run_id, metric, workspace, path)

    def _is_usual(self, run_id: Any, timestamp: Any, step: Any) -> bool:
        """Whether a point may have these, as far as is known and needs no conversion."""
        return (
            type(step) is int
            and type(timestamp) is int
            and 0 <= timestamp < _INT64
            and -_INT64 <= step < _INT64
            and type(run_id) is str
            and run_id in self._runs
        )

    def _odd_point(
        self, run_id: str, metric: Metric, workspace: str | None, path: str
    ) -> tuple[str, str, float, int, int, str | None]:
        """A first name or run, or unusual types: checked and converted as by MLflow's client and server."""
        _validate_run_id(run_id)
        _validate_metric(metric.key, metric.value, metric.timestamp, metric.step, path)
        sent = metric.to_proto()  # also refuses what does not fit into its types
        self._remember(self._keys, str(sent.key))
        self._remember(self._runs, str(run_id))
        return str(run_id), str(sent.key), float(sent.value), int(sent.timestamp), int(sent.step), workspace

    def _remember(self, known: set[str], name: str) -> None:
        if len(known) >= _KNOWN_MAX:
            known.clear()
        known.add(name)


class _Durable:
    """Stands where MLflow's async logging has a future: its result is there when the points are durable."""

    def __init__(self, buffer: Buffer, run_id: str) -> None:
        self._buffer = buffer
        self._run_id = run_id

    def result(self) -> None:
        self._buffer.settle(self._run_id)


def _is_plain(metric: Metric) -> bool:
    return metric.model_id is None and metric.dataset_name is None


def _are_floats(values: Sequence[Any]) -> bool:
    return [*map(type, values)].count(float) == len(values)
