"""One value of a file as one value of a tensor: exactly that, or an error, never something near it."""

from __future__ import annotations

import math
import re
from decimal import Decimal, InvalidOperation
from typing import Any

from tallystick.core.errors import BadInput
from tallystick.doors.cli.ask.rows import Row

__all__ = ["fitted"]

_WHOLE = re.compile(r"(U?)INT(8|16|32|64)", re.ASCII)
_TRUTH = {"true": True, "1": True, "false": False, "0": False}
DIGITS_MAX = 30
"""Far more than 64 bits hold: what has more digits is not worked out."""


def fitted(row: Row, column: str, datatype: str, where: str) -> Any:
    """The value of ``column`` for a tensor of ``datatype`` (as the Open Inference Protocol names it)."""
    if column not in row:
        raise BadInput(f"column {column!r} is missing", where=where)
    value = row[column]
    holds = f"column {column!r} holds {str(value)[:40]!r}"
    if value is None or (value == "" and datatype != "BYTES"):
        raise BadInput(f"column {column!r} is empty", where=where)
    if isinstance(value, list | dict):
        raise BadInput(f"column {column!r} holds more than one value", where=where)
    if datatype == "BYTES":
        return str(value)
    if datatype == "BOOL":
        if str(value).lower() not in _TRUTH:
            raise BadInput(f"{holds}, neither true nor false", where=where)
        return _TRUTH[str(value).lower()]
    number = _number(value)
    if number is None:
        raise BadInput(f"{holds}, not a number", where=where)
    whole = _WHOLE.fullmatch(datatype)
    if whole is None:
        return _real(number, holds, where)
    return _integer(number, not whole[1], int(whole[2]), f"{holds}, which is", where)


def _number(value: Any) -> Decimal | None:
    """``value`` as the number that it writes, exactly."""
    if isinstance(value, bool):
        return Decimal(int(value))
    if isinstance(value, int | float | Decimal):
        return Decimal(value)
    text = str(value).strip()
    try:
        return None if "_" in text else Decimal(text)
    except InvalidOperation:
        return None


def _real(number: Decimal, holds: str, where: str) -> float:
    if not number.is_finite() or not math.isfinite(float(number)):
        raise BadInput(holds, where=where, hint="the model takes finite numbers")
    return float(number)


def _integer(number: Decimal, signed: bool, bits: int, holds: str, where: str) -> int:
    if not number.is_finite() or number.adjusted() > DIGITS_MAX:
        raise BadInput(f"{holds} out of range", where=where)
    exact = int(number)
    if exact != number:
        raise BadInput(f"{holds} no whole number", where=where, hint="the model takes whole numbers here")
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    if not low <= exact <= high:
        raise BadInput(f"{holds} out of range", where=where, hint=f"the model takes {low} to {high} here")
    return exact
