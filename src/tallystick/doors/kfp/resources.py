"""What a container asks for: processors, memory and accelerators, in both ways in which KFP writes them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import TypeVar

from tallystick.core.errors import BadInput
from tallystick.core.pipeline.amounts import (
    MOST,
    amount_of,
    check_accelerator,
    check_order,
    gpus_of,
)
from tallystick.core.pipeline.spec import Binding, Constant, Resources
from tallystick.doors.kfp.node import Node
from tallystick.doors.kfp.placeholders import holds_placeholder

__all__ = ["read_quantity", "read_resources"]

S = TypeVar("S")
T = TypeVar("T")

_FIELDS = {
    "cpuLimit", "memoryLimit", "cpuRequest", "memoryRequest", "resourceCpuLimit", "resourceMemoryLimit",
    "resourceCpuRequest", "resourceMemoryRequest", "accelerator",
}  # fmt: skip
_ACCELERATOR = ("resourceType", "type", "resourceCount", "count")
_INPUT = re.compile(r"\{\{\$\.inputs\.parameters\[(?:'([^']+)'|\"([^\"]+)\")\]\}\}")


def read_resources(node: Node | None, inputs: Mapping[str, Binding]) -> Resources:
    """Limits and requests, the text form before the number, as Kubeflow has it.

    ``inputs`` are the task's: an amount may be one of them, which is taken when the step starts, unless it is
    a constant. NotSupported is any other placeholder.
    """
    if node is None:
        return Resources()
    fields, asked = node.fields(frozenset(_FIELDS)), _Asked(inputs)
    accelerator = fields.get("accelerator")
    found = Resources(
        cpus=float(asked.amount("cpus", fields, ("resourceCpuLimit", "cpuLimit"))),
        memory_bytes=math.ceil(
            asked.amount("memory_bytes", fields, ("resourceMemoryLimit", "memoryLimit"), 10**9)
        ),
        cpus_least=float(asked.amount("cpus_least", fields, ("resourceCpuRequest", "cpuRequest"))),
        memory_bytes_least=math.ceil(
            asked.amount("memory_bytes_least", fields, ("resourceMemoryRequest", "memoryRequest"), 10**9)
        ),
        gpus=asked.gpus(accelerator) if accelerator else 0,
        later=tuple(asked.later),
    )
    return _said(node, check_order, found)


def read_quantity(node: Node, text: str) -> Fraction:
    """A quantity as Kubernetes writes it: ``0.5``, ``500m``, ``4Gi``, ``1e3``."""
    return _said(node, amount_of, text)


def _said(node: Node, read: Callable[[S], T], said: S) -> T:
    """What ``read`` makes of a text; its errors say where that stands."""
    try:
        return read(said)
    except BadInput as wrong:
        raise type(wrong)(wrong.what, where=node.where, hint=wrong.hint) from None


class _Asked:
    """Reads amounts; ``later`` are those that one of the task's inputs tells."""

    def __init__(self, inputs: Mapping[str, Binding]) -> None:
        self._inputs = inputs
        self.later: list[tuple[str, str]] = []

    def amount(
        self, name: str, fields: Mapping[str, Node], either: tuple[str, str], unit: int = 1
    ) -> Fraction:
        """The quantity in the first field, else ``unit`` times the number in the second, else 0."""
        text, number = either
        if text in fields and fields[text].string():
            said = self._known(name, fields[text])
            return Fraction(0) if said is None else read_quantity(fields[text], said)
        if number not in fields:
            return Fraction(0)
        value = fields[number].number()
        if value < 0 or value * unit > MOST:
            raise fields[number].wrong(f"{value} is not an amount")
        return Fraction(str(value)) * unit

    def gpus(self, node: Node) -> int:
        """How many GPUs."""
        fields = node.fields(frozenset(_ACCELERATOR))
        given = [fields[name] for name in _ACCELERATOR if name in fields and fields[name].value != ""]
        kind = next((said for said in given if said.key in ("resourceType", "type")), None)
        count = next((said for said in given if said.key in ("resourceCount", "count")), None)
        if kind is not None and (said := self._known("accelerator", kind)) is not None:
            _said(kind, check_accelerator, said)
        if count is None:
            return 0
        if count.key == "count":
            return count.whole()
        amount = self._known("gpus", count)
        return 0 if amount is None else _said(count, gpus_of, amount)

    def _known(self, name: str, node: Node) -> str | None:
        """The text, or the constant that it names; None where that is known later."""
        text = node.text()
        named = _INPUT.fullmatch(text)
        source = self._inputs.get(named[1] or named[2]) if named else None
        if isinstance(source, Constant) and isinstance(source.value, str | int | float):
            return str(source.value)
        if named and source is not None:
            self.later.append((name, named[1] or named[2]))
            return None
        if holds_placeholder(text):
            raise node.refuse(
                f"a resource that is known only when the step starts ({text[:80]})",
                hint="write the amount into the pipeline, or a parameter of the task in its place",
            )
        return text
