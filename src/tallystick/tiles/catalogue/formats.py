"""Files to rows: CSV, JSON lines and Parquet, strictly, as batches in the table's own types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from tallystick.core.data import check_append
from tallystick.core.errors import BadInput, TallyError, TooLarge
from tallystick.tiles.catalogue.kinds import columns_of, is_float, table_schema
from tallystick.tiles.catalogue.texts import read_csv, read_jsonl

__all__ = ["BATCH_ROWS", "Limits", "Rows", "open_rows"]

BATCH_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one file: rows and columns."""

    rows_max: int = 50_000_000
    columns_max: int = 4096


@dataclass(frozen=True)
class Rows:
    """A file's rows for a table: the table's schema, and batches of at most ``BATCH_ROWS`` rows in it.

    Iterating raises BadInput for the first row that does not fit, TooLarge past ``rows_max``.
    """

    schema: Any
    batches: Iterable[Any]


def open_rows(path: Path, kind: str, table: str, existing: Any, allow_nan: bool, limits: Limits) -> Rows:
    """The rows of a file of ``kind`` csv, jsonl or parquet for ``table``, whose schema is ``existing``.

    ``existing`` is None for a new table. BadInput names what does not fit.
    """
    schema, batches = _READERS[kind](path, existing, limits.columns_max)
    _check_width(len(schema), limits.columns_max)
    names = table_schema(schema, f"table {table}")
    if existing is not None:
        names = _adopt_null(names, existing)
    check_append(table, columns_of(existing) if existing is not None else (), columns_of(names))
    held = existing if existing is not None else names
    _refuse_untyped(held)
    return Rows(held, _checked(batches, held, allow_nan, limits.rows_max))


def _check_width(columns: int, columns_max: int) -> None:
    if columns > columns_max:
        raise TooLarge(f"{columns} columns, the limit is {columns_max}", where="file")


def _adopt_null(schema: Any, existing: Any) -> Any:
    """A column without any value fits every type."""
    known = {f.name: f.type for f in existing}
    return pa.schema(
        [pa.field(f.name, known.get(f.name, f.type) if pt.is_null(f.type) else f.type) for f in schema]
    )


def _refuse_untyped(schema: Any) -> None:
    for field in schema:
        if pt.is_null(field.type):
            raise BadInput(
                f"column {field.name!r} is empty in every row, so its type cannot be told",
                where="file",
                hint="leave the column out, or send Parquet, which says the type",
            )


def _checked(batches: Iterable[Any], schema: Any, allow_nan: bool, rows_max: int) -> Iterator[Any]:
    rows = 0
    for batch in batches:
        held = _to_schema(batch, schema, rows)
        if not allow_nan:
            _check_finite(held, rows)
        rows += held.num_rows
        if rows > rows_max:
            raise TooLarge(f"more than {rows_max} rows", where="file", hint="ingest it in parts")
        if held.num_rows:
            yield held
    if not rows:
        raise BadInput("the file has no rows", where="file")


def _to_schema(batch: Any, schema: Any, rows_before: int) -> Any:
    columns = []
    for field in schema:
        try:
            column = batch.column(field.name)
            column.validate(full=True)  # text that is not UTF-8, offsets that lie: a file can say anything
            columns.append(column.cast(field.type, safe=True))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as wrong:
            raise BadInput(
                f"column {field.name!r} does not fit {field.type}: {_first_line(wrong)}",
                where=f"rows {rows_before + 1} to {rows_before + batch.num_rows}",
            ) from None
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _first_line(wrong: Exception) -> str:
    return str(wrong).partition("\n")[0][:300]


def _check_finite(batch: Any, rows_before: int) -> None:
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if not is_float(field.type):
            continue
        at = pc.index(pc.fill_null(pc.is_finite(column), True), False).as_py()
        if at >= 0:
            raise BadInput(
                f"column {field.name!r} is {column[at].as_py()}",
                where=f"row {rows_before + at + 1}",
                hint="leave the cell empty, or allow NaN",
            )


def _csv(path: Path, existing: Any, columns_max: int) -> tuple[Any, Iterable[Any]]:
    table = read_csv(path, existing, columns_max)
    return table.schema, table.to_batches(max_chunksize=BATCH_ROWS)


def _jsonl(path: Path, existing: Any, columns_max: int) -> tuple[Any, Iterable[Any]]:
    table = read_jsonl(path, existing)
    return table.schema, table.to_batches(max_chunksize=BATCH_ROWS)


def _parquet(path: Path, existing: Any, columns_max: int) -> tuple[Any, Iterable[Any]]:
    try:
        file = pq.ParquetFile(path, memory_map=False, page_checksum_verification=True)
        schema = file.schema_arrow
        _check_width(len(schema), columns_max)
        return schema.remove_metadata(), _parquet_batches(file)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as wrong:
        raise _not_parquet(wrong) from None


def _parquet_batches(file: Any) -> Iterator[Any]:
    try:
        yield from file.iter_batches(batch_size=BATCH_ROWS)
    except TallyError:
        raise
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as wrong:
        raise _not_parquet(wrong) from None
    finally:
        file.close()


def _not_parquet(wrong: Exception) -> BadInput:
    return BadInput(f"it is not a Parquet file that can be read: {_first_line(wrong)}", where="file")


_READERS = {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}
