"""Arrays as joblib keeps them: their bytes lie in the pickle stream, after the object that describes them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from tallystick.evidence.files.source import Cursor

__all__ = ["Global", "Made", "array_bytes"]

PADDING_MAX = 16
CODE = re.compile(r"([?biufcmMSUVO])([0-9]{0,6})|(b|B|h|H|i|I|l|L|q|Q|e|f|d|g)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Global:
    """A name that was looked up."""

    name: str


@dataclass(slots=True)
class Made:
    """What a call or an instance came to: ``of`` what, from which arguments, and the state it was given."""

    of: str
    args: Any = None
    state: Any = None


def array_bytes(read: Cursor, state: Any) -> int:
    """How many bytes of numbers follow (the padding before them is read); -1 where a pickle does.

    ValueError where that cannot be told as joblib 1.2 and later write it.
    """
    if not isinstance(state, dict):
        raise ValueError("its description is computed")
    shape, order, dtype = (state.get(key) for key in ("shape", "order", "dtype"))
    if not isinstance(shape, tuple) or not all(type(n) is int and 0 <= n < 2**48 for n in shape):
        raise ValueError("its shape is computed")
    if order not in ("C", "F"):
        raise ValueError("its order is neither C nor F")
    size = _item_bytes(dtype)
    if size < 0:
        return -1
    if state.get("numpy_array_alignment_bytes") != PADDING_MAX:
        raise ValueError("it is not aligned, as before joblib 1.2: save the model again")
    padding = read.byte()
    # No opcode of pickle's is as small: whoever reads this as a pickle stops here.
    if not 0 < padding <= PADDING_MAX or read.take(padding) != b"\xff" * padding:
        raise ValueError("its padding is not joblib's")
    return math.prod(shape) * size


def _item_bytes(dtype: Any) -> int:
    """Bytes of one item of a dtype as numpy pickles it; -1 for objects."""
    if not isinstance(dtype, Made) or dtype.of != "numpy.dtype" or not isinstance(dtype.args, tuple):
        raise ValueError("its dtype is computed")
    code = dtype.args[0] if dtype.args else None
    found = CODE.fullmatch(code) if isinstance(code, str) else None
    state = dtype.state
    if found is None or not found[1] or not isinstance(state, tuple) or len(state) < 8:
        raise ValueError("its dtype is computed")
    if found[1] == "O":
        return -1
    if not found[2]:
        raise ValueError("its dtype has no size")
    size = int(found[2]) * (4 if found[1] == "U" else 1)
    if state[5] not in (-1, size) or isinstance(state[2], tuple | Made | Global):
        raise ValueError("its dtype has another size than it says")
    fields = state[4]
    if isinstance(fields, dict) and any(_has_objects(field) for field in fields.values()):
        return -1
    return size


def _has_objects(field: Any) -> bool:
    """Whether a field of a structured dtype is, or may be, an object."""
    inner = field[0] if isinstance(field, tuple) and field else None
    if not isinstance(inner, Made):
        raise ValueError("its dtype has fields that are computed")
    return _item_bytes(inner) < 0
