"""Environments: Pythons with exactly the packages that a component asks for, off the hub's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from tallystick.core.pipeline.spec import Function
from tallystick.core.values import Environment

__all__ = ["Built", "Environments"]


@dataclass(frozen=True, slots=True)
class Built:
    """An environment on this machine.

    ``python`` is its interpreter. ``runtime`` is a folder that holds what a step's process is made of and
    nothing else, and comes last on its path. ``shown`` are the paths that a wall must show, those two too.
    All of it stays for as long as anybody refers to ``hold``, and may be removed afterwards.
    """

    python: Path
    runtime: Path
    shown: tuple[Path, ...]
    hold: object = field(default=None, compare=False, repr=False)


@runtime_checkable
class Environments(Protocol):
    """Resolves packages into a lock, and builds an environment from a lock, each only once."""

    def check(self, code: Function) -> None:
        """NotSupported for a package that is no plain requirement, Refused for an index that is not allowed.

        MissingTile where what resolves and builds is not installed. Asks nobody.
        """
        ...

    async def resolve(self, code: Function) -> Environment:
        """The packages of ``code`` with their lock, as it was resolved the first time.

        NotSupported, with the reason, for what cannot be resolved; Unavailable where an index cannot be
        reached.
        """
        ...

    async def build(self, environment: Environment, code: Function, on_log: Callable[[str], None]) -> Built:
        """What the lock of ``environment`` says, built now where it is not yet; progress to ``on_log``.

        NotSupported for one that another Python or platform has recorded; Failed with the reason, and
        Unavailable where the disk is full or an index cannot be reached. Cancelling it ends the building.
        """
        ...
