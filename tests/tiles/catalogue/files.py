"""Files to ingest, and what lies in a home."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog.sql import SqlCatalog

from tallystick.tiles.catalogue.iceberg import IcebergCatalogue

Open = Callable[..., IcebergCatalogue]


def csv_file(path: Path, *rows: str, header: str = "a,b") -> Path:
    path.write_text("\n".join((header, *rows)) + "\n")
    return path


def parquet_file(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def stock_catalogue(home: Path) -> SqlCatalog:
    database, warehouse = home / "catalogue" / "catalogue.db", home / "warehouse"
    return SqlCatalog("tallystick", uri=f"sqlite:///{database}", warehouse=str(warehouse))


def files_of(home: Path) -> set[Path]:
    return {p for p in (home / "warehouse").rglob("*") if p.is_file()}


def until(is_so: Callable[[], bool]) -> asyncio.Task[None]:
    async def wait() -> None:
        async with asyncio.timeout(60):
            while not is_so():  # noqa: ASYNC110 - neither a folder nor a timer tells us
                await asyncio.sleep(0.01)

    return asyncio.create_task(wait())
