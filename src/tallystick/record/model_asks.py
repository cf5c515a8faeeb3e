"""What can be asked of models: those that runs made, and those that are registered. See ``asks``."""

from __future__ import annotations

from dataclasses import dataclass

from tallystick.record.asks import Items, Read, Write
from tallystick.record.entries import Held, LoggedModel, ModelVersion, Page, RegisteredModel

__all__ = [
    "CreateLoggedModel",
    "DeleteModelTag",
    "FinalizeLoggedModel",
    "GetLoggedModel",
    "GetModelVersion",
    "GetRegisteredModel",
    "HeldVersions",
    "LogModelParams",
    "SearchLoggedModels",
    "SetModelTags",
]

# ----------------------------------------------------------------------------------------------------- writes


@dataclass(frozen=True, slots=True)
class CreateLoggedModel(Write[LoggedModel]):
    """A new logged model, PENDING, in an active experiment. ``model_id`` and ``name`` are new."""

    model_id: str
    experiment_id: int
    name: str
    now_ms: int
    source_run_id: str | None = None
    model_type: str | None = None
    params: Items = ()
    tags: Items = ()


@dataclass(frozen=True, slots=True)
class FinalizeLoggedModel(Write[LoggedModel]):
    """A status (MLflow's number) for a logged model that is not deleted."""

    model_id: str
    status: int
    now_ms: int


@dataclass(frozen=True, slots=True)
class LogModelParams(Write[None]):
    """Params of a logged model, deleted or not; not plain where one is there. Keys are unique."""

    model_id: str
    params: Items


@dataclass(frozen=True, slots=True)
class SetModelTags(Write[None]):
    """Tags of a logged model, deleted or not, set or replaced. Keys are unique."""

    model_id: str
    tags: Items


@dataclass(frozen=True, slots=True)
class DeleteModelTag(Write[None]):
    """A tag that a logged model has, deleted or not; not plain otherwise."""

    model_id: str
    key: str


# ------------------------------------------------------------------------------------------------------ reads


@dataclass(frozen=True, slots=True)
class GetLoggedModel(Read[LoggedModel]):
    """A logged model that is not deleted; not plain otherwise."""

    model_id: str


@dataclass(frozen=True, slots=True)
class SearchLoggedModels(Read[Page]):
    """Logged models of experiments that are not deleted, the newest first; of one ``name``, if given."""

    experiment_ids: tuple[int, ...]
    max_results: int = 100
    offset: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True)
class GetRegisteredModel(Read[RegisteredModel]):
    """A registered model by name; not plain when there is none."""

    name: str


@dataclass(frozen=True, slots=True)
class GetModelVersion(Read[ModelVersion]):
    """A version by number, or by alias where ``alias`` is given; not plain when there is none."""

    name: str
    version: int = 0
    alias: str = ""


@dataclass(frozen=True, slots=True)
class HeldVersions(Read[list[Held]]):
    """All versions that have an alias, or a stage other than None, whatever their models' names."""
