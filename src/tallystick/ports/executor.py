"""The executor: runs one step of a pipeline in a process of its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from tallystick.core.pipeline.spec import Component
from tallystick.core.values import Environment

__all__ = ["Door", "Executor", "InputFile", "Job", "Outcome", "OutputFile"]


@dataclass(frozen=True, slots=True)
class InputFile:
    """An input artifact, unpacked at ``path`` and not to be written."""

    path: Path
    schema: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OutputFile:
    """What a step left for an output artifact: a file or folder, and its metadata."""

    path: Path
    schema: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


class Door(Protocol):
    """A step's own way to the hub, for as long as it runs: whoever comes by it is taken for that step."""

    async def path(self) -> Path:
        """A unix socket that leads to the hub; Unavailable where none can be made."""
        ...

    async def serve(self, connection: socket.socket) -> None:
        """Answer a connection that was accepted for the step, until it has ended; it is closed then."""
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """One step to run. ``workdir`` is empty, and the step's alone; ``key`` names run and step in logs.

    ``env`` is added to the step's environment. By ``door`` the step reaches the hub (and nothing else), at
    the address in its environment variable ``MLFLOW_TRACKING_URI``. ``environment`` is what
    :meth:`Executor.environment` said for the component, or one that was recorded earlier; None stands for
    what is installed beside the hub. Only with ``commands``, which a person must have asked for, is a
    container's command run; all steps of a run may write in its folder ``shared``, where there is one, but
    one that runs or ends with over ``shared_bytes`` in it (0 is no limit) fails; ``facts`` are what its
    placeholders may name (``pipeline_job_name`` and others). Before ``kept`` is set, that the step begins is
    not in the journal: all may be made ready for it, and nothing of it runs.
    """

    key: str
    component: Component
    workdir: Path
    params: Mapping[str, Any] = field(default_factory=dict)
    artifacts: Mapping[str, tuple[InputFile, ...]] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    door: Door | None = None
    environment: Environment | None = None
    commands: bool = False
    shared: Path | None = None
    shared_bytes: int = 0
    facts: Mapping[str, str] = field(default_factory=dict)
    kept: asyncio.Event | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a step ended: outputs, or ``error`` in one line (empty on success)."""

    params: Mapping[str, Any] = field(default_factory=dict)
    artifacts: Mapping[str, OutputFile] = field(default_factory=dict)
    error: str = ""


@runtime_checkable
class Executor(Protocol):
    """Runs steps, each in a fresh process behind a wall.

    One that has places of its own for them says in ``steps_at_once`` how many it takes, of all runs together;
    of any other the hub gives it no more than the setting of that name.
    """

    @property
    def manner(self) -> str:
        """How steps come to be and what keeps them apart, in words for a person: one line."""
        ...

    def check(self, component: Component, *, commands: bool = False) -> None:
        """NotSupported, naming the construct or package, when this executor cannot run ``component``.

        Refused for what only a person or a setting may allow. ``commands``: as in :class:`Job`.
        """
        ...

    async def environment(self, component: Component) -> Environment:
        """What ``component`` is to run on, resolved and not yet built: part of its cache key.

        NotSupported, naming the package, for what cannot be resolved; Unavailable where that needs something
        that cannot be reached.
        """
        ...

    async def run(self, job: Job, on_log: Callable[[str], None]) -> Outcome:
        """Run a step to its end, handing over each line that it prints as it comes.

        A step that fails is an outcome with ``error``, not an exception. Cancelling this call ends
        the step's whole process tree.
        """
        ...

    async def close(self) -> None:
        """End every step, and whatever they are made from; twice is fine."""
        ...
