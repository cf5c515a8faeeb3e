"""What goes into the end of a classifier: its softmax, or what else makes probabilities of scores, taken off.

The logarithm of a probability that was computed in float32 has no gradient where the model is sure of itself:
it is 0 or 1 there. So the logarithm is taken of the operators and not of the numbers: of a softmax it is what
goes in (up to a constant for each row, which no attack sees), of a share its numerator's.
"""

from __future__ import annotations

from dataclasses import replace

from tallystick.gradient.graph import Graph
from tallystick.gradient.machines import LOGS
from tallystick.gradient.rules import Node
from tallystick.gradient.shapes import FLOAT_CODES

__all__ = ["before_the_end"]

DEPTH_MAX = 40
"""Operators on the way back; more are no end of a classifier."""

THROUGH = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Gather", "Slice", "Dropout",
           "ai.onnx.ml.ArrayFeatureExtractor")  # fmt: skip
"""Operators that hand numbers on as they are."""


def before_the_end(graph: Graph, output: str) -> str:
    """The tensor of logits behind ``output``; what ``output`` is made of as it is, where there is none."""
    name, maker = output, graph.makers.get(output)
    while maker is not None and _renames(maker):
        name, maker = maker.inputs[0], graph.makers.get(maker.inputs[0])
    if maker is not None and maker.op == "LogSoftmax":
        return maker.inputs[0]
    return _log(graph, name, DEPTH_MAX) or name


def _log(graph: Graph, name: str, left: int, exact: bool = False) -> str | None:  # noqa: PLR0911  reason: a table
    """A tensor with the log of ``name``; unless ``exact``, up to a constant for each row. None: unknown."""
    maker = graph.makers.get(name)
    if maker is None or left == 0:
        return graph.add(Node("Log", (name,), (f"log {name}",))) if name in graph.constants else None
    first = maker.inputs[0]
    match maker.op:
        case "Exp":
            return first
        case "Softmax" if maker.get("axis", -1) in (-1, 1):
            return _like(graph, replace(maker, op="LogSoftmax"), (first,)) if exact else first
        case "Sigmoid":
            return graph.add(Node("tally.LogSigmoid", (first,), (f"log {name}",)))
        case "ai.onnx.ml.LinearClassifier" | "ai.onnx.ml.SVMClassifier":
            return _log_learned(graph, maker, name, exact)
        case "ai.onnx.ml.Normalizer" if maker.get("norm") == b"L1" and not exact:
            return _log(graph, first, left - 1)
        case "Div" if not exact:
            below = graph.makers.get(maker.inputs[1])
            if below is None or below.op not in ("ReduceSum", "ReduceL1") or below.inputs[0] != first:
                return None
            return _log(graph, first, left - 1)
        case "Sub":
            return _log_rest(graph, maker)
        case "Concat" if maker.get("axis", 1) in (-1, 1):
            logs = [_log(graph, part, left - 1, exact=True) for part in maker.inputs]
            known = tuple(log for log in logs if log)
            return _like(graph, maker, known) if len(known) == len(logs) else None
        case op if op in THROUGH or _renames(maker):
            log = _log(graph, first, left - 1, exact=exact)
            return _like(graph, maker, (log, *maker.inputs[1:])) if log else None
        case _:
            return None


def _renames(maker: Node) -> bool:
    return maker.op == "Identity" or (maker.op == "Cast" and maker.get("to", 1) in FLOAT_CODES)


def _like(graph: Graph, maker: Node, inputs: tuple[str, ...]) -> str:
    """The same operator on other inputs."""
    return graph.add(replace(maker, inputs=inputs, outputs=(f"log {maker.outputs[0]}",)))


def _log_learned(graph: Graph, maker: Node, name: str, exact: bool) -> str | None:
    if maker.get("prob_a") and name == maker.outputs[-1]:  # a machine that gives chances
        return graph.add(replace(maker, op=LOGS, outputs=(f"label of {name}", f"log {name}")))
    how = maker.get("post_transform", b"NONE")
    if how not in (b"SOFTMAX", b"LOGISTIC") or name != maker.outputs[-1]:
        return None
    attributes = {**maker.attributes, "post_transform": b"NONE"}
    outputs = (f"label of {name}", f"scores of {name}")
    scores = graph.add(replace(maker, attributes=attributes, outputs=outputs))
    if how == b"SOFTMAX" and not exact:
        return scores
    op = "LogSoftmax" if how == b"SOFTMAX" else "tally.LogSigmoid"
    return graph.add(Node(op, (scores,), (f"log {name}",)))


def _log_rest(graph: Graph, maker: Node) -> str | None:
    """One less the sigmoid of z is the sigmoid of its negative."""
    whole, inner = graph.constants.get(maker.inputs[0]), graph.makers.get(maker.inputs[1])
    if whole is None or whole.ravel().tolist() != [1] or inner is None or inner.op != "Sigmoid":
        return None
    turned = graph.add(Node("Neg", inner.inputs, (f"less {inner.inputs[0]}",)))
    return graph.add(Node("tally.LogSigmoid", (turned,), (f"log {maker.outputs[0]}",)))
