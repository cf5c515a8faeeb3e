"""Conditions: whether an expression in CEL holds (Common Expression Language, github.com/google/cel-spec)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

__all__ = ["EXPRESSION_CHARS_MAX", "Conditions"]

EXPRESSION_CHARS_MAX = 20_000
"""Characters of one expression: kfp writes about 100 for each branch of a chain of dsl.Elif."""


@runtime_checkable
class Conditions(Protocol):
    """Expressions over ``inputs.parameter_values``, as kfp's compiler writes them for dsl.If and its like.

    As Kubeflow's driver has it: every number among the parameters is a double, numbers of different types
    are compared by their value, other things of different types are never equal, and there is ``parseJson``.
    """

    def check(self, expression: str) -> None:
        """BadInput, with the place, for an expression that is none, or that can come to no truth."""
        ...

    def holds(self, expression: str, params: Mapping[str, Any]) -> bool:
        """Whether it is true of ``params``; BadInput where it cannot be said: an unknown name, a text + 1."""
        ...
