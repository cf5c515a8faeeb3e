"""DataFrames out of request tensors, and tensors out of whatever a model answers with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tallystick.core.errors import BadInput, Failed
from tallystick.core.model import TensorSpec
from tallystick.tiles.runtime.tensors import DATATYPES, as_bytes, as_text, check_shape

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = ["answers_of", "assemble"]

Column = tuple[str, str, bool]
"""MLflow's type of a column, its datatype, and whether it must be there."""

TYPES = {"BOOL": "bool", "INT32": "int32", "INT64": "int64", "FP32": "float32", "FP64": "float64"}


def assemble(
    columns: Sequence[Column], specs: Sequence[TensorSpec], inputs: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """A DataFrame from one input a column, each (n,) or (n, 1), or from one 2-D input with all of them.

    BadInput for a missing or unknown column, a wrong type, columns of different lengths, or a 2-D
    input where a column is not a number or would lose digits.
    """
    import pandas as pd

    names = {spec.name for spec in specs}
    if len(inputs) == 1 and not inputs.keys() & names:
        return _from_matrix(specs, *next(iter(inputs.items())))
    if unknown := inputs.keys() - names:
        hint = f"the model takes {', '.join(s.name for s in specs)}"[:500]
        raise BadInput(f"there is no input {min(unknown)!r:.100}", where="inputs", hint=hint)
    made: dict[str, Any] = {}
    for (kind, _, required), spec in zip(columns, specs, strict=True):
        if spec.name in inputs:
            made[spec.name] = _column(kind, spec, inputs[spec.name])
        elif required:
            raise BadInput(f"input {spec.name!r} is missing", where="inputs")
    if len({len(values) for values in made.values()}) > 1:
        raise BadInput("the columns are of different lengths", where="inputs")
    return pd.DataFrame(made)


def _column(kind: str, spec: TensorSpec, array: np.ndarray) -> Any:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    check_shape(spec, array)
    if kind in ("string", "datetime"):
        array = as_text(array, f"input {spec.name}")
    return _moments(array, spec.name) if kind == "datetime" else array


def _moments(texts: np.ndarray, name: str) -> Any:
    import pandas as pd

    try:
        return pd.to_datetime(texts, format="ISO8601").to_numpy()
    except ValueError as wrong:
        raise BadInput(f"not a time after ISO 8601: {str(wrong)[:200]}", where=f"input {name}") from None


def _from_matrix(specs: Sequence[TensorSpec], name: str, matrix: np.ndarray) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    where = f"input {name:.100}"
    texts = [spec.name for spec in specs if spec.datatype not in TYPES]
    if texts:
        hint = "send one input for each column"
        raise BadInput(
            f"column {texts[0]!r} is not a number, so one input cannot hold all", where=where, hint=hint
        )
    if matrix.ndim != 2 or matrix.shape[1] != len(specs) or matrix.dtype.kind not in "biuf":
        shown = f"{list(matrix.shape)} of {matrix.dtype.name}"
        raise BadInput(f"it is {shown}, not numbers of shape [-1, {len(specs)}]", where=where)
    made = {}
    for spec, column in zip(specs, matrix.T, strict=True):
        with np.errstate(all="ignore"):
            cast = column.astype(TYPES[spec.datatype])
        if cast.dtype.kind != "f" and not np.array_equal(cast, column):
            raise BadInput(f"column {spec.name!r} takes {spec.datatype} and would lose digits", where=where)
        made[spec.name] = cast
    return pd.DataFrame(made)


def answers_of(answer: Any, only: str, where: str) -> dict[str, np.ndarray]:
    """Outputs by name: of a DataFrame its columns, of a dict its entries, else one called ``only``."""
    if hasattr(answer, "columns") and hasattr(answer, "to_numpy"):
        return {str(name): _array(answer[name].to_numpy(), where) for name in answer.columns}
    if isinstance(answer, Mapping):
        return {str(name): _array(value, where) for name, value in answer.items()}
    return {only: _array(answer, where)}


def _array(value: Any, where: str) -> np.ndarray:
    """Anything like an array as one that the protocol can carry; Failed when it cannot be."""
    import numpy as np

    try:
        array = np.asarray(value.toarray() if hasattr(value, "toarray") else value)
    except (TypeError, ValueError) as wrong:
        raise Failed(f"the model's answer is not an array: {str(wrong)[:200]}", where=where) from None
    array = array.reshape(1) if array.ndim == 0 else array
    if array.dtype.kind == "M":
        array = np.datetime_as_string(array)
    if array.dtype.kind in "USO":
        return as_bytes(array)
    if array.dtype.name not in DATATYPES:
        raise Failed(f"the model answered with {array.dtype.name}, which cannot be sent", where=where)
    return array
