"""The journal: what happened in each run, in order, and its steps as they now stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

__all__ = ["ENTRY_BYTES_MAX", "Entry", "Journal"]

ENTRY_BYTES_MAX = 16 * 1024 * 1024
"""Bytes of one entry, or of one step, as JSON."""


class Entry(NamedTuple):
    """An event of a run as JSON, and the steps that it changed: their paths, each with the step as JSON."""

    event: str
    steps: Sequence[tuple[str, str]] = ()


@runtime_checkable
class Journal(Protocol):
    """Events are only ever added, and a run has one writer. Reads never wait for it."""

    async def record(self, tenant: str, run: str, entries: Sequence[Entry]) -> None:
        """Add all of ``entries`` or none; durable on return.

        TooLarge for more than :data:`ENTRY_BYTES_MAX` in one piece, Unavailable when the disk is full,
        read-only or locked.
        """
        ...

    async def events(self, tenant: str, run: str) -> Sequence[str]:
        """Every event of a run, the oldest first; none of a run that nobody knows."""
        ...

    async def steps(self, tenant: str, run: str, path: str = "") -> Sequence[str]:
        """The steps of a run as they now stand, in the order in which they came; with ``path``, that one."""
        ...
