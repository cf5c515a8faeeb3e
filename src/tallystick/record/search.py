"""The language of MLflow's searches: ``metrics.loss < 0.2 AND tags."a b" LIKE '%x%'``, and what to order by.

Only what can be read in one way is read here; anything else is None, and MLflow itself is asked. MLflow
reads with a tokeniser made for all of SQL (``mlflow/utils/search_utils.py`` on sqlparse), so much that
looks odd means something to it. What is taken here is the part whose meaning is beyond doubt: clauses with
AND between them, words and quoted keys, whole numbers and decimals, quoted text without escapes.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["ORDERS_MAX", "Condition", "Order", "read_conditions", "read_orders"]


@dataclass(frozen=True, slots=True)
class Condition:
    """``kind`` is ``metric``, ``param``, ``tag``, ``attribute`` or ``dataset``; ``key`` without aliases.

    ``comparator`` is one of ``= != > >= < <= LIKE ILIKE IN NOT IN IS NULL IS NOT NULL``. ``value`` is a
    number for metrics and numeric attributes (NaN included), text otherwise, a tuple of texts for ``IN``,
    and None for ``IS NULL``. An attribute's key is MLflow's name for it (``run_id``, ``start_time``).
    """

    kind: str
    key: str
    comparator: str
    value: float | int | str | tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Order:
    """One thing to order by: ``kind`` and ``key`` as in :class:`Condition`."""

    kind: str
    key: str
    ascending: bool


MAX_TEXT_LENGTH = 8000
"""Longer texts could meet the tokeniser's own limit of 10,000 tokens."""
ORDERS_MAX = 100
"""More than MLflow could ever join: SQLite joins 64 tables at most."""

_RUN_KINDS = {
    **dict.fromkeys(("metric", "metrics"), "metric"),
    **dict.fromkeys(("parameter", "parameters", "param", "params"), "param"),
    **dict.fromkeys(("tag", "tags"), "tag"),
    **dict.fromkeys(("attribute", "attributes", "attr", "run"), "attribute"),
    **dict.fromkeys(("dataset", "datasets"), "dataset"),
}
_ALIASES = {
    "created": "start_time",
    "Created": "start_time",
    "run name": "run_name",
    "Run name": "run_name",
    "Run Name": "run_name",
}

_NUMERIC = frozenset({"=", "!=", ">", ">=", "<", "<="})
_TEXTUAL = frozenset({"=", "!=", "LIKE", "ILIKE"})
_EITHER_NULL = frozenset({"IS NULL", "IS NOT NULL"})
_LISTS = frozenset({"IN", "NOT IN"})
_KEYWORDS = frozenset({"case", "in", "values", "using", "from", "as"})
"""Words that stay keywords to the tokeniser even after a dot."""


@dataclass(frozen=True, slots=True)
class _Grammar:
    """What differs between searches for runs and for experiments."""

    kinds: dict[str, str]
    numbers: frozenset[str]
    texts: frozenset[str]
    listed: frozenset[str]
    orders: frozenset[str]
    lower_case: bool


_RUN = _Grammar(
    kinds=_RUN_KINDS,
    numbers=frozenset({"start_time", "end_time", "created", "Created"}),
    texts=frozenset({"run_id", "run_name", "user_id", "status", "artifact_uri", *_ALIASES}),
    listed=frozenset({"run_id"}),
    orders=frozenset(
        {
            "run_id",
            "run_name",
            "user_id",
            "status",
            "artifact_uri",
            "start_time",
            "end_time",
            "created",
            "Created",
        }
    ),
    lower_case=True,
)
_EXPERIMENT = _Grammar(
    kinds={"attribute": "attribute", "tag": "tag", "tags": "tag"},
    numbers=frozenset({"creation_time", "last_update_time"}),
    texts=frozenset({"name", "experiment_id"}),
    listed=frozenset({"experiment_id"}),
    orders=frozenset({"name", "experiment_id", "creation_time", "last_update_time"}),
    lower_case=False,
)
_GRAMMARS = {"run": _RUN, "experiment": _EXPERIMENT}

_WORD = r"[A-Za-z][A-Za-z0-9_]*"
_KEY = rf"(?P<words>{_WORD}(?:\.{_WORD})*)|`(?P<ticked>[^`]+)`|\"(?P<quoted>[^\"`\\]+)\""
_NAME = rf"(?:(?P<prefix>[a-z]+)\.)?(?:{_KEY})"
# A backslash before a closing quote, and two quotes in a row, mean different things to different readers.
_SINGLE = r"'(?:[^'\\]|\\(?!'))*'(?!')"
_DOUBLE = r"\"(?:[^\"\\]|\\(?!\"))*\"(?!\")"
_ITEM = r"(?:'[^'\\\n\r]*'(?!')|\"[^\"\\\n\r]*\"(?!\"))"
_ITEMS = rf"{_ITEM}(?:[ ]*,[ ]*{_ITEM})*(?:[ ]*,)?"
_CLAUSE = re.compile(
    rf"[ \t\n]*{_NAME}(?:"
    rf"[ \t\n]*(?P<sign>[<>]=?|!?=)[ \t\n]*(?P<right>{_SINGLE}|{_DOUBLE}|[-+.0-9eE]+)"
    rf"|[ \t\n]+(?P<like>I?LIKE)[ \t\n]+(?P<pattern>{_SINGLE}|{_DOUBLE})"
    rf"|[ \t\n]+(?P<null>IS[ ]+NULL|IS[ ]+NOT[ ]NULL)"
    rf"|[ \t\n]+(?P<within>(?:NOT[ ]+)?IN)[ \t\n]*\((?P<items>[ ]*{_ITEMS}[ ]*)\)"
    r")(?=[ \t\n]|$)",
    re.IGNORECASE | re.ASCII,
)
_AND = re.compile(r"[ \t\n]+AND(?=[ \t\n])", re.IGNORECASE | re.ASCII)
_ORDER = re.compile(rf"{_NAME}(?:[ \t]+(?P<way>ASC|DESC))?", re.IGNORECASE | re.ASCII)
_INTEGER = re.compile(r"-?[0-9]+")
_DECIMAL = re.compile(r"-?[0-9]+(?:\.[0-9]+)?[eE]-?[0-9]+|-?(?:[0-9]+\.[0-9]*|\.[0-9]+)")
_ODD = re.compile("[\0\r\x0b\x0c\x1c-\x1f\x85\u2028\u2029\ud800-\udfff]")


def read_conditions(text: str, entity: str) -> tuple[Condition, ...] | None:
    """A filter, for ``entity`` ``run`` or ``experiment``; None for what is not plain."""
    if not text:
        return ()
    return _read_conditions(text, entity) if len(text) <= MAX_TEXT_LENGTH else None


@lru_cache(maxsize=1024)
def _read_conditions(text: str, entity: str) -> tuple[Condition, ...] | None:
    if _ODD.search(text):
        return None
    grammar, found, at = _GRAMMARS[entity], [], 0
    while (match := _CLAUSE.match(text, at)) is not None:
        condition = _condition(match, grammar)
        if condition is None:
            return None
        found.append(condition)
        at = match.end()
        if not text[at:].strip(" \t\n"):
            return tuple(found)
        joint = _AND.match(text, at)
        if joint is None:
            return None
        at = joint.end()
    return None


def read_orders(texts: tuple[str, ...], entity: str) -> tuple[Order, ...] | None:
    """What to order by, as ``metrics.loss DESC``; None for what is not plain."""
    if len(texts) > ORDERS_MAX or sum(map(len, texts)) > MAX_TEXT_LENGTH:
        return None
    return _read_orders(texts, entity)


@lru_cache(maxsize=1024)
def _read_orders(texts: tuple[str, ...], entity: str) -> tuple[Order, ...] | None:
    found: dict[tuple[str, str], Order] = {}
    for text in texts:
        order = _order(text, _GRAMMARS[entity])
        if order is None or (order.kind, order.key) in found:
            return None
        found[order.kind, order.key] = order
    return tuple(found.values())


def _order(text: str, grammar: _Grammar) -> Order | None:
    match = _ORDER.fullmatch(text) if not _ODD.search(text) else None
    named = _name(match, grammar) if match is not None else None
    if match is None or named is None:
        return None
    kind, key = named
    # Quoting is undone in another way here than in filters, so quotes and margins are left to MLflow.
    if key != key.strip() or any(mark in key for mark in "'\"`\\"):
        return None
    if kind == "dataset" or (grammar is _EXPERIMENT and kind == "tag"):
        return None
    if kind == "attribute" and key not in grammar.orders:
        return None
    return Order(kind, _plain_key(kind, key), (match["way"] or "ASC").upper() == "ASC")


def _name(match: re.Match[str], grammar: _Grammar) -> tuple[str, str] | None:
    """Kind and key (aliases as they are) of what a clause is about."""
    kind = "attribute" if match["prefix"] is None else grammar.kinds.get(match["prefix"])
    words: str | None = match["words"]
    if kind is None or (words is not None and any(word.lower() in _KEYWORDS for word in words.split("."))):
        return None
    return kind, words or match["ticked"] or match["quoted"]


def _plain_key(kind: str, key: str) -> str:
    return _ALIASES.get(key, key) if kind == "attribute" else key


def _condition(match: re.Match[str], grammar: _Grammar) -> Condition | None:
    named = _name(match, grammar)
    if named is None:
        return None
    kind, key = named
    raw = match["sign"] or match["like"] or match["null"] or match["within"]
    comparator = " ".join(raw.upper().split())
    if (match["like"] or match["within"]) and not grammar.lower_case and raw != comparator:
        return None
    if comparator not in _comparators(kind, key, grammar):
        return None
    value = _value(match, kind, key, grammar)
    if value is None and comparator not in _EITHER_NULL:
        return None
    return Condition(kind, _plain_key(kind, key), comparator, value)


def _comparators(kind: str, key: str, grammar: _Grammar) -> frozenset[str]:
    """What a thing can be compared by; nothing for an attribute or a dataset's field that there is not."""
    if kind == "metric":
        return _NUMERIC
    if kind in ("param", "tag"):
        return _TEXTUAL | _EITHER_NULL
    if kind == "dataset":
        return _TEXTUAL | _LISTS if key in ("name", "digest", "context") else frozenset()
    if key in grammar.numbers:
        return _NUMERIC
    if key == "experiment_id":
        return frozenset({"=", "!="}) | _LISTS
    if key in grammar.texts:
        return _TEXTUAL | _LISTS if key in grammar.listed else _TEXTUAL
    return frozenset()


def _value(
    match: re.Match[str], kind: str, key: str, grammar: _Grammar
) -> float | int | str | tuple[str, ...] | None:
    if match["items"] is not None:
        items = tuple(item[1:-1] for item in re.findall(_ITEM, match["items"]))
        return items if key != "experiment_id" or all(map(_is_id, items)) else None
    right: str | None = match["right"] or match["pattern"]
    if right is None:
        return None
    if kind == "metric" or (kind == "attribute" and key in grammar.numbers):
        return _number(right, whole=kind == "attribute", only_whole=grammar is _EXPERIMENT)
    if right[0] not in "'\"":
        return None
    return right[1:-1] if key != "experiment_id" or kind != "attribute" or _is_id(right[1:-1]) else None


def _is_id(text: str) -> bool:
    return bool(re.fullmatch("[0-9]{1,9}", text))


def _number(text: str, *, whole: bool, only_whole: bool) -> float | int | None:
    """A number as MLflow takes it: a float for metrics; whole ones of 64 bits for attributes."""
    if _INTEGER.fullmatch(text):
        if not whole:
            return float(text)
        return int(text) if len(text) <= 18 else None
    if only_whole or not _DECIMAL.fullmatch(text):
        return None
    value = float(text)
    return value if not (whole and math.isinf(value)) else None
