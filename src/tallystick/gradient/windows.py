"""Convolution and pooling, of any number of axes.

Convolution is torch's where torch is installed, and otherwise a product over windows (im2col; Chellapilla et
al., High Performance Convolutional Neural Networks for Document Processing, 2006).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from tallystick.gradient.rules import Array, Back, Inputs, Node, check_size, lacking, rule

__all__: list[str] = []


class _Windows:
    """How a window goes over the spatial axes of a tensor (n, channels, *lengths)."""

    def __init__(self, node: Node, x: Array, kernel: tuple[int, ...]) -> None:
        count = x.ndim - 2
        self.kernel = kernel
        self.strides = tuple(node.get("strides") or [1] * count)
        self.dilations = tuple(node.get("dilations") or [1] * count)
        lengths = x.shape[2:]
        spans = [(k - 1) * d + 1 for k, d in zip(kernel, self.dilations, strict=True)]
        pads = _pads(node, lengths, spans, self.strides)
        up = math.ceil if node.get("ceil_mode", 0) else math.floor
        self.out: tuple[int, ...] = ()
        self.pads: tuple[tuple[int, int], ...] = ()
        for length, span, stride, (before, after) in zip(lengths, spans, self.strides, pads, strict=True):
            out = up((length + before + after - span) / stride) + 1
            if node.get("ceil_mode", 0) and (out - 1) * stride >= length + before:
                out -= 1  # no window begins beyond the end
            more = max(0, (out - 1) * stride + span - length - before)
            self.out, self.pads = (*self.out, out), (*self.pads, (before, max(after, more)))
        self.told = pads

    def padded(self, x: Array, value: float) -> Array:
        if not any(map(any, self.pads)):
            return x
        check_size(
            [*x.shape[:2], *(n + sum(p) for n, p in zip(x.shape[2:], self.pads, strict=True))], "a window"
        )
        return np.pad(x, ((0, 0), (0, 0), *self.pads), constant_values=np.float32(value))

    def offsets(self) -> Iterator[tuple[tuple[int, ...], tuple[Any, ...]]]:
        """Each place in the window, with where all windows have it in the padded tensor."""
        for place in itertools.product(*map(range, self.kernel)):
            where = [slice(None), slice(None)]
            for at, n in enumerate(place):
                start = n * self.dilations[at]
                where.append(
                    slice(start, start + (self.out[at] - 1) * self.strides[at] + 1, self.strides[at])
                )
            yield place, tuple(where)

    def inner(self, whole: Array) -> Array:
        """Without what was padded."""
        cut = [slice(before, whole.shape[at + 2] - after) for at, (before, after) in enumerate(self.pads)]
        return whole[(slice(None), slice(None), *cut)]


def _pads(node: Node, lengths: Any, spans: Any, strides: Any) -> list[tuple[int, int]]:
    auto = node.get("auto_pad", b"NOTSET").decode()
    if auto in ("NOTSET", "VALID"):
        said = node.get("pads") if auto == "NOTSET" else None
        pads = [int(n) for n in said or [0] * 2 * len(lengths)]
        return list(zip(pads[: len(lengths)], pads[len(lengths) :], strict=True))
    made = []
    for length, span, stride in zip(lengths, spans, strides, strict=True):
        total = max(0, (math.ceil(length / stride) - 1) * stride + span - length)
        small = total // 2
        made.append((small, total - small) if auto == "SAME_UPPER" else (total - small, small))
    return made


@rule("Conv")
def _conv(node: Node, inputs: Inputs) -> tuple[Array, Back]:
    if any(node.wanted(at) for at in (1, 2)):
        raise lacking(node, "has weights that depend on the model's inputs")
    x, w, *rest = inputs
    bias = rest[0] if rest else None
    windows = _Windows(node, x, w.shape[2:])
    groups = node.get("group", 1)
    try:
        import torch  # noqa: F401  reason: only looked for
    except ImportError:
        return _by_numpy(windows, groups, x, w, bias)
    return _by_torch(windows, groups, x, w, bias) if x.ndim <= 5 else _by_numpy(windows, groups, x, w, bias)


def _by_torch(windows: _Windows, groups: int, x: Array, w: Array, bias: Array | None) -> tuple[Array, Back]:
    import torch

    def tensor(array: Array) -> Any:
        ready = np.ascontiguousarray(array)
        return torch.from_numpy(ready if ready.flags.writeable else ready.copy())

    even = all(before == after for before, after in windows.pads)
    pads = [before for before, _ in windows.pads] if even else [0] * len(windows.pads)
    given, weight = tensor(x if even else windows.padded(x, 0.0)), tensor(w)
    how = (list(windows.strides), pads, list(windows.dilations), False, [0] * len(pads), groups)
    with torch.no_grad():
        y = torch.ops.aten.convolution(given, weight, None if bias is None else tensor(bias), *how)

    def back(g: Array) -> tuple[Array | None, ...]:
        with torch.no_grad():
            masks = [True, False, False]
            by_x = torch.ops.aten.convolution_backward(tensor(g), given, weight, None, *how, masks)[0].numpy()
        return (by_x if even else windows.inner(by_x), None, None)

    return y.numpy(), back


def _by_numpy(windows: _Windows, groups: int, x: Array, w: Array, bias: Array | None) -> tuple[Array, Back]:
    padded = windows.padded(x, 0.0)
    rows, each = x.shape[0], w.shape[0] // groups
    taken = np.stack([padded[where] for _, where in windows.offsets()], axis=2)  # n, channels, places, *out
    columns = taken.reshape(rows, groups, -1, math.prod(windows.out))
    filters = w.reshape(groups, each, -1)
    y = (filters @ columns).reshape(rows, w.shape[0], *windows.out)
    if bias is not None:
        y = y + bias.reshape(1, -1, *[1] * len(windows.out))

    def back(g: Array) -> tuple[Array | None, ...]:
        apart = np.swapaxes(filters, 1, 2) @ g.reshape(rows, groups, each, -1)
        apart = apart.reshape(taken.shape)
        whole = np.zeros(padded.shape, np.float32)
        for at, (_, where) in enumerate(windows.offsets()):
            whole[where] += apart[:, :, at]
        return (windows.inner(whole), None, None)

    return y, back


@rule("MaxPool")
def _max_pool(node: Node, inputs: Inputs) -> tuple[Array, Back]:
    if len(node.outputs) > 1:
        raise lacking(node, "tells where its largest values were")
    x = inputs[0]
    windows = _Windows(node, x, tuple(node.get("kernel_shape")))
    padded = windows.padded(x, -np.inf)
    y = np.full((*x.shape[:2], *windows.out), -np.inf, np.float32)
    for _, where in windows.offsets():
        np.maximum(y, padded[where], out=y)

    def back(g: Array) -> tuple[Array]:
        whole, left = np.zeros(padded.shape, np.float32), np.ones(y.shape, bool)
        for _, where in windows.offsets():  # of equal largest values the first has the gradient
            here = left & (padded[where] == y)
            whole[where] += np.where(here, g, np.float32(0))
            left &= ~here
        return (windows.inner(whole),)

    return y, back


@rule("AveragePool")
def _average_pool(node: Node, inputs: Inputs) -> tuple[Array, Back]:
    x = inputs[0]
    windows = _Windows(node, x, tuple(node.get("kernel_shape")))
    padded = windows.padded(x, 0.0)
    counted = np.pad(
        np.ones((1, 1, *x.shape[2:]), np.float32),
        ((0, 0), (0, 0), *windows.told),
        constant_values=np.float32(node.get("count_include_pad", 0)),
    )
    missing = [n - m for n, m in zip(padded.shape[2:], counted.shape[2:], strict=True)]
    counted = np.pad(counted, ((0, 0), (0, 0), *((0, max(0, n)) for n in missing)))
    total, count = (
        np.zeros((*x.shape[:2], *windows.out), np.float32),
        np.zeros((1, 1, *windows.out), np.float32),
    )
    for _, where in windows.offsets():
        total += padded[where]
        count += counted[where]

    def back(g: Array) -> tuple[Array]:
        whole, share = np.zeros(padded.shape, np.float32), g / count
        for _, where in windows.offsets():
            whole[where] += share
        return (windows.inner(whole),)

    return total / count, back
