"""Where a task's inputs come from: constants, outputs of its siblings, inputs of the graph around it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tallystick.core.pipeline.spec import (
    Binding,
    Constant,
    FinalStatus,
    FromInput,
    FromTask,
    Param,
    ParamType,
    Slot,
    Template,
)
from tallystick.doors.kfp.definitions import Interface, check_io_name, checked, deep
from tallystick.doors.kfp.node import Node
from tallystick.doors.kfp.placeholders import check_text, holds_placeholder

__all__ = ["Scope", "read_inputs"]

_PARAM = frozenset(
    {
        "taskOutputParameter", "runtimeValue", "componentInputParameter", "taskFinalStatus",
        "parameterExpressionSelector",
    }
)  # fmt: skip
_ARTIFACT = frozenset({"taskOutputArtifact", "componentInputArtifact"})
_RUNTIME_VALUE_REFUSED = {
    "constantValue": "a value in the style of kfp 1",
    "runtimeParameter": "a runtime parameter in the style of kfp 1",
}
_SHAPES = {
    ParamType.INTEGER: "a number",
    ParamType.DOUBLE: "a number",
    ParamType.BOOLEAN: "true or false",
    ParamType.LIST: "a list",
    ParamType.STRUCT: "a mapping",
    ParamType.FINAL_STATUS: "a mapping",
}
"""What a value is, where two types can be told apart: any value may go into a STRING, as its JSON."""
_SELECTOR = re.compile(r'parseJson\(string_value\)\["([^"\\]{1,400})"\]')


@dataclass(frozen=True, slots=True)
class Scope:
    """What a task sees: the inputs of the graph around it, and its siblings.

    ``absent`` are optional inputs of the graph for which nobody gave a value; of the ``looped`` siblings each
    output is a list, whatever they declare.
    """

    path: str
    depth: int
    around: Interface
    absent: frozenset[str]
    siblings: Mapping[str, Interface]
    looped: frozenset[str]


def read_inputs(node: Node | None, face: Interface, scope: Scope) -> dict[str, Binding]:
    """The sources of a task's inputs, without optional ones for which nobody gave a value.

    A parameter that the component does not declare serves templates and the task's condition: so kfp writes
    an f-string as a text with a placeholder, and beside it the parameter that the placeholder names.
    """
    if node is None:
        return {}
    fields = node.fields(frozenset({"parameters", "artifacts"}))
    params = fields["parameters"].mapping() if "parameters" in fields else {}
    found: dict[str, Binding | None] = {}
    for name, source in params.items():
        found[name] = _param(source, face.params.get(check_io_name(name, source)), scope)
    for name, source in (fields["artifacts"].mapping() if "artifacts" in fields else {}).items():
        if name not in face.artifacts:
            raise source.wrong(f"the component has no input artifact {name[:80]!r}")
        found[name] = _artifact(source, face.artifacts[name], scope)
    given = {name: binding for name, binding in found.items() if binding is not None}
    templates = {name for name, binding in given.items() if isinstance(binding, Template)}
    known = {*params, *(p.name for p in face.params.values() if p.default is not None)}
    for name in templates:
        binding = given[name]
        if isinstance(binding, Template) and check_text(binding.value, params[name], known) & templates:
            raise params[name].refuse("a placeholder of an input that holds placeholders itself")
    return given


def _param(node: Node, target: Param | None, scope: Scope) -> Binding | None:
    """The source of a parameter; None when that is an optional input without a value."""
    fields = node.fields(_PARAM)
    selector = fields.pop("parameterExpressionSelector", None)
    if len(fields) != 1:
        raise node.wrong("expected one source of the value")
    item_field = _item_field(selector) if selector else ""
    if selector and not {"componentInputParameter", "taskOutputParameter"} & {*fields}:
        raise selector.refuse("picking a field out of a constant or a final status")
    if "runtimeValue" in fields:
        return _constant(fields["runtimeValue"], target)
    if "taskFinalStatus" in fields:
        return _final_status(fields["taskFinalStatus"], target, scope)
    if "taskOutputParameter" in fields:
        source, given = _output(fields["taskOutputParameter"], "outputParameterKey", scope)
        if not item_field and source.task not in scope.looped:
            _fit(node, given.out_params[source.output], target)
        return FromTask(source.task, source.output, item_field)
    name = fields["componentInputParameter"].text()
    if name not in scope.around.params:
        raise node.wrong(f"the graph around it has no parameter {name[:80]!r}")
    if not item_field:
        _fit(node, scope.around.params[name], target)
    return None if name in scope.absent else FromInput(name, item_field)


def _artifact(node: Node, target: Slot, scope: Scope) -> Binding | None:
    """The source of an artifact; None when that is an optional input without a value."""
    fields = node.fields(_ARTIFACT)
    if len(fields) != 1:
        raise node.wrong("expected one source of the artifact")
    if "taskOutputArtifact" in fields:
        source, given = _output(fields["taskOutputArtifact"], "outputArtifactKey", scope)
        _fit_list(node, given.out_artifacts[source.output], target)
        return source
    name = fields["componentInputArtifact"].text()
    if name not in scope.around.artifacts:
        raise node.wrong(f"the graph around it has no artifact {name[:80]!r}")
    _fit_list(node, scope.around.artifacts[name], target)
    return None if name in scope.absent else FromInput(name)


def _fit(node: Node, source: Param, target: Param | None) -> None:
    here, there = _SHAPES.get(source.type), _SHAPES.get(target.type) if target else None
    if here and there and here != there:
        raise node.wrong(f"it is {here}, and {there} was declared")


def _fit_list(node: Node, source: Slot, target: Slot) -> None:
    if source.is_list and not target.is_list:
        raise node.wrong(f"{source.name[:80]!r} is a list of artifacts, {target.name[:80]!r} takes one")


def _output(node: Node, key: str, scope: Scope) -> tuple[FromTask, Interface]:
    """The output ``key`` names, of the sibling that ``producerTask`` names: both must exist."""
    node.fields(frozenset({"producerTask", key}))
    task, output = _sibling(node, scope), node.need(key).text()
    face = scope.siblings[task]
    if output not in (face.out_params if key == "outputParameterKey" else face.out_artifacts):
        raise node.wrong(f"task {task[:80]!r} has no such output {output[:80]!r}")
    return FromTask(task, output), face


def _final_status(node: Node, target: Param | None, scope: Scope) -> Binding:
    node.fields(frozenset({"producerTask"}))
    if target and target.type not in (ParamType.FINAL_STATUS, ParamType.STRUCT):
        raise node.wrong(f"it is the final status of a task, and a {target.type} was declared")
    return FinalStatus(_sibling(node, scope))


def _sibling(node: Node, scope: Scope) -> str:
    task = node.need("producerTask").text()
    if task not in scope.siblings:
        raise node.wrong(f"it needs task {task[:80]!r}, which does not exist")
    return task


def _constant(node: Node, target: Param | None) -> Binding:
    fields = node.fields(frozenset({"constant"}), _RUNTIME_VALUE_REFUSED)
    if "constant" not in fields:
        raise node.wrong("field 'constant' is missing")
    constant = fields["constant"]
    if isinstance(constant.value, str) and holds_placeholder(constant.value):
        return Template(constant.value)  # of any type: a text that is all placeholder becomes its value
    value = checked(constant, target) if target else deep(constant)
    return Template(value) if holds_placeholder(value) else Constant(value)


def _item_field(selector: Node) -> str:
    found = _SELECTOR.fullmatch(selector.text())
    if not found:
        raise selector.refuse(f"the expression {selector.text()[:80]!r}")
    return found[1]
