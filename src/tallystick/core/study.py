"""Studies: a pipeline run again and again with other parameters, towards the best value of one metric."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tallystick.core.errors import BadInput
from tallystick.core.names import DEFAULT_TENANT
from tallystick.core.run.events import Run
from tallystick.core.run.options import RunOptions

__all__ = [
    "POINTS_MAX",
    "Dimension",
    "Kind",
    "Study",
    "StudyState",
    "Trial",
    "TrialState",
    "best_of",
    "found",
]

METRICS = "system.Metrics"
POINTS_MAX = 100_000
"""Combinations of a grid."""
NUMBER_MAX = 1e308
"""What a step says may be a whole number that no float can hold."""


class Kind(enum.StrEnum):
    """What a parameter of a space is."""

    FLOAT = "float"
    INT = "int"
    CHOICE = "choice"


@dataclass(frozen=True, slots=True)
class Dimension:
    """One parameter: ``low`` to ``high``, both included, ``step`` apart (0: any); or one of ``values``.

    With ``log`` each order of magnitude is as likely as any other.
    """

    name: str
    kind: Kind
    low: float = 0.0
    high: float = 0.0
    step: float = 0.0
    log: bool = False
    values: tuple[Any, ...] = ()

    @property
    def steps(self) -> int:
        """How many steps above ``low`` the last value is; 0 where there are none."""
        step = self.step or (self.kind is Kind.INT)
        return math.floor((self.high - self.low) / step + 1e-9) if step else 0

    def points(self) -> tuple[Any, ...]:
        """All its values, for a grid; BadInput where they have no end, or are too many."""
        if self.kind is Kind.CHOICE:
            return self.values
        if not self.steps:
            hint = "say its step, or choose another sampler"
            raise BadInput("a grid needs a finite number of values", where=f"[{self.name}]", hint=hint)
        if self.steps >= POINTS_MAX:
            raise BadInput(
                f"a grid of {self.steps + 1:,} values", where=f"[{self.name}]", hint="say a larger step"
            )
        points = (self.low + (self.step or 1) * i for i in range(self.steps + 1))
        return tuple(map(int if self.kind is Kind.INT else float, points))


class StudyState(enum.StrEnum):
    """Where a study stands: running, then stopping if somebody asks, then one of the ended ones."""

    RUNNING = "running"
    STOPPING = "stopping"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def ended(self) -> bool:
        """True when nothing is done any more, unless somebody resumes it."""
        return self in (StudyState.SUCCEEDED, StudyState.FAILED, StudyState.STOPPED)


class TrialState(enum.StrEnum):
    """Where a trial stands. One that was stopped with its study counts as none: another takes its place."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PRUNED = "pruned"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of the pipeline. ``run`` is its key, and said before there is such a run.

    ``steps``: what the metric was on the way, by step (digits). ``why`` says what went wrong.
    """

    number: int
    params: Mapping[str, Any]
    run: str = ""
    state: TrialState = TrialState.RUNNING
    value: float | None = None
    steps: Mapping[str, float] = field(default_factory=dict)
    why: str = ""
    started_ms: int = 0
    ended_ms: int = 0


@dataclass(frozen=True, slots=True)
class Study:
    """A study. ``space`` are the parameters that are searched. All trials share ``params``, and ``options``
    but for the record that they belong to.

    ``trials`` are kept in the study's journal, and stand here only where somebody looks at the whole of it.
    ``trials_max`` counts none that was stopped; more than ``failures_max`` failed ones end the study.
    """

    key: str
    name: str
    pipeline: str
    spec_digest: str
    objective: str
    space: tuple[Dimension, ...]
    params: Mapping[str, Any] = field(default_factory=dict)
    options: RunOptions = field(default_factory=RunOptions)
    maximize: bool = False
    sampler: str = "tpe"
    pruner: str = "none"
    seed: int = 0
    trials_max: int = 20
    parallel: int = 1
    failures_max: int = 3
    state: StudyState = StudyState.RUNNING
    trials: tuple[Trial, ...] = ()
    best: Trial | None = None
    error: str = ""
    record_id: str = ""
    started_ms: int = 0
    ended_ms: int = 0
    tenant: str = DEFAULT_TENANT


def best_of(trials: Iterable[Trial], maximize: bool) -> Trial | None:
    """The trial with the best value, of equal ones the first; pruned ones are no candidates."""
    ended = [t for t in trials if t.state is TrialState.SUCCEEDED and t.value is not None]
    return min(ended, key=lambda t: (-t.value if maximize else t.value, t.number)) if ended else None  # type: ignore[operator]  # looked at above


def found(run: Run, objective: str) -> dict[str, float]:
    """What ``objective`` can mean in a run that has ended, by its full name: an output parameter of the
    pipeline, or a metric of a step's ``system.Metrics`` output (``metric``, or ``step.metric``).
    """
    outputs = run.outputs.params
    named = {objective: float(outputs[objective])} if _is_number(outputs.get(objective)) else {}
    metrics = (
        (f"{path}.{name}", float(value))
        for path, short, name, value in _metrics(run)
        if objective in (name, f"{short}.{name}", f"{path}.{name}")
    )
    return named | dict(metrics)


def _metrics(run: Run) -> Iterator[tuple[str, str, str, Any]]:
    for step in run.steps:
        refs = (ref for refs in step.outputs.artifacts.values() for ref in refs if ref.schema == METRICS)
        for ref in refs:
            for name, value in ref.metadata.items():
                if _is_number(value):
                    yield step.path, step.path.rpartition("/")[2], name, value


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -NUMBER_MAX < value < NUMBER_MAX
