"""Lists: filtered, sorted, and a page at a time.

A page token holds the whole question and the last row's place in the order, so that rows that come or go
meanwhile move nothing else.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import Request

from tallystick.core.errors import BadInput
from tallystick.doors.kubeflow.wire import millis

__all__ = ["Field", "page_of"]

T = TypeVar("T")
Field = Callable[[T], str | int]
"""What a row is sorted and filtered by: text, or a number (times are milliseconds)."""

SIZE = 20
SIZE_MAX = 200
QUERY_CHARS_MAX = 10_000
PREDICATES_MAX = 20

_OPERATIONS = {
    1: "EQUALS",
    2: "NOT_EQUALS",
    3: "GREATER_THAN",
    5: "GREATER_THAN_EQUALS",
    6: "LESS_THAN",
    7: "LESS_THAN_EQUALS",
    8: "IN",
    9: "IS_SUBSTRING",
}
_ORDERED: Mapping[str, Callable[[Any, Any], bool]] = {
    "EQUALS": lambda a, b: a == b,
    "NOT_EQUALS": lambda a, b: a != b,
    "GREATER_THAN": lambda a, b: a > b,
    "GREATER_THAN_EQUALS": lambda a, b: a >= b,
    "LESS_THAN": lambda a, b: a < b,
    "LESS_THAN_EQUALS": lambda a, b: a <= b,
    "IN": lambda a, b: a in b,
    "IS_SUBSTRING": lambda a, b: b.casefold() in a.casefold(),
}
_VALUES = (
    "int_value",
    "long_value",
    "string_value",
    "timestamp_value",
    "int_values",
    "long_values",
    "string_values",
)


@dataclass(frozen=True, slots=True)
class _Asked:
    sort_by: str
    filter: str
    scope: str
    after: tuple[Any, str] | None = None


def page_of(
    request: Request, rows: Iterable[T], fields: Mapping[str, Field[T]], key: Field[T], scope: str = ""
) -> tuple[list[T], int, str]:
    """The rows of one page, how many fit the filter in all, and the token of the next page ("" for none).

    ``key`` is unique. ``scope`` is what else the rows were chosen by: a token is good for that alone.
    """
    asked = _asked(request, scope)
    name, _, way = asked.sort_by.strip().partition(" ")
    field = _field(fields, name or "created_at", "sort_by")
    down = way.strip().lower() == "desc"
    if way.strip().lower() not in ("", "asc", "desc"):
        raise BadInput(
            f"cannot sort by {asked.sort_by[:60]!r}", where="sort_by", hint="say 'created_at desc'"
        )
    tests = _tests(asked.filter, fields)
    found = [row for row in rows if all(test(row) for test in tests)]
    found.sort(key=lambda row: (field(row), str(key(row))), reverse=down)
    left = found
    if asked.after is not None:
        left = [row for row in found if _beyond((field(row), str(key(row))), asked.after, down)]
    size = _size(request)
    shown, more = left[:size], len(left) > size
    token = ""
    if more:
        last = shown[-1]
        token = _write([asked.sort_by, asked.filter, asked.scope, field(last), str(key(last))])
    return shown, len(found), token


def _beyond(place: tuple[Any, str], after: tuple[Any, str], down: bool) -> bool:
    if type(place[0]) is not type(after[0]):
        raise BadInput("it does not fit these rows", where="page_token")
    return place < after if down else place > after


def _size(request: Request) -> int:
    given = request.query_params.get("page_size") or "0"
    if not given.isascii() or not given.isdigit() or len(given) > 9:
        raise BadInput(f"{given[:20]!r} is no number of rows", where="page_size")
    return min(int(given) or SIZE, SIZE_MAX)


def _asked(request: Request, scope: str) -> _Asked:
    query = request.query_params
    sort_by, wanted, token = (query.get(name, "") for name in ("sort_by", "filter", "page_token"))
    if max(len(sort_by), len(wanted), len(token)) > 2 * QUERY_CHARS_MAX:
        raise BadInput("the query is too long", where="filter")
    if not token:
        return _Asked(sort_by, wanted, scope)
    said = _read(token)
    fresh = (said[0], said[1], said[2]) == (sort_by or said[0], wanted or said[1], scope)
    if not fresh:
        raise BadInput("it belongs to another list", where="page_token", hint="ask again from the start")
    return _Asked(said[0], said[1], said[2], (said[3], said[4]))


def _write(said: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(said).encode()).decode()


def _read(token: str) -> list[Any]:
    try:
        said = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, binascii.Error, RecursionError):
        said = None
    kinds = (str, str, str, str | int, str)
    fits = isinstance(said, list) and len(said) == len(kinds) and all(map(isinstance, said, kinds))
    if not fits:
        raise BadInput("it is not one of this hub's", where="page_token", hint="ask again from the start")
    return list(said)


def _field(fields: Mapping[str, Field[T]], name: str, where: str) -> Field[T]:
    name = {"name": "display_name", "id": "created_at"}.get(name, name) if name not in fields else name
    if name not in fields:
        raise BadInput(f"there is no field {name[:60]!r}", where=where, hint="one of " + ", ".join(fields))
    return fields[name]


def _tests(given: str, fields: Mapping[str, Field[T]]) -> list[Callable[[T], bool]]:
    """What each row must pass; BadInput names the predicate that is none."""
    if not given:
        return []
    try:
        said = json.loads(given)
        predicates = said.get("predicates", []) if isinstance(said, dict) else None
    except (ValueError, RecursionError):
        predicates = None
    if not isinstance(predicates, list) or not all(isinstance(p, dict) for p in predicates):
        raise BadInput("it must be JSON with a list of predicates", where="filter")
    if len(predicates) > PREDICATES_MAX:
        raise BadInput(f"at most {PREDICATES_MAX} predicates", where="filter")
    return [_test(predicate, fields) for predicate in predicates]


def _test(predicate: Mapping[str, Any], fields: Mapping[str, Field[T]]) -> Callable[[T], bool]:
    said = {_snake(name): value for name, value in predicate.items()}
    given = said.get("operation")
    operation = _OPERATIONS.get(given, "") if type(given) is int else str(given)
    name, values = said.get("key"), [v for v in _VALUES if said.get(v) is not None]
    if operation not in _ORDERED or not isinstance(name, str) or len(values) != 1:
        raise BadInput("a predicate has a key, an operation and one value", where="filter")
    field, value = _field(fields, name, "filter"), _value(values[0], said[values[0]])
    if (operation == "IN") is not isinstance(value, tuple):
        raise BadInput(
            f"{operation} takes {'several values' if operation == 'IN' else 'one value'}", where="filter"
        )
    if operation == "IS_SUBSTRING" and not isinstance(value, str):
        raise BadInput("IS_SUBSTRING takes text", where="filter")
    kinds = {type(v) for v in (value if isinstance(value, tuple) else (value,))}
    compare = _ORDERED[operation]

    def test(row: T) -> bool:
        has = field(row)
        if kinds - {type(has)}:
            raise BadInput(
                f"{name!r} is a {'time or number' if isinstance(has, int) else 'text'}", where="filter"
            )
        return compare(has, value)

    return test


def _value(name: str, given: Any) -> Any:
    if name.endswith("_values"):
        inner = given.get("values") if isinstance(given, Mapping) else None
        if not isinstance(inner, list) or len(inner) > 1000:
            raise BadInput(f"{name} must have a list of values", where="filter")
        return tuple(_value(name.removesuffix("s"), one) for one in inner)
    if name == "timestamp_value":
        return millis(given, "filter")
    if name == "string_value" and isinstance(given, str):
        return given
    if name != "string_value" and not isinstance(given, bool):
        try:
            return int(given)
        except (ValueError, TypeError, OverflowError):
            pass
    raise BadInput(f"{str(given)[:60]!r} is no {name}", where="filter")


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name)
