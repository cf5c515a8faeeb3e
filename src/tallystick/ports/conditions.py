"""Conditions: whether an expression in CEL holds (Common Expression Language, github.com/google/cel-spec)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

__all__ = ["Conditions"]


@runtime_checkable
class Conditions(Protocol):
    """Expressions over ``inputs.parameter_values``, as kfp's compiler writes them for dsl.If and its like."""

    def check(self, expression: str) -> None:
        """BadInput, with the place, for an expression that is none."""
        ...

    def holds(self, expression: str, params: Mapping[str, Any]) -> bool:
        """Whether it is true of ``params``; BadInput where it comes to no truth: an unknown name, a text + 1."""
        ...
