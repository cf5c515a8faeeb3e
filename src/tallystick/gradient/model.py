"""The gradients of one model: what its scores are, what goes into their end, and the pass there and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tallystick.core.errors import BadInput, Failed, NotSupported
from tallystick.core.model import TensorSpec
from tallystick.gradient.graph import Graph
from tallystick.gradient.logits import before_the_end
from tallystick.gradient.rules import Array, Node

__all__ = ["CHECK_ROWS", "Gradients", "scores_output"]

FLOATS = ("FP16", "FP32", "FP64")
PROBABILITIES = "probabilities"
LAST_LAYERS = ("Gemm", "MatMul", "Conv", "ai.onnx.ml.LinearClassifier")

CHECK_ROWS = 64
"""Rows on which the first pass is compared with what ONNX Runtime says."""

APART_MAX = 1e-3
"""How far the two may be apart, for each unit that a score is large."""

Tensors = Mapping[str, Array]


def scores_output(outputs: Sequence[TensorSpec]) -> str:
    """``probabilities``, or else the first table of floats with more than one column; NotSupported: none."""
    able = [o.name for o in outputs if o.datatype in FLOATS and len(o.shape) == 2 and o.shape[1] != 1]
    if not able:
        raise NotSupported("it has no output of class scores, a row for each row", where="model")
    return PROBABILITIES if PROBABILITIES in able else able[0]


class Gradients:
    """Of one ONNX graph, whose session has ``inputs`` and ``outputs`` and answers as ``predict`` does.

    NotSupported, once it is made, where the way from inputs to scores has a part without gradient; and on the
    first pull where what is worked here is not what ONNX Runtime works.
    """

    def __init__(
        self,
        graph: Graph,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        predict: Callable[[Tensors], Tensors],
    ) -> None:
        whole = next((spec for spec in inputs if spec.datatype not in FLOATS), None)
        if whole:
            raise NotSupported(f"input {whole.name!r} is of {whole.datatype}, not of numbers", where="model")
        self._predict = predict
        self._output = scores_output(outputs)
        self._graph = graph
        if set(self._graph.inputs) != {spec.name for spec in inputs}:
            raise NotSupported("its inputs are not those of its graph", where="model")
        self._logits = before_the_end(self._graph, self._output)
        self._nodes = self._prepared(self._logits)
        self._checked = False

    def _prepared(self, output: str) -> list[Node]:
        return self._graph.mark(self._graph.fold(self._graph.leading_to(output)), output)

    def pull(self, inputs: Tensors, weigh: Callable[[Array], Array]) -> tuple[Array, Tensors]:
        """See :class:`tallystick.ports.models.runtime.Differentiable`.

        A number by which a row's gradient is infinite or no number is 0: nothing is known there.
        """
        feeds = {name: np.asarray(array, np.float32) for name, array in inputs.items()}
        if not self._checked:
            self._check(inputs, feeds)
            self._checked = True
        passed = self._graph.forwards(self._nodes, feeds, back=True)
        logits = passed.values[self._logits]
        if logits.ndim != 2 or not np.isfinite(logits).all():
            raise Failed("the model answered with a score that is no finite number", where="model")
        weights = np.asarray(weigh(logits), np.float32)
        if weights.shape != logits.shape:
            text = f"the weights are of shape {list(weights.shape)}, the logits of {list(logits.shape)}"
            raise BadInput(text, where="weigh")
        found = self._graph.backwards(passed, self._logits, weights)
        gradients = {
            name: found.get(name, np.zeros(array.shape, np.float32)) for name, array in feeds.items()
        }
        return logits, {n: np.nan_to_num(g, nan=0.0, posinf=0.0, neginf=0.0) for n, g in gradients.items()}

    def hidden(self, inputs: Tensors) -> Array:
        """See :class:`tallystick.ports.models.runtime.Differentiable`."""
        last = next(
            (node for node in reversed(self._nodes) if node.op in LAST_LAYERS and any(node.wants)), None
        )
        if last is None:
            raise NotSupported("it has no last layer that can be told", where="model")
        name = next(n for n, want in zip(last.inputs, last.wants, strict=True) if want)
        values = self._values(name, {key: np.asarray(array, np.float32) for key, array in inputs.items()})
        return np.ascontiguousarray(values.reshape(len(next(iter(inputs.values()))), -1), np.float32)

    def _check(self, inputs: Tensors, feeds: Tensors) -> None:
        """NotSupported where the scores worked here are not ONNX Runtime's; and see what they are.

        Where the end is not known but gives probabilities, their logarithms are the logits.
        """
        few = {name: array[:CHECK_ROWS] for name, array in feeds.items()}
        theirs = self._predict({name: array[:CHECK_ROWS] for name, array in inputs.items()})[self._output]
        if not np.isfinite(theirs).all():
            raise Failed("the model answered with a score that is no finite number", where="model")
        ours = self._values(self._output, few)
        if ours.shape != theirs.shape:
            raise NotSupported(f"scores of shape {list(ours.shape)} are worked here", where="model")
        apart = (np.abs(ours - theirs) / np.maximum(1, np.abs(theirs))).max(initial=0.0)
        if not apart <= APART_MAX:
            raise NotSupported(f"the scores worked here are {apart:.2g} from ONNX Runtime's", where="model")
        shares = theirs.size and theirs.min() >= 0 and np.allclose(theirs.sum(axis=1), 1, atol=1e-4)
        if shares and np.array_equal(self._values(self._logits, few), ours):
            self._logits = self._graph.add(Node("tally.SafeLog", (self._logits,), (f"log {self._logits}",)))
            self._nodes = self._prepared(self._logits)

    def _values(self, name: str, feeds: Tensors) -> Array:
        nodes = self._graph.fold(self._graph.leading_to(name))
        return self._graph.forwards(nodes, feeds).values[name]
