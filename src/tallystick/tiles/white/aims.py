"""What an attack wants: how much it has of it, and the weights of the logits that lead to more.

An aim's value is the higher the nearer a sample is to being answered wrongly. Of the weights a factor common
to a row is left out: attacks use directions alone, and a gradient that saturation has made too small for
float32 would otherwise be none (the most frequent kind of gradient masking).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["AIMS", "Rise", "cross_entropy", "difference_of_logits", "margin", "towards"]

SPREAD_MAX = 40.0
"""Between the highest and the lowest logit; beyond, cross-entropy is taken of them divided."""

Values = tuple[np.ndarray, np.ndarray]
Rise = Callable[[np.ndarray, np.ndarray, np.ndarray], Values]
"""From logits (n, classes), right classes and targets (n,) to values (n,) and weights (n, classes)."""


def _others(z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row numbers, the logits without the right one, and the class that comes nearest to it."""
    rows = np.arange(len(z))
    rest = z.copy()
    rest[rows, y] = -np.inf
    return rows, rest, rest.argmax(axis=1)


def _pair(z: np.ndarray, y: np.ndarray, other: np.ndarray) -> np.ndarray:
    weights = np.zeros_like(z)
    rows = np.arange(len(z))
    weights[rows, other] += 1
    weights[rows, y] -= 1
    return weights


def margin(z: np.ndarray, y: np.ndarray, target: np.ndarray) -> Values:
    """The best wrong logit less the right one (Carlini and Wagner 2017); ``target`` is not looked at."""
    rows, _, other = _others(z, y)
    return z[rows, other] - z[rows, y], _pair(z, y, other)


def cross_entropy(z: np.ndarray, y: np.ndarray, target: np.ndarray) -> Values:
    """Cross-entropy of the right class, as the log of the odds against it: they rise together.

    Of logits so far apart that one class has all the weight, what they would be nearer to each other.
    """
    rows, rest, other = _others(z, y)
    top = rest[rows, other]
    value = np.log(np.exp(rest - top[:, None]).sum(axis=1)) + top - z[rows, y]
    calm = np.maximum(1.0, (z.max(axis=1) - z.min(axis=1)) / SPREAD_MAX)
    weights = np.exp((rest - top[:, None]) / calm[:, None])
    weights /= weights.sum(axis=1, keepdims=True)  # left out: the chance of all others
    weights[rows, y] = -1
    return value, weights


def _dlr(z: np.ndarray, y: np.ndarray, other: np.ndarray, depth: int) -> Values:
    """Difference of logits ratio (Croce and Hein 2020): of ``depth`` 3, eq. 6; 4, the targeted one, eq. 7."""
    rows = np.arange(len(z))
    order = np.argsort(z, axis=1)
    if z.shape[1] < depth:  # fewer classes: the plain difference
        return z[rows, other] - z[rows, y], _pair(z, y, other)
    first, third, fourth = order[:, -1], order[:, -3], order[:, -min(depth, 4)]
    spread = z[rows, first] - (z[rows, third] + z[rows, fourth]) / 2 + 1e-12
    value = (z[rows, other] - z[rows, y]) / spread
    weights = _pair(z, y, other)
    np.add.at(weights, (rows, first), -value)
    np.add.at(weights, (rows, third), value / 2)
    np.add.at(weights, (rows, fourth), value / 2)
    return value, weights / np.maximum(np.abs(weights).max(axis=1, keepdims=True), 1e-30)


def difference_of_logits(z: np.ndarray, y: np.ndarray, target: np.ndarray) -> Values:
    """DLR, untargeted."""
    return _dlr(z, y, _others(z, y)[2], 3)


def towards(z: np.ndarray, y: np.ndarray, target: np.ndarray) -> Values:
    """DLR towards the class ``target`` (n,)."""
    return _dlr(z, y, target, 4)


AIMS: dict[str, Rise] = {
    "cross-entropy": cross_entropy, "margin": margin, "DLR": difference_of_logits, "targeted DLR": towards,
}  # fmt: skip
