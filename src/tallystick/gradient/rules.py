"""What a rule for an operator is, and where rules are kept.

A rule takes a node and its inputs, and gives its outputs with the way back: from gradients of the outputs to
gradients of the inputs (Griewank and Walther, Evaluating Derivatives, 2008, chapter 3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tallystick.core.errors import NotSupported, TooLarge

__all__ = ["ELEMENTS_MAX", "RULES", "Array", "Back", "Inputs", "Node", "Rule", "check_size", "fold", "ints",
           "lacking", "rule"]  # fmt: skip

ELEMENTS_MAX = 2**28
"""Elements of one tensor that a graph may make out of nothing: a shape is only a few numbers in a file."""

Array = Any
"""A numpy array, of float32 where it is of floats; what numpy says of its operators' types helps nobody
here."""

Inputs = Sequence[Any]
"""Arrays; None for an input that the node leaves out."""

Back = Callable[..., Sequence[Array | None]]
"""From the gradient by each output to those by each input; None where there is none or it is not wanted."""

Forward = Callable[["Node", Inputs], tuple[Any, Back | None]]


@dataclass
class Node:
    """An operator of a graph, of the operator set ``version``.

    ``wants`` says of which inputs gradients are wanted and ``drops`` which tensors are used up after it, once
    that is known; ``memo`` keeps what a rule made of the attributes.
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    version: int = 13
    wants: tuple[bool, ...] = ()
    drops: tuple[str, ...] = ()
    memo: dict[str, Any] = field(default_factory=dict)

    def wanted(self, at: int) -> bool:
        """Whether the gradient by the input ``at`` is wanted."""
        return at < len(self.wants) and self.wants[at]

    def get(self, key: str, otherwise: Any = None) -> Any:
        """An attribute."""
        return self.attributes.get(key, otherwise)


@dataclass(frozen=True, slots=True)
class Rule:
    """``stops``: small changes of what goes in do not change what comes out (a shape, a comparison)."""

    forward: Forward
    stops: bool = False


RULES: dict[str, Rule] = {}
"""By the operator's name; of the machine-learning domain with ``ai.onnx.ml.`` before it."""


def rule(*ops: str, stops: bool = False) -> Callable[[Forward], Forward]:
    """Keep the function as the rule of these operators."""

    def kept(function: Forward) -> Forward:
        RULES.update(dict.fromkeys(ops, Rule(function, stops)))
        return function

    return kept


def fold(gradient: Array, shape: Sequence[int]) -> Array:
    """Of something that was broadcast: its gradient, summed down to its own shape."""
    if gradient.shape == tuple(shape):
        return gradient
    more = gradient.ndim - len(shape)
    axes = tuple(range(more)) + tuple(
        at + more for at, n in enumerate(shape) if n == 1 and gradient.shape[at + more] != 1
    )
    return gradient.sum(axis=axes, keepdims=True).reshape(shape)


def ints(node: Node, inputs: Inputs, at: int, key: str) -> list[int] | None:
    """Numbers that newer operator sets take as an input and older ones as an attribute; None: neither."""
    if at < len(inputs) and (found := inputs[at]) is not None:
        return [int(n) for n in found.reshape(-1)]
    said = node.get(key)
    return None if said is None else [int(n) for n in said]


def check_size(shape: Sequence[int], where: str) -> None:
    """TooLarge for a shape of over :data:`ELEMENTS_MAX` elements."""
    if math.prod(map(int, shape)) > ELEMENTS_MAX:
        raise TooLarge(f"{where} makes a tensor of over {ELEMENTS_MAX} numbers", where="model")


def lacking(node: Node, what: str) -> NotSupported:
    """The error for an operator that is used in a way that has no gradient here."""
    return NotSupported(f"the operator {node.op} {what}, which has no gradient here", where="model")
