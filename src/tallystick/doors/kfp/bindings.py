"""Where a task's inputs come from: constants, outputs of its siblings, inputs of the graph around it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tallystick.core.pipeline import Binding, Constant, FromInput, FromTask, Param, Slot
from tallystick.doors.kfp.definitions import PLACEHOLDER, Interface, typed
from tallystick.doors.kfp.node import Node

__all__ = ["Scope", "read_artifact_binding", "read_param_binding", "refuse_placeholders"]

_PARAM = frozenset(
    {"taskOutputParameter", "runtimeValue", "componentInputParameter", "parameterExpressionSelector"}
)
_PARAM_REFUSED = {"taskFinalStatus": "the final status of a task"}
_ARTIFACT = frozenset({"taskOutputArtifact", "componentInputArtifact"})
_RUNTIME_VALUE_REFUSED = {
    "constantValue": "a value in the style of kfp 1",
    "runtimeParameter": "a runtime parameter in the style of kfp 1",
}
_SELECTOR = re.compile(r'parseJson\(string_value\)\["([^"\\]{1,400})"\]')


@dataclass(frozen=True, slots=True)
class Scope:
    """What a task sees: the inputs of the graph around it, and its siblings.

    ``absent`` are optional inputs of the graph for which nobody gave a value.
    """

    path: str
    depth: int
    around: Interface
    absent: frozenset[str]
    siblings: Mapping[str, Interface]


def read_param_binding(node: Node, target: Param, scope: Scope) -> Binding | None:
    """The source of a parameter; None when that is an optional input without a value."""
    fields = node.fields(_PARAM, _PARAM_REFUSED)
    selector = fields.pop("parameterExpressionSelector", None)
    if len(fields) != 1:
        raise node.wrong("expected one source of the value")
    if selector is not None and "componentInputParameter" not in fields:
        raise selector.refuse("picking a field out of anything but a loop's item")
    if "runtimeValue" in fields:
        return _constant(fields["runtimeValue"], target)
    if "taskOutputParameter" in fields:
        return _output(fields["taskOutputParameter"], "outputParameterKey", scope)
    name = fields["componentInputParameter"].text()
    if name not in scope.around.params:
        raise node.wrong(f"the graph around it has no parameter {name[:80]!r}")
    if name in scope.absent:
        return None
    return FromInput(name, _item_field(selector) if selector else "")


def read_artifact_binding(node: Node, target: Slot, scope: Scope) -> Binding | None:
    """The source of an artifact; None when that is an optional input without a value."""
    fields = node.fields(_ARTIFACT)
    if len(fields) != 1:
        raise node.wrong("expected one source of the artifact")
    if "taskOutputArtifact" in fields:
        return _output(fields["taskOutputArtifact"], "outputArtifactKey", scope)
    name = fields["componentInputArtifact"].text()
    if name not in scope.around.artifacts:
        raise node.wrong(f"the graph around it has no artifact {name[:80]!r}")
    if scope.around.artifacts[name].is_list and not target.is_list:
        raise node.wrong(f"{name[:80]!r} is a list of artifacts, {target.name[:80]!r} takes one")
    return None if name in scope.absent else FromInput(name)


def _output(node: Node, key: str, scope: Scope) -> Binding:
    """The output ``key`` names, of the sibling that ``producerTask`` names: both must exist."""
    node.fields(frozenset({"producerTask", key}))
    task, output = node.need("producerTask").text(), node.need(key).text()
    if task not in scope.siblings:
        raise node.wrong(f"it needs task {task[:80]!r}, which does not exist")
    sibling = scope.siblings[task]
    if output not in (sibling.out_params if key == "outputParameterKey" else sibling.out_artifacts):
        raise node.wrong(f"task {task[:80]!r} has no such output {output[:80]!r}")
    return FromTask(task, output)


def _constant(node: Node, target: Param) -> Binding:
    fields = node.fields(frozenset({"constant"}), _RUNTIME_VALUE_REFUSED)
    if "constant" not in fields:
        raise node.wrong("field 'constant' is missing")
    value = typed(fields["constant"], target.type)
    refuse_placeholders(value, node)
    return Constant(value)


def refuse_placeholders(value: Any, node: Node) -> None:
    """NotSupported when ``{{$...}}`` stands anywhere in ``value``: it would be handed over unread."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str) and PLACEHOLDER in part:
            raise node.refuse(
                f"a placeholder in a constant ({part[:80]!r})", hint="build the text inside a component"
            )
        if isinstance(part, dict):
            waiting += [*part.keys(), *part.values()]
        elif isinstance(part, list):
            waiting += part


def _item_field(selector: Node) -> str:
    found = _SELECTOR.fullmatch(selector.text())
    if not found:
        raise selector.refuse(f"the expression {selector.text()[:80]!r}")
    return found[1]
