"""Tensors of the Open Inference Protocol as numpy arrays: names of types, and checks against a signature."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from tallystick.core.errors import BadInput
from tallystick.core.model import TensorSpec

if TYPE_CHECKING:
    import numpy as np

__all__ = ["DATATYPES", "as_bytes", "as_text", "check_inputs", "check_shape", "datatype_of"]

DATATYPES: Mapping[str, str] = {
    "bool": "BOOL",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "object": "BYTES",
}
"""numpy's name of a type to the protocol's; a BYTES tensor is an object array of ``bytes``."""


def datatype_of(array: np.ndarray) -> str:
    """The protocol's name for an array's type; BadInput for a type that it has not."""
    found = DATATYPES.get(array.dtype.name)
    if found is None:
        raise BadInput(f"numpy's {array.dtype.name} has no datatype in the protocol", where="tensor")
    return found


def check_inputs(specs: Iterable[TensorSpec], inputs: Mapping[str, np.ndarray]) -> None:
    """BadInput unless ``inputs`` are exactly those of ``specs``, in type and in shape."""
    wanted = {spec.name: spec for spec in specs}
    missing, unknown = wanted.keys() - inputs.keys(), inputs.keys() - wanted.keys()
    if missing or unknown:
        wrong = (
            f"input {min(missing)!r} is missing" if missing else f"there is no input {min(unknown)!r:.100}"
        )
        raise BadInput(wrong, where="inputs", hint=f"the model takes {', '.join(wanted)}")
    for name, spec in wanted.items():
        check_shape(spec, inputs[name])


def check_shape(spec: TensorSpec, array: np.ndarray) -> None:
    """BadInput unless ``array`` has the type and the shape of ``spec``."""
    where = f"input {spec.name}"
    if (given := datatype_of(array)) != spec.datatype:
        raise BadInput(f"it is {given}, the model takes {spec.datatype}", where=where)
    fits = array.ndim == len(spec.shape) and all(
        want in (-1, have) for want, have in zip(spec.shape, array.shape, strict=True)
    )
    if not fits:
        hint = "-1 is any length"
        raise BadInput(f"its shape is {list(array.shape)}, not {list(spec.shape)}", where=where, hint=hint)


def as_text(array: np.ndarray, where: str) -> np.ndarray:
    """A BYTES array as an object array of ``str``; BadInput when it is not UTF-8."""
    import numpy as np

    try:
        texts = [item.decode() if isinstance(item, bytes) else str(item) for item in array.ravel()]
    except UnicodeDecodeError:
        raise BadInput("it holds bytes that are not UTF-8 text", where=where) from None
    made = np.empty(len(texts), object)
    made[:] = texts
    return made.reshape(array.shape)


def as_bytes(array: np.ndarray) -> np.ndarray:
    """Strings, or whatever objects a model answers with, as an object array of ``bytes``."""
    import numpy as np

    items = [item if isinstance(item, bytes) else str(item).encode() for item in array.ravel().tolist()]
    made = np.empty(len(items), object)
    made[:] = items
    return made.reshape(array.shape)
