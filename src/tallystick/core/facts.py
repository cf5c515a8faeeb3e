"""Facts: what happened to a noun, appended once and never changed. Everything else is derived from them.

Beside them the plain JSON in which nouns are kept: frozen dataclasses to JSON values and back, strictly.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin

from tallystick.core.errors import BadInput
from tallystick.core.names import DEFAULT_TENANT

__all__ = ["NOUNS", "Fact", "from_json", "to_json"]

T = TypeVar("T")

_PLAIN = frozenset((str, int, float, bool, type(None)))

NOUNS = (
    "data", "pipeline", "experiment", "schedule", "study", "run", "environment", "step",
    "model", "attestation", "policy", "probe", "verdict", "endpoint", "signal", "remedy",
)  # fmt: skip
"""The nouns that facts are about, in the order of the flow.

A ``step`` is kept by its cache key, an ``environment`` by its digest, a ``probe`` by the digest of all that
its result depends on.
"""


@dataclass(frozen=True, slots=True)
class Fact:
    """One event of one noun, with the whole state that the noun has after it.

    ``state`` is plain JSON (:func:`to_json`), so the newest fact of a key is
    its current view and the view can always be rebuilt. ``seq`` is given by the ledger, from 1 up.
    """

    noun: str
    key: str
    event: str
    state: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    at_ms: int = 0
    tenant: str = DEFAULT_TENANT
    seq: int = 0


def to_json(value: Any) -> Any:
    """Dataclasses become objects, tuples become lists, enums their value; the rest stays as it is."""
    kind: type = type(value)
    if kind in _PLAIN:
        return value
    if (names := _field_names(kind)) is not None:
        return {name: to_json(getattr(value, name)) for name in names}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(v) for v in value]
    return value


@cache
def _field_names(kind: type) -> tuple[str, ...] | None:
    """Of a dataclass; None for any other kind."""
    return tuple(f.name for f in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else None


def from_json(kind: type[T], value: Any, where: str = "") -> T:
    """Build ``kind`` from what :func:`to_json` made; BadInput names the first field that does not fit.

    Fields with a default may be absent, so that an older record can be read; unknown fields are
    dropped, so that a newer one can.
    """
    return cast(T, _build(kind, value, where or getattr(kind, "__name__", str(kind))))


@cache
def _fields(kind: type) -> tuple[tuple[str, Any, bool], ...]:
    """Of a dataclass: names, types, and whether there is no default."""
    hints, missing = typing.get_type_hints(kind), dataclasses.MISSING
    return tuple(
        (f.name, hints[f.name], f.default is missing and f.default_factory is missing)
        for f in dataclasses.fields(kind)
    )


def _build(kind: Any, value: Any, where: str) -> Any:
    if kind is Any or (kind in _PLAIN and type(value) is kind):
        return value
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _build_union(kind, value, where)
    if origin is tuple:
        return _build_tuple(kind, value, where)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise _misfit(kind, value, where)
        return {str(k): _build(get_args(kind)[1], v, f"{where}.{k}") for k, v in value.items()}
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(cast(type, kind), value, where)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        try:
            return kind(value)
        except ValueError:
            raise _misfit(kind, value, where) from None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _misfit(kind, value, where)
    return value


def _build_union(kind: Any, value: Any, where: str) -> Any:
    options = get_args(kind)
    if value is None and type(None) in options:
        return None
    for option in options:
        if option is type(None):
            continue
        try:
            return _build(option, value, where)
        except BadInput:
            continue
    raise _misfit(kind, value, where)


def _build_tuple(kind: Any, value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _misfit(kind, value, where)
    item, *rest = get_args(kind)
    if rest == [Ellipsis]:
        return tuple(_build(item, v, f"{where}[{i}]") for i, v in enumerate(value))
    kinds = (item, *rest)
    if len(kinds) != len(value):
        raise _misfit(kind, value, where)
    return tuple(_build(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))


def _build_dataclass(kind: type, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise _misfit(kind, value, where)
    given = {}
    for name, hint, needed in _fields(kind):
        if name in value:
            given[name] = _build(hint, value[name], f"{where}.{name}")
        elif needed:
            raise BadInput(f"{name!r} is missing", where=where)
    return kind(**given)


def _misfit(kind: Any, value: Any, where: str) -> BadInput:
    wanted = getattr(kind, "__name__", str(kind))
    return BadInput(f"expected {wanted}, got {str(value)[:80]!r}", where=where)
