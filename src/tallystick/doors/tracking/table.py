"""Which routes are native: method and path, what may be said there, the ask that it makes, what answers it.

Paths are below ``/api/2.0/mlflow`` and ``/ajax-api/2.0/mlflow``, and below both under ``/mlflow``, where the
pages are. What is not in this table, or is not said in just this way, is for MLflow's own server.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from tallystick.doors.tracking import answers, columns, models, plain, reads, writes
from tallystick.doors.tracking.plain import Int32, Int64, Millis, Pair, body, experiment_id, key, run_id
from tallystick.record import asks, model_asks

__all__ = ["BODY_BYTES_MAX", "Ask", "Route", "find"]

BODY_BYTES_MAX = 1_000_000
"""MLflow's limit for a batch; a longer body of any call streams to MLflow's own server."""

Ask = asks.Read[Any] | asks.Write[Any]
Kind = type[msgspec.Struct]
Row = tuple[Kind | tuple[Kind, ...], Callable[[Any, Callable[[], int]], Ask], Callable[[Any, Any], bytes]]

_RUN = {"run_id": (str | None, None), "run_uuid": (str | None, None)}
_TAGS: Any = (list[Pair], [])
_TEXT = (str, "")
_TEXTS: Any = (list[str], [])
_MAYBE = (str | None, None)
_OF_MODEL = {"model_id": _TEXT, "dataset_name": _TEXT, "dataset_digest": _TEXT}
_VERSION = body(name=str, version=str)
_VIEW = (str | int, "ACTIVE_ONLY")
_PAGE = {"filter": _MAYBE, "order_by": _TEXTS, "page_token": _MAYBE}
_EXPERIMENT = body(experiment_id=str)
_EXPERIMENTS: Row = (
    body(view_type=_VIEW, max_results=Int32, **_PAGE),
    reads.search_experiments,
    answers.some_experiments,
)

_TABLE: dict[str, Row] = {
    "POST runs/log-metric": (
        body(key=str, value=float | str, timestamp=Millis, step=(Int64, 0), **_RUN, **_OF_MODEL),
        writes.log_metric,
        answers.nothing,
    ),
    "POST runs/log-batch": (
        (  # what is said of models takes longer to read
            body(run_id=str, metrics=(list[writes.Metric], []), params=_TAGS, tags=_TAGS),
            body(run_id=str, metrics=list[writes.ModelMetric], params=_TAGS, tags=_TAGS),
        ),
        writes.log_batch,
        answers.nothing,
    ),
    "POST runs/log-parameter": (
        body(key=str, value=_TEXT, **_RUN),
        lambda s, _: asks.LogParam(plain.run(s), key(s.key), plain.text(s.value, writes.PARAM_MAX)),
        answers.nothing,
    ),
    "POST runs/set-tag": (
        body(key=str, value=_TEXT, **_RUN),
        lambda s, _: asks.SetTag(plain.run(s), *writes.run_tag(s)),
        answers.nothing,
    ),
    "POST runs/delete-tag": (
        body(run_id=str, key=str),
        lambda s, _: asks.DeleteTag(run_id(s.run_id), key(s.key)),
        answers.nothing,
    ),
    "POST runs/log-inputs": (
        body(run_id=str, datasets=(list[writes.DatasetIn], []), models=(list[writes.ModelIn], [])),
        writes.log_inputs,
        answers.nothing,
    ),
    "POST runs/outputs": (
        body(run_id=str, models=list[writes.ModelOut]),
        writes.log_outputs,
        answers.nothing,
    ),
    "POST runs/log-model": (body(run_id=str, model_json=str), writes.log_model, answers.nothing),
    "POST runs/create": (
        body(experiment_id=str, user_id=_TEXT, run_name=_TEXT, start_time=(Millis, 0), tags=_TAGS),
        writes.create_run,
        answers.created_run,
    ),
    "POST runs/update": (
        body(status=(str | int | None, None), end_time=(Millis | None, None), run_name=_MAYBE, **_RUN),
        writes.update_run,
        answers.updated_run,
    ),
    "POST runs/delete": (body(run_id=str), writes.delete_run, answers.nothing),
    "POST runs/restore": (body(run_id=str), writes.restore_run, answers.nothing),
    "GET runs/get": (body(**_RUN), lambda s, _: asks.GetRun(plain.run(s)), answers.got_run),
    "POST runs/search": (
        body(experiment_ids=list[str], run_view_type=_VIEW, max_results=(Int32, 1000), **_PAGE),
        reads.search_runs,
        answers.some_runs,
    ),
    "GET metrics/get-history": (
        body(metric_key=str, max_results=(Int32 | None, None), page_token=_MAYBE, **_RUN),
        reads.history,
        answers.history,
    ),
    "GET metrics/get-history-bulk": (
        body(run_id=list[str], metric_key=str, max_results=(Int32, 25_000)),
        reads.history_bulk,
        answers.history_bulk,
    ),
    "GET metrics/get-history-bulk-interval": (
        body(
            run_ids=list[str],
            metric_key=str,
            start_step=(Int32 | None, None),
            end_step=(Int32 | None, None),
            max_results=(Int32, 2500),
        ),
        reads.history_interval,
        answers.history_interval,
    ),
    "POST experiments/create": (
        body(name=str, artifact_location=_TEXT, tags=_TAGS),
        writes.create_experiment,
        answers.created_experiment,
    ),
    "GET experiments/get": (
        _EXPERIMENT,
        lambda s, _: asks.GetExperiment(experiment_id(s.experiment_id)),
        answers.one_experiment,
    ),
    "GET experiments/get-by-name": (
        body(experiment_name=str),
        lambda s, _: asks.GetExperiment(None, plain.text(s.experiment_name, 500, 1)),
        answers.one_experiment,
    ),
    "GET experiments/search": _EXPERIMENTS,
    "POST experiments/search": _EXPERIMENTS,
    "POST experiments/update": (
        body(experiment_id=str, new_name=str),
        writes.rename_experiment,
        answers.nothing,
    ),
    "POST experiments/delete": (_EXPERIMENT, writes.delete_experiment, answers.nothing),
    "POST experiments/restore": (_EXPERIMENT, writes.restore_experiment, answers.nothing),
    "POST experiments/set-experiment-tag": (
        body(experiment_id=str, key=str, value=_TEXT),
        lambda s, _: asks.SetExperimentTag(experiment_id(s.experiment_id), *writes.experiment_tag(s)),
        answers.nothing,
    ),
    "POST experiments/delete-experiment-tag": (
        body(experiment_id=str, key=str),
        lambda s, _: asks.DeleteExperimentTag(experiment_id(s.experiment_id), key(s.key)),
        answers.nothing,
    ),
    "POST logged-models": (
        body(experiment_id=str, name=_TEXT, model_type=_TEXT, source_run_id=_TEXT, params=_TAGS, tags=_TAGS),
        models.create_logged_model,
        answers.logged_model,
    ),
    "GET logged-models/{id}": (
        body(model_id=str),
        lambda s, _: model_asks.GetLoggedModel(run_id(s.model_id)),
        answers.logged_model,
    ),
    "PATCH logged-models/{id}": (
        body(model_id=str, status=str | int),
        models.finalize_logged_model,
        answers.logged_model,
    ),
    "POST logged-models/{id}/params": (
        body(model_id=str, params=_TAGS),
        models.log_model_params,
        answers.nothing,
    ),
    "PATCH logged-models/{id}/tags": (
        body(model_id=_MAYBE, tags=_TAGS),
        models.set_model_tags,
        answers.nothing,
    ),
    "DELETE logged-models/{id}/tags/{key}": (
        body(model_id=str, key=str),
        models.delete_model_tag,
        answers.nothing,
    ),
    "POST logged-models/search": (
        body(experiment_ids=list[str], max_results=(Int32, 50), filter=_MAYBE, page_token=_MAYBE),
        models.search_logged_models,
        answers.logged_models,
    ),
    "GET registered-models/get": (
        body(name=str),
        lambda s, _: model_asks.GetRegisteredModel(plain.text(s.name, 256, 1)),
        answers.registered_model,
    ),
    "GET model-versions/get": (_VERSION, models.model_version, answers.model_version),
    "GET model-versions/get-download-uri": (_VERSION, models.model_version, answers.download_uri),
    "GET registered-models/alias": (body(name=str, alias=str), models.model_version, answers.model_version),
}
_ROOTS = ("/api", "/ajax-api", "/mlflow/api", "/mlflow/ajax-api")
_PAGES_ONLY = "metrics/get-history-bulk"
"""MLflow has it for its pages alone."""


@dataclass(frozen=True, slots=True)
class Route:
    """A native route: ``read`` takes a body, or a query where there is none (``has_body``).

    ``path_id`` is the model that the path names, where it names one, and ``path_query`` all that it names,
    as a query. One that only ``gets`` may be asked from anywhere. An ``own`` one is not MLflow's: there is
    nobody to relay it to.
    """

    has_body: bool
    read: Callable[[bytes], Any]
    ask: Callable[[Any, Callable[[], int]], Ask]
    write: Callable[[Any, Any], bytes]
    path_id: str = ""
    path_query: bytes = b""
    body_bytes_max: int = BODY_BYTES_MAX
    own: bool = False
    gets: bool = False


def _routes() -> Iterator[tuple[tuple[str, bytes], Route]]:
    for said, (kind, ask, write) in _TABLE.items():
        method, path = said.split()
        gets, has_body = method == "GET", method not in ("GET", "DELETE")
        kinds = kind if isinstance(kind, tuple) else (kind,)
        read = plain.reader(*kinds) if has_body else reads.query_reader(kinds[0])
        if "{id}" in path:  # such a method has nobody, so that only ``find`` finds it
            method = f"{method} {{id}}"
        roots = ("/ajax-api", "/mlflow/ajax-api") if path == _PAGES_ONLY else _ROOTS
        for root in roots:
            yield (method, f"{root}/2.0/mlflow/{path}".encode()), Route(has_body, read, ask, write, gets=gets)
    ours = Route(
        True, columns.read, columns.ask, columns.answer, body_bytes_max=columns.BODY_BYTES_MAX, own=True
    )
    yield ("POST", columns.PATH), ours


_ROUTES = dict(_routes())
_NAMED = re.compile(rb"(/.+)/(m-[0-9a-f]{32})(?:(/params|/tags)(?:/([A-Za-z0-9_][A-Za-z0-9_.\-]*))?)?")


def find(method: str, path: bytes) -> Route | None:
    """The route of an undecoded path, if it is native."""
    route = _ROUTES.get((method, path))
    if route is None and (named := _NAMED.fullmatch(path)):
        start, model_id, part, tag = named.groups(b"")
        route = _ROUTES.get((f"{method} {{id}}", start + b"/{id}" + part + (b"/{key}" if tag else b"")))
        said = b"model_id=" + model_id + (b"&key=" + tag if tag else b"")
        return route and replace(route, path_id=model_id.decode(), path_query=said)
    return route
