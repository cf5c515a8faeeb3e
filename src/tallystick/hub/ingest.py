"""Ingest: a file becomes a snapshot of a table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tallystick.core.data import Snapshot, check_snapshot
from tallystick.core.errors import BadInput, MissingTile
from tallystick.core.names import check_name
from tallystick.hub.house import House

__all__ = ["ingest", "reconcile"]


async def ingest(house: House, table: str, file: Path, filename: str, *, allow_nan: bool = False) -> Snapshot:
    """Append ``file`` to ``table`` as one snapshot, and tell the ledger; all rows or none.

    The catalogue commits first and holds the truth; should the hub die, or the ledger fail, before
    the fact is written, the mark that stays in the scratch folder lets :func:`reconcile` write it at
    the next start.
    """
    check_name("table", table)
    async with house.lock("data", table):
        mark = house.folder(f"ingest-{table}")
        try:
            snapshot = await house.catalogue.append(table, file, filename, allow_nan=allow_nan)
        except (BadInput, MissingTile):  # nothing has changed
            mark.rmdir()
            raise
        await _tell(house, snapshot, f"{snapshot.rows:,} rows with {filename}")
        mark.rmdir()
    return snapshot


async def reconcile(house: House) -> int:
    """Write the facts of snapshots that the catalogue has and the ledger lacks; how many there were."""
    missing = 0
    for table in await house.catalogue.tables():
        async with house.lock("data", table):
            for snapshot in await house.catalogue.snapshots(table):
                if await house.find("data", snapshot.key, Snapshot) is None:
                    await _tell(house, snapshot, "found in the catalogue after a restart")
                    missing += 1
    return missing


async def _tell(house: House, snapshot: Snapshot, note: str) -> None:
    snapshot = replace(check_snapshot(snapshot), tenant=house.tenant)
    await house.tell("data", snapshot.key, "ingested", snapshot, note)
