"""A task that runs once for each item of a list: its iterator and ``iteratorPolicy``."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from tallystick.core.pipeline.spec import (
    Binding,
    FromInput,
    FromTask,
    Loop,
    ParamType,
    Template,
)
from tallystick.doors.kfp.definitions import Interface
from tallystick.doors.kfp.node import Node
from tallystick.doors.kfp.placeholders import CHANNEL, check_text, read_text

__all__ = ["read_loop"]


def read_loop(fields: Mapping[str, Node], inputs: Mapping[str, Binding], face: Interface) -> Loop | None:
    """The loop of a task, given the task's fields; None when it has none."""
    parallel_max = _parallel_max(fields.get("iteratorPolicy"))
    iterator, over = fields.get("parameterIterator"), fields.get("artifactIterator")
    if iterator is not None and over is not None:
        raise over.wrong("a task has one iterator")
    if over is not None:
        return _over_artifacts(over, inputs, face, parallel_max)
    if iterator is None:
        if "iteratorPolicy" in fields and not fields["iteratorPolicy"].empty:
            raise fields["iteratorPolicy"].wrong("an iteratorPolicy needs an iterator")
        return None
    item = _item(iterator, face.params, inputs, "a parameter")
    return Loop(_items(iterator.need("items"), inputs, face), item, parallel_max)


def _over_artifacts(node: Node, inputs: Mapping[str, Binding], face: Interface, parallel_max: int) -> Loop:
    item = _item(node, face.artifacts, inputs, "an artifact")
    items = node.need("items")
    items.fields(frozenset({"inputArtifact"}))
    name = items.need("inputArtifact").text()
    if name not in inputs or name not in face.artifacts:
        raise items.wrong(f"the task has no input artifact {name[:80]!r} to loop over")
    return Loop(inputs[name], item, parallel_max, artifacts=True)


def _item(node: Node, declared: Collection[str], inputs: Mapping[str, Binding], what: str) -> str:
    node.fields(frozenset({"items", "itemInput"}))
    item = node.need("itemInput").text()
    if item not in declared or item in inputs:
        raise node.wrong(f"the loop's item {item[:80]!r} must be {what} without another source")
    return item


def _items(node: Node, inputs: Mapping[str, Binding], face: Interface) -> Binding:
    fields = node.fields(frozenset({"raw", "inputParameter"}))
    if len(fields) != 1:
        raise node.wrong("expected either raw or inputParameter")
    if "raw" in fields:
        return read_text(_raw(fields["raw"]), node, ())
    name = fields["inputParameter"].text()
    if name not in inputs:
        raise node.wrong(f"the task has no input {name[:80]!r} to loop over")
    source = inputs[name]
    if isinstance(source, Template) and check_text(source.value, node, inputs):
        raise node.refuse("a loop over a text of other inputs")
    # What a loop item's field holds is not known to the compiler, which then calls it a STRING.
    guessed = isinstance(source, FromInput | FromTask) and bool(source.item_field)
    if not guessed and name in face.params and face.params[name].type is not ParamType.LIST:
        raise node.refuse(f"a loop over {name!r}, which is a {face.params[name].type},")
    return source


def _raw(node: Node) -> list[Any]:
    """A loop's items, written in the file as JSON text."""
    if CHANNEL in node.text():
        raise node.refuse("an input within a loop's items")
    try:
        items = json.loads(node.text(), parse_constant=_no_constant)
        json.dumps(items, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise node.wrong("the loop's items are not JSON") from None
    if not isinstance(items, list):
        raise node.wrong("the loop's items are not a list")
    return items


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _parallel_max(node: Node | None) -> int:
    if node is None:
        return 0
    limit = node.fields(frozenset({"parallelismLimit"})).get("parallelismLimit")
    if limit is None:
        return 0
    return limit.whole()
