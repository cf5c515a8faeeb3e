"""Columns of a Parquet file as numpy arrays, checked: what the errands ``judge`` and ``observe`` read.

numpy and pyarrow are imported late, once the environment is set.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tallystick.core.errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

__all__ = ["feature_names", "features", "floats", "is_number", "labels", "named", "read_rows", "texts"]

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


def features(
    table: pa.Table, names: Sequence[str], low: float | np.ndarray, high: float | np.ndarray
) -> np.ndarray:
    """The columns ``names`` as float32 (rows, features); every value a number from ``low`` to ``high``.

    The range is one for all, or (features,). A single column of lists holds the features of a row itself.
    """
    import numpy as np

    kinds = [table.column(name).type for name in names]
    if len(names) == 1 and _is_list(kinds[0]):
        return _lists(table.column(names[0]), names[0], low, high)
    made = np.empty((table.num_rows, len(names)), np.float32)
    lows, highs = np.broadcast_to(low, len(names)), np.broadcast_to(high, len(names))
    for at, name in enumerate(names):
        column = table.column(name)
        if not is_number(column):
            hint = 'if it is the label, name it with --label; if texts, say kind = "text" in the policy'
            raise BadInput(f"column {name!r} is {column.type}, not numbers", where="rows", hint=hint)
        values = floats(column)
        _check(name, values, float(lows[at]), float(highs[at]))
        made[:, at] = values
    return made


def _lists(
    column: pa.ChunkedArray, name: str, low: float | np.ndarray, high: float | np.ndarray
) -> np.ndarray:
    """Lists of numbers, or of lists of them (steps of channels), of one length, as float32 (rows, all)."""
    import numpy as np
    import pyarrow as pa

    flat = column.combine_chunks()
    while _is_list(flat.type):
        lengths = pa.compute.list_value_length(flat)
        first = lengths[0].as_py() if len(lengths) else 0
        if flat.null_count or not first or not pa.compute.all(pa.compute.equal(lengths, first)).as_py():
            hint = "every row has the same number of features"
            raise BadInput(f"column {name!r} has lists of different lengths", where="rows", hint=hint)
        flat = pa.compute.list_flatten(flat)
    if not is_number(flat):
        raise BadInput(f"column {name!r} is {column.type}, not lists of numbers", where="rows")
    values = np.asarray(floats(pa.chunked_array([flat]))).reshape(len(column), -1)
    lows, highs = np.broadcast_to(low, values.shape[1]), np.broadcast_to(high, values.shape[1])
    for at in range(values.shape[1]):
        _check(f"{name}[{at}]", values[:, at], float(lows[at]), float(highs[at]))
    return values.astype(np.float32)


def _is_list(kind: pa.DataType) -> bool:
    from pyarrow import types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def texts(column: pa.ChunkedArray, name: str) -> np.ndarray:
    """A column of text as object (rows,) of str; BadInput where it is none, or a row has none."""
    import numpy as np
    from pyarrow import types

    if not (types.is_string(column.type) or types.is_large_string(column.type)):
        raise BadInput(f"column {name!r} is {column.type}, not text", where="rows")
    if column.null_count:
        raise BadInput(f"column {name!r} has no text in every row", where="rows", hint="leave such rows out")
    made = np.empty(len(column), object)
    made[:] = column.to_pylist()
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
            hint="scale the features, or say their range in the policy, for all or by column",
        )


def labels(table: pa.Table, label: str) -> np.ndarray:
    """The label column as object (rows,) of str: the names of classes, ``3`` for 3, 3.0 and "3".

    BadInput where a row has none, or a number that is not whole.
    """
    import numpy as np
    from pyarrow import types

    column = table.column(label)
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not is_number(column):
        return texts(column, label)
    values: Any = floats(column)
    wrong = np.flatnonzero(~np.isfinite(values) | (values != np.floor(values)))
    if len(wrong):
        text = f"label {label!r} has {values[wrong[0]]:g}, which is not the number of a class"
        hint = "a class is a whole number or a text"
        raise BadInput(text, where=f"rows, row {int(wrong[0]) + 1:,}", hint=hint)
    return named(values)


def named(values: np.ndarray) -> np.ndarray:
    """Classes as object (n,) of str, however they are said: whole numbers, truth values, text, bytes."""
    import numpy as np

    made = np.empty(len(values), object)
    if values.dtype.kind in "biuf":
        made[:] = [str(int(value)) for value in values]
    else:
        made[:] = [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values]
    return made
