"""The ledger: facts, appended by one writer and durable once acknowledged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from tallystick.core.facts import Fact

__all__ = ["FACT_BYTES_MAX", "Ledger"]

FACT_BYTES_MAX = 16 * 1024 * 1024
"""Bytes of one fact's state as JSON; what is larger belongs among the artifacts."""


@runtime_checkable
class Ledger(Protocol):
    """Append, and read five ways. Reads never wait for the writer; tenants never see each other."""

    async def append(self, facts: Sequence[Fact]) -> int:
        """Append all of ``facts`` or none; return the ``seq`` of the last once it is on disk.

        Raises TooLarge for a state over ``FACT_BYTES_MAX``, BadInput for an unknown noun, an empty
        key or a state that is not JSON (NaN included), Unavailable when the disk is full, read-only
        or locked.
        """
        ...

    async def latest(self, tenant: str, noun: str, key: str) -> Fact | None:
        """The newest fact of a key: its state is the current view. None when there is none."""
        ...

    async def latest_of(self, tenant: str, noun: str, keys: Sequence[str]) -> Mapping[str, Fact]:
        """The newest facts of several keys; those that have none are absent."""
        ...

    async def listing(self, tenant: str, noun: str, limit: int = 100) -> Sequence[Fact]:
        """The newest fact of each key of ``noun``, most recently changed first."""
        ...

    async def history(
        self, tenant: str, *, noun: str = "", key: str = "", before: int = 0, limit: int = 100
    ) -> Sequence[Fact]:
        """Facts newest first: of all nouns or one, of all keys or one, with ``seq`` below ``before``."""
        ...

    async def counts(self, tenant: str) -> Mapping[str, int]:
        """How many keys each noun has; nouns without any are absent."""
        ...

    async def close(self) -> None:
        """Finish what was acknowledged and let go of the file; later calls raise Unavailable."""
        ...
