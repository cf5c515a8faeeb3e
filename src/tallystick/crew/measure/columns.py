"""Columns of a Parquet file as numpy arrays, checked: what the errands ``judge`` and ``observe`` read.

numpy and pyarrow are imported late, once the environment is set.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tallystick.core.errors import BadInput, NotSupported

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

__all__ = ["feature_names", "features", "floats", "is_number", "labels", "read_rows"]

SHOWN_MAX = 20


def read_rows(path: Path) -> pa.Table:
    """A whole Parquet file; BadInput when it is none, or has no rows."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except (pa.ArrowException, OSError, ValueError) as wrong:
        raise BadInput(f"it cannot be read as Parquet: {str(wrong)[:200]}", where=path.name) from None
    if not table.num_rows:
        raise BadInput("it has no rows", where=path.name)
    return table


def feature_names(table: pa.Table, label: str) -> tuple[str, ...]:
    """All columns but ``label``, in the file's order; BadInput when there is no such column or no other."""
    if label not in table.column_names:
        shown = ", ".join(table.column_names[:SHOWN_MAX])
        more = ", ..." if table.num_columns > SHOWN_MAX else ""
        raise BadInput(
            f"there is no column {label!r:.100} with the labels",
            where="rows",
            hint=f"name it with --label; the columns are {shown}{more}",
        )
    names = tuple(name for name in table.column_names if name != label)
    if not names:
        raise BadInput("there is no column beside the labels", where="rows")
    return names


def is_number(column: pa.ChunkedArray) -> bool:
    """True for whole numbers, numbers and truth values."""
    from pyarrow import types

    kind = column.type
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def features(table: pa.Table, names: Sequence[str], low: float, high: float) -> np.ndarray:
    """The columns ``names`` as float32 (rows, features); every value a number from ``low`` to ``high``."""
    import numpy as np

    made = np.empty((table.num_rows, len(names)), np.float32)
    for at, name in enumerate(names):
        column = table.column(name)
        if not is_number(column):
            hint = "only numbers can be attacked; if it is the label, name it with --label"
            raise BadInput(f"column {name!r} is {column.type}, not numbers", where="rows", hint=hint)
        values = floats(column)
        _check(name, values, low, high)
        made[:, at] = values
    return made


def floats(column: pa.ChunkedArray) -> np.ndarray:
    """float64, with NaN for what is missing."""
    import pyarrow as pa

    found: np.ndarray = column.cast(pa.int8() if pa.types.is_boolean(column.type) else column.type).to_numpy()
    return found.astype("float64")


def _check(name: str, values: np.ndarray, low: float, high: float) -> None:
    import numpy as np

    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0]) + 1
        hint = "leave such rows out"
        raise BadInput(f"column {name!r} has no finite number", where=f"rows, row {row:,}", hint=hint)
    outside = np.flatnonzero((values < low) | (values > high))
    if len(outside):
        raise BadInput(
            f"column {name!r} has {values[outside[0]]:g}, outside {low:g} to {high:g}",
            where=f"rows, row {int(outside[0]) + 1:,}",
            hint="scale the features, or set low and high in the policy's budget to their range",
        )


def labels(table: pa.Table, label: str) -> np.ndarray:
    """The label column as int64 (rows,), each a class's number from 0."""
    import numpy as np

    column = table.column(label)
    if not is_number(column):
        hint = "number the classes from 0, in the order of the model's scores"
        raise NotSupported(f"label {label!r} is {column.type}, not whole numbers", where="rows", hint=hint)
    values: Any = floats(column)
    wrong = np.flatnonzero(~np.isfinite(values) | (values != np.floor(values)) | (values < 0))
    if len(wrong):
        text = f"label {label!r} has {values[wrong[0]]:g}, which is not the number of a class"
        raise BadInput(text, where=f"rows, row {int(wrong[0]) + 1:,}", hint="classes are numbered from 0")
    return np.asarray(values, np.int64)
