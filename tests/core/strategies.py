"""Hypothesis strategies for every noun, made from its type hints."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, TypeVar, Union, get_args, get_origin

from hypothesis import strategies as st

from tallystick.core.attestation import Attestation
from tallystick.core.data import Snapshot
from tallystick.core.endpoint import Endpoint
from tallystick.core.facts import Fact
from tallystick.core.model import ModelVersion
from tallystick.core.pipeline.spec import Component
from tallystick.core.remedy import Remedy
from tallystick.core.run.events import Run
from tallystick.core.signal import Signal
from tallystick.core.verdict import Verdict
from tallystick.core.wall import Wall
from tallystick.evidence.figures import Rate

__all__ = ["KEPT", "digests", "json_values", "names", "of", "rates", "seeded", "texts"]

T = TypeVar("T")

KEPT = (Fact, Snapshot, Component, Run, ModelVersion, Attestation, Verdict, Endpoint, Signal, Remedy, Wall)
"""What is kept as plain JSON, each with all that it is made of."""

texts = st.text(max_size=8)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,8}", fullmatch=True)
digests = st.text("0123456789abcdef", min_size=64, max_size=64).map(lambda digits: f"sha256:{digits}")
floats = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
rates = st.integers(1, 5000).flatmap(lambda total: st.builds(Rate, st.integers(0, total), st.just(total)))
seeded = st.builds(Random, st.integers(0, 2**32))


_PATHS = names.map(lambda name: f"/{name}")


def _made(kind: type[T], **fixed: st.SearchStrategy[Any]) -> st.SearchStrategy[T]:
    hints = typing.get_type_hints(kind)
    fields = {
        f.name: fixed[f.name] if f.name in fixed else of(hints[f.name])
        for f in dataclasses.fields(typing.cast(Any, kind))
    }
    return st.builds(kind, **fields)


_OWN: Mapping[Any, Callable[[], st.SearchStrategy[Any]]] = {
    Any: lambda: json_values,
    str: lambda: texts,
    int: lambda: st.integers(-(2**63), 2**63),
    float: lambda: floats,
    bool: st.booleans,
    Rate: lambda: rates,
    Attestation: lambda: _made(Attestation, model_digest=digests, statement=digests),
    ModelVersion: lambda: _made(ModelVersion, name=names, digest=digests, version=st.integers(1, 99)),
    Wall: lambda: _made(
        Wall,
        workdir=_PATHS,
        readable=st.lists(_PATHS, max_size=2).map(tuple),
        writable=st.lists(_PATHS, max_size=2).map(tuple),
        **{
            name: st.integers(1, 9999)
            for name in ("cpu_seconds", "memory_mib", "file_mib", "open_files", "processes")
        },
    ),
}


def of(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a type that core uses in its nouns."""
    if kind in _OWN:
        return st.deferred(_OWN[kind])
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return st.one_of([st.none() if arg is type(None) else of(arg) for arg in args])
    if origin is tuple and args[-1] is not Ellipsis:
        return st.tuples(*map(of, args))
    if origin is tuple:
        return st.lists(of(args[0]), max_size=2).map(tuple)
    if origin in (dict, Mapping):
        return st.dictionaries(texts, of(args[1]), max_size=2)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return st.sampled_from(list(kind))
    return _made(kind)
