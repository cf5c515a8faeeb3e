"""Support vector machines of the domain ai.onnx.ml: linear, polynomial, RBF and sigmoid kernels.

Numbers are worked as ONNX Runtime works them. Chances of classes are coupled from those of pairs (Wu, Lin and
Weng 2004, method 2) by an iteration that stops early; their gradient is that of what it converges to, by the
implicit function theorem.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np

from tallystick.gradient.rules import Array, Back, Inputs, Node, check_size, lacking, rule

__all__ = ["LOGS"]

LOGS = "tally.SVMClassifier"
"""The same operator, whose scores are the logarithms of its chances, with a gradient however sure it is."""

SURE = 1e-7
"""No chance of one class against another is nearer to 0 or 1."""

ROUNDS = 100
"""Of the iteration, at most."""

TINY = 1e-30
"""Added to what is solved, so that classes that are surely none of them cannot make it singular."""

Kernel = tuple[Array, Callable[[Array], Array]]


def _kept(node: Node, name: str, make: Callable[[], Any]) -> Any:
    """What follows from the attributes alone, worked once: they may be millions of numbers."""
    if name not in node.memo:
        node.memo[name] = make()
    return node.memo[name]


def _floats(node: Node, name: str) -> Array:
    return _kept(node, name, lambda: np.array(node.get(name) or [], np.float64))


def _table(node: Node, name: str, rows: int, what: str) -> Array:
    """An attribute as ``rows`` rows of equal length."""
    numbers = _floats(node, name)
    if rows < 1 or not numbers.size or numbers.size % rows:
        raise lacking(node, f"has {numbers.size} numbers for {rows} {what}")
    return numbers.reshape(rows, -1)


def _kernel(node: Node, x: Array, vectors: Array) -> Kernel:
    """Of rows (n, features) and ``vectors`` (v, features) the kernels (n, v), and the way back to rows."""
    check_size((len(x), len(vectors)), node.op)
    gamma, coef, degree = (*_floats(node, "kernel_params"), 0.0, 0.0, 0.0)[:3]
    kind, products = node.get("kernel_type", b"LINEAR"), x @ vectors.T
    if kind == b"LINEAR":
        return products, lambda g: g @ vectors
    if kind == b"RBF":
        squares = (x * x).sum(axis=1)[:, None] + (vectors * vectors).sum(axis=1) - 2 * products
        made = np.exp(-gamma * np.maximum(squares, 0))

        def back(g: Array) -> Array:
            weights = g * made
            return -2 * gamma * (weights.sum(axis=1)[:, None] * x - weights @ vectors)

        return made, back
    inside = gamma * products + coef
    if kind == b"POLY":
        slope = degree * inside ** (degree - 1) if degree else np.zeros_like(inside)
        return inside**degree, lambda g: (g * slope * gamma) @ vectors
    if kind == b"SIGMOID":
        made = np.tanh(inside)
        return made, lambda g: (g * (1 - made * made) * gamma) @ vectors
    raise lacking(node, f"has the kernel {kind!r:.20}")


def _pairs(node: Node, counts: list[int]) -> Array:
    """Libsvm's coefficients as a matrix (vectors, pairs of classes): of two those for one another."""
    total, classes = sum(counts), len(counts)
    coefficients = _table(node, "coefficients", classes - 1, "classes less one")
    ends = np.cumsum([0, *counts])
    pairs = list(combinations(range(classes), 2))
    check_size((total, len(pairs)), node.op)
    made = np.zeros((total, len(pairs)))
    for at, (one, other) in enumerate(pairs):
        for mine, theirs in ((one, other - 1), (other, one)):
            part = slice(ends[mine], ends[mine + 1])
            made[part, at] = coefficients[theirs, part]
    return made


def _scores(node: Node, x: Array) -> tuple[Array, Callable[[Array], Array]]:
    """How much the first of each pair of classes is said for (n, pairs), and the way back to the rows."""
    counts = [int(n) for n in node.get("vectors_per_class") or []]
    if len(counts) < 2 or min(counts) < 0 or not sum(counts):
        raise lacking(node, "has no support vectors by class")
    vectors = _table(node, "support_vectors", sum(counts), "support vectors")
    coefficients, rho = _kept(node, "pairs", lambda: _pairs(node, counts)), _floats(node, "rho")
    if vectors.shape[1] != x.shape[1] or rho.size != coefficients.shape[1]:
        raise lacking(node, f"takes {vectors.shape[1]} features and has {rho.size} intercepts")
    kernels, back = _kernel(node, x, vectors)
    return kernels @ coefficients + rho, lambda g: back(g @ coefficients.T)


def _against(node: Node, scores: Array, classes: int) -> tuple[Array, Callable[[Array], Array]]:
    """(n, classes, classes), the chance of each class against each other, and the way back to the scores.

    Where it is as sure as it may be, the slope is that at the end: 0 would hide the way from there (Athalye
    et al. 2018).
    """
    slope, shift = _floats(node, "prob_a"), _floats(node, "prob_b")
    if slope.size != scores.shape[1] or shift.size != scores.shape[1]:
        raise lacking(node, "has not one pair of numbers for the chances of each pair of classes")
    with np.errstate(over="ignore"):
        share = np.clip(1 / (1 + np.exp(scores * slope + shift)), SURE, 1 - SURE)
    one, other = np.triu_indices(classes, 1)
    made = np.zeros((len(scores), classes, classes))
    made[:, one, other], made[:, other, one] = share, 1 - share
    return made, lambda g: (g[:, one, other] - g[:, other, one]) * -share * (1 - share) * slope


def _quadratic(against: Array) -> Array:
    """The matrix (n, classes, classes) that coupling makes least; see the paper's equation 20."""
    made = -against * against.transpose(0, 2, 1)
    at = np.arange(made.shape[1])
    made[:, at, at] = (against**2).sum(axis=1)
    return made


def _iterated(quadratic: Array) -> Array:
    """Chances (n, classes), as far as libsvm and ONNX Runtime take them: to 0.005 a class."""
    n, classes, _ = quadratic.shape
    chances, under_way = np.full((n, classes), 1 / classes), np.arange(n)
    for _ in range(ROUNDS):
        q, p = quadratic[under_way], chances[under_way]
        each = np.einsum("nij,nj->ni", q, p)
        whole = (p * each).sum(axis=1)
        far = np.abs(each - whole[:, None]).max(axis=1) >= 0.005 / classes
        if not far.any():
            break
        q, p, each, whole, under_way = q[far], p[far], each[far], whole[far], under_way[far]
        for at in range(classes):
            by = (whole - each[:, at]) / q[:, at, at]
            p[:, at] += by
            whole = (whole + by * (by * q[:, at, at] + 2 * each[:, at])) / (1 + by) ** 2
            each = (each + by[:, None] * q[:, at]) / (1 + by)[:, None]
            p /= (1 + by)[:, None]
        chances[under_way] = p
    return chances


def _bordered(quadratic: Array) -> Array:
    """The matrix of the equations that the least of the quadratic on the simplex solves."""
    n, classes, _ = quadratic.shape
    made = np.zeros((n, classes + 1, classes + 1))
    made[:, :classes, :classes] = quadratic + TINY * np.eye(classes)
    made[:, :classes, classes] = made[:, classes, :classes] = 1
    return made


def _coupled(node: Node, scores: Array, classes: int) -> tuple[Array, Callable[[Array], Array]]:
    """Chances (n, classes), or their logarithms, and the way back to the scores of pairs."""
    against, back = _against(node, scores, classes)
    quadratic = _quadratic(against)
    whole = _bordered(quadratic)
    end = np.zeros((classes + 1, 1))
    end[-1] = 1
    limit = np.maximum(
        np.linalg.solve(whole, np.broadcast_to(end, (len(whole), *end.shape)))[:, :-1, 0], TINY
    )

    def to_scores(g: Array) -> Array:
        given = np.concatenate([g, np.zeros((len(g), 1))], axis=1)[:, :, None]
        moved = np.linalg.solve(whole, given)[:, :-1, 0]
        by_quadratic = -moved[:, :, None] * limit[:, None, :]
        own = np.diagonal(by_quadratic, axis1=1, axis2=2)[:, None, :]
        crossed = by_quadratic + by_quadratic.transpose(0, 2, 1)
        return back(2 * against * own - against.transpose(0, 2, 1) * crossed)

    if node.op == LOGS:
        return np.log(limit), lambda g: to_scores(g / limit)
    return _iterated(quadratic), to_scores


@rule("ai.onnx.ml.SVMClassifier", LOGS)
def _classifier(node: Node, inputs: Inputs) -> tuple[Any, Back]:
    """Outputs: the label's place, and chances (n, classes), scores of pairs, or of two classes (-s, s)."""
    x = inputs[0].astype(np.float64)
    if x.ndim != 2 or node.get("post_transform", b"NONE") != b"NONE":
        raise lacking(node, "takes other than rows, or ends in more than scores")
    scores, back = _scores(node, x)
    classes = len(node.get("vectors_per_class"))
    if node.get("prob_a"):
        made, way = _coupled(node, scores, classes)
    elif classes == 2:
        made, way = np.concatenate([-scores, scores], axis=1), lambda g: g[:, 1:] - g[:, :1]
    else:
        made, way = scores, lambda g: g

    def whole(_: Array, g: Array) -> tuple[Array]:
        return (back(way(g.astype(np.float64))).astype(np.float32),)

    return (made.argmax(axis=1), made.astype(np.float32)), whole


@rule("ai.onnx.ml.SVMRegressor")
def _regressor(node: Node, inputs: Inputs) -> tuple[Array, Back]:
    """One number a row, (n, 1)."""
    x, count = inputs[0].astype(np.float64), int(node.get("n_supports", 0))
    if node.get("one_class", 0) or node.get("post_transform", b"NONE") != b"NONE" or x.ndim != 2:
        raise lacking(node, "ends in more than a number")
    coefficients, rho = _floats(node, "coefficients"), _floats(node, "rho")
    if count:
        vectors = _table(node, "support_vectors", count, "support vectors")
        kernels, back = _kernel(node, x, vectors)
    else:
        kernels, back = x, lambda g: g
    if rho.size != 1 or coefficients.size != kernels.shape[1]:
        raise lacking(node, f"has {coefficients.size} coefficients and {rho.size} intercepts")
    made = kernels @ coefficients[:, None] + rho
    return made.astype(np.float32), lambda g: (
        back(g.astype(np.float64) @ coefficients[None]).astype(np.float32),
    )
