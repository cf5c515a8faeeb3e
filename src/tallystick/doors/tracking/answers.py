"""The record's entries as MLflow's JSON: what its ``message_to_json`` makes of its protobuf messages.

What is absent there is left out here, empty lists too; whole numbers are numbers, and what is not finite
is a word. Each takes an ask and its answer. NotPlain where MLflow fails over what a database has.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from tallystick.record import entries
from tallystick.record.asks import NotPlain

__all__ = [
    "created_experiment", "created_run", "download_uri", "got_run", "history", "history_bulk",
    "history_interval", "logged_model", "logged_models", "model_version", "no_experiment", "nothing",
    "one_experiment", "registered_model", "some_experiments", "some_runs", "updated_run",
]  # fmt: skip

Object = dict[str, Any]
_json = msgspec.json.Encoder().encode
_WORDS = {float("inf"): "Infinity", float("-inf"): "-Infinity"}
_MODEL_STATUSES = ("STATUS_UNSPECIFIED", "PENDING", "READY", "UPLOAD_FAILED")


def _teller(fields: str) -> Callable[[Any], Object]:
    """What tells an entry's fields: MLflow's name, then ours where it is another.

    ``!`` is after what must be there, ``?`` after what is left out when it is empty or 0, and ``$``
    after a number that is told as text.
    """
    known = []
    for field in fields.split():
        name, _, ours = field.rstrip("!?$").partition("=")
        known.append((name, ours or name, field[-1]))

    def tell(entry: Any) -> Object:
        told = {}
        for name, ours, mark in known:
            value = getattr(entry, ours)
            if value is None and mark == "!":
                raise NotPlain
            if value is not None and (value or mark != "?"):
                told[name] = str(value) if mark == "$" else value
        return told

    return tell


_info = _teller(
    "run_id run_uuid=run_id run_name=name experiment_id$ user_id! status! start_time=start_ms!"
    " end_time=end_ms? artifact_uri? lifecycle_stage"
)
_dataset = _teller("name digest source_type source schema? profile?")
_experiment = _teller(
    "experiment_id$ name artifact_location! lifecycle_stage creation_time=created_ms?"
    " last_update_time=updated_ms? workspace"
)
_model_info = _teller(
    "model_id experiment_id$ name creation_timestamp_ms=created_ms last_updated_timestamp_ms=updated_ms"
    " artifact_uri=artifact_location model_type source_run_id status_message"
)
_model_metric = _teller("key timestamp=timestamp_ms step run_id? dataset_name? dataset_digest?")
_version = _teller(
    "name version$ creation_timestamp=created_ms! last_updated_timestamp=updated_ms description user_id"
    " current_stage=stage source run_id run_link status status_message?"
)
_registered = _teller("name creation_timestamp=created_ms last_updated_timestamp=updated_ms? description?")


def _lists(**lists: list[Any]) -> Object:
    return {name: items for name, items in lists.items() if items}


def _number(value: float) -> float | str:
    if value - value == 0:
        return value
    return _WORDS.get(value, "NaN")


def _pairs(pairs: entries.Pairs) -> list[Object]:
    return [{"key": key, "value": value} for key, value in pairs]


class _Point(msgspec.Struct, gc=False):
    """Of these there are many: half the time of a dict."""

    key: str
    value: float | str
    timestamp: int
    step: int


def _points(points: Iterable[entries.Point]) -> list[_Point]:
    return [
        _Point(key, value if value - value == 0 else _number(value), at, step)
        for key, value, at, step in points
    ]


def _page(name: str, items: Sequence[Any], page: entries.Page) -> bytes:
    told: Object = {name: items} if items else {}
    if page.next_offset is not None:  # MLflow's own token, so that a page found here goes on there
        told["next_page_token"] = base64.b64encode(b'{"offset": %d}' % page.next_offset).decode()
    return _json(told)


def nothing(_: Any, __: None) -> bytes:
    """All that most writes are answered."""
    return b"{}"


def _run(run: entries.Run, model_inputs: Iterable[str]) -> Object:
    datasets = [_lists(tags=_pairs(d.tags)) | {"dataset": _dataset(d)} for d in run.datasets]
    models = [{"model_id": model_id} for model_id in model_inputs]
    return {
        "info": _info(run),
        "data": _lists(metrics=_points(run.metrics), params=_pairs(run.params), tags=_pairs(run.tags)),
        "inputs": _lists(dataset_inputs=datasets, model_inputs=models),
    }


def _outputs(run: entries.Run) -> Object:
    made = [{"model_id": model_id, "step": step} for model_id, step in run.model_outputs]
    return {"outputs": _lists(model_outputs=made)}


def created_run(_: Any, run: entries.Run) -> bytes:
    """A run right after its birth."""
    return _json({"run": _run(run, ())})


def updated_run(_: Any, run: entries.Run) -> bytes:
    """What was changed."""
    return _json({"run_info": _info(run)})


def got_run(_: Any, run: entries.Run) -> bytes:
    """A run with all that belongs to it."""
    return _json({"run": _run(run, run.model_inputs) | _outputs(run)})


def some_runs(_: Any, page: Any) -> bytes:
    """Runs as a search tells them: without the models that they read."""
    return _page("runs", [_run(run, ()) | _outputs(run) for run in page.items], page)


def _tagged_experiment(of: entries.Experiment) -> Object:
    return _experiment(of) | _lists(tags=_pairs(of.tags))


def created_experiment(_: Any, experiment_id: int) -> bytes:
    """Its id."""
    return _json({"experiment_id": str(experiment_id)})


def one_experiment(_: Any, experiment: entries.Experiment) -> bytes:
    """An experiment."""
    return _json({"experiment": _tagged_experiment(experiment)})


def no_experiment(name: str) -> bytes:
    """The one error that is told here, in MLflow's words."""
    return _json(
        {
            "error_code": "RESOURCE_DOES_NOT_EXIST",
            "message": f"Could not find experiment with name '{name}'",
            "sqlstate": "KAM00",
            "error_class": "RESOURCE_NOT_FOUND",
        }
    )


def some_experiments(_: Any, page: Any) -> bytes:
    """Experiments."""
    return _page("experiments", [_tagged_experiment(e) for e in page.items], page)


def history(_: Any, page: Any) -> bytes:
    """A metric's points."""
    return _page("metrics", _points(page.items), page)


def _run_points(key: str, points: Iterable[entries.RunPoint]) -> list[Object]:
    return [
        {"key": key, "value": _number(value), "timestamp": at, "step": step, "run_id": run_id}
        for run_id, value, at, step in points
    ]


def history_interval(ask: Any, points: list[entries.RunPoint]) -> bytes:
    """A metric's points in several runs."""
    return _json(_lists(metrics=_run_points(ask.key, points)))


def history_bulk(ask: Any, points: list[entries.RunPoint]) -> bytes:
    """The same in another form: no protobuf, and NaN as JSON has no word for it."""
    if any(point.value - point.value != 0 for point in points):
        raise NotPlain
    return _json({"metrics": _run_points(ask.key, points)})


def _logged_model(of: entries.LoggedModel) -> Object:
    status = {"status": f"LOGGED_MODEL_{_MODEL_STATUSES[of.status]}"}
    metrics = [_model_metric(m) | {"value": _number(m.value), "model_id": of.model_id} for m in of.metrics]
    return {
        "info": _model_info(of) | status | _lists(tags=_pairs(of.tags)),
        "data": _lists(params=_pairs(of.params), metrics=metrics),
    }


def logged_model(_: Any, model: entries.LoggedModel) -> bytes:
    """A logged model."""
    return _json({"model": _logged_model(model)})


def logged_models(ask: Any, page: Any) -> bytes:
    """Logged models; the token repeats what was asked, as MLflow's does: a filter too, in its own words."""
    told = _lists(models=[_logged_model(m) for m in page.items])
    if page.next_offset is not None:
        if ask.name:
            raise NotPlain
        asked: Object = {"experiment_ids": [str(e) for e in ask.experiment_ids], "filter_string": None}
        said = json.dumps(asked | {"order_by": None, "offset": page.next_offset})
        told["next_page_token"] = base64.b64encode(said.encode()).decode()
    return _json(told)


def _told_version(of: entries.ModelVersion) -> Object:
    return _version(of) | _lists(tags=_pairs(of.tags), aliases=of.aliases)


def model_version(_: Any, version: entries.ModelVersion) -> bytes:
    """A version of a registered model."""
    return _json({"model_version": _told_version(version)})


def download_uri(_: Any, version: entries.ModelVersion) -> bytes:
    """Where the files of a version are."""
    where = version.storage_location or version.source
    if where is None:
        raise NotPlain
    return _json({"artifact_uri": where})


def registered_model(_: Any, model: entries.RegisteredModel) -> bytes:
    """A registered model."""
    aliases = [{"alias": alias, "version": str(version)} for alias, version in model.aliases]
    versions = [_told_version(v) for v in model.latest]
    lists = _lists(latest_versions=versions, tags=_pairs(model.tags), aliases=aliases)
    return _json({"registered_model": _registered(model) | lists})
