"""The registry: MLflow's record of runs and models, as far as the hub writes in it itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

__all__ = ["Registered", "Registry"]


@dataclass(frozen=True, slots=True)
class Registered:
    """A model version as the registry knows it. ``run_id`` and ``model_id`` may be empty."""

    name: str
    version: int
    run_id: str = ""
    model_id: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()


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
        self, name: str, folder: Path, tags: Mapping[str, str], *, run_id: str = "", model_id: str = ""
    ) -> Registered:
        """Add a version of model ``name``, made when new.

        With ``model_id`` the files are those of that logged model; without, the files of ``folder``
        are uploaded. BadInput for a name that MLflow refuses.
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

    async def run_data(self, run_id: str) -> tuple[Mapping[str, float], Mapping[str, str]]:
        """A run's latest metrics and its params; NotFound when there is no such run.

        Metrics that are no finite number are left out.
        """
        ...
