"""Runs: one execution of a pipeline. What happens to it, what is to be done about it, and where it stands.

A run is its events in order: whoever applies them again to :class:`tallystick.core.run.machine.Machine` comes
to the same state.

========== ============================== ==================================================================
run        event                          what follows
========== ============================== ==================================================================
running    Began                          StartStep for each step whose inputs exist, as slots allow
running    StepEnded, succeeded or cached StartStep for what became ready; EndRun, succeeded, after the last
running    StepEnded, failed, tries left  the step backs off: WakeAt, then RetryDue, then StartStep
running    StepEnded, failed              failing: steps that were not started are skipped, but not those that
                                          start regardless (exit handlers) and what comes after them
running    CancelAsked                    cancelling: StopStep for each running step; skipped as above
failing    CancelAsked                    as above, and it stays failing
either     CancelAsked once more          StopStep for all, and nothing starts any more
cancelling Began                          it was cancelled before it began: as above
either     the last step has ended        EndRun: failed or cancelled
any        Resumed                        StartStep again for what was running when the hub went away; what
                                          was being stopped by then is cancelled
ended      any                            nothing
========== ============================== ==================================================================

=========== ================================================================================================
step        how it comes to be so
=========== ================================================================================================
running     it was started; in its inputs, all that it needs exists
backing off a try failed, and another is due
succeeded   its outputs exist
cached      its outputs exist, from an equal step
skipped     its condition is false, or what it waits for did not succeed, or the run was failing by then
failed      its last try failed, or its inputs could not be made
cancelled   it was stopped
=========== ================================================================================================
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tallystick.core.data import TABLE_URI
from tallystick.core.names import DEFAULT_TENANT
from tallystick.core.pipeline.spec import Task
from tallystick.core.run.options import RunOptions
from tallystick.core.values import Values

__all__ = [
    "Began",
    "CancelAsked",
    "Decision",
    "EndRun",
    "Event",
    "Resumed",
    "RetryDue",
    "Run",
    "RunState",
    "StartStep",
    "Step",
    "StepEnded",
    "StepState",
    "StopStep",
    "WakeAt",
    "snapshots_of",
]


class RunState(enum.StrEnum):
    """Where a run stands; the module's table says what leads where."""

    RUNNING = "running"
    FAILING = "failing"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """True in the three states that a run never leaves."""
        return self in (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED)


class StepState(enum.StrEnum):
    """Where a step stands; the module's second table says how it comes to be so."""

    RUNNING = "running"
    BACKING_OFF = "backing off"
    SUCCEEDED = "succeeded"
    CACHED = "cached"
    SKIPPED = "skipped"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def done(self) -> bool:
        """True when the step's outputs exist."""
        return self in (StepState.SUCCEEDED, StepState.CACHED)

    @property
    def ended(self) -> bool:
        """True in the states that a step never leaves."""
        return self not in (StepState.RUNNING, StepState.BACKING_OFF)


@dataclass(frozen=True, slots=True)
class Step:
    """One execution of one task; ``path`` is unique in the run, for example ``for-loop-1[2]/train``.

    A graph that was skipped whole stands as one step of its own. ``attempt`` counts from 1. ``environment``
    is the digest of what it ran on, ``cache_note`` says why its outputs were found or not, and ``note`` what
    else a person should know.
    """

    path: str
    state: StepState
    attempt: int = 1
    inputs: Values = field(default_factory=Values)
    outputs: Values = field(default_factory=Values)
    cache_key: str = ""
    error: str = ""
    log_digest: str = ""
    started_ms: int = 0
    ended_ms: int = 0
    environment: str = ""
    cache_note: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """A run. ``spec_digest`` is the artifact that holds the pipeline as it was handed in.

    ``steps`` are kept in the run's journal, and stand here only where somebody looks at the whole of it.
    ``counts`` says how many there were in each state when this was told, and ``snapshots`` (``table@id``)
    which it brought in. ``reproduces`` is the key of the run that it does again,
    and ``away`` its id where another machine executes it.
    """

    key: str
    pipeline: str
    spec_digest: str
    params: Mapping[str, Any]
    state: RunState = RunState.RUNNING
    steps: tuple[Step, ...] = ()
    outputs: Values = field(default_factory=Values)
    error: str = ""
    started_ms: int = 0
    ended_ms: int = 0
    record_id: str = ""
    experiment_id: str = ""
    tenant: str = DEFAULT_TENANT
    snapshots: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    options: RunOptions = field(default_factory=RunOptions)
    reproduces: str = ""
    away: str = ""

    @property
    def counted(self) -> Mapping[str, int]:
        """How many steps there are in each state, as far as it is known here."""
        return Counter(str(step.state) for step in self.steps) if self.steps else self.counts

    def step(self, path: str) -> Step | None:
        """The step at ``path``, or None while it has not started."""
        return next((s for s in self.steps if s.path == path), None)


def snapshots_of(steps: Iterable[Step]) -> tuple[str, ...]:
    """The snapshots (``table@id``) that steps brought in or worked on, each once, as they came."""
    refs = (
        ref
        for step in steps
        for values in (step.inputs, step.outputs)
        for found in values.artifacts.values()
        for ref in found
        if ref.uri.startswith(TABLE_URI)
    )
    keys = dict.fromkeys(ref.uri.removeprefix(TABLE_URI) for ref in refs)
    return tuple(key for key in keys if "@" in key)


@dataclass(frozen=True, slots=True)
class Began:
    """The run may start its first steps, ``slots`` of them at once.

    That is said here, and again by :class:`Resumed`, so that a journal leads to the same state whatever the
    settings of the hub that reads it.
    """

    at_ms: int
    slots: int


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """Somebody wants the run to end; a second time, at once."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class StepEnded:
    """A try of a step came to its end: succeeded, cached, failed or cancelled."""

    path: str
    state: StepState
    at_ms: int
    attempt: int = 1
    outputs: Values = field(default_factory=Values)
    error: str = ""
    log_digest: str = ""
    cache_key: str = ""
    environment: str = ""
    cache_note: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class RetryDue:
    """The time to try a step again has come."""

    path: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Resumed:
    """A hub took the run up again; nothing of what was running before is left."""

    at_ms: int
    slots: int


Event = Began | CancelAsked | StepEnded | RetryDue | Resumed


@dataclass(frozen=True, slots=True)
class StartStep:
    """Start this step; its inputs exist."""

    path: str
    task: Task
    inputs: Values
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class StopStep:
    """End this step's processes; it then ends as cancelled."""

    path: str


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Tell :class:`RetryDue` for this step at this time."""

    path: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class EndRun:
    """The run is over, in this state."""

    state: RunState


Decision = StartStep | StopStep | WakeAt | EndRun
