"""What stands in MLflow's record, as it is read: many at a time, hence tuples.

Times are milliseconds since 1970. A metric's value is as MLflow answers it: NaN is itself, whatever a
database has in its place, and an infinity is the largest finite number, as MLflow keeps it.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = [
    "DatasetInput",
    "Experiment",
    "Held",
    "LoggedModel",
    "LoggedModelMetric",
    "ModelOutput",
    "ModelPoint",
    "ModelVersion",
    "Page",
    "Pairs",
    "Point",
    "RegisteredModel",
    "Run",
    "RunPoint",
]

Pairs = list[tuple[str, str]]
"""Keys with values: params or tags."""


class Point(NamedTuple):
    """One logged value of a metric."""

    key: str
    value: float
    timestamp_ms: int
    step: int


class RunPoint(NamedTuple):
    """One logged value of a metric that several runs have."""

    run_id: str
    value: float
    timestamp_ms: int
    step: int


class DatasetInput(NamedTuple):
    """A dataset that a run read. ``schema`` and ``profile`` may be None; ``tags`` are the input's own."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None
    profile: str | None
    tags: Pairs


class ModelOutput(NamedTuple):
    """A logged model that a run made, at a step."""

    model_id: str
    step: int


class ModelPoint(NamedTuple):
    """One value of a metric as a run says it of a logged model, measured on a dataset where that is named."""

    model_id: str
    key: str
    value: float
    timestamp_ms: int
    step: int
    dataset_name: str | None = None
    dataset_digest: str | None = None


class Run(NamedTuple):
    """A run. ``metrics`` are the latest of each key; no list is in any order."""

    run_id: str
    experiment_id: int
    name: str | None
    user_id: str | None
    status: str
    start_ms: int | None
    end_ms: int | None
    artifact_uri: str | None
    lifecycle_stage: str
    metrics: list[Point]
    params: Pairs
    tags: Pairs
    datasets: list[DatasetInput]
    model_inputs: list[str]
    model_outputs: list[ModelOutput]


class Experiment(NamedTuple):
    """An experiment; ``workspace`` is the one it belongs to."""

    experiment_id: int
    name: str
    artifact_location: str | None
    lifecycle_stage: str
    created_ms: int | None
    updated_ms: int | None
    workspace: str
    tags: Pairs


class LoggedModelMetric(NamedTuple):
    """A metric of a logged model."""

    key: str
    value: float
    timestamp_ms: int
    step: int
    run_id: str
    dataset_name: str | None
    dataset_digest: str | None


class LoggedModel(NamedTuple):
    """A logged model. ``status`` is MLflow's number for it (LoggedModelStatus)."""

    model_id: str
    experiment_id: int
    name: str
    artifact_location: str
    created_ms: int
    updated_ms: int
    status: int
    model_type: str | None
    source_run_id: str | None
    status_message: str | None
    lifecycle_stage: str
    tags: Pairs
    params: Pairs
    metrics: list[LoggedModelMetric]


class ModelVersion(NamedTuple):
    """A version of a registered model."""

    name: str
    version: int
    created_ms: int | None
    updated_ms: int | None
    description: str | None
    user_id: str | None
    stage: str | None
    source: str | None
    run_id: str | None
    run_link: str | None
    status: str | None
    status_message: str | None
    storage_location: str | None
    tags: Pairs
    aliases: list[str]


class Held(NamedTuple):
    """A version of a registered model, once for each alias that it has; ``alias`` is None without one."""

    name: str
    version: int
    alias: str | None
    stage: str | None
    source: str | None
    storage_location: str | None


class RegisteredModel(NamedTuple):
    """A registered model. ``latest``: its newest version of each stage; ``aliases``: alias and version."""

    name: str
    created_ms: int | None
    updated_ms: int | None
    description: str | None
    tags: Pairs
    aliases: Pairs
    latest: list[ModelVersion]


class Page(NamedTuple):
    """Part of what was found; ``next_offset`` is None at the end."""

    items: list[Run] | list[Experiment] | list[Point] | list[LoggedModel]
    next_offset: int | None
