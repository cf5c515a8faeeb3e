"""A catalogue in memory: the port's promises on lists of rows, for int64, double, bool and string."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tallystick.core.data import Column, Snapshot, Source, TableRef, check_append
from tallystick.core.errors import BadInput, NotFound, NotSupported, Unavailable
from tallystick.core.names import check_name, digest_of

__all__ = ["FakeCatalogue"]

Row = tuple[Any, ...]


@dataclass
class _Table:
    columns: tuple[Column, ...]
    rows: list[Row] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)


@dataclass
class _File:
    """Cells by column, each with where it stood; ``columns`` is None where text must still be typed."""

    names: list[str]
    rows: list[Row]
    where: list[str]
    columns: tuple[Column, ...] | None = None


class FakeCatalogue:
    """Satisfies ``ports.catalogue.Catalogue``; forgets everything when it goes."""

    def __init__(self) -> None:
        self._tables: dict[str, _Table] = {}
        self._closed = False

    async def append(self, table: str, file: Path, filename: str, *, allow_nan: bool = False) -> Snapshot:
        self._check_open()
        check_name("table", table)
        read = _READERS.get(Path(filename).suffix.lower())
        if read is None:
            raise BadInput("no such format", where=filename, hint=".csv, .jsonl, .ndjson or .parquet")
        data = await asyncio.to_thread(_bytes_of, file)
        known = self._tables.get(table)
        content = read(data)
        names = tuple(Column(n, _type_of(known, n)) for n in content.names)
        check_append(table, known.columns if known else (), content.columns or names)
        if not content.rows:
            raise BadInput("the file has no rows", where=filename)
        columns, rows = _typed(content, known.columns if known else None)
        if not allow_nan:
            _refuse_nan(columns, rows)
        return self._land(table, columns, rows, Source(filename, digest_of(data), len(data)))

    def _land(self, name: str, columns: tuple[Column, ...], rows: list[Row], source: Source) -> Snapshot:
        table = self._tables.setdefault(name, _Table(columns))
        table.rows += rows
        snapshot = Snapshot(
            table=name,
            snapshot_id=str(1000 + sum(len(t.snapshots) for t in self._tables.values())),
            digest=_digest(columns, table.rows),
            rows=len(table.rows),
            columns=columns,
            at_ms=1 + len(table.snapshots),
            parent=table.snapshots[-1].snapshot_id if table.snapshots else None,
            source=source,
        )
        table.snapshots.append(snapshot)
        return snapshot

    async def snapshots(self, table: str) -> Sequence[Snapshot]:
        self._check_open()
        return list(self._table(table).snapshots)

    async def tables(self) -> Sequence[str]:
        self._check_open()
        return sorted(self._tables)

    async def export(self, ref: TableRef, dest: Path) -> Snapshot:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._check_open()
        table = self._table(ref.table)
        found = [s for s in table.snapshots if ref.snapshot_id in ("", s.snapshot_id)]
        if not found:
            raise NotFound("there is no such snapshot", where=str(ref))
        schema = pa.schema([(c.name, pa.type_for_alias(c.type)) for c in found[-1].columns])
        cells = zip(*table.rows[: found[-1].rows], strict=True)
        arrays = [pa.array(c, f.type) for c, f in zip(cells, schema, strict=True)]
        pq.write_table(pa.Table.from_arrays(arrays, schema=schema), dest)
        return found[-1]

    async def close(self) -> None:
        self._closed = True

    def _table(self, name: str) -> _Table:
        check_name("table", name)
        if name not in self._tables:
            raise NotFound(f"there is no table {name!r}", where="catalogue")
        return self._tables[name]

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("the catalogue is closed", where="catalogue")


def _bytes_of(file: Path) -> bytes:
    if not file.is_file():
        raise BadInput("it is not a regular file", where=str(file))
    return file.read_bytes()


def _type_of(table: _Table | None, name: str) -> str:
    return next((c.type for c in table.columns if c.name == name), "") if table else ""


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as wrong:
        line = data.count(b"\n", 0, wrong.start) + 1
        raise BadInput("the text is not UTF-8", where=f"line {line}") from None


def _read_csv(data: bytes) -> _File:
    reader = csv.reader(io.StringIO(_text(data), newline=""))
    found = [(f"line {reader.line_num}", record) for record in reader if record]
    if not found:
        raise BadInput("the file is empty", where="line 1")
    header = found[0][1]
    for where, record in found:
        if len(record) != len(header):
            raise BadInput(f"{len(record)} fields, the header has {len(header)}", where=where)
    rows = [tuple(cell or None for cell in record) for _, record in found[1:]]
    return _File(header, rows, [where for where, _ in found[1:]])


def _read_jsonl(data: bytes) -> _File:
    objects: list[tuple[str, Mapping[str, Any]]] = []
    for number, line in enumerate(_text(data).split("\n"), 1):
        if not line.strip():
            continue
        try:
            said = json.loads(line)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise BadInput("it is not one JSON object", where=f"line {number}")
        objects.append((f"line {number}", said))
    if not objects:
        raise BadInput("the file has no rows", where="file")
    names = list(dict.fromkeys(name for _, said in objects for name in said))
    rows = [tuple(said.get(name) for name in names) for _, said in objects]
    return _File(names, rows, [where for where, _ in objects])


def _read_parquet(data: bytes) -> _File:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(data))
    except pa.ArrowInvalid as wrong:
        raise BadInput(f"it is not Parquet: {wrong}", where="file") from None
    rows = [tuple(row.values()) for row in table.to_pylist()]
    columns = tuple(Column(f.name, str(f.type)) for f in table.schema)
    where = [f"row {i}" for i in range(1, len(rows) + 1)]
    return _File(table.column_names, rows, where, columns)


_READERS = {".csv": _read_csv, ".jsonl": _read_jsonl, ".ndjson": _read_jsonl, ".parquet": _read_parquet}


def _typed(content: _File, known: tuple[Column, ...] | None) -> tuple[tuple[Column, ...], list[Row]]:
    """The rows in the table's columns and types; a new table's types are inferred over all cells."""
    columns = known or content.columns or tuple(_infer(content, i) for i in range(len(content.names)))
    places = [content.names.index(c.name) for c in columns]
    rows = [
        tuple(_cell(row[i], c, where) for i, c in zip(places, columns, strict=True))
        for row, where in zip(content.rows, content.where, strict=True)
    ]
    return columns, rows


def _infer(content: _File, index: int) -> Column:
    name = content.names[index]
    cells = [row[index] for row in content.rows if row[index] is not None]
    if any(isinstance(cell, list | dict) for cell in cells):
        raise NotSupported(f"column {name!r} is nested", where="file")
    if not cells:
        raise BadInput(f"column {name!r} is empty in every row", where="file")
    for kind in ("int64", "bool", "double"):
        if all(_fits(cell, kind) for cell in cells):
            return Column(name, kind)
    return Column(name, "string")


def _fits(cell: Any, kind: str) -> bool:
    try:
        _cell(cell, Column("", kind), "")
    except BadInput:
        return False
    return True


def _cell(cell: Any, column: Column, where: str) -> Any:
    try:
        if cell is None:
            return None
        if column.type == "string" and isinstance(cell, str):
            return cell
        if column.type == "bool":
            return {True: True, False: False, "true": True, "false": False}[cell]
        if column.type == "int64" and not isinstance(cell, float | bool):
            return int(cell)
        if column.type == "double" and not isinstance(cell, bool):
            return float(cell)
    except (ValueError, KeyError, TypeError):
        pass
    raise BadInput(f"column {column.name!r}: {str(cell)[:80]!r} is not {column.type}", where=where)


def _refuse_nan(columns: tuple[Column, ...], rows: list[Row]) -> None:
    for number, row in enumerate(rows, 1):
        for column, cell in zip(columns, row, strict=True):
            if isinstance(cell, float) and not math.isfinite(cell):
                raise BadInput(f"column {column.name!r} is {cell}", where=f"row {number}")


def _digest(columns: tuple[Column, ...], rows: list[Row]) -> str:
    said = [[repr(c + 0.0) if isinstance(c, float) else c for c in row] for row in rows]
    return digest_of({"columns": [[c.name, c.type] for c in columns], "rows": said})
