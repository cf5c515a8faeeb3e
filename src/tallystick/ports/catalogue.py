"""The catalogue: tables with snapshots that never change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from tallystick.core.data import Snapshot, TableRef

__all__ = ["Catalogue"]


@runtime_checkable
class Catalogue(Protocol):
    """Append files to tables; read any snapshot again, bit for bit."""

    async def append(self, table: str, file: Path, filename: str, *, allow_nan: bool = False) -> Snapshot:
        """Append a file's rows as one snapshot, creating the table when it is new.

        ``filename`` is the user's name for it; its ending says the format: ``.csv``, ``.parquet``,
        ``.jsonl`` / ``.ndjson``. All rows or none: BadInput names the line or column that does not
        fit (columns missing, new or of another type, not that format, no rows, NaN in a number
        column unless ``allow_nan``), and nothing changes.
        """
        ...

    async def snapshots(self, table: str) -> Sequence[Snapshot]:
        """All snapshots of a table, oldest first; NotFound for an unknown table."""
        ...

    async def tables(self) -> Sequence[str]:
        """Names of all tables, sorted."""
        ...

    async def export(self, ref: TableRef, dest: Path) -> Snapshot:
        """Write a snapshot's rows as one Parquet file to ``dest``, in stored order, and say which it is.

        The bytes are the same each time for the same snapshot. NotFound when there is no such one.
        """
        ...

    async def close(self) -> None:
        """End the worker behind it."""
        ...
