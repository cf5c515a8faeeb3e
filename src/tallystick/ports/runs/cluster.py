"""Clusters: where whole pipelines are run by somebody else's scheduler, and how they fare there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from tallystick.core.run.events import RunState, Step
from tallystick.core.values import Values

__all__ = ["Cluster", "Seen"]


@dataclass(frozen=True, slots=True)
class Seen:
    """How a run stands elsewhere. ``error`` is one line; a time of 0 ms is not known yet.

    ``outputs``, and those of steps, are parameters and metrics alone, as far as the cluster tells of any.
    """

    state: RunState
    steps: Sequence[Step] = ()
    error: str = ""
    started_ms: int = 0
    ended_ms: int = 0
    outputs: Values = field(default_factory=Values)


@runtime_checkable
class Cluster(Protocol):
    """Runs pipelines. Unavailable when it cannot be reached, Refused when it will not let us in."""

    async def submit(
        self, name: str, spec: bytes, params: Mapping[str, Any], *, experiment: str = "", cache: bool = True
    ) -> str:
        """Run the pipeline in the file ``spec`` as ``name``; its id there.

        A run of that name that is there already is the answer, so that a second try submits nothing.
        BadInput with the cluster's own words where it will not have it.
        """
        ...

    async def look(self, run: str) -> Seen:
        """How the run with that id stands now; NotFound when it is gone."""
        ...

    async def stop(self, run: str) -> None:
        """Ask it to end the run; one that has ended is left alone."""
        ...

    def page(self, run: str) -> str:
        """The address at which people look at it."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
