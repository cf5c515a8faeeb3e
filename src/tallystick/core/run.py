"""Runs: one execution of a pipeline, as a state machine. Events in; a new run and effects out.

======== ============================ =====================================================
state    event                        new state, effects
======== ============================ =====================================================
running  Began                        running; StartStep for each step whose inputs exist
running  StepEnded, succeeded/cached  running with StartStep for what became ready, or,
                                      when nothing is left, succeeded with EndRun
running  StepEnded, failed/cancelled  failing: nothing new starts; failed with EndRun once
                                      no step runs any more
running  CancelAsked                  cancelling with StopStep for each running step;
                                      cancelled with EndRun once none runs
failing  CancelAsked                  failing with StopStep for each running step
ended    any                          unchanged, no effects
======== ============================ =====================================================
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tallystick.core.errors import BadInput, Conflict
from tallystick.core.frontier import Ready, frontier
from tallystick.core.names import DEFAULT_TENANT
from tallystick.core.pipeline import Pipeline
from tallystick.core.values import Values

__all__ = [
    "Began",
    "CancelAsked",
    "Effect",
    "EndRun",
    "Event",
    "Run",
    "RunState",
    "StartStep",
    "Step",
    "StepEnded",
    "StepState",
    "StopStep",
    "decide",
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
    """Where a step stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    CACHED = "cached"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def done(self) -> bool:
        """True when the step's outputs exist."""
        return self in (StepState.SUCCEEDED, StepState.CACHED)


@dataclass(frozen=True, slots=True)
class Step:
    """One execution of one task; ``path`` is unique in the run, for example ``for-loop-1[2]/train``."""

    path: str
    state: StepState
    inputs: Values = field(default_factory=Values)
    outputs: Values = field(default_factory=Values)
    cache_key: str = ""
    error: str = ""
    log_digest: str = ""
    started_ms: int = 0
    ended_ms: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """A run. ``spec_digest`` is the artifact that holds the pipeline as it was handed in."""

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
    tenant: str = DEFAULT_TENANT

    def step(self, path: str) -> Step | None:
        """The step at ``path``, or None while it has not started."""
        return next((s for s in self.steps if s.path == path), None)


@dataclass(frozen=True, slots=True)
class Began:
    """The run may start its first steps."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """Somebody wants the run to end."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class StepEnded:
    """A step came to its end in ``state``; a cached one ends without having been started outside."""

    path: str
    state: StepState
    at_ms: int
    outputs: Values = field(default_factory=Values)
    error: str = ""
    log_digest: str = ""
    cache_key: str = ""


Event = Began | CancelAsked | StepEnded


@dataclass(frozen=True, slots=True)
class StartStep:
    """Start this step; its inputs exist."""

    ready: Ready


@dataclass(frozen=True, slots=True)
class StopStep:
    """End this step's processes."""

    path: str


@dataclass(frozen=True, slots=True)
class EndRun:
    """The run is over, in this state."""

    state: RunState


Effect = StartStep | StopStep | EndRun


def decide(run: Run, pipeline: Pipeline, event: Event, slots: int) -> tuple[Run, tuple[Effect, ...]]:
    """The run after ``event``, and what to do about it; at most ``slots`` steps run at once."""
    if run.state.ended:
        return run, ()
    if isinstance(event, Began):
        run = replace(run, started_ms=event.at_ms)
    elif isinstance(event, CancelAsked):
        stops = tuple(StopStep(s.path) for s in run.steps if s.state is StepState.RUNNING)
        if run.state is RunState.RUNNING:  # a run that fails already keeps its reason
            run = replace(run, state=RunState.CANCELLING, error="cancelled by request")
        run, ends = _advance(run, pipeline, event.at_ms, slots)
        return run, (*stops, *ends)
    else:
        run = _end_step(run, event)
    return _advance(run, pipeline, event.at_ms, slots)


def _end_step(run: Run, event: StepEnded) -> Run:
    old = run.step(event.path)
    if old is None or old.state is not StepState.RUNNING:
        raise Conflict("a step ended that was not running", where=f"{run.key} {event.path}")
    new = replace(
        old,
        state=event.state,
        outputs=event.outputs,
        error=event.error,
        log_digest=event.log_digest,
        cache_key=event.cache_key or old.cache_key,
        ended_ms=event.at_ms,
    )
    steps = tuple(new if s.path == event.path else s for s in run.steps)
    if not event.state.done and run.state is RunState.RUNNING:
        return replace(run, steps=steps, state=RunState.FAILING, error=f"{event.path}: {event.error}")
    return replace(run, steps=steps)


def _advance(run: Run, pipeline: Pipeline, at_ms: int, slots: int) -> tuple[Run, tuple[Effect, ...]]:
    running = sum(s.state is StepState.RUNNING for s in run.steps)
    if run.state is not RunState.RUNNING:
        if running:
            return run, ()
        end = RunState.FAILED if run.state is RunState.FAILING else RunState.CANCELLED
        return replace(run, state=end, ended_ms=at_ms), (EndRun(end),)
    started = {s.path: s.outputs if s.state.done else None for s in run.steps}
    try:
        ready, outputs = frontier(pipeline, run.params, started)
    except BadInput as wrong:
        failing = replace(run, state=RunState.FAILING, error=str(wrong))
        return _advance(failing, pipeline, at_ms, slots)
    if outputs is not None:
        done = replace(run, state=RunState.SUCCEEDED, outputs=outputs, ended_ms=at_ms)
        return done, (EndRun(RunState.SUCCEEDED),)
    starting = ready[: max(0, slots - running)]
    steps = tuple(
        Step(path=r.path, state=StepState.RUNNING, inputs=r.inputs, started_ms=at_ms) for r in starting
    )
    return replace(run, steps=run.steps + steps), tuple(StartStep(r) for r in starting)
