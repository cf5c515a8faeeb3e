"""One tensor of the Open Inference Protocol: its data as JSON or raw bytes, to a numpy array and back."""

from __future__ import annotations

import math
import struct
from itertools import chain
from typing import Any

import numpy as np

from tallystick.core.errors import BadInput, Failed

__all__ = ["DATATYPES", "from_bytes", "from_json", "to_bytes", "to_json"]

DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}
NAMES = {dtype: name for name, dtype in DATATYPES.items()}
JSON_KINDS: dict[str, set[type]] = {"b": {bool}, "i": {int}, "u": {int}, "f": {int, float}, "O": {str}}
SHOWN = {"b": "true or false", "i": "whole numbers", "u": "whole numbers", "f": "numbers", "O": "text"}


def from_json(data: Any, datatype: Any, shape: tuple[int, ...], where: str) -> np.ndarray:
    """From a list, flat or nested as ``shape``; BadInput when count, nesting, type or range is wrong."""
    dtype = _dtype(datatype, where)
    if not isinstance(data, list):
        raise BadInput("its data is missing or not a list", where=where)
    flat = _flatten(data, shape, where)
    if len(flat) != math.prod(shape):
        raise BadInput(
            f"its shape {list(shape)} needs {math.prod(shape)} values, not {len(flat)}", where=where
        )
    if not set(map(type, flat)) <= JSON_KINDS[dtype.kind]:
        raise BadInput(f"{datatype} takes {SHOWN[dtype.kind]} only", where=where)
    return _array(flat, dtype, datatype, where).reshape(shape)


def _array(flat: list[Any], dtype: np.dtype[Any], datatype: str, where: str) -> np.ndarray:
    if dtype.kind == "O":
        return _objects(_encoded(flat, where))
    try:
        with np.errstate(over="ignore"):
            made = np.array(flat, dtype)
    except OverflowError:
        raise BadInput(f"a value is out of range for {datatype}", where=where) from None
    if dtype.kind == "f" and not np.isfinite(made).all():
        raise BadInput(f"a value is out of range for {datatype}", where=where)
    return made


def _encoded(texts: list[str], where: str) -> list[bytes]:
    try:
        return [text.encode() for text in texts]
    except UnicodeEncodeError:
        raise BadInput("it holds half a surrogate pair, which is not text", where=where) from None


def _flatten(data: list[Any], shape: tuple[int, ...], where: str) -> list[Any]:
    """The values of a list that is flat already, or nested exactly as ``shape`` says."""
    if not data or type(data[0]) is not list:
        return data
    for depth, length in enumerate(shape[1:], 1):
        if not all(type(row) is list and len(row) == length for row in data):
            raise BadInput(f"its rows at depth {depth} are not all lists of {length}", where=where)
        data = list(chain.from_iterable(data))
    return data


def from_bytes(raw: memoryview, datatype: Any, shape: tuple[int, ...], where: str) -> np.ndarray:
    """From little-endian bytes in row-major order; BadInput when there are too many or too few."""
    dtype = _dtype(datatype, where)
    count = math.prod(shape)
    if dtype.kind == "O":
        return _objects(_elements(raw, count, where)).reshape(shape)
    if len(raw) != count * dtype.itemsize:
        text = f"{len(raw)} bytes do not make {list(shape)} of {datatype}"
        raise BadInput(text, where=where)
    if dtype.kind == "b" and np.frombuffer(raw, np.uint8).max(initial=0) > 1:
        raise BadInput("a byte of a BOOL is neither 0 nor 1", where=where)
    # A copy, as the bytes may start anywhere: models are handed aligned arrays that are theirs to write.
    return np.frombuffer(raw, dtype).copy().reshape(shape)


def _elements(raw: memoryview, count: int, where: str) -> list[bytes]:
    """BYTES: each element is its length in four bytes, then itself."""
    items: list[bytes] = []
    at = 0
    while at + 4 <= len(raw) and len(items) < count:
        (length,) = struct.unpack_from("<I", raw, at)
        items.append(bytes(raw[at + 4 : at + 4 + length]))
        at += 4 + length
    if len(items) != count or at != len(raw):
        raise BadInput(
            f"its {len(raw)} bytes do not hold {count} elements, each after its length", where=where
        )
    return items


def _objects(items: list[bytes]) -> np.ndarray:
    made = np.empty(len(items), object)
    made[:] = items
    return made


def _dtype(datatype: Any, where: str) -> np.dtype[Any]:
    found = DATATYPES.get(datatype) if isinstance(datatype, str) else None
    if found is None:
        hint = f"use {', '.join(DATATYPES)}"
        raise BadInput(f"datatype {datatype!r:.50} is unknown", where=where, hint=hint)
    return found


def _name(array: np.ndarray, where: str) -> str:
    found = NAMES.get(array.dtype.newbyteorder("<") if array.dtype.kind != "O" else array.dtype)
    if found is None:
        raise Failed(f"numpy's {array.dtype.name} has no datatype in the protocol", where=where)
    return found


def to_json(array: np.ndarray, where: str) -> tuple[str, list[Any]]:
    """The datatype, and all values as one flat list in row-major order."""
    name = _name(array, where)
    if name != "BYTES":
        flat: list[Any] = array.ravel().tolist()
        return name, flat
    try:
        return name, [bytes(item).decode() for item in array.ravel()]
    except UnicodeDecodeError:
        hint = "ask for binary data"
        raise Failed("it holds bytes that are not UTF-8 text", where=where, hint=hint) from None


def to_bytes(array: np.ndarray, where: str) -> tuple[str, bytes]:
    """The datatype, and all values as little-endian bytes in row-major order."""
    name = _name(array, where)
    if name != "BYTES":
        return name, array.astype(DATATYPES[name], copy=False).tobytes()
    return name, b"".join(struct.pack("<I", len(item)) + bytes(item) for item in array.ravel())
