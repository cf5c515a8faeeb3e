"""Gradients across a declared preprocessing (BPDA; Athalye, Carlini and Wagner 2018).

The model begins with something that has no gradient, or one that leads nowhere: it reduces bits, compresses,
takes medians. It is worked as it is, by ONNX Runtime, whatever its operators. On the way back a smooth
stand-in takes its place: the identity, or a mean over windows, as a median is near to one. So an attack that
follows these gradients is about what lies behind, while what counts is what the whole model answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from tallystick.core.errors import BadInput, NotSupported, TallyError
from tallystick.core.model import TensorSpec
from tallystick.gradient.graph import Graph
from tallystick.gradient.model import Gradients, scores_output
from tallystick.gradient.rules import Array

__all__ = ["Across", "Declared"]

ROWS = 8
"""On so many rows it is tried where the preprocessing ends."""

TRIED_MAX = 200
"""Tensors that are tried, where none is named."""

ALIKE = 0.5
"""Of what the stand-in makes of the rows and what the preprocessing makes of them: the least correlation."""

Tensors = Mapping[str, Array]
Between = Callable[[Sequence[str], Tensors], Sequence[Array]]
"""From names of tensors and inputs to what these tensors are for them; BadInput for a name that is none."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What is declared: the tensor ``until`` which the preprocessing goes (empty: find it), and its stand-in.

    ``mean`` averages windows of ``size`` by ``size`` of a row of ``shape`` (height, width[, channels], or
    with ``channels_first``). BadInput where there are no windows in such a row, or ``size`` is not odd.
    """

    until: str = ""
    stand_in: str = "identity"
    size: int = 3
    shape: tuple[int, ...] = ()
    channels_first: bool = False

    def __post_init__(self) -> None:
        if self.stand_in not in ("identity", "mean"):
            text = f"no stand-in {self.stand_in!r:.50}"
            raise BadInput(text, where="preprocessing", hint="identity or mean")
        if self.stand_in == "mean" and (len(self.shape) not in (2, 3) or self.size % 2 == 0 or self.size < 1):
            raise BadInput("a mean is over windows of odd size, of images", where="preprocessing")

    def made(self, rows: Array) -> Array:
        """What the stand-in makes of rows (n, features). It is its own way back: windows are centred."""
        if self.stand_in == "identity":
            return rows
        if prod(self.shape) != rows.shape[1]:
            text = f"rows of {rows.shape[1]} numbers are no images of {list(self.shape)}"
            raise NotSupported(text, where="preprocessing")
        images = rows.reshape(len(rows), *self.shape).astype(np.float64)
        for axis in (2, 3) if self.channels_first and len(self.shape) == 3 else (1, 2):
            images = _mean(images, axis, self.size)
        return images.reshape(rows.shape).astype(np.float32)


def _mean(images: Array, axis: int, size: int) -> Array:
    """Means over ``size`` along an axis, nothing beyond its ends: what a symmetric matrix makes of it."""
    length = images.shape[axis]
    sums = np.concatenate([np.zeros_like(images.take([0], axis)), images.cumsum(axis)], axis)
    places = np.arange(length)
    ahead, behind = np.minimum(places + size // 2 + 1, length), np.maximum(places - size // 2, 0)
    return (sums.take(ahead, axis) - sums.take(behind, axis)) / size


class Across:
    """The gradients of a model of one input ``spec``, across what is ``declared``.

    ``graph`` is its own, ``predict`` answers as it does and ``between`` says what is worked on the way. On
    the first pull it is seen that what follows has a gradient, and that the stand-in goes with what it stands
    for: NotSupported where it does not.
    """

    def __init__(
        self,
        graph: Graph,
        spec: TensorSpec,
        outputs: Sequence[TensorSpec],
        predict: Callable[[Tensors], Tensors],
        between: Between,
        declared: Declared,
    ) -> None:
        self._graph, self._spec, self._outputs = graph, spec, outputs
        self._predict, self._between, self._declared = predict, between, declared
        self._behind: tuple[str, Gradients] | None = None

    def pull(self, inputs: Tensors, weigh: Callable[[Array], Array]) -> tuple[Array, Tensors]:
        """See :class:`tallystick.ports.models.runtime.Differentiable`."""
        name, behind = self._found(inputs)
        [worked] = self._between([name], inputs)
        logits, gradients = behind.pull({name: worked}, weigh)
        rows = inputs[self._spec.name]
        back = self._declared.made(gradients[name].reshape(len(rows), -1))
        return logits, {self._spec.name: np.ascontiguousarray(back.reshape(rows.shape), np.float32)}

    def hidden(self, inputs: Tensors) -> Array:
        """See :class:`tallystick.ports.models.runtime.Differentiable`."""
        name, behind = self._found(inputs)
        [worked] = self._between([name], inputs)
        return behind.hidden({name: worked})

    def _found(self, inputs: Tensors) -> tuple[str, Gradients]:
        """Where the preprocessing ends, and the gradients of what is behind; looked for once."""
        if self._behind is None:
            few = {key: rows[:ROWS] for key, rows in inputs.items()}
            self._behind = self._named(few) if self._declared.until else self._sought(few)
        return self._behind

    def _named(self, few: Tensors) -> tuple[str, Gradients]:
        name = self._declared.until
        if name not in self._graph.makers:
            hint = "name a tensor of the graph, or leave `until` out"
            raise NotSupported(f"the model has no tensor {name!r:.100}", where="preprocessing", hint=hint)
        [worked] = self._between([name], few)
        return name, self._tried(name, worked, few)

    def _sought(self, few: Tensors) -> tuple[str, Gradients]:
        """The first tensor behind which all is smooth, and which the stand-in goes with."""
        names = list(self._graph.before(scores_output(self._outputs)))[:TRIED_MAX]
        wrong = "no tensor that is of floats and of the input's size"
        for name, worked in zip(names, self._between(names, few), strict=True):
            try:
                return name, self._tried(name, worked, few)
            except TallyError as lacks:
                wrong = lacks.what
        text = f"it was not found where the declared preprocessing ends: {wrong}"
        raise NotSupported(text, where="preprocessing", hint="name the tensor: `until`")

    def _tried(self, name: str, worked: Array, few: Tensors) -> Gradients:
        """The gradients of what is behind ``name``, where it fits the input, and they can be worked."""
        rows = few[self._spec.name]
        if worked.dtype.kind != "f" or worked.shape[:1] != rows.shape[:1] or worked.size != rows.size:
            text = f"{name!r:.100} is of shape {list(worked.shape)} where the input is of {list(rows.shape)}"
            hint = "it hands on a number for each of the input's"
            raise NotSupported(text, where="preprocessing", hint=hint)
        made = self._declared.made(rows.reshape(len(rows), -1).astype(np.float32))
        alike = _correlation(made, worked.reshape(len(rows), -1))
        if not alike >= ALIKE:
            text = f"what makes {name!r:.100} is not like {self._declared.stand_in}"
            raise NotSupported(f"{text}: they correlate by {alike:.2f}", where="preprocessing")
        spec = TensorSpec(name, "FP32", (-1, *worked.shape[1:]))
        # What it is asked, once, is what the whole model says of the rows that ``worked`` was made of.
        behind = Gradients(self._graph.beginning(name), (spec,), self._outputs, lambda _: self._predict(few))
        behind.pull({name: worked}, np.zeros_like)
        return behind


def _correlation(one: Array, other: Array) -> float:
    """Of all numbers about their own mean over rows and places."""
    a, b = (x.astype(np.float64) - x.mean(dtype=np.float64) for x in (one, other))
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / size) if size > 0 else 0.0
