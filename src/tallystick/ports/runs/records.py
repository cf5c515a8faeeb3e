"""Step records: MLflow's child runs, one for each step of a run that ran, or whose outputs were found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from tallystick.core.names import digest_of
from tallystick.core.run.events import Run, Step, StepState

__all__ = ["StepRecords", "child_id", "has_child"]


def has_child(step: Step) -> bool:
    """Whether MLflow has a run of a step: once it has ended, unless it was skipped."""
    return step.state.ended and step.state is not StepState.SKIPPED


def child_id(run: Run, step: Step) -> str:
    """MLflow's id of a step that has ended, 32 hex digits; empty for one that it has no run of."""
    if not has_child(step):
        return ""
    return digest_of([run.tenant, run.key, step.path])[7:39]


@runtime_checkable
class StepRecords(Protocol):
    """The record of steps."""

    async def record_steps(self, run: Run, steps: Sequence[Step], *, again: bool = False) -> None:
        """Add ``steps`` (those that have a :func:`child_id`) below the run's record, each once.

        ``again`` says that some may be there already, whole or in part. Unavailable where the record cannot
        be reached, NotFound and Conflict where the experiment is gone: then some may have been added.
        """
        ...
