"""Sandboxes: processes for code that is not ours, behind a wall."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from tallystick.core.wall import Strength, Wall

__all__ = ["Confined", "Sandbox"]


@runtime_checkable
class Confined(Protocol):
    """A running process behind a wall, with pipes to its standard streams."""

    pid: int
    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader
    stderr: asyncio.StreamReader

    async def wait(self) -> int:
        """Its exit status (negative: the signal that ended it), once it and its children are gone."""
        ...

    async def end(self, grace_s: float = 5.0) -> int:
        """SIGTERM to all of it, SIGKILL after ``grace_s`` seconds; its exit status. Twice is fine."""
        ...


@runtime_checkable
class Sandbox(Protocol):
    """Starts processes behind walls. Nothing started outlives the hub, even one that is killed."""

    def strength(self) -> Strength:
        """What this sandbox can and cannot do here."""
        ...

    async def spawn(self, argv: Sequence[str], wall: Wall) -> Confined:
        """Start ``argv`` behind ``wall``; Unavailable when the sandbox does not work on this machine."""
        ...

    async def close(self) -> None:
        """End everything that was started and is still running."""
        ...
