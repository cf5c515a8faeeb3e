"""Column types: which Arrow types a table can have, and how each is held.

A file's types are brought to one of these; what fits none of them is refused, never guessed.

=======================================  ==========================  =======================
in the file                              in the table                its name in ``Column``
=======================================  ==========================  =======================
bool                                     bool                        bool
int8, int16, int32, uint8, uint16        int32                       int32
int64, uint32                            int64                       int64
float16, float32 / float64               float32 / float64           float / double
date32, date64                           date32                      date32[day]
time32, time64                           time64[us]                  time64[us]
timestamp, without / with zone           timestamp[us] / [us, UTC]   timestamp[us(, tz=UTC)]
decimal, precision to 38, scale >= 0     decimal128                  decimal128(p, s)
string, large and view; dictionaries     large_string                string
binary, large and view                   large_binary                binary
=======================================  ==========================  =======================
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from tallystick.core.data import Column
from tallystick.core.errors import NotSupported

__all__ = ["columns_of", "is_float", "table_schema", "table_type"]


def table_type(kind: Any) -> Any:
    """The type that a table holds for an Arrow type; None when it holds none. ``null`` stays ``null``."""
    if pt.is_dictionary(kind):
        return table_type(kind.value_type)
    for fits, held in _HELD:
        if fits(kind):
            return held
    if pt.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC" if kind.tz else None)
    if pt.is_decimal(kind) and kind.precision <= 38 and kind.scale >= 0:
        return pa.decimal128(kind.precision, kind.scale)
    return None


def _any_of(*kinds: Any) -> Any:
    return lambda kind: kind in kinds


_HELD = (
    (pt.is_null, pa.null()),
    (pt.is_boolean, pa.bool_()),
    (_any_of(pa.int8(), pa.int16(), pa.int32(), pa.uint8(), pa.uint16()), pa.int32()),
    (_any_of(pa.int64(), pa.uint32()), pa.int64()),
    (_any_of(pa.float16(), pa.float32()), pa.float32()),
    (pt.is_float64, pa.float64()),
    (pt.is_date, pa.date32()),
    (pt.is_time, pa.time64("us")),
    (_any_of(pa.string(), pa.large_string(), pa.string_view()), pa.large_string()),
    (_any_of(pa.binary(), pa.large_binary(), pa.binary_view()), pa.large_binary()),
)


def table_schema(schema: Any, where: str) -> Any:
    """The schema that a table holds for ``schema``; NotSupported names the first column without one."""
    fields = []
    for field in schema:
        held = table_type(field.type)
        if held is None:
            raise NotSupported(
                f"column {field.name!r} is {str(field.type)[:80]}, which a table cannot hold",
                where=where,
                hint="use numbers, text, bytes, booleans, dates or times; write lists and structs as columns",
            )
        fields.append(pa.field(field.name, held))
    return pa.schema(fields)


def columns_of(schema: Any) -> tuple[Column, ...]:
    """The columns of a schema that :func:`table_schema` made, in our words."""
    return tuple(Column(f.name, str(f.type).removeprefix("large_")) for f in schema)


def is_float(kind: Any) -> bool:
    """True for the types that can hold NaN."""
    return bool(pt.is_floating(kind))
