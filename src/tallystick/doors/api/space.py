"""Search spaces as people write them: TOML, a table for each parameter, read strictly."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Iterable
from typing import Any

from tallystick.core.errors import BadInput, TooLarge
from tallystick.core.names import canonical_json
from tallystick.core.pipeline.params import check_params, check_value
from tallystick.core.pipeline.spec import Param, ParamType, Pipeline
from tallystick.core.study import POINTS_MAX, Dimension, Kind, Study

__all__ = ["check_space", "one_of", "read_space"]

TEXT_BYTES_MAX = 256 * 1024
DIMENSIONS_MAX = 100
VALUES_MAX = 1000
WHOLE_MAX = 2**53
"""Whole numbers above it are not exact everywhere."""
_KEYS = {
    Kind.FLOAT: {"type", "low", "high", "step", "log"},
    Kind.INT: {"type", "low", "high", "step", "log"},
    Kind.CHOICE: {"type", "values"},
}
_FITTING = {
    Kind.FLOAT: (ParamType.DOUBLE,),
    Kind.INT: (ParamType.INTEGER, ParamType.DOUBLE),
    Kind.CHOICE: tuple(ParamType),
}


def one_of(name: str, known: Iterable[str], where: str, what: str) -> str:
    """``name``, if it is known; BadInput names the nearest that is, and all of them."""
    known = [str(one) for one in known]
    if name not in known:
        near = difflib.get_close_matches(name, known, 1, 0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise BadInput(
            f"{name[:80]!r} is no {what}", where=where, hint=f"{hint}there is {', '.join(known) or 'none'}"
        )
    return name


def read_space(text: str) -> tuple[Dimension, ...]:
    """The parameters of a space; BadInput names the table and the key that cannot be."""
    if len(text.encode("utf-8", "surrogatepass")) > TEXT_BYTES_MAX:
        raise TooLarge(f"it is over {TEXT_BYTES_MAX // 1024} KiB", where="space")
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as wrong:
        raise BadInput(f"it is not TOML: {wrong}", where="space") from None
    if not 0 < len(tables) <= DIMENSIONS_MAX:
        what = f"it has {len(tables)} parameters, and may have 1 to {DIMENSIONS_MAX}"
        raise BadInput(what, where="space", hint='for example: [rate] type = "float", low = 0.1, high = 1.0')
    return tuple(_dimension(name, table) for name, table in tables.items())


def _dimension(name: str, table: Any) -> Dimension:
    where = f"[{name[:80]}]"
    if not isinstance(table, dict):
        raise BadInput(
            "it is a value, and must be a table", where=where, hint=f'for example type = "{Kind.INT}"'
        )
    if "type" not in table:
        raise BadInput("it lacks 'type'", where=where, hint=f"one of {', '.join(Kind)}")
    kind = Kind(one_of(str(table["type"]), Kind, f"{where} type", "type of a parameter"))
    for key in table:
        one_of(key, sorted(_KEYS[kind]), where, f"key of a {kind}")
    if kind is Kind.CHOICE:
        return Dimension(name, kind, values=_values(table.get("values"), f"{where} values"))
    whole = kind is Kind.INT
    for key in ("low", "high"):
        if key not in table:
            raise BadInput(f"it lacks {key!r}", where=where)
    low, high = (_number(table[key], f"{where} {key}", whole) for key in ("low", "high"))
    step = _number(table.get("step", 0), f"{where} step", whole)
    log = table.get("log", False)
    _check_range(where, low, high, step if "step" in table else None, log)
    return Dimension(name, kind, low, high, step, log)


def _check_range(where: str, low: float, high: float, step: float | None, log: Any) -> None:
    if not low < high:
        raise BadInput(f"low is {low:g}, and must be below high, {high:g}", where=where)
    if not math.isfinite(high - low):
        raise BadInput("the range is too wide", where=where)
    if not isinstance(log, bool):
        raise BadInput("it must be true or false", where=f"{where} log")
    if log and low <= 0:
        raise BadInput(f"low is {low:g}, and with log it must be above 0", where=where)
    if log and step is not None:
        raise BadInput("it cannot have both log and step", where=where)
    if step is not None and not 0 < step <= high - low:
        raise BadInput(f"step is {step:g}, and must be above 0 and within the range", where=where)
    if step is not None and not (high - low) / step <= WHOLE_MAX:
        raise BadInput(f"step is {step:g}, and too small for the range", where=where)


def _number(value: Any, where: str, whole: bool) -> float:
    right = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not right or not abs(value) <= (WHOLE_MAX if isinstance(value, int) else math.inf):
        raise BadInput(f"{str(value)[:80]!r} is no {'whole ' if whole else ''}number", where=where)
    if not math.isfinite(value):
        raise BadInput(f"it is {value}, and must be finite", where=where)
    return float(value)


def _values(values: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(values, list) or not 0 < len(values) <= VALUES_MAX:
        raise BadInput(f"it must be a list of 1 to {VALUES_MAX} values", where=where)
    try:
        texts = {canonical_json(value) for value in values}
    except (TypeError, ValueError, RecursionError):
        raise BadInput(
            "a parameter cannot have one of them", where=where, hint="no dates, NaN or inf"
        ) from None
    same = sum(any(value == other for other in values[:place]) for place, value in enumerate(values))
    if same or len(texts) < len(values):
        raise BadInput("one of them stands there twice", where=where)
    return tuple(values)


def check_space(study: Study, pipeline: Pipeline) -> None:
    """BadInput where a parameter of the space is none of the pipeline's, does not fit it, or is set already.

    What ``study.params`` leave open without a default is BadInput too, and so is a grid without an end.
    """
    known = {p.name: p for p in pipeline.params}
    for one in study.space:
        where = f"[{one.name[:80]}]"
        one_of(one.name, known, where, "parameter of the pipeline")
        if one.name in study.params:
            raise BadInput("it is searched, so it cannot be set with -p as well", where=where)
        _check_fits(where, one, known[one.name])
    check_params(pipeline, {**study.params, **{one.name: _first(one) for one in study.space}})
    if study.sampler == "grid" and math.prod(len(one.points()) for one in study.space) > POINTS_MAX:
        raise BadInput(f"a grid of over {POINTS_MAX:,} combinations", where="space", hint="use larger steps")
    if study.sampler == "cmaes" and any(one.kind is Kind.CHOICE for one in study.space):
        hint = "search it with --sampler tpe, or set it with -p"
        raise BadInput("CMA-ES searches numbers, and this space has a choice", where="space", hint=hint)


def _check_fits(where: str, one: Dimension, param: Param) -> None:
    if param.type not in _FITTING[one.kind]:
        raise BadInput(
            f"the pipeline's parameter is {param.type}, and the space says {one.kind}", where=where
        )
    if param.literals and one.kind is not Kind.CHOICE:
        hint = f'say type = "choice", values = {list(param.literals)}'
        raise BadInput("the pipeline's parameter may only have some values", where=where, hint=hint)
    for value in one.values:
        check_value(f"{where} values", param, value)


def _first(one: Dimension) -> Any:
    return one.values[0] if one.kind is Kind.CHOICE else int(one.low) if one.kind is Kind.INT else one.low
