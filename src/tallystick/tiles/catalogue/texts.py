"""CSV and JSON lines to Arrow tables; an error says on which line.

Text is parsed as a whole, because a column's type is inferred over the whole file. For an existing
table the table's types are used instead, so that 1 fits a double. A CSV cell that is empty, quoted
or not, is null; blank lines are passed over. In JSON lines a key that a line lacks is null.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.json as pjson
import pyarrow.types as pt

from tallystick.core.errors import BadInput, TooLarge
from tallystick.tiles.catalogue import locate

__all__ = ["read_csv", "read_jsonl"]

_BLOCK_BYTES = 8 * 1024 * 1024


def read_csv(path: Path, existing: Any, columns_max: int) -> Any:
    """The table in a CSV file with a header; ``existing`` is the table's schema or None."""
    header = locate.csv_header(path)
    if not header:
        raise BadInput("the file is empty", where="line 1", hint="the first line must name the columns")
    if len(header) > columns_max:
        raise TooLarge(f"{len(header)} columns, the limit is {columns_max}", where="line 1")
    _check_header(header, existing)
    types = {f.name: f.type for f in existing} if existing is not None else None
    try:
        table = _parse_csv(path, types, use_threads=True)
    except (pa.ArrowInvalid, UnicodeDecodeError) as wrong:
        raise _csv_error(path, types, header, wrong) from None
    for field in table.schema:
        if existing is None and pt.is_binary(field.type):
            raise _not_utf8(path)
    return table


def _check_header(header: list[str], existing: Any) -> None:
    """Before anything is parsed with the table's types: are these its columns?"""
    repeated = (
        next((n for n in header if header.count(n) > 1), None) if len(set(header)) < len(header) else None
    )
    if repeated is not None:
        raise BadInput(f"column {repeated!r} appears twice", where="line 1")
    if existing is None:
        other = next((mark for mark in ";\t|" if len(header) == 1 and mark in header[0]), None)
        if other:
            hint = "save it with commas between the fields"
            raise BadInput(f"the fields are separated by {other!r}, not by commas", where="line 1", hint=hint)
        return
    missing = [n for n in existing.names if n not in set(header)]
    if missing:
        raise BadInput(f"column {missing[0]!r} is missing from the file", where="line 1")


def _parse_csv(path: Path, types: dict[str, Any] | None, *, use_threads: bool) -> Any:
    return pcsv.read_csv(
        path,
        read_options=pcsv.ReadOptions(use_threads=use_threads, block_size=_BLOCK_BYTES),
        parse_options=pcsv.ParseOptions(newlines_in_values=True),
        convert_options=pcsv.ConvertOptions(
            null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=True, column_types=types
        ),
    )


def _csv_error(path: Path, types: dict[str, Any] | None, header: list[str], wrong: Exception) -> BadInput:
    line, fields, width = locate.line_ragged(path)
    if line:
        return BadInput(f"{fields} fields, the header has {width}", where=f"line {line}")
    if locate.line_not_utf8(path):
        return _not_utf8(path)
    try:
        _parse_csv(path, types, use_threads=False)  # only a single thread counts the rows
    except pa.ArrowInvalid as told:
        wrong = told
    said = str(wrong)
    at = re.search(r"column #(\d+): (?:Row #(\d+): )?(.*)", said, re.DOTALL)
    if not at:
        return BadInput(f"it is not CSV: {said[:300]}", where="file")
    line = locate.line_of_record(path, int(at[2])) if at[2] else 0
    what = f"column {header[int(at[1])]!r}: {at[3][:300]}"
    return BadInput(what, where=f"line {line}" if line else "file")


def _not_utf8(path: Path) -> BadInput:
    return BadInput(
        "the text is not UTF-8", where=f"line {locate.line_not_utf8(path)}", hint="save it as UTF-8"
    )


def read_jsonl(path: Path, existing: Any) -> Any:
    """The table in a file with one JSON object a line; ``existing`` is the table's schema or None."""
    explicit = pa.schema([_readable(f) for f in existing]) if existing is not None else None
    try:
        table = pjson.read_json(
            path,
            read_options=pjson.ReadOptions(block_size=_BLOCK_BYTES),
            parse_options=pjson.ParseOptions(explicit_schema=explicit, unexpected_field_behavior="infer"),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError) as wrong:
        raise _jsonl_error(path, existing, wrong) from None
    if locate.line_not_utf8(path):
        raise _not_utf8(path)
    return table if existing is None else _in_types(_present(path, table), existing)


def _readable(field: Any) -> Any:
    """JSON has no dates, times or bytes: they are read as text and parsed from there."""
    known = (pt.is_boolean, pt.is_integer, pt.is_floating, pt.is_timestamp, pt.is_decimal)
    return field if any(fits(field.type) for fits in known) else pa.field(field.name, pa.large_string())


def _present(path: Path, table: Any) -> Any:
    """Without the columns that no line has, which the reader fills up with null."""
    empty = {f.name for f, c in zip(table.schema, table.columns, strict=True) if c.null_count == len(c)}
    absent = locate.absent_keys(path, empty) if empty else set()
    return table.drop_columns(sorted(absent)) if absent else table


def _in_types(table: Any, existing: Any) -> Any:
    for i, field in enumerate(table.schema):
        at = existing.get_field_index(field.name)
        wanted = existing.field(at).type if at >= 0 else field.type
        if field.type != wanted:
            try:
                table = table.set_column(i, field.name, _from_text(table.column(i), wanted))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as wrong:
                raise BadInput(f"column {field.name!r}: {str(wrong)[:300]}", where="file") from None
    return table


def _from_text(column: Any, wanted: Any) -> Any:
    if not pt.is_time(wanted):
        return column.cast(wanted)
    parsed = [None if v is None else time.fromisoformat(v) for v in column.to_pylist()]  # Arrow cannot
    return pa.chunked_array([pa.array(parsed, wanted)])


_KINDS: dict[str, Callable[[Any], bool]] = {
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "array": lambda v: isinstance(v, list),
    "object": lambda v: isinstance(v, dict),
}


def _jsonl_error(path: Path, existing: Any, wrong: Exception) -> BadInput:
    said = str(wrong)
    if said == "Empty JSON file":
        return BadInput("the file has no rows", where="file")
    line = locate.line_not_json(path)
    if line:
        return BadInput("it is not one JSON object", where=f"line {line}")
    if locate.line_not_utf8(path):
        return _not_utf8(path)
    changed = re.search(r"Column\(/(.*)\) changed from (\w+) to (\w+)", said, re.DOTALL)
    if changed:
        line = locate.line_of_kind(path, changed[1], _KINDS.get(changed[3], lambda _: True))
        what = f"column {changed[1]!r} is {changed[3]}, not {changed[2]}"
        return BadInput(what, where=f"line {line}" if line else "file")
    return _fraction(path, existing) or BadInput(f"it is not JSON lines: {said[:300]}", where="file")


def _fraction(path: Path, existing: Any) -> BadInput | None:
    """A number with a fraction where the table has integers: the reader does not say in which column."""
    for field in existing if existing is not None else ():
        line = locate.line_of_kind(path, field.name, lambda v: isinstance(v, float))
        if pt.is_integer(field.type) and line:
            return BadInput(f"column {field.name!r} is not a whole number", where=f"line {line}")
    return None
