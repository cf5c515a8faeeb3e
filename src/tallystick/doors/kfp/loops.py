"""A task that runs once for each item of a list: ``parameterIterator`` and ``iteratorPolicy``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tallystick.core.pipeline import Binding, Constant, FromInput, Loop, ParamType
from tallystick.doors.kfp.bindings import refuse_placeholders
from tallystick.doors.kfp.definitions import Interface
from tallystick.doors.kfp.node import Node

__all__ = ["read_loop"]


def read_loop(fields: Mapping[str, Node], inputs: Mapping[str, Binding], face: Interface) -> Loop | None:
    """The loop of a task, given the task's fields; None when it has none."""
    parallel_max = _parallel_max(fields.get("iteratorPolicy"))
    iterator = fields.get("parameterIterator")
    if iterator is None:
        if "iteratorPolicy" in fields and not fields["iteratorPolicy"].empty:
            raise fields["iteratorPolicy"].wrong("an iteratorPolicy needs a parameterIterator")
        return None
    iterator.fields(frozenset({"items", "itemInput"}))
    item = iterator.need("itemInput").text()
    if item not in face.params or item in inputs:
        raise iterator.wrong(f"the loop's item {item[:80]!r} must be a parameter without another source")
    return Loop(_items(iterator.need("items"), inputs, face), item, parallel_max)


def _items(node: Node, inputs: Mapping[str, Binding], face: Interface) -> Binding:
    fields = node.fields(frozenset({"raw", "inputParameter"}))
    if len(fields) != 1:
        raise node.wrong("expected either raw or inputParameter")
    if "raw" in fields:
        return Constant(_raw(fields["raw"]))
    name = fields["inputParameter"].text()
    if name not in inputs or name not in face.params:
        raise node.wrong(f"the task has no input {name[:80]!r} to loop over")
    source = inputs[name]
    # What a loop item's field holds is not known to the compiler, which then calls it a STRING.
    guessed = isinstance(source, FromInput) and bool(source.item_field)
    if face.params[name].type is not ParamType.LIST and not guessed:
        raise node.refuse(f"a loop over {name!r}, which is a {face.params[name].type},")
    return source


def _raw(node: Node) -> list[Any]:
    """A loop's items, written in the file as JSON text."""
    try:
        items = json.loads(node.text(), parse_constant=_no_constant)
        json.dumps(items, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise node.wrong("the loop's items are not JSON") from None
    if not isinstance(items, list):
        raise node.wrong("the loop's items are not a list")
    refuse_placeholders(items, node)
    return items


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _parallel_max(node: Node | None) -> int:
    if node is None:
        return 0
    limit = node.fields(frozenset({"parallelismLimit"})).get("parallelismLimit")
    if limit is None:
        return 0
    if isinstance(limit.value, bool) or not isinstance(limit.value, int) or not 0 <= limit.value < 2**31:
        raise limit.wrong("expected a whole number, 0 or more")
    return limit.value
