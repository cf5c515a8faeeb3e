"""The structure of a twin: scores that are linear in the row, or trees over scaled columns, read from ONNX.

Only operators are followed whose meaning for the answer is known for certain; anything else is NotSupported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tallystick.core.errors import BadInput, NotSupported

__all__ = ["Affine", "Picked", "Read", "read_twin"]

FEATURES_MAX = 100_000
FLOATS = (1, 10, 11)
"""ONNX's numbers of the float types."""


@dataclass(frozen=True)
class Affine:
    """``weights`` (k, features) x + ``bias`` (k,), float64."""

    weights: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class Picked:
    """``scale`` * x[``index``] + ``offset``, each (k,): columns that are chosen and scaled."""

    index: np.ndarray
    scale: np.ndarray
    offset: np.ndarray

    def dense(self, features: int) -> Affine:
        """The same as a matrix."""
        weights = np.zeros((len(self.index), features))
        weights[np.arange(len(self.index)), self.index] = self.scale
        return Affine(weights, self.offset)


Value = Affine | Picked


@dataclass(frozen=True)
class Read:
    """What gives the scores: ``linear``, or the attributes of a TreeEnsembleClassifier over ``columns``."""

    linear: Affine | None = None
    trees: Mapping[str, Any] | None = None
    columns: Picked | None = None


def read_twin(path: Path, features: int) -> Read:
    """Read an ONNX file of ``features`` columns; NotSupported names what is not understood."""
    import onnx

    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception as wrong:  # those of protobuf, of which there is one for each of its own makings
        raise BadInput(f"it is not an ONNX model: {str(wrong)[:200]}", where="twin") from wrong
    return _Graph(graph, features).read()


class _Graph:
    def __init__(self, graph: Any, features: int) -> None:
        from onnx import numpy_helper

        self._features = features
        tensors = {t.name: t for t in graph.initializer if not t.external_data}
        for node in graph.node:
            if node.op_type == "Constant" and (value := _attributes(node).get("value")) is not None:
                tensors[node.output[0]] = value
        self._constants = {name: numpy_helper.to_array(t) for name, t in tensors.items()}
        self._edges = sum(len(node.input) for node in graph.node)
        self._made = {name: node for node in graph.node for name in node.output if name}
        self._outputs = [o.name for o in graph.output if o.type.tensor_type.elem_type in FLOATS]
        self._values = self._inputs([i for i in graph.input if i.name not in self._constants])

    def _inputs(self, inputs: list[Any]) -> dict[str, Value]:
        if len(inputs) == 1:
            index = np.arange(self._features)
        elif len(inputs) == self._features:
            index = np.array([0])
        else:
            raise NotSupported(f"it has {len(inputs)} inputs for {self._features} features", where="twin")
        ones, zeros = np.ones(len(index)), np.zeros(len(index))
        return {i.name: Picked(index + place, ones, zeros) for place, i in enumerate(inputs)}

    def read(self) -> Read:
        name = "probabilities" if "probabilities" in self._outputs else next(iter(self._outputs[::-1]), "")
        if not name:
            raise NotSupported("it gives no scores", where="twin")
        while (node := self._made.get(name)) is not None and self._is_tail(node):
            name = next(i for i in node.input if i not in self._constants)
        if node is not None and node.op_type == "TreeEnsembleClassifier" and list(node.output)[1:] == [name]:
            columns = self._value(node.input[0])
            if not isinstance(columns, Picked):
                raise NotSupported("its trees look at mixtures of columns", where="twin")
            return Read(trees=_attributes(node), columns=columns)
        value = self._value(name)
        return Read(linear=value if isinstance(value, Affine) else value.dense(self._features))

    def _is_tail(self, node: Any) -> bool:
        """Whether what it makes of scores has its highest where they have theirs."""
        if node.op_type == "Mul":
            by = [self._constants[i] for i in node.input if i in self._constants]
            return len(by) == 1 and by[0].size == 1 and float(by[0].reshape(-1)[0]) > 0
        if node.op_type == "Cast":
            return bool(_attributes(node)["to"] in FLOATS)
        if node.op_type == "Normalizer":
            return bool(_attributes(node).get("norm") in (b"L1", b"L2"))
        if node.op_type in ("Softmax", "LogSoftmax"):
            return bool(_attributes(node).get("axis", 1) in (1, -1))
        return bool(node.op_type == "Identity")

    def _value(self, name: str) -> Value:
        """What a name in the graph is of the row; each is worked out once, and without recursion."""
        waiting = [name]
        while waiting:
            top = waiting[-1]
            if top in self._values:
                waiting.pop()
                continue
            node = self._made.get(top)
            if node is None:
                raise NotSupported(f"{top!r:.100} is no function of the row", where="twin")
            lacking = [i for i in node.input if i and i not in self._constants and i not in self._values]
            if lacking:
                if len(waiting) > self._edges + 1:
                    raise BadInput("its nodes depend on one another in a circle", where="twin")
                waiting += lacking
                continue
            self._values[waiting.pop()] = self._apply(node, top)
        return self._values[name]

    def _apply(self, node: Any, name: str) -> Value:
        apply = _OPERATORS.get(node.op_type)
        if apply is None or (node.op_type == "LinearClassifier" and name != node.output[1]):
            text = f"a certificate is only for linear models and trees, and it has {node.op_type}"
            raise NotSupported(text, where="twin")
        args = [self._constants.get(i, self._values.get(i)) for i in node.input if i]
        try:
            return apply(self, {**_attributes(node), "place": list(node.output).index(name)}, args)
        except (ValueError, IndexError, KeyError, TypeError, AttributeError) as wrong:
            text = f"its {node.op_type} is not understood: {str(wrong)[:100]}"
            raise NotSupported(text, where="twin") from wrong

    def dense(self, value: Any) -> Affine:
        """A value as a matrix; TypeError where it is none of the row."""
        if isinstance(value, Picked):
            return value.dense(self._features)
        if not isinstance(value, Affine):
            raise TypeError("both sides are constant")
        return value


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _scaled(value: Any, scale: Any, offset: Any) -> Value:
    """``scale`` * value + ``offset``, with one number for all or one for each."""
    if isinstance(value, Picked):
        width = len(value.index)
        scale, offset = _wide(scale, width), _wide(offset, width)
        return Picked(value.index, value.scale * scale, value.offset * scale + offset)
    if not isinstance(value, Affine):
        raise TypeError("both sides are constant")
    scale, offset = _wide(scale, len(value.bias)), _wide(offset, len(value.bias))
    return Affine(value.weights * scale[:, None], value.bias * scale + offset)


def _wide(numbers: Any, width: int) -> np.ndarray:
    flat = np.asarray(numbers, np.float64).reshape(-1)
    return np.broadcast_to(flat, (width,)).copy()


def _arithmetic(sign: Callable[[Any, Any, bool], Value]) -> Callable[..., Value]:
    def apply(graph: _Graph, _: dict[str, Any], args: list[Any]) -> Value:
        one, other = args
        first = isinstance(other, np.ndarray)
        return sign(one if first else other, other if first else one, first)

    return apply


def _divide(value: Any, by: Any, first: bool) -> Value:
    if not first:
        raise ValueError("a constant is divided by the row")
    return _scaled(value, 1 / np.asarray(by, np.float64), 0.0)


def _concat(graph: _Graph, attributes: dict[str, Any], args: list[Any]) -> Value:
    if attributes.get("axis", 1) not in (1, -1):
        raise ValueError("along the rows")
    if all(isinstance(a, Picked) for a in args):
        return Picked(*(np.concatenate([getattr(a, n) for a in args]) for n in ("index", "scale", "offset")))
    dense = [graph.dense(a) for a in args]
    return Affine(np.concatenate([a.weights for a in dense]), np.concatenate([a.bias for a in dense]))


def _cast(graph: _Graph, attributes: dict[str, Any], args: list[Any]) -> Value:
    if attributes["to"] not in FLOATS[::2]:
        raise ValueError("to a type that rounds")
    return _scaled(args[0], 1.0, 0.0)


def _gemm(graph: _Graph, attributes: dict[str, Any], args: list[Any]) -> Value:
    matrix = np.asarray(args[1], np.float64)
    if attributes.get("transA", 0) or not isinstance(args[1], np.ndarray):
        raise ValueError("the row is not its first factor")
    matrix = (matrix if attributes.get("transB", 0) else matrix.T) * attributes.get("alpha", 1.0)
    bias = np.asarray(args[2] if len(args) > 2 else 0.0, np.float64) * attributes.get("beta", 1.0)
    return _times(graph.dense(args[0]), matrix, bias)


def _matmul(graph: _Graph, _: dict[str, Any], args: list[Any]) -> Value:
    matrix = np.asarray(args[1], np.float64)
    if matrix.ndim != 2 or not isinstance(args[1], np.ndarray):
        raise ValueError("the row is not its first factor")
    return _times(graph.dense(args[0]), matrix.T, 0.0)


def _times(value: Affine, matrix: np.ndarray, bias: Any) -> Affine:
    return Affine(matrix @ value.weights, matrix @ value.bias + _wide(bias, len(matrix)))


def _classifier(graph: _Graph, attributes: dict[str, Any], args: list[Any]) -> Value:
    """A LinearClassifier with a row of coefficients for each class."""
    if attributes.get("post_transform", b"NONE") not in (b"NONE", b"SOFTMAX", b"LOGISTIC"):
        raise ValueError(f"it ends in {attributes['post_transform']!r}")
    labels = attributes.get("classlabels_ints") or attributes["classlabels_strings"]
    value = graph.dense(args[0])
    coefficients = np.array(attributes["coefficients"], np.float64).reshape(-1, len(value.bias))
    if len(coefficients) != len(labels):
        raise ValueError(f"{len(coefficients)} rows of coefficients for {len(labels)} classes")
    made = _times(value, coefficients, attributes.get("intercepts", 0.0))
    if attributes.get("post_transform") == b"LOGISTIC" and not (
        len(labels) == 2
        and np.allclose(made.weights[0], -made.weights[1])
        and np.allclose(*(made.bias * [1, -1]))
    ):
        raise ValueError("of classes that are each logistic, two may both be 1")
    return made


def _extract(graph: _Graph, _: dict[str, Any], args: list[Any]) -> Value:
    value, places = args[0], np.asarray(args[1], np.int64).reshape(-1)
    if isinstance(value, Picked):
        return Picked(value.index[places], value.scale[places], value.offset[places])
    return Affine(value.weights[places], value.bias[places])


def _split(graph: _Graph, attributes: dict[str, Any], args: list[Any]) -> Value:
    if attributes.get("axis", 0) != 1:
        raise ValueError("along the rows")
    sizes = np.asarray(args[1] if len(args) > 1 else attributes["split"], np.int64)
    start = int(sizes[: attributes["place"]].sum())
    return _extract(graph, {}, [args[0], np.arange(start, start + int(sizes[attributes["place"]]))])


def _scaler(graph: _Graph, attributes: dict[str, Any], args: list[Any]) -> Value:
    offset = np.array(attributes.get("offset", 0.0), np.float64)
    scale = np.array(attributes.get("scale", 1.0), np.float64)
    return _scaled(args[0], scale, -offset * scale)


_OPERATORS: Mapping[str, Callable[[_Graph, dict[str, Any], list[Any]], Value]] = {
    "Add": _arithmetic(lambda value, by, first: _scaled(value, 1.0, by)),
    "Sub": _arithmetic(lambda value, by, first: _scaled(value, 1.0 if first else -1.0, -by if first else by)),
    "Mul": _arithmetic(lambda value, by, first: _scaled(value, by, 0.0)),
    "Div": _arithmetic(_divide),
    "ArrayFeatureExtractor": _extract,
    "Cast": _cast,
    "Concat": _concat,
    "FeatureVectorizer": _concat,
    "Flatten": lambda graph, attributes, args: _scaled(args[0], 1.0, 0.0),
    "Gemm": _gemm,
    "Identity": lambda graph, attributes, args: _scaled(args[0], 1.0, 0.0),
    "LinearClassifier": _classifier,
    "MatMul": _matmul,
    "Scaler": _scaler,
    "Split": _split,
}
