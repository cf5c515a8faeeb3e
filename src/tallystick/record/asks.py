"""What can be asked of MLflow's record natively: only the plain cases, each one a value.

Of experiments and runs; ``model_asks`` goes on with models.

An ask is well formed before it is made: names, lengths and limits were checked by whoever made it, as
MLflow checks them (``mlflow/utils/validation.py``). What the record alone can know (is the run there, and
active?) is found out as the ask is carried out; where that is not a plain yes, the ask changes nothing and
:class:`NotPlain` is raised, and MLflow's own server is asked instead, so that its errors are its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from tallystick.record.entries import (
    DatasetInput,
    Experiment,
    ModelOutput,
    ModelPoint,
    Page,
    Run,
    RunPoint,
)
from tallystick.record.search import Condition, Order

__all__ = [
    "Ask",
    "Columns",
    "CreateExperiment",
    "CreateRun",
    "DeleteExperimentTag",
    "DeleteTag",
    "GetExperiment",
    "GetRun",
    "History",
    "HistoryBulk",
    "HistoryInterval",
    "LogBatch",
    "LogColumns",
    "LogInputs",
    "LogMetric",
    "LogModel",
    "LogOutputs",
    "LogParam",
    "MoveExperiment",
    "MoveRun",
    "NotPlain",
    "Read",
    "RenameExperiment",
    "SearchExperiments",
    "SearchRuns",
    "SetExperimentTag",
    "SetTag",
    "UpdateRun",
    "Write",
]

A = TypeVar("A")
Items = tuple[tuple[str, str], ...]


class NotPlain(Exception):
    """This ask is not one of the plain cases; nothing was changed, and MLflow itself is to be asked."""


class Ask(Generic[A]):
    """Something asked of the record, and answered with an ``A``."""

    __slots__ = ()


class Write(Ask[A]):
    """An ask that changes the record."""

    __slots__ = ()


class Read(Ask[A]):
    """An ask that changes nothing."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Columns:
    """Metric points as columns of one length. Values may be NaN or infinite."""

    keys: list[str]
    values: list[float]
    timestamps_ms: list[int]
    steps: list[int]


# ----------------------------------------------------------------------------------------------------- writes
# The run must be there, and active, for all that change what is in it.


@dataclass(frozen=True, slots=True)
class LogMetric(Write[None]):
    """One point. A point that is there already (all five equal) is there once."""

    run_id: str
    key: str
    value: float
    timestamp_ms: int
    step: int


@dataclass(frozen=True, slots=True)
class LogBatch(Write[None]):
    """Points, params and tags of one run, all or nothing. Param keys are unique within ``params``.

    A param that is there with another value is not plain; with the same value it stays. Of tags with one
    key the last counts. ``mlflow.runName`` among the tags also names the run. What ``points`` say of logged
    models too is in ``of_models``, and kept with those; a model that is not there, in this workspace, and a
    point that differs from one in its place (by model, key, time, step and run), are not plain.
    """

    run_id: str
    points: Columns
    params: Items = ()
    tags: Items = ()
    of_models: tuple[ModelPoint, ...] = ()


@dataclass(frozen=True, slots=True)
class LogColumns(Write[None]):
    """Points of several runs, applied once however often the same ``batch_id`` is asked for."""

    batch_id: str
    runs: tuple[tuple[str, Columns], ...]


@dataclass(frozen=True, slots=True)
class LogParam(Write[None]):
    """A param; not plain where it is there with another value."""

    run_id: str
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class SetTag(Write[None]):
    """A tag, set or replaced; ``mlflow.runName`` also names the run."""

    run_id: str
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class DeleteTag(Write[None]):
    """A tag that is there; not plain otherwise."""

    run_id: str
    key: str


@dataclass(frozen=True, slots=True)
class CreateRun(Write[Run]):
    """A new run, RUNNING, in an active experiment. ``name`` also becomes tag ``mlflow.runName``."""

    run_id: str
    experiment_id: int
    user_id: str
    start_ms: int
    name: str
    tags: Items = ()


@dataclass(frozen=True, slots=True)
class UpdateRun(Write[Run]):
    """Status, end and name, where given. The answer's lists are empty: only the run itself is told."""

    run_id: str
    status: str | None = None
    end_ms: int | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class MoveRun(Write[None]):
    """Delete (``deleted``) or restore (``active``) a run, whatever it was.

    Not plain to delete one that assessments may refer to, as MLflow deletes those with it.
    """

    run_id: str
    stage: str
    now_ms: int


@dataclass(frozen=True, slots=True)
class LogInputs(Write[None]):
    """Datasets (known by name and digest within the experiment) and logged models that a run read."""

    run_id: str
    datasets: tuple[DatasetInput, ...] = ()
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LogOutputs(Write[None]):
    """Logged models that a run made."""

    run_id: str
    models: tuple[ModelOutput, ...]


@dataclass(frozen=True, slots=True)
class LogModel(Write[None]):
    """Append ``model_json``, an object as text, to the list in tag ``mlflow.log-model.history``."""

    run_id: str
    model_json: str


@dataclass(frozen=True, slots=True)
class CreateExperiment(Write[int]):
    """A new experiment and its id; a name in use is not plain.

    An empty ``artifact_location`` is made from the id.
    """

    name: str
    artifact_location: str
    now_ms: int
    tags: Items = ()


@dataclass(frozen=True, slots=True)
class RenameExperiment(Write[None]):
    """A new name for an active experiment; one in use is not plain."""

    experiment_id: int
    name: str
    now_ms: int


@dataclass(frozen=True, slots=True)
class MoveExperiment(Write[None]):
    """Delete an active experiment with its runs (``deleted``), or restore a deleted one (``active``)."""

    experiment_id: int
    stage: str
    now_ms: int


@dataclass(frozen=True, slots=True)
class SetExperimentTag(Write[None]):
    """A tag of an active experiment, set or replaced."""

    experiment_id: int
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class DeleteExperimentTag(Write[None]):
    """A tag that an active experiment has; not plain otherwise."""

    experiment_id: int
    key: str


# ------------------------------------------------------------------------------------------------------ reads


@dataclass(frozen=True, slots=True)
class GetRun(Read[Run]):
    """A run with all that belongs to it; not plain when there is none."""

    run_id: str


@dataclass(frozen=True, slots=True)
class SearchRuns(Read[Page]):
    """Runs of experiments, those of ``stages`` that meet every condition, in order.

    Without ``orders``, and among equals: the newest start first, then by run id.
    """

    experiment_ids: tuple[int, ...]
    conditions: tuple[Condition, ...] = ()
    stages: tuple[str, ...] = ("active",)
    orders: tuple[Order, ...] = ()
    max_results: int = 1000
    offset: int = 0


@dataclass(frozen=True, slots=True)
class GetExperiment(Read[Experiment]):
    """An experiment of any stage by id or, where that is None, by name; not plain when there is none."""

    experiment_id: int | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class SearchExperiments(Read[Page]):
    """Experiments of ``stages`` that meet every condition, in order; without ``orders`` the newest first."""

    conditions: tuple[Condition, ...] = ()
    stages: tuple[str, ...] = ("active",)
    orders: tuple[Order, ...] = ()
    max_results: int = 1000
    offset: int = 0


@dataclass(frozen=True, slots=True)
class History(Read[Page]):
    """A metric's points in a run, by time, step and value; without ``max_results`` all from ``offset``."""

    run_id: str
    key: str
    max_results: int | None = None
    offset: int = 0


@dataclass(frozen=True, slots=True)
class HistoryBulk(Read[list[RunPoint]]):
    """A metric's points in several runs, by run id, time, step and value, at most ``max_results``."""

    run_ids: tuple[str, ...]
    key: str
    max_results: int


@dataclass(frozen=True, slots=True)
class HistoryInterval(Read[list[RunPoint]]):
    """A metric's points in several runs between two steps, thinned out as MLflow thins them out."""

    run_ids: tuple[str, ...]
    key: str
    max_results: int
    start_step: int | None = None
    end_step: int | None = None
