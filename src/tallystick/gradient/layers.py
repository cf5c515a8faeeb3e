"""Products, sums along axes, and the normalizing layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from tallystick.gradient.rules import Array, Back, Inputs, Node, fold, ints, lacking, rule

__all__ = ["softmax"]


@rule("MatMul")
def _matmul(node: Node, inputs: Inputs) -> tuple[Array, Back]:
    a, b = inputs

    if min(a.ndim, b.ndim) < 2:
        raise lacking(node, "multiplies a vector")

    def back(g: Array) -> tuple[Array | None, Array | None]:
        by_a = fold(g @ np.swapaxes(b, -1, -2), a.shape) if node.wanted(0) else None
        by_b = fold(np.swapaxes(a, -1, -2) @ g, b.shape) if node.wanted(1) else None
        return by_a, by_b

    return a @ b, back


@rule("Gemm")
def _gemm(node: Node, inputs: Inputs) -> tuple[Array, Back]:
    alpha, beta = np.float32(node.get("alpha", 1.0)), np.float32(node.get("beta", 1.0))
    a = inputs[0].T if node.get("transA", 0) else inputs[0]
    b = inputs[1].T if node.get("transB", 0) else inputs[1]
    c: Array = inputs[2] if len(inputs) > 2 else None
    y = alpha * (a @ b) if alpha != 1 else a @ b
    if c is not None:
        y = y + beta * c

    def back(g: Array) -> tuple[Array | None, ...]:
        by_a = by_b = by_c = None
        if node.wanted(0):
            by_a = alpha * (b @ g.T if node.get("transA", 0) else g @ b.T)
        if node.wanted(1):
            by_b = alpha * (g.T @ a if node.get("transB", 0) else a.T @ g)
        if c is not None and node.wanted(2):
            by_c = fold(beta * g, c.shape)
        return by_a, by_b, by_c

    return y, back


def _axes(node: Node, inputs: Inputs) -> tuple[int, ...] | None:
    """Along which a reduction goes; None: along none, as an empty list with ``noop_with_empty_axes`` says."""
    axes = ints(node, inputs, 1, "axes")
    if not axes:
        return None if node.get("noop_with_empty_axes", 0) else tuple(range(inputs[0].ndim))
    return tuple(n % inputs[0].ndim for n in axes)


def _weights(op: str, x: Array, y: Array, axes: tuple[int, ...]) -> Any:
    """The derivative of a reduction by each number of ``x``; ``y`` has its axes kept."""
    if op == "ReduceMean":
        return np.float32(y.size / max(x.size, 1))
    if op == "ReduceL2":
        return x / np.maximum(y, np.float32(1e-30))
    if op == "ReduceL1":
        return np.sign(x)
    if op == "ReduceLogSumExp":
        return np.exp(x - y)
    if op == "ReduceProd":
        return _others(x, axes)
    if op in ("ReduceMax", "ReduceMin"):
        best = (x == y).astype(np.float32)
        return best / best.sum(axis=axes, keepdims=True)
    return np.float32(1)


def _others(x: Array, axes: tuple[int, ...]) -> Array:
    """For each number the product of all others along ``axes``: no division, as one of them may be 0."""
    flat = np.moveaxis(x, axes, range(len(axes)))
    line = flat.reshape(-1, *flat.shape[len(axes) :])
    ones = np.ones((1, *line.shape[1:]), np.float32)
    before = np.cumprod(np.concatenate([ones, line[:-1]]), axis=0)
    after = np.cumprod(np.concatenate([ones, line[:0:-1]]), axis=0)[::-1]
    return np.moveaxis((before * after).reshape(flat.shape), range(len(axes)), axes)


def _log_sum(x: Array, axes: tuple[int, ...]) -> Array:
    top = x.max(axis=axes, keepdims=True)
    return top + np.log(np.exp(x - top).sum(axis=axes, keepdims=True))


REDUCE: dict[str, Any] = {
    "ReduceSum": lambda x, axes: x.sum(axis=axes, keepdims=True),
    "ReduceMean": lambda x, axes: x.mean(axis=axes, keepdims=True),
    "ReduceMax": lambda x, axes: x.max(axis=axes, keepdims=True),
    "ReduceMin": lambda x, axes: x.min(axis=axes, keepdims=True),
    "ReduceL1": lambda x, axes: np.abs(x).sum(axis=axes, keepdims=True),
    "ReduceL2": lambda x, axes: np.sqrt((x * x).sum(axis=axes, keepdims=True)),
    "ReduceLogSumExp": _log_sum,
    "ReduceProd": lambda x, axes: x.prod(axis=axes, keepdims=True),
}


@rule(*REDUCE)
def _reduce(node: Node, inputs: Inputs) -> tuple[Array, Back | None]:
    x = inputs[0]
    axes = _axes(node, inputs)
    if axes is None:
        return x, lambda g: (g, None)
    kept = REDUCE[node.op](x, axes).astype(x.dtype)
    y = kept if node.get("keepdims", 1) else np.squeeze(kept, axes)
    return y, lambda g: (
        g.reshape(kept.shape) * np.broadcast_to(_weights(node.op, x, kept, axes), x.shape),
        None,
    )


@rule("GlobalAveragePool", "GlobalMaxPool")
def _global(node: Node, inputs: Inputs) -> tuple[Array, Back]:
    x, op = inputs[0], "ReduceMean" if node.op == "GlobalAveragePool" else "ReduceMax"
    axes = tuple(range(2, x.ndim))
    y = REDUCE[op](x, axes)
    return y, lambda g: (g * np.broadcast_to(_weights(op, x, y, axes), x.shape),)


def softmax(x: Array, axis: int) -> Array:
    """exp(x) by its sum along ``axis``."""
    power = np.exp(x - x.max(axis=axis, keepdims=True))
    return power / power.sum(axis=axis, keepdims=True)


@rule("Softmax", "LogSoftmax")
def _softmax(node: Node, inputs: Inputs) -> tuple[Array, Back]:
    """Before operator set 13 the axis cuts the tensor in two, and all behind it is one."""
    x, axis = inputs[0], node.get("axis", -1 if node.version >= 13 else 1)
    flat = x
    if node.version < 13:
        axis %= x.ndim
        flat, axis = x.reshape(int(np.prod(x.shape[:axis])), -1), 1
    y = softmax(flat, axis)
    if node.op == "Softmax":
        return y.reshape(x.shape), lambda g: (_by_softmax(g.reshape(y.shape), y, axis).reshape(x.shape),)
    logs = flat - _log_sum(flat, (axis,))

    def back(g: Array) -> tuple[Array]:
        g = g.reshape(y.shape)
        return ((g - y * g.sum(axis=axis, keepdims=True)).reshape(x.shape),)

    return logs.reshape(x.shape), back


def _by_softmax(g: Array, y: Array, axis: int) -> Array:
    return y * (g - (g * y).sum(axis=axis, keepdims=True))


@rule("BatchNormalization")
def _batch(node: Node, inputs: Inputs) -> tuple[Array, Back]:
    if node.get("training_mode", 0):
        raise lacking(node, "is in training mode")
    x, scale, bias, mean, variance = inputs
    shape = (1, -1, *[1] * (x.ndim - 2))
    factor = (scale / np.sqrt(variance + np.float32(node.get("epsilon", 1e-5)))).reshape(shape)
    y = x * factor + (bias.reshape(shape) - mean.reshape(shape) * factor)
    return y, lambda g: (g * factor, *[None] * 4)


@rule("LayerNormalization")
def _normalized(node: Node, inputs: Inputs) -> tuple[Array, Back]:
    """Mean 0 and variance 1 along the last axes (Ba et al., Layer Normalization, 2016)."""
    x, scale, *rest = inputs
    axes, bias = tuple(range(node.get("axis", -1) % x.ndim, x.ndim)), rest[0] if rest else np.float32(0)
    centred = x - x.mean(axis=axes, keepdims=True)
    inverse = 1 / np.sqrt((centred**2).mean(axis=axes, keepdims=True) + np.float32(node.get("epsilon", 1e-5)))
    normal = centred * inverse

    def back(g: Array) -> tuple[Array]:
        g = g * scale
        apart = g.mean(axis=axes, keepdims=True) + normal * (g * normal).mean(axis=axes, keepdims=True)
        return (inverse * (g - apart),)

    return normal * scale + bias, back
