"""Operators that move numbers about, and those that speak of shapes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tallystick.gradient.rules import (
    Array,
    Back,
    Inputs,
    Node,
    check_size,
    fold,
    ints,
    lacking,
    rule,
)

__all__ = ["BOOL_CODE", "FLOAT_CODES", "NUMPY_CODES"]

FLOAT_CODES = (1, 10, 11, 16)
"""onnx.TensorProto's FLOAT, FLOAT16, DOUBLE and BFLOAT16: all are float32 here."""

BOOL_CODE = 9

NUMPY_CODES = {2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool",
               12: "uint32", 13: "uint64"}  # fmt: skip


@rule("Identity", "Dropout")
def _identity(node: Node, inputs: Inputs) -> tuple[Array, Back]:
    return inputs[0], lambda g, *mask: (g,)


@rule("Cast")
def _cast(node: Node, inputs: Inputs) -> tuple[Array, Back | None]:
    x, to = inputs[0], node.get("to", 1)
    if to in FLOAT_CODES:
        return x.astype(np.float32), lambda g: (g,)
    return x.astype(NUMPY_CODES[to]), None


@rule("Shape", stops=True)
def _shape(node: Node, inputs: Inputs) -> tuple[Array, None]:
    return np.array(inputs[0].shape[node.get("start", 0) : node.get("end")], np.int64), None


@rule("ConstantOfShape", stops=True)
def _filled(node: Node, inputs: Inputs) -> tuple[Array, None]:
    shape = [int(n) for n in inputs[0]]
    check_size(shape, node.op)
    value = node.get("value", np.zeros(1, np.float32))
    return np.full(shape, value.reshape(-1)[0], value.dtype), None


@rule("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def _reshape(node: Node, inputs: Inputs) -> tuple[Array, Back]:
    x, wanted = inputs[0], ints(node, inputs, 1, "shape" if node.op == "Reshape" else "axes")
    if node.op == "Flatten":
        axis = node.get("axis", 1)
        y = x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))
    elif node.op == "Reshape":
        kept = node.get("allowzero", 0)
        y = x.reshape([x.shape[at] if n == 0 and not kept else n for at, n in enumerate(wanted or [])])
    elif node.op == "Squeeze":
        y = np.squeeze(x, tuple(wanted) if wanted else None)
    else:
        y = np.expand_dims(x, tuple(wanted or []))
    return y, lambda g: (g.reshape(x.shape), None)


@rule("Transpose")
def _transpose(node: Node, inputs: Inputs) -> tuple[Array, Back]:
    x = inputs[0]
    order = [int(n) for n in node.get("perm") or reversed(range(x.ndim))]
    return x.transpose(order), lambda g: (g.transpose(np.argsort(order)),)


@rule("Concat", "ai.onnx.ml.FeatureVectorizer")
def _concat(node: Node, inputs: Inputs) -> tuple[Array, Back]:
    axis = node.get("axis", 1)
    ends = np.cumsum([x.shape[axis] for x in inputs])[:-1]
    return np.concatenate(inputs, axis), lambda g: np.split(g, ends, axis)


@rule("Split")
def _split(node: Node, inputs: Inputs) -> tuple[Any, Back]:
    x, axis = inputs[0], node.get("axis", 0)
    sizes = ints(node, inputs, 1, "split")
    if sizes is None:
        each = -(-x.shape[axis] // len(node.outputs))
        sizes = [each] * len(node.outputs)
    parts = np.split(x, np.cumsum(sizes)[:-1], axis)
    return tuple(parts), lambda *g: (np.concatenate(g, axis), None)


@rule("Slice")
def _slice(node: Node, inputs: Inputs) -> tuple[Array, Back]:
    x = inputs[0]
    starts, ends = (ints(node, inputs, at, key) or [] for at, key in ((1, "starts"), (2, "ends")))
    axes = ints(node, inputs, 3, "axes") or list(range(len(starts)))
    steps = ints(node, inputs, 4, "steps") or [1] * len(starts)
    where = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        where[axis] = slice(start, None if step < 0 and end < -x.shape[axis] else end, step)

    def back(g: Array) -> tuple[Array]:
        whole = np.zeros(x.shape, np.float32)
        whole[tuple(where)] = g
        return (whole,)

    return x[tuple(where)], back


@rule("Gather", "ai.onnx.ml.ArrayFeatureExtractor")
def _gather(node: Node, inputs: Inputs) -> tuple[Array, Back]:
    x, at = inputs
    axis = (node.get("axis", 0) if node.op == "Gather" else -1) % x.ndim
    at = at.astype(np.int64) if node.op == "Gather" else at.reshape(-1).astype(np.int64)

    def back(g: Array) -> tuple[Array, None]:
        whole = np.zeros(x.shape, np.float32)
        np.add.at(whole, (slice(None),) * axis + (at,), g)
        return whole, None

    return np.take(x, at, axis), back


@rule("Pad")
def _pad(node: Node, inputs: Inputs) -> tuple[Array, Back]:
    x, mode = inputs[0], node.get("mode", b"constant").decode()
    pads = ints(node, inputs, 1, "pads") or []
    axes = [n % x.ndim for n in (ints(node, inputs, 3, "axes") or range(len(pads) // 2))]
    width = [(0, 0)] * x.ndim
    for at, axis in enumerate(axes):
        width[axis] = (pads[at], pads[at + len(axes)])
    if mode != "constant" or min(map(min, width), default=0) < 0:
        raise lacking(node, f"pads by mode {mode} or by less than nothing")
    value = inputs[2] if len(inputs) > 2 and inputs[2] is not None else node.get("value", 0.0)
    check_size([sum(w) + n for w, n in zip(width, x.shape, strict=True)], node.op)
    where = tuple(slice(w[0], w[0] + n) for w, n in zip(width, x.shape, strict=True))
    filled = np.pad(x, width, constant_values=np.float32(np.asarray(value).reshape(-1)[0]))
    return filled, lambda g: (g[where],)


@rule("Expand")
def _expand(node: Node, inputs: Inputs) -> tuple[Array, Back]:
    x = inputs[0]
    shape = np.broadcast_shapes(x.shape, tuple(int(n) for n in inputs[1]))
    check_size(shape, node.op)
    return np.broadcast_to(x, shape), lambda g: (fold(g, x.shape), None)
