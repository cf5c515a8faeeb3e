"""Bodies that take more than a line to become an ask, but for models'. ``said`` is a body that was read."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from math import isnan
from typing import Any

from tallystick.doors.tracking import model_file, plain
from tallystick.doors.tracking.words import new_name
from tallystick.record import asks
from tallystick.record.entries import DatasetInput, ModelOutput, ModelPoint
from tallystick.record.rules import RUN_NAME, TAG_CHARS_MAX

__all__ = [
    "PARAM_MAX", "Dataset", "DatasetIn", "Metric", "ModelIn", "ModelMetric", "ModelOut",
    "create_experiment", "create_run", "delete_experiment", "delete_run", "experiment_tag", "log_batch",
    "log_inputs", "log_metric", "log_model", "log_outputs", "rename_experiment", "restore_experiment",
    "restore_run", "run_tag", "update_run",
]  # fmt: skip

PARAM_MAX = 6000
_NAME_MAX = 250
_MANY = 1000
_ODD_EXPERIMENT_TAGS = ("mlflow.customView.", "mlflow.trace.")
"""MLflow has rules of its own for these."""
_STATUSES = ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")
_STATUS: dict[Any, str | None] = {None: None} | {s: s for s in _STATUSES} | dict(enumerate(_STATUSES, 1))
Now = Callable[[], int]


class Metric(plain.Body):
    """A point of a batch; its ``run_id`` means nothing where it names no model."""

    key: str
    value: float | str
    timestamp: plain.Millis
    step: plain.Int64 = 0
    run_id: str = ""


class ModelMetric(Metric):
    """One that may be said of a logged model too, measured on a dataset."""

    model_id: str = ""
    dataset_name: str = ""
    dataset_digest: str = ""


class Dataset(plain.Body):
    """A dataset."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None = None
    profile: str | None = None


class DatasetIn(plain.Body):
    """A dataset, and what a run says of it."""

    dataset: Dataset
    tags: tuple[plain.Pair, ...] = ()


class ModelIn(plain.Body):
    """A logged model that a run read."""

    model_id: str


class ModelOut(ModelIn):
    """A logged model, and the step at which a run made it."""

    step: plain.Int64 = 0


def run_tag(said: Any) -> tuple[str, str]:
    """A run's tag; an empty name means nothing to MLflow."""
    if said.key == RUN_NAME:
        return said.key, plain.text(said.value, _NAME_MAX, 1)
    return plain.key(said.key), plain.text(said.value, TAG_CHARS_MAX)


def experiment_tag(said: Any) -> tuple[str, str]:
    """An experiment's tag."""
    if said.key.startswith(_ODD_EXPERIMENT_TAGS):
        raise asks.NotPlain
    return plain.key(said.key), plain.text(said.value, 20_000)


def log_metric(said: Any, _: Now) -> asks.LogMetric | asks.LogBatch:
    """A point; one that is said of a logged model too is a batch of one."""
    run_id, key, value = plain.run(said), plain.key(said.key), plain.number(said.value)
    if said.model_id or said.dataset_name or said.dataset_digest:
        points = asks.Columns([key], [value], [said.timestamp], [said.step])
        return asks.LogBatch(run_id, points, (), (), _of_models((said,), (value,)))
    return asks.LogMetric(run_id, key, value, said.timestamp, said.step)


def log_batch(said: Any, _: Now) -> asks.LogBatch:
    """Points, params and tags."""
    plain.bounded(100, said.params)
    plain.bounded(100, said.tags)
    plain.bounded(_MANY, said.metrics, said.params, said.tags)
    points = asks.Columns(
        [m.key for m in said.metrics],
        [m.value if type(m.value) is float else plain.number(m.value) for m in said.metrics],
        [m.timestamp for m in said.metrics],
        [m.step for m in said.metrics],
    )
    for key in set(points.keys):
        plain.key(key)
    params, tags = plain.items(said.params, PARAM_MAX), tuple(map(run_tag, said.tags))
    of_models = said.metrics and type(said.metrics[0]) is ModelMetric
    more = (_of_models(said.metrics, points.values),) if of_models else ()
    return asks.LogBatch(plain.run_id(said.run_id), points, params, tags, *more)


def _of_models(said: Sequence[Any], values: Sequence[float]) -> tuple[ModelPoint, ...]:
    """What is said of logged models. A dataset has both name and digest, or is none.

    MLflow drops a point that is there twice, alike in all that is said of it; NaN is unlike NaN.
    """
    points: dict[tuple[Any, ...], ModelPoint] = {}
    for metric, value in zip(said, values, strict=True):
        if bool(metric.dataset_name) != bool(metric.dataset_digest):
            raise asks.NotPlain
        name, digest = plain.text(metric.dataset_name, 500), plain.text(metric.dataset_digest, 36)
        if metric.model_id:
            what = (plain.run_id(metric.model_id), metric.key, value, metric.timestamp, metric.step)
            point = ModelPoint(*what, name or None, digest or None)
            points.setdefault((*point, metric.run_id, len(points) if isnan(value) else -1), point)
    return tuple(points.values())


def create_run(said: Any, _: Now) -> asks.CreateRun:
    """A run, with the name it was given as a field or as a tag, or a new one."""
    plain.bounded(_MANY, said.tags)
    tags = dict(plain.unique(map(run_tag, said.tags)))
    tagged = tags.pop(RUN_NAME, "")
    name = said.run_name or tagged or new_name()
    if tagged not in ("", name):
        raise asks.NotPlain
    return asks.CreateRun(
        uuid.uuid4().hex,
        plain.experiment_id(said.experiment_id),
        plain.text(said.user_id, 256),
        said.start_time,
        plain.text(name, _NAME_MAX),
        tuple(tags.items()),
    )


def update_run(said: Any, _: Now) -> asks.UpdateRun:
    """A run ends, or gets another name."""
    name = plain.text(said.run_name or "", _NAME_MAX) or None
    return asks.UpdateRun(plain.run(said), plain.one_of(_STATUS, said.status), said.end_time, name)


def delete_run(said: Any, now: Now) -> asks.MoveRun:
    """A run into the bin."""
    return asks.MoveRun(plain.run_id(said.run_id), "deleted", now())


def restore_run(said: Any, now: Now) -> asks.MoveRun:
    """And out of it."""
    return asks.MoveRun(plain.run_id(said.run_id), "active", now())


def log_inputs(said: Any, _: Now) -> asks.LogInputs:
    """What a run read."""
    plain.bounded(_MANY, said.datasets, said.models)
    models = tuple(plain.run_id(m.model_id) for m in said.models)
    return asks.LogInputs(plain.run_id(said.run_id), tuple(map(_dataset, said.datasets)), models)


def _dataset(said: DatasetIn) -> DatasetInput:
    of = said.dataset
    return DatasetInput(
        plain.text(of.name, 500, 1),
        plain.text(of.digest, 36, 1),
        plain.text(of.source_type, 36, 1),
        plain.text(of.source, 65_535),
        of.schema if of.schema is None else plain.text(of.schema, 1_048_575),
        of.profile if of.profile is None else plain.text(of.profile, 16_777_215),
        list(plain.unique((plain.text(t.key, 255, 1), plain.text(t.value, 500)) for t in said.tags)),
    )


def log_outputs(said: Any, _: Now) -> asks.LogOutputs:
    """What a run made."""
    plain.bounded(_MANY, said.models)
    models = tuple(ModelOutput(plain.run_id(m.model_id), m.step) for m in said.models)
    return asks.LogOutputs(plain.run_id(said.run_id), models)


def log_model(said: Any, _: Now) -> asks.LogModel:
    """The part of an MLmodel file that MLflow keeps."""
    return asks.LogModel(plain.run_id(said.run_id), model_file.kept_of(said.model_json))


def create_experiment(said: Any, now: Now) -> asks.CreateExperiment:
    """An experiment; to say where its artifacts are kept is not plain."""
    plain.bounded(0, said.artifact_location)
    tags = plain.unique(map(experiment_tag, said.tags))
    return asks.CreateExperiment(plain.text(said.name, 256, 1), "", now(), tags)


def rename_experiment(said: Any, now: Now) -> asks.RenameExperiment:
    """Another name for an experiment."""
    name = plain.text(said.new_name, 256, 1)
    return asks.RenameExperiment(plain.experiment_id(said.experiment_id), name, now())


def delete_experiment(said: Any, now: Now) -> asks.MoveExperiment:
    """An experiment into the bin."""
    return asks.MoveExperiment(plain.experiment_id(said.experiment_id), "deleted", now())


def restore_experiment(said: Any, now: Now) -> asks.MoveExperiment:
    """And out of it."""
    return asks.MoveExperiment(plain.experiment_id(said.experiment_id), "active", now())
