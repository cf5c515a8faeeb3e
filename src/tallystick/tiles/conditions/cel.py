"""CEL by Google's own implementation in C++, the package ``cel-expr-python``.

It is imported when the first condition is met: 3 ms and 9 MiB of memory, or 13 ms and 12 MiB where protobuf
is installed.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from tallystick.core.errors import BadInput, MissingTile
from tallystick.ports.runs.conditions import EXPRESSION_CHARS_MAX
from tallystick.ports.tile import Place

__all__ = ["CelConditions", "open_tile"]

KEPT_MAX = 1000
"""Compiled expressions that are kept: a loop asks for the same one in every turn."""
WHERE = "condition"
SHOWN_CHARS = 120


class CelConditions:
    """Compiles each expression once; it may be asked by any one thread at a time."""

    def __init__(self) -> None:
        self._compiled = functools.lru_cache(KEPT_MAX)(self._compile)
        self._cel: Any = None
        self._environment: Any = None

    def check(self, expression: str) -> None:
        """See :class:`tallystick.ports.runs.conditions.Conditions`."""
        if len(expression) > EXPRESSION_CHARS_MAX:
            raise BadInput(
                f"a condition has {len(expression)} characters, the limit is {EXPRESSION_CHARS_MAX}",
                where=WHERE,
            )
        self._compiled(expression)

    def holds(self, expression: str, params: Mapping[str, Any]) -> bool:
        """See :class:`tallystick.ports.runs.conditions.Conditions`."""
        self.check(expression)
        try:
            value = self._compiled(expression).eval(data={"inputs": {"parameter_values": _doubles(params)}})
        except RecursionError:
            raise BadInput(
                f"{_short(expression)}: its parameters are nested too deeply", where=WHERE
            ) from None
        except (OverflowError, RuntimeError, TypeError, UnicodeError, ValueError) as wrong:
            raise _unsaid(expression, str(wrong)) from wrong
        if value.type() == self._cel.Type.ERROR:
            raise _unsaid(expression, str(value.plain_value()))
        said = value.plain_value()
        if not isinstance(said, bool):
            raise BadInput(f"{_short(expression)} is {value.type().name()}, and no truth", where=WHERE)
        return said

    def _compile(self, expression: str) -> Any:
        if self._environment is None:
            self._cel, self._environment = _loaded()
        cel = self._cel
        try:
            compiled = self._environment.compile(expression)
        except (RuntimeError, TypeError, UnicodeError, ValueError) as wrong:  # TypeError: it is not UTF-8
            said = str(wrong).removeprefix("INVALID_ARGUMENT: ").removeprefix("ERROR: <input>:")
            said = (
                " ".join(said.splitlines()[0].split()) if isinstance(wrong, RuntimeError) else "it is no text"
            )
            raise BadInput(f"{_short(expression)} is no CEL: {said}", where=WHERE) from wrong
        if compiled.return_type() not in (cel.Type.BOOL, cel.Type.DYN):
            kind = compiled.return_type().name()
            raise BadInput(f"{_short(expression)} is {kind}, and no truth", where=WHERE)
        return compiled


def _loaded() -> tuple[Any, Any]:
    """The package's module, and an environment with what Kubeflow's driver has."""
    try:
        from cel_expr_python import cel
    except ImportError as wrong:
        raise MissingTile(
            "conditions need the package cel-expr-python", where=WHERE, hint="pip install cel-expr-python"
        ) from wrong
    kinds = cel.Type
    parse = cel.Overload("parse_json", return_type=kinds.DYN, parameters=[kinds.STRING], impl=_parse_json)
    declared = [cel.FunctionDecl("parseJson", [parse])]
    return cel, cel.NewEnv(variables={"inputs": kinds.Map(kinds.STRING, kinds.DYN)}, functions=declared)


def _parse_json(text: str) -> Any:
    return _doubles(json.loads(text))


def _doubles(value: Any) -> Any:
    """JSON as protobuf's Value has it: every number a double."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return float(value)
    if isinstance(value, str):
        value.encode()  # half a character is none, and the library would end us
        return value
    if isinstance(value, Mapping):
        return {_doubles(str(key)): _doubles(inner) for key, inner in value.items()}
    return [_doubles(inner) for inner in value] if isinstance(value, list | tuple) else value


def _short(expression: str) -> str:
    shown = expression if len(expression) <= SHOWN_CHARS else expression[: SHOWN_CHARS - 3] + "..."
    return ascii(shown) if not shown.isprintable() else f"`{shown}`"


def _unsaid(expression: str, why: str) -> BadInput:
    said = " ".join(why.split())[:300]
    return BadInput(f"{_short(expression)} cannot be decided: {said}", where=WHERE)


def open_tile(place: Place) -> CelConditions:
    """Nothing is loaded until the first condition."""
    return CelConditions()
