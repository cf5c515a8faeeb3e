"""An ONNX graph as a list of operators: read, worked forwards with a way back kept, and worked backwards.

Of a file only what leads to the output in question is looked at: labels, maps and texts beside it do not
matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tallystick.core.errors import BadInput, Failed, NotSupported
from tallystick.gradient import layers, learned, machines, pointwise, shapes, windows
from tallystick.gradient.rules import RULES, Array, Back, Node, lacking

__all__ = ["Graph", "Passed", "parsed", "read"]

LOADED = (layers, learned, machines, pointwise, shapes, windows)
"""Imported for the rules that they keep."""

NODES_MAX = 100_000
KEPT_BYTES_MAX = 1024 * 1024 * 1024
"""Of constants that follow from others, altogether."""


@dataclass
class Passed:
    """What a pass forwards leaves: tensors by name, and the way back of every operator that has one."""

    values: dict[str, Array]
    tape: list[tuple[Node, Back, tuple[tuple[int, ...], ...]]] = field(default_factory=list)


class Graph:
    """Operators in order, and the constants that they use."""

    def __init__(self, nodes: Iterable[Node], constants: Mapping[str, Array], inputs: Sequence[str]) -> None:
        self.constants = dict(constants)
        self.inputs = tuple(inputs)
        self.nodes = list(nodes)
        self.makers = {name: node for node in self.nodes for name in node.outputs if name}

    def add(self, node: Node) -> str:
        """Add an operator, after all others; the name of its last output."""
        if node.outputs[-1] not in self.makers:
            self.nodes.append(node)
            self.makers |= {name: node for name in node.outputs if name}
        return node.outputs[-1]

    def beginning(self, name: str) -> Graph:
        """The same from the tensor ``name`` on, which is its only input."""
        return Graph([node for node in self.nodes if name not in node.outputs], self.constants, [name])

    def before(self, output: str) -> Iterator[str]:
        """The names of what ``output`` follows from, in order; of those that an operator makes."""
        needed = self._needed(output, lambda node: None)
        yield from (name for node in _in_order(needed) for name in node.outputs if name and name != output)

    def leading_to(self, output: str) -> list[Node]:
        """The operators that ``output`` is made by, in order; NotSupported names one that has no rule."""

        def check(node: Node) -> None:
            if node.op not in RULES:
                raise NotSupported(f"the operator {node.op} has no gradient here", where="model")

        return _in_order(self._needed(output, check))

    def _needed(self, output: str, check: Callable[[Node], None]) -> list[Node]:
        needed, waiting = set[int](), [output]
        while waiting:
            name = waiting.pop()
            node = self.makers.get(name)
            if node is None and name not in self.constants and name not in self.inputs:
                raise NotSupported(f"its scores depend on {name!r:.100} too", where="model")
            if node is None or id(node) in needed:
                continue
            check(node)
            needed.add(id(node))
            waiting.extend(name for name in node.inputs if name)
        return [node for node in self.nodes if id(node) in needed]

    def fold(self, nodes: Sequence[Node]) -> list[Node]:
        """Work out once what does not depend on the inputs; the operators that are left."""
        left, kept = [], 0
        for node in nodes:
            if all(not name or name in self.constants for name in node.inputs):
                made, _ = self._step(node, self.constants)
                self.constants |= made
                kept += sum(array.nbytes for array in made.values())
                if kept > KEPT_BYTES_MAX:
                    raise NotSupported("its constants are too large", where="model")
            else:
                left.append(node)
        return left

    def mark(self, nodes: Sequence[Node], output: str) -> list[Node]:
        """The same operators, each with the inputs that gradients are wanted of.

        NotSupported where ``output`` does not follow from the inputs by operators that have gradients.
        """
        active = set(self.inputs)
        for node in nodes:
            node.wants = tuple(name in active for name in node.inputs)
            if any(node.wants) and not _stops(node):
                active.update(name for name in node.outputs if name)
        if output not in active:
            raise NotSupported("its scores do not follow smoothly from its inputs", where="model")
        return _with_drops(list(nodes), output)

    def forwards(self, nodes: Sequence[Node], feeds: Mapping[str, Array], *, back: bool = False) -> Passed:
        """Work the operators on ``feeds``; with ``back`` the way back is kept, used-up tensors are not."""
        passed = Passed(dict(feeds))
        with np.errstate(all="ignore"):
            for node in nodes:
                made, way = self._step(node, passed.values)
                passed.values |= made
                if back and any(node.wants) and way is not None:
                    shapes_ = tuple(made[name].shape if name else () for name in node.outputs)
                    passed.tape.append((node, way, shapes_))
                elif back and any(node.wants) and not _stops(node):
                    raise lacking(node, "rounds numbers on the way to the scores")
                for name in node.drops if back else ():
                    passed.values.pop(name, None)
        return passed

    def _step(self, node: Node, values: Mapping[str, Array]) -> tuple[dict[str, Array], Back | None]:
        ins = [(values[n] if n in values else self.constants[n]) if n else None for n in node.inputs]
        try:
            made, way = RULES[node.op].forward(node, ins)
        except (BadInput, Failed):
            raise
        except Exception as wrong:  # numpy's own words for a file whose numbers do not fit each other
            text = f"the operator {node.op} cannot be worked: {type(wrong).__name__}: {str(wrong)[:200]}"
            raise NotSupported(text, where="model") from wrong
        outputs = made if isinstance(made, tuple) else (made,)
        return {n: np.asarray(a) for n, a in zip(node.outputs, outputs, strict=False) if n}, way

    def backwards(self, passed: Passed, output: str, gradient: Array) -> dict[str, Array]:
        """The gradient by each input, of what has ``gradient`` by ``output``."""
        found: dict[str, Array] = {output: gradient}
        with np.errstate(all="ignore"):
            while passed.tape:
                node, way, shapes_ = passed.tape.pop()
                given = [found.pop(name, None) if name else None for name in node.outputs]
                if all(g is None for g in given):
                    continue
                whole = [
                    np.zeros(s, np.float32) if g is None else g for g, s in zip(given, shapes_, strict=True)
                ]
                parts = (*way(*whole), *[None] * len(node.inputs))
                for name, want, part in zip(node.inputs, node.wants, parts, strict=False):
                    if want and part is None:
                        raise lacking(node, "is used in an unusual way")
                    if want:
                        found[name] = found[name] + part if name in found else part
        return found


def _in_order(nodes: list[Node]) -> list[Node]:
    """Each after those that make its inputs: those added for the logits may be needed earlier."""
    made = {name: node for node in nodes for name in node.outputs if name}
    done, ordered = set[int](), list[Node]()
    for node in nodes:
        waiting = [node]
        while waiting:
            at = waiting[-1]
            before = [made[n] for n in at.inputs if n in made and id(made[n]) not in done]
            if id(at) in done or len(waiting) > NODES_MAX:
                waiting.pop()
            elif before:
                waiting.extend(before)
            else:
                done.add(id(at))
                ordered.append(at)
                waiting.pop()
    return ordered


def _stops(node: Node) -> bool:
    """A truth value is a comparison, whoever makes it."""
    return RULES[node.op].stops or (node.op == "Cast" and node.get("to", 1) == shapes.BOOL_CODE)


def _with_drops(nodes: list[Node], output: str) -> list[Node]:
    """Mark after which operator a tensor is no longer asked for by name."""
    last: dict[str, int] = {}
    for at, node in enumerate(nodes):
        last |= dict.fromkeys((*node.inputs, *node.outputs), at)
    for at, node in enumerate(nodes):
        node.drops = tuple(n for n in {*node.inputs, *node.outputs} if last[n] == at and n != output)
    return nodes


def parsed(file: Path) -> Any:
    """The model in ``file``, its own functions written out; BadInput where it is none.

    Its tensors in other files are read too: whoever calls this has seen that those lie in the model.
    """
    import onnx

    try:
        model = onnx.load(str(file), format="protobuf")
        if model.functions:
            from onnx import inliner

            model = inliner.inline_local_functions(model)
    except Exception as wrong:  # those of protobuf and of onnx share no base but Exception
        raise BadInput(f"it is not an ONNX model: {str(wrong)[:200]}", where=str(file)) from wrong
    return model


def read(file: Path) -> Graph:
    """The graph in ``file``, read as :func:`parsed` does."""
    model = parsed(file)
    if len(model.graph.node) > NODES_MAX:
        raise NotSupported(f"it has over {NODES_MAX} operators", where=str(file))
    versions = {opset.domain: opset.version for opset in model.opset_import}
    told = ((tensor.name, _array(tensor)) for tensor in model.graph.initializer)
    constants = {name: array for name, array in told if array is not None}
    nodes = []
    for proto in model.graph.node:
        node = _node(proto, versions)
        value = _constant(node) if node.op == "Constant" else None
        if value is not None:
            constants[node.outputs[0]] = value
        else:
            nodes.append(node)
    inputs = [value.name for value in model.graph.input if value.name not in constants]
    return Graph(nodes, constants, inputs)


def _array(tensor: Any) -> Array | None:
    """A tensor of the file: as float32 where it is of floats; None of texts."""
    from onnx import numpy_helper

    array = numpy_helper.to_array(tensor)
    if tensor.data_type in shapes.FLOAT_CODES:
        return array.astype(np.float32)
    return array if array.dtype.kind in "iub" else None


def _node(proto: Any, versions: Mapping[str, int]) -> Node:
    from onnx import AttributeProto, helper

    domain = "" if proto.domain in ("", "ai.onnx") else proto.domain + "."
    attributes: dict[str, Any] = {}
    for attribute in proto.attribute:
        if attribute.type == AttributeProto.TENSOR:
            attributes[attribute.name] = _array(attribute.t)
        elif attribute.type not in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
            attributes[attribute.name] = helper.get_attribute_value(attribute)
    version = versions.get(proto.domain, versions.get("ai.onnx", 13) if not domain else 1)
    return Node(domain + proto.op_type, tuple(proto.input), tuple(proto.output), attributes, version)


def _constant(node: Node) -> Array | None:
    """The value of a Constant, however it is written; None of texts."""
    for key, value in node.attributes.items():
        if key in ("value_float", "value_floats"):
            return np.array(value, np.float32)
        if key in ("value_int", "value_ints"):
            return np.array(value, np.int64)
    return node.get("value")
