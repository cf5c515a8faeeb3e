"""A snapshot as one Parquet file whose bytes depend on its content alone (and the version of Arrow)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tallystick.core.data import Snapshot
from tallystick.core.errors import Damaged
from tallystick.tiles.catalogue.content import ContentDigest
from tallystick.tiles.catalogue.shelf import Shelf, read_rows, schema_at

__all__ = ["GROUP_BYTES", "GROUP_ROWS", "export"]

GROUP_ROWS = 131_072
GROUP_BYTES = 64 * 1024 * 1024
"""A row group ends with the block (see ContentDigest) that reaches either, counted in hashed bytes."""


def export(shelf: Shelf, name: str, snapshot_id: str, dest: Path) -> Snapshot:
    """Write a snapshot to ``dest``, a new file, and check its digest on the way; NotFound, Damaged."""
    table, found, said = shelf.find(name, snapshot_id)
    held = schema_at(table, found)
    groups = _Groups(dest, pa.schema([pa.field(f.name, _plain(f.type)) for f in held]))
    content = ContentDigest(held, on_block=groups.add)
    for batch in read_rows(table, found):
        content.take(batch)
    last = content.last_block()
    if last:
        groups.add(*last)
    groups.close()
    if content.digest() != said.digest:
        dest.unlink()
        raise Damaged(f"its rows have digest {content.digest()}, recorded is {said.digest}", where=said.key)
    return said


def _plain(kind: Any) -> Any:
    """Without ``large``, which readers need not know."""
    return {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}.get(kind, kind)


class _Groups:
    """Writes blocks of rows as row groups that are cut by content alone."""

    def __init__(self, dest: Path, schema: Any) -> None:
        self._schema = schema
        self._file = dest.open("xb")
        self._writer = pq.ParquetWriter(
            self._file, schema, version="2.6", compression="zstd", compression_level=3, store_schema=True
        )
        self._blocks: list[Any] = []
        self._rows = self._bytes = 0

    def add(self, block: Any, hashed_bytes: int) -> None:
        self._blocks.append(block.cast(self._schema))
        self._rows += block.num_rows
        self._bytes += hashed_bytes
        if self._rows >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._blocks:
            group = pa.concat_tables(self._blocks).combine_chunks()
            self._writer.write_table(group, row_group_size=max(1, group.num_rows))
        self._blocks, self._rows, self._bytes = [], 0, 0

    def close(self) -> None:
        self._flush()
        self._writer.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
