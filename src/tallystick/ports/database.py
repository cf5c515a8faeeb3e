"""A database: sessions with it, SQLite's and PostgreSQL's alike, and what their errors mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from tallystick.core.errors import TallyError

__all__ = ["IF_NEW", "Fault", "Row", "Session", "Source"]

Row = tuple[Any, ...]
IF_NEW = "ON CONFLICT DO NOTHING"
"""The tail of :meth:`Session.put` that leaves alone what is there already; a tile may know a quicker way."""


class Session(Protocol):
    """One connection, used by one thread at a time. SQL has ``?`` for values, in words both databases know.

    Errors of the driver come out as they are; whoever began the transaction turns them into ours.
    """

    name: str
    """``sqlite`` or ``postgresql``, for the few places where their words differ."""

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """Every row that a query finds."""
        ...

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Carry out a statement; how many rows it touched."""
        ...

    def put(self, table: str, columns: Sequence[str], rows: Sequence[Row], tail: str = "") -> None:
        """Insert rows in few statements, with ``tail`` (``ON CONFLICT ...``) after the values."""
        ...

    def among(self, column: str, values: Sequence[Any]) -> tuple[str, list[Any]]:
        """SQL and values that say ``column IN values``, for any number of them, none included."""
        ...

    def begin(self) -> None:
        """Begin a transaction: a writer's holds what it needs at once, a reader's sees one state."""
        ...

    def end(self, *, keep: bool) -> None:
        """Make what the transaction did durable, or undo it; to undo is harmless where none was begun."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


class Fault(NamedTuple):
    """What a driver's error means.

    ``kind`` is ``guilty`` (what was asked cannot be done: nobody else is to blame), ``again`` (a deadlock: it
    may well work the next time), ``lost`` (the connection is gone) or ``down`` (locked, full, read-only ...).
    ``error`` is what to tell who asked; None means that MLflow itself is to be asked.
    """

    kind: str
    error: TallyError | None


@runtime_checkable
class Source(Protocol):
    """A database, and how to come by sessions with it.

    ``open_tile`` finds in its options ``database``, a URL as SQLAlchemy has it; BadInput for another's.
    """

    where: str
    """The database as people may see it: without its password."""
    writers: int
    """How many sessions are worth having that write at once."""

    def connect(self, *, reading: bool) -> Session:
        """A new session; the driver's error when there is no such database, or it does not answer."""
        ...

    def meaning(self, wrong: Exception) -> Fault:
        """What an error of the driver, or any other, means for who asked."""
        ...
