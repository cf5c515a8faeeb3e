"""Operators that work on each number by itself, and those that join two tensors number by number."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tallystick.gradient.rules import RULES, Array, Back, Inputs, Node, Rule, fold, rule

__all__ = ["sigmoid"]

ONE, NONE = np.float32(1), np.float32(0)
TINY = np.float32(1e-30)
ROOT_2_BY_PI = np.float32(math.sqrt(2 / math.pi))


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow at either end."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, ONE, small) / (1 + small)


def softplus(x: Array) -> Array:
    """log(1 + exp(x)), likewise."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def erf(x: Array) -> Array:
    """The error function, by scipy, which skl2onnx brings along."""
    from scipy.special import erf as by_scipy

    return by_scipy(x)


def _alpha(node: Node, otherwise: float) -> np.float32:
    return np.float32(node.get("alpha", otherwise))


def _elu(node: Node, x: Array, y: Array) -> Array:
    return np.where(x >= 0, ONE, _alpha(node, 1.0) * np.exp(np.minimum(x, 0)))


def _gelu(node: Node, x: Array) -> Array:
    """Of Hendrycks and Gimpel, Gaussian Error Linear Units, 2016, exact or by tanh."""
    if node.get("approximate") == b"tanh":
        return 0.5 * x * (1 + np.tanh(ROOT_2_BY_PI * (x + np.float32(0.044715) * x**3)))
    return 0.5 * x * (1 + erf(x * np.float32(math.sqrt(0.5))))


def _gelu_slope(node: Node, x: Array, y: Array) -> Array:
    if node.get("approximate") == b"tanh":
        t = np.tanh(ROOT_2_BY_PI * (x + np.float32(0.044715) * x**3))
        return 0.5 * (1 + t) + 0.5 * x * (1 - t**2) * ROOT_2_BY_PI * (1 + np.float32(0.134145) * x**2)
    return 0.5 * (1 + erf(x * np.float32(math.sqrt(0.5)))) + 0.5 * ROOT_2_BY_PI * x * np.exp(-0.5 * x**2)


# Each operator of one input: its value, and its derivative there.
# fmt: off
POINTWISE: dict[str, tuple[Callable[[Node, Array], Array], Callable[[Node, Array, Array], Array]]] = {
    "Relu": (lambda n, x: np.maximum(x, 0), lambda n, x, y: x > 0),
    "LeakyRelu": (lambda n, x: np.where(x >= 0, x, _alpha(n, 0.01) * x),
        lambda n, x, y: np.where(x >= 0, ONE, _alpha(n, 0.01))),
    "Elu": (lambda n, x: np.where(x >= 0, x, _alpha(n, 1.0) * np.expm1(np.minimum(x, 0))), _elu),
    "Gelu": (_gelu, _gelu_slope),
    "Sigmoid": (lambda n, x: sigmoid(x), lambda n, x, y: y * (1 - y)),
    "tally.LogSigmoid": (lambda n, x: -softplus(-x), lambda n, x, y: sigmoid(-x)),
    "Softplus": (lambda n, x: softplus(x), lambda n, x, y: sigmoid(x)),
    "Tanh": (lambda n, x: np.tanh(x), lambda n, x, y: 1 - y**2),
    "Erf": (lambda n, x: erf(x), lambda n, x, y: np.float32(2 / math.sqrt(math.pi)) * np.exp(-(x**2))),
    "Exp": (lambda n, x: np.exp(x), lambda n, x, y: y),
    "Log": (lambda n, x: np.log(x), lambda n, x, y: 1 / x),
    "tally.SafeLog": (lambda n, x: np.log(np.maximum(x, TINY)),
        lambda n, x, y: np.where(x > TINY, 1 / np.maximum(x, TINY), NONE)),
    "Sqrt": (lambda n, x: np.sqrt(x), lambda n, x, y: 0.5 / y),
    "Abs": (lambda n, x: np.abs(x), lambda n, x, y: np.sign(x)),
    "Neg": (lambda n, x: -x, lambda n, x, y: -ONE),
    "Reciprocal": (lambda n, x: 1 / x, lambda n, x, y: -(y**2)),
    # As if they did nothing (Athalye et al. 2018): the true slope, 0, hides from attacks what lies behind.
    "Round": (lambda n, x: np.rint(x), lambda n, x, y: ONE),
    "Floor": (lambda n, x: np.floor(x), lambda n, x, y: ONE),
}

# Each operator of two inputs, broadcast: its value, and its derivative by the first and by the second.
JOINED: dict[str, tuple[Callable[[Array, Array], Array], Callable[..., Array], Callable[..., Array]]] = {
    "Add": (np.add, lambda a, b, y: ONE, lambda a, b, y: ONE),
    "Sub": (np.subtract, lambda a, b, y: ONE, lambda a, b, y: -ONE),
    "Mul": (np.multiply, lambda a, b, y: b, lambda a, b, y: a),
    "Div": (lambda a, b: a / b if a.dtype.kind == "f" else np.trunc(a / b).astype(a.dtype),
        lambda a, b, y: 1 / b, lambda a, b, y: -y / b),
    "Pow": (lambda a, b: np.power(a, b).astype(a.dtype),
        lambda a, b, y: np.where(b == 0, NONE, b * np.power(a, b - ONE)),
        lambda a, b, y: y * np.log(np.maximum(a, TINY))),
    "PRelu": (lambda a, b: np.where(a < 0, a * b, a), lambda a, b, y: np.where(a < 0, b, ONE),
        lambda a, b, y: np.where(a < 0, a, NONE)),
}
# fmt: on

COMPARED: dict[str, Callable[..., Array]] = {
    "Equal": np.equal, "Greater": np.greater, "GreaterOrEqual": np.greater_equal, "Less": np.less,
    "LessOrEqual": np.less_equal, "And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor,
    "Not": np.logical_not, "IsNaN": np.isnan, "IsInf": np.isinf,
}  # fmt: skip


@rule(*POINTWISE)
def _pointwise(node: Node, inputs: Inputs) -> tuple[Array, Back]:
    x = inputs[0]
    value, slope = POINTWISE[node.op]
    y = value(node, x)
    return y, lambda g: (g * slope(node, x, y),)


@rule(*JOINED)
def _joined(node: Node, inputs: Inputs) -> tuple[Array, Back]:
    a, b = inputs
    value, by_a, by_b = JOINED[node.op]
    y = value(a, b)
    return y, lambda g: (
        fold(g * by_a(a, b, y), a.shape) if node.wanted(0) else None,
        fold(g * by_b(a, b, y), b.shape) if node.wanted(1) else None,
    )


@rule("Sum", "Mean", "Max", "Min")
def _many(node: Node, inputs: Inputs) -> tuple[Array, Back]:
    """Any number of tensors, broadcast; of equal largest ones the gradient goes to the first."""
    if node.op in ("Sum", "Mean"):
        share = np.float32(1 / len(inputs) if node.op == "Mean" else 1)
        return sum(inputs[1:], inputs[0]) * share, lambda g: [fold(g * share, x.shape) for x in inputs]
    stack = np.stack(np.broadcast_arrays(*inputs))
    chosen: Any = (np.argmax if node.op == "Max" else np.argmin)(stack, axis=0)
    y = np.take_along_axis(stack, chosen[None], axis=0)[0]
    return y, lambda g: [fold(np.where(chosen == at, g, NONE), x.shape) for at, x in enumerate(inputs)]


@rule("Clip")
def _clip(node: Node, inputs: Inputs) -> tuple[Array, Back]:
    x = inputs[0]
    bounds = [inputs[at] if at < len(inputs) else node.get(key) for at, key in ((1, "min"), (2, "max"))]
    low, high = (-np.inf if bounds[0] is None else bounds[0]), (np.inf if bounds[1] is None else bounds[1])
    y = np.minimum(np.maximum(x, low), high).astype(x.dtype)
    return y, lambda g: (g * ((x >= low) & (x <= high)), None, None)


@rule("Where")
def _where(node: Node, inputs: Inputs) -> tuple[Array, Back]:
    where, a, b = inputs
    return np.where(where, a, b), lambda g: (
        None,
        fold(np.where(where, g, NONE), a.shape),
        fold(np.where(where, NONE, g), b.shape),
    )


RULES.update(
    {op: Rule(lambda node, inputs: (COMPARED[node.op](*inputs), None), stops=True) for op in COMPARED}
)
