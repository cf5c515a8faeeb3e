"""The parameters that a person gives to a pipeline: read from text, checked, completed by defaults."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from tallystick.core.errors import BadInput
from tallystick.core.pipeline.spec import Param, ParamType, Pipeline

__all__ = ["check_params", "check_value", "is_of", "read_params"]

_PYTHON_TYPES: dict[ParamType, type | tuple[type, ...]] = {
    ParamType.STRING: str,
    ParamType.INTEGER: int,
    ParamType.DOUBLE: (int, float),
    ParamType.BOOLEAN: bool,
    ParamType.LIST: list,
    ParamType.STRUCT: dict,
    ParamType.FINAL_STATUS: dict,
}


def check_params(pipeline: Pipeline, given: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters with their values: the given ones over the defaults.

    BadInput names an unknown parameter, one of the wrong type, or a required one that is missing.
    """
    known = {p.name: p for p in pipeline.params}
    for name in given:
        if name not in known:
            names = ", ".join(known) or "none"
            raise BadInput(f"no parameter {name!r}", where=pipeline.name, hint=f"it has: {names}")
    values: dict[str, Any] = {}
    for param in pipeline.params:
        if param.name in given:
            values[param.name] = check_value(pipeline.name, param, given[param.name])
        elif param.default is not None or param.optional:
            values[param.name] = param.default
        else:
            raise BadInput(
                f"parameter {param.name!r} has no value", where=pipeline.name, hint=f"say -p {param.name}=..."
            )
    return values


def read_params(pipeline: Pipeline, texts: Mapping[str, str]) -> dict[str, Any]:
    """Values from text, as typed on a command line, read by each parameter's type.

    A STRING is taken as it is, everything else as JSON; BadInput for what cannot be read. Unknown
    names are kept as text for :func:`check_params` to refuse.
    """
    types = {p.name: p.type for p in pipeline.params}
    values: dict[str, Any] = {}
    for name, text in texts.items():
        if types.get(name, ParamType.STRING) is ParamType.STRING:
            values[name] = text
            continue
        try:
            values[name] = json.loads(text)
        except ValueError:
            raise BadInput(f"{text[:80]!r} is not {types[name]}", where=f"parameter {name}") from None
    return values


def is_of(kind: ParamType, value: Any) -> bool:
    """Whether ``value`` is of the type; Python's bool, which is an int to Python, is BOOLEAN alone."""
    if isinstance(value, bool):
        return kind is ParamType.BOOLEAN
    return isinstance(value, _PYTHON_TYPES[kind])


def check_value(where: str, param: Param, value: Any) -> Any:
    """The value, if ``param`` may have it; BadInput says which type or values it may have."""
    if value is None and param.optional:
        return None
    if not is_of(param.type, value):
        raise BadInput(f"parameter {param.name!r} must be {param.type}, got {str(value)[:80]!r}", where=where)
    if isinstance(value, float) and math.isnan(value):
        raise BadInput(f"parameter {param.name!r} is not a number (NaN)", where=where)
    if param.literals and value not in param.literals:
        allowed = ", ".join(map(repr, param.literals))
        raise BadInput(
            f"parameter {param.name!r} is {str(value)[:80]!r}", where=where, hint=f"one of {allowed}"
        )
    return value
