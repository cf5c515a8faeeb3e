"""The registry: MLflow's record of runs and models, as far as the hub writes in it itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

__all__ = ["Registered", "Registry", "RunData"]


@dataclass(frozen=True, slots=True)
class Registered:
    """A model version as the registry knows it. ``run_id`` and ``model_id`` may be empty."""

    name: str
    version: int
    run_id: str = ""
    model_id: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunData:
    """What was logged to a run: its latest metrics, those that are a finite number, its params and tags."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class Registry(Protocol):
    """Runs and model versions."""

    async def begin_run(self, experiment: str, name: str, tags: Mapping[str, str]) -> tuple[str, str]:
        """Start a run, in an experiment made when new; ``(experiment_id, run_id)``."""
        ...

    async def end_run(self, run_id: str, status: str) -> None:
        """End a run with ``FINISHED``, ``FAILED`` or ``KILLED``."""
        ...

    async def register(
        self, name: str, folder: Path, tags: Mapping[str, str], *, run_id: str = ""
    ) -> Registered:
        """Add a version of model ``name``, made when new, with the files of ``folder``, which are uploaded.

        ``run_id`` is the run that it comes from. BadInput for a name that MLflow refuses, NotFound for
        an unknown run.
        """
        ...

    async def versions(self, name: str = "") -> Sequence[Registered]:
        """Versions of one model, or of all, newest first; NotFound for an unknown name."""
        ...

    async def fetch(self, name: str, version: int, dest: Path) -> Registered:
        """Download a version's files into ``dest``, which must not exist; NotFound when there is none.

        A path in the listing that would leave ``dest`` is Refused.
        """
        ...

    async def point(self, name: str, alias: str, version: int) -> None:
        """Let ``alias`` mean ``version``."""
        ...

    async def run_data(self, run_id: str) -> RunData:
        """What was logged to a run; NotFound when there is no such run."""
        ...
