"""Tracking: MLflow's record in a database, on the schema that MLflow's own migrations make."""

from __future__ import annotations

from typing import Protocol, TypeVar, runtime_checkable

from tallystick.record.asks import Read, Write

__all__ = ["DEFAULT_WORKSPACE", "Tracking"]

A = TypeVar("A")

DEFAULT_WORKSPACE = "default"
"""What belongs to no other workspace, and all there is where workspaces are off."""


@runtime_checkable
class Tracking(Protocol):
    """The record, natively: plain asks only. Whatever is not plain raises ``NotPlain`` and changes nothing.

    ``open_tile`` finds the ``database`` among its parts, and in its options ``artifact_root``
    (``mlflow-artifacts:/``: where new experiments keep their artifacts) and ``workspaces`` (whether there
    are others than the default one). Every ask sees and changes what belongs to its workspace alone.
    """

    async def ready(self) -> bool:
        """Whether the database is there and has the schema that this tile knows; cheap once it is."""
        ...

    async def write(self, ask: Write[A], workspace: str) -> A:
        """Carry out ``ask``; the answer comes when it is durable, and many at once share one commit.

        NotPlain as :mod:`tallystick.record.asks` says; Unavailable, with what to do, when the
        database is locked, full, read-only or gone: then too nothing was changed, and asking again is safe
        only where the ask itself says so.
        """
        ...

    async def read(self, ask: Read[A], workspace: str) -> A:
        """The answer to ``ask``, from what is durable; never waits for a writer."""
        ...

    def yield_to(self, others: int) -> None:
        """Say how many writes of MLflow's own server are under way: leave it gaps while there are some."""
        ...

    async def close(self) -> None:
        """Finish what was begun and let go of the database; twice is fine."""
        ...
