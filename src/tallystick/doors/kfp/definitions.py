"""What a component declares: its inputs and outputs, and constants made to the types that they declare."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tallystick.core.errors import BadInput
from tallystick.core.pipeline.params import check_value
from tallystick.core.pipeline.spec import Param, ParamType, Slot
from tallystick.doors.kfp.node import Node

__all__ = [
    "Interface",
    "check_io_name",
    "check_variable",
    "checked",
    "deep",
    "read_interface",
    "read_schema",
    "typed",
]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._ -]{0,399}", re.ASCII)
_ENV_NAME = re.compile(r"[^=\x00\s]{1,400}")
_SCHEMA = re.compile(r"[A-Za-z_][\w.-]{0,199}", re.ASCII)
_PARAM = frozenset({"parameterType", "defaultValue", "isOptional", "description", "literals"})
_PARAM_REFUSED = {"type": "a parameter in the style of kfp 1"}
_SLOT = frozenset({"artifactType", "isArtifactList", "isOptional", "description"})
_SLOT_REFUSED = {
    "metadata": "metadata declared for an artifact",
    "properties": "properties declared for an artifact",
    "customProperties": "properties declared for an artifact",
}


@dataclass(frozen=True, slots=True)
class Interface:
    """The declared inputs and outputs of a component, by name."""

    params: Mapping[str, Param] = field(default_factory=dict)
    artifacts: Mapping[str, Slot] = field(default_factory=dict)
    out_params: Mapping[str, Param] = field(default_factory=dict)
    out_artifacts: Mapping[str, Slot] = field(default_factory=dict)


def read_interface(component: Node) -> Interface:
    """``inputDefinitions`` and ``outputDefinitions`` of a component."""
    both = component.mapping()
    params, artifacts = _read_side(both.get("inputDefinitions"))
    out_params, out_artifacts = _read_side(both.get("outputDefinitions"))
    return Interface(params, artifacts, out_params, out_artifacts)


def _read_side(node: Node | None) -> tuple[dict[str, Param], dict[str, Slot]]:
    if node is None:
        return {}, {}
    fields = node.fields(frozenset({"parameters", "artifacts"}))
    params = fields["parameters"].mapping() if "parameters" in fields else {}
    slots = fields["artifacts"].mapping() if "artifacts" in fields else {}
    for name in params:
        if name in slots:
            raise slots[name].wrong(f"{name[:80]!r} is both a parameter and an artifact")
    return (
        {name: _read_param(name, param) for name, param in params.items()},
        {name: _read_slot(name, slot) for name, slot in slots.items()},
    )


def check_io_name(name: str, node: Node) -> str:
    """The name of an input or output, if it can be part of a path without leading out of its folder."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise node.wrong(f"{name[:80]!r} cannot be the name of an input or output")
    return name


def check_variable(name: str, value: str, node: Node) -> None:
    """BadInput for what no process can have in its environment."""
    if not _ENV_NAME.fullmatch(name) or "\x00" in value:
        raise node.wrong(f"{name[:80]!r} cannot be set in a process's environment")


def _read_param(name: str, node: Node) -> Param:
    fields = node.fields(_PARAM, _PARAM_REFUSED)
    kind = node.need("parameterType")
    said = kind.text()
    if said == "TASK_CONFIG":  # what Kubernetes would have done with the step, handed to the step
        raise kind.refuse("the configuration of a task (dsl.TaskConfig)")
    if said not in ParamType.__members__.values():
        raise kind.wrong(f"unknown parameter type {said[:80]!r}")
    type_ = ParamType(said)
    literals = fields["literals"].items() if "literals" in fields else []
    optional = fields["isOptional"].flag() if "isOptional" in fields else False
    param = Param(
        check_io_name(name, node),
        type_,
        optional=optional,
        literals=tuple(typed(literal, type_) for literal in literals),
    )
    if "defaultValue" not in fields:
        return param
    return replace(param, default=checked(fields["defaultValue"], param))


def _read_slot(name: str, node: Node) -> Slot:
    fields = node.fields(_SLOT, _SLOT_REFUSED)
    schema = read_schema(fields["artifactType"]) if "artifactType" in fields else "system.Artifact"
    is_list = fields["isArtifactList"].flag() if "isArtifactList" in fields else False
    optional = fields["isOptional"].flag() if "isOptional" in fields else False
    return Slot(check_io_name(name, node), schema, is_list, optional)


def read_schema(node: Node) -> str:
    """An artifact type's title, for example ``system.Model``."""
    fields = node.fields(
        frozenset({"schemaTitle", "schemaVersion"}),
        {"instanceSchema": "an artifact type with a schema of its own", "schemaUri": "a schema by URI"},
    )
    title = fields["schemaTitle"].text() if "schemaTitle" in fields else "system.Artifact"
    if not _SCHEMA.fullmatch(title):
        raise node.wrong(f"{title[:80]!r} cannot be an artifact type")
    return title


def checked(node: Node, param: Param) -> Any:
    """A constant that ``param`` may have: of its type, and one of its literals."""
    try:
        return check_value(param.name, param, typed(node, param.type))
    except BadInput as wrong:
        if wrong.where != param.name:
            raise
        raise node.wrong(wrong.what, hint=wrong.hint) from None


def typed(node: Node, type_: ParamType) -> Any:
    """A constant as the value of its type.

    The file holds every number as a double. What is whole becomes an int where the type is
    NUMBER_INTEGER, and inside LIST and STRUCT, which say nothing of their elements: so Kubeflow hands
    them over too.
    """
    value = node.value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if type_ is ParamType.STRING and isinstance(value, str):
        return value
    if type_ is ParamType.BOOLEAN and isinstance(value, bool):
        return value
    if type_ is ParamType.DOUBLE and number:
        return node.number()
    if type_ is ParamType.INTEGER and number:
        whole = _whole(node.number(), node.value)
        if isinstance(whole, int):
            return whole
    if (type_ is ParamType.LIST and isinstance(value, list)) or (
        type_ in (ParamType.STRUCT, ParamType.FINAL_STATUS) and isinstance(value, dict)
    ):
        return deep(node)
    raise node.wrong(f"a {type_} was declared, got {node.kind}")


def deep(node: Node) -> Any:
    """A constant of no declared type, with its whole numbers as int."""
    if isinstance(node.value, dict):
        return {name: deep(inner) for name, inner in node.value.items()}
    if isinstance(node.value, list):
        return [deep(inner) for inner in node.value]
    if isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return _whole(node.number(), node.value)
    return node.value


def _whole(number: float, written: Any) -> int | float:
    if isinstance(written, int):
        return written
    return int(number) if number.is_integer() and abs(number) < 2**53 else number
