"""The content digest of a table: the same rows in the same order give the same digest, on any machine.

Neither files, chunks nor the number of appends count. Rows are hashed in blocks of 8,192, counted
from the table's first row; a block's bytes are, for each column in order,

- a validity bitmap, one bit a row (1: there is a value), least significant bit first, then
- for text and bytes: the length of each value in bytes as 8-byte integers (0 where there is none),
  then all values joined; for bool: a bitmap; for all else: the values in their Arrow width, zero
  where there is none. Integers are little-endian; -0.0 counts as 0.0, and every NaN as one.

With H = SHA-256, ``chain_0 = H("tallystick table 1\\n" + columns as canonical JSON)``, where a
column is ``[name, type]``; ``chain_(i+1) = H(chain_i + H(block_i))`` over the full blocks; and the
digest is ``H("end" + chain + number of rows in 8 bytes + H(the last, partial block))``, the last
part absent when there is none.

So an append hashes only its own rows and those of the partial block before it (at most 8,191, read
back from the table); no append re-reads the whole table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from tallystick.core.data import Column
from tallystick.core.names import canonical_json
from tallystick.tiles.catalogue.kinds import columns_of

__all__ = ["BLOCK_ROWS", "ContentDigest", "first_link"]

BLOCK_ROWS = 8192


def first_link(columns: Sequence[Column]) -> str:
    """``chain_0`` in hex."""
    said = canonical_json([[c.name, c.type] for c in columns])
    return hashlib.sha256(b"tallystick table 1\n" + said.encode("utf-8", "surrogatepass")).hexdigest()


class ContentDigest:
    """Takes rows in batches of any size; resumes from a ``chain`` over the first ``rows`` rows.

    ``rows`` must be a multiple of ``BLOCK_ROWS``. Each full block is handed to ``on_block`` with the
    number of bytes hashed for it, which depends on the content alone.
    """

    def __init__(
        self, schema: Any, chain: str = "", rows: int = 0, on_block: Callable[[Any, int], None] | None = None
    ) -> None:
        self.schema = schema
        self.full_rows = rows
        self._chain = bytes.fromhex(chain or first_link(columns_of(schema)))
        self._on_block = on_block
        self._waiting: list[Any] = []
        self._waiting_rows = 0

    @property
    def rows(self) -> int:
        """All rows taken in, those before the chain included."""
        return self.full_rows + self._waiting_rows

    @property
    def chain(self) -> str:
        """The chain over the full blocks, in hex."""
        return self._chain.hex()

    def take(self, batch: Any) -> None:
        """Take in the rows of a record batch of ``schema``."""
        start = 0
        while start < batch.num_rows:
            part = batch.slice(start, BLOCK_ROWS - self._waiting_rows)
            self._waiting.append(part)
            self._waiting_rows += part.num_rows
            start += part.num_rows
            if self._waiting_rows == BLOCK_ROWS:
                self._close_block()

    def _close_block(self) -> None:
        block = self._block()
        hashed, size = _block_hash(block)
        self._chain = hashlib.sha256(self._chain + hashed).digest()
        self.full_rows += BLOCK_ROWS
        self._waiting, self._waiting_rows = [], 0
        if self._on_block:
            self._on_block(block, size)

    def _block(self) -> Any:
        return pa.Table.from_batches(self._waiting, schema=self.schema).combine_chunks()

    def digest(self) -> str:
        """``sha256:...`` of all rows so far; more may follow."""
        tail = _block_hash(self._block())[0] if self._waiting_rows else b""
        whole = b"end" + self._chain + self.rows.to_bytes(8, "little") + tail
        return "sha256:" + hashlib.sha256(whole).hexdigest()

    def last_block(self) -> tuple[Any, int] | None:
        """The partial block at the end and its hashed bytes; None when there is none."""
        if not self._waiting_rows:
            return None
        block = self._block()
        return block, _block_hash(block)[1]


def _block_hash(block: Any) -> tuple[bytes, int]:
    hashing, size = hashlib.sha256(), 0
    for column in block.columns:
        for part in _column_bytes(pa.concat_arrays(column.chunks)):
            hashing.update(part)
            size += part.nbytes
    return hashing.digest(), size


def _column_bytes(values: Any) -> list[Any]:
    valid = np.packbits(_bools(values.is_valid()), bitorder="little")
    kind = values.type
    if pt.is_large_string(kind) or pt.is_large_binary(kind):
        return [valid, *_text_bytes(values)]
    filled = values if values.null_count == 0 else pc.fill_null(values, _zero(kind))
    if pt.is_boolean(kind):
        return [valid, np.packbits(_bools(filled), bitorder="little")]
    width = kind.bit_width // 8
    raw = np.frombuffer(filled.buffers()[1], np.uint8, len(filled) * width, filled.offset * width)
    if pt.is_floating(kind):
        return [valid, _one_nan_one_zero(raw.view(f"<f{width}"))]
    return [valid, raw]


def _bools(values: Any) -> Any:
    return values.to_numpy(zero_copy_only=False)


def _zero(kind: Any) -> Any:
    return (
        pa.scalar(0, kind) if pt.is_decimal(kind) else pa.scalar(0, pa.int64()).cast(_int_of(kind)).cast(kind)
    )


def _int_of(kind: Any) -> Any:
    """The integer type of the same width, through which a date or time is made from 0."""
    return pa.int32() if kind.bit_width == 32 else pa.int64()


def _text_bytes(values: Any) -> list[Any]:
    raw = values.cast(pa.large_binary())
    filled = raw if raw.null_count == 0 else pc.fill_null(raw, pa.scalar(b"", pa.large_binary()))
    _, offsets, data = filled.buffers()
    ends = np.frombuffer(offsets, "<i8", len(filled) + 1, filled.offset * 8)
    if data is None:
        return [np.diff(ends)]
    return [np.diff(ends), np.frombuffer(data, np.uint8, int(ends[-1] - ends[0]), int(ends[0]))]


def _one_nan_one_zero(values: Any) -> Any:
    plain = values + values.dtype.type(0)  # -0.0 + 0.0 is 0.0
    plain[np.isnan(plain)] = np.nan
    return plain
