"""Bodies that take more than a line to become an ask. ``said`` is a body that was read."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from tallystick.core.tracking import asks
from tallystick.core.tracking.entries import DatasetInput, ModelOutput
from tallystick.doors.tracking import plain
from tallystick.doors.tracking.words import new_name

__all__ = [
    "PARAM_MAX", "Dataset", "DatasetIn", "Metric", "ModelIn", "ModelOut", "create_experiment",
    "create_logged_model", "create_run", "delete_experiment", "delete_run", "experiment_tag",
    "finalize_logged_model", "log_batch", "log_inputs", "log_model", "log_outputs", "rename_experiment",
    "restore_experiment", "restore_run", "run_tag", "update_run",
]  # fmt: skip

PARAM_MAX = 6000
_TAG_MAX = 8000
_NAME_MAX = 250
_MANY = 1000
_RUN_NAME = "mlflow.runName"
_ODD_EXPERIMENT_TAGS = ("mlflow.customView.", "mlflow.trace.")
"""MLflow has rules of its own for these."""
_STATUSES = ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")
_STATUS: dict[Any, str | None] = {None: None} | {s: s for s in _STATUSES} | dict(enumerate(_STATUSES, 1))
_MODEL_STATUSES = ("LOGGED_MODEL_PENDING", "LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED")
_MODEL_STATUS: dict[Any, int] = {s: n for n, s in enumerate(_MODEL_STATUSES, 1)} | {n: n for n in (1, 2, 3)}
Now = Callable[[], int]


class Metric(plain.Body):
    """A point of a batch; its ``run_id`` means nothing where it names no model."""

    key: str
    value: float | str
    timestamp: plain.Millis
    step: plain.Int64 = 0
    run_id: str = ""


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


_ModelFile = plain.body(  # as far as it is plain: a signature is read by MLflow only
    run_id=str,
    artifact_path=str,
    utc_time_created=str,
    model_uuid=(str | None, None),
    flavors=dict[str, Any],
    mlflow_version=(str | None, None),
    signature=(None, None),
)


def run_tag(said: Any) -> tuple[str, str]:
    """A run's tag; an empty name means nothing to MLflow."""
    if said.key == _RUN_NAME:
        return said.key, plain.text(said.value, _NAME_MAX, 1)
    return plain.key(said.key), plain.text(said.value, _TAG_MAX)


def experiment_tag(said: Any) -> tuple[str, str]:
    """An experiment's tag."""
    if said.key.startswith(_ODD_EXPERIMENT_TAGS):
        raise asks.NotPlain
    return plain.key(said.key), plain.text(said.value, 20_000)


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
    return asks.LogBatch(plain.run_id(said.run_id), points, params, tags)


def create_run(said: Any, _: Now) -> asks.CreateRun:
    """A run, with the name it was given as a field or as a tag, or a new one."""
    plain.bounded(_MANY, said.tags)
    tags = dict(plain.unique(map(run_tag, said.tags)))
    tagged = tags.pop(_RUN_NAME, "")
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
    """The part of an MLmodel file that MLflow keeps, in its order."""
    model: Any = msgspec.json.decode(said.model_json, type=_ModelFile)
    plain.text(model.utc_time_created, _NAME_MAX, 1)
    kept: dict[str, Any] = {name: getattr(model, name) for name in _ModelFile.__struct_fields__[:4]}
    kept["flavors"] = {
        name: {k: v for k, v in flavor.items() if k != "config"} if isinstance(flavor, dict) else flavor
        for name, flavor in json.loads(said.model_json)["flavors"].items()
    }
    return asks.LogModel(plain.run_id(said.run_id), plain.text(json.dumps(kept), _TAG_MAX))


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


def create_logged_model(said: Any, now: Now) -> asks.CreateLoggedModel:
    """A logged model; what is left out is empty in MLflow's record, not absent."""
    plain.bounded(_MANY, said.params, said.tags)
    if any(ch in said.name for ch in "/:.%\"'"):
        raise asks.NotPlain
    return asks.CreateLoggedModel(
        f"m-{uuid.uuid4().hex}",
        plain.experiment_id(said.experiment_id),
        plain.text(said.name, 500) or new_name(),
        now(),
        plain.run_id(said.source_run_id) if said.source_run_id else "",
        plain.text(said.model_type, 500),
        plain.items(said.params, PARAM_MAX),
        plain.items(said.tags, _TAG_MAX),
    )


def finalize_logged_model(said: Any, now: Now) -> asks.FinalizeLoggedModel:
    """A logged model is whole, or has failed."""
    status = plain.one_of(_MODEL_STATUS, said.status)
    return asks.FinalizeLoggedModel(plain.run_id(said.model_id), status, now())
