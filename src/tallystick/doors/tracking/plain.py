"""What is plain: values that MLflow takes as they are. All else is MLflow's own to take, cut or refuse.

The limits are MLflow's (``mlflow/utils/validation.py``) and, where those are tighter, the widths of its
columns, which PostgreSQL keeps and SQLite does not. What is beyond one raises NotPlain.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Sized
from functools import lru_cache
from typing import Annotated, Any

import msgspec

from tallystick.record.asks import Items, NotPlain

__all__ = [
    "Body", "Int32", "Int64", "Millis", "Pair", "between", "body", "bounded", "experiment_id", "items",
    "key", "number", "one_of", "reader", "run", "run_id", "text", "unique",
]  # fmt: skip

Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Millis = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

_KEY = re.compile(r"[/\w.\- :]+")
_RUN_ID = re.compile(r"[a-zA-Z0-9][\w\-]{0,255}")
_EXPERIMENT_ID = re.compile(r"0|[1-9][0-9]{0,17}")
_WORDS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class Body(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What is read: exact types and known names only, so that nothing is read here as MLflow would not."""


class Pair(Body):
    """A tag or a param."""

    key: str
    value: str = ""


def body(**fields: Any) -> type[msgspec.Struct]:
    """A struct of these fields, each a type, or a type and its default."""
    typed = [(name, *of) if isinstance(of, tuple) else (name, of) for name, of in fields.items()]
    return msgspec.defstruct("Body", typed, bases=(Body,), kw_only=True)


def reader(kind: type[msgspec.Struct], *rarer: type[msgspec.Struct]) -> Callable[[bytes], Any]:
    """What reads a body as a ``kind``, or else as one of the ``rarer`` ones, which say more."""
    read = msgspec.json.Decoder(kind).decode
    if not rarer:
        return read
    otherwise = reader(*rarer)

    def read_either(raw: bytes) -> Any:
        try:
            return read(raw)
        except msgspec.ValidationError:
            return otherwise(raw)

    return read_either


def key(said: str) -> str:
    """What a metric, param or tag may be named: plain characters, nothing like a way up a folder."""
    if len(said) > 250 or not _is_key(said):
        raise NotPlain
    return said


@lru_cache(8192)
def _is_key(said: str) -> bool:
    odd = said == "." or said.startswith(("..", "/")) or posixpath.normpath(said) != said
    return not odd and _KEY.fullmatch(said) is not None


def run_id(said: str) -> str:
    """The id of a run, or of a logged model."""
    if not _RUN_ID.fullmatch(said):
        raise NotPlain
    return said


def run(said: Any) -> str:
    """The id of a run where it may stand in an older field as well, or instead."""
    found: str | None = said.run_uuid if said.run_id is None else said.run_id
    if found is None or said.run_uuid not in (None, found):
        raise NotPlain
    return run_id(found)


def experiment_id(said: str) -> int:
    """An experiment's id as MLflow itself writes it."""
    if not _EXPERIMENT_ID.fullmatch(said):
        raise NotPlain
    return int(said)


def text(said: str, chars_max: int, chars_min: int = 0) -> str:
    """So many characters; a NUL has no place in PostgreSQL."""
    if not chars_min <= len(said) <= chars_max or "\0" in said:
        raise NotPlain
    return said


def number(said: float | str) -> float:
    """A metric's value; protobuf's JSON has words for what is not finite."""
    return one_of(_WORDS, said) if isinstance(said, str) else said


def between(said: int, most: int) -> int:
    """A number from 1 on."""
    if not 1 <= said <= most:
        raise NotPlain
    return said


def one_of(known: dict[Any, Any], said: Any) -> Any:
    """What is known under this name."""
    if said not in known:
        raise NotPlain
    return known[said]


def bounded(most: int, *said: Sized) -> None:
    """There are no more than ``most`` together."""
    if sum(map(len, said)) > most:
        raise NotPlain


def items(said: Iterable[Pair], chars_max: int) -> Items:
    """Tags or params with values of so many characters, no key twice."""
    return unique((key(p.key), text(p.value, chars_max)) for p in said)


def unique(said: Iterable[tuple[str, str]]) -> Items:
    """No key is there twice."""
    found = tuple(said)
    bounded(len(dict(found)), found)
    return found
