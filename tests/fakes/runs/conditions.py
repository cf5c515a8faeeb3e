"""Conditions in plain Python: the little of CEL that kfp's compiler writes, which is a part of the proof."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from tallystick.core.errors import BadInput
from tallystick.ports.runs.conditions import EXPRESSION_CHARS_MAX

__all__ = ["PlainConditions"]

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^'\\]|\\.)*')|(?P<number>-?\d+(?:\.\d+)?)"
    r"|inputs\.parameter_values\[(?P<param>'[^']*')\]|(?P<word>true|false|int|double)\b"
    r"|(?P<op>==|!=|>=|<=|&&|[<>!()]))"
)
_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: _kind(a) is _kind(b) and a == b,
    "!=": lambda a, b: not (_kind(a) is _kind(b) and a == b),
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}
DEPTH_MAX = 50


class PlainConditions:
    """Comparisons, ``&&``, ``!``, brackets, ``int()`` and ``double()``."""

    def check(self, expression: str) -> None:
        if len(expression) > EXPRESSION_CHARS_MAX:
            raise BadInput("over the limit", where="condition")
        _Reader(expression, None).read()

    def holds(self, expression: str, params: Mapping[str, Any]) -> bool:
        self.check(expression)
        said = _Reader(expression, params).read()
        if not isinstance(said, bool):
            raise BadInput("it is no truth", where="condition")
        return said


class _Reader:
    """Reads an expression from left to right; without parameters it only looks whether it is one."""

    def __init__(self, text: str, params: Mapping[str, Any] | None) -> None:
        self.params, self.tokens, self.at, self.depth = params, _tokens(text), 0, 0

    def read(self) -> Any:
        value = self._all()
        if self.at != len(self.tokens):
            raise BadInput(f"{self._next()[1]!r} is too much", where="condition")
        return value

    def _all(self) -> Any:
        value = self._compared()
        while self._take("&&"):
            other = self._compared()
            value = value is True and other is True
        return value

    def _compared(self) -> Any:
        left = self._one()
        kind, name = self._next()
        if kind != "op" or name not in _COMPARED:
            return left
        self.at += 1
        right = self._one()
        if self.params is None:
            return True
        try:
            return _COMPARED[name](left, right)
        except TypeError as wrong:
            raise BadInput(str(wrong), where="condition") from wrong

    def _one(self) -> Any:
        kind, text = self._next()
        self.at += 1
        if kind == "text":
            return re.sub(r"\\(.)", r"\1", text[1:-1])
        if kind == "number":
            return float(text)
        if kind == "param":
            return self._param(text[1:-1])
        if text in ("true", "false"):
            return text == "true"
        if text == "!":
            value = self._one()
            return value if self.params is None else value is False
        if text in ("(", "int", "double"):
            return self._inside(text)
        raise BadInput(f"{text!r} cannot stand here", where="condition")

    def _inside(self, name: str) -> Any:
        self.depth += 1
        if self.depth > DEPTH_MAX or (name != "(" and not self._take("(")):
            raise BadInput("it is no expression, or too deep", where="condition")
        value = self._all()
        if not self._take(")"):
            raise BadInput("a bracket is open", where="condition")
        self.depth -= 1
        if name == "(" or self.params is None:
            return value
        try:
            return float(int(value)) if name == "int" else float(value)
        except (TypeError, ValueError) as wrong:
            raise BadInput(str(wrong), where="condition") from wrong

    def _param(self, name: str) -> Any:
        if self.params is None:
            return True
        value = self.params.get(name, self)
        if value is self or isinstance(value, list | dict):
            raise BadInput(f"there is no {name!r} to compare", where="condition")
        try:
            if isinstance(value, str):
                value.encode()
            return float(value) if _kind(value) is float else value
        except (OverflowError, UnicodeError) as wrong:
            raise BadInput(str(wrong), where="condition") from wrong

    def _next(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("", "the end")

    def _take(self, text: str) -> bool:
        found = self._next() == ("op", text)
        self.at += found
        return found


def _tokens(text: str) -> list[tuple[str, str]]:
    found, at, end = [], 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise BadInput(f"{text[at : at + 20]!r} is not understood", where="condition")
        found.append((str(match.lastgroup), match[str(match.lastgroup)]))
        at = match.end()
    return found


def _kind(value: Any) -> type:
    return float if isinstance(value, int | float) and not isinstance(value, bool) else type(value)
