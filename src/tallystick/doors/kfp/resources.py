"""What a container asks for: processors, memory and accelerators, in both ways in which KFP writes them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from fractions import Fraction

from tallystick.core.pipeline.spec import Binding, Constant, Resources
from tallystick.doors.kfp.node import Node
from tallystick.doors.kfp.placeholders import holds_placeholder

__all__ = ["read_quantity", "read_resources"]

_QUANTITY = re.compile(
    r"\+?(\d{1,30}(?:\.\d{0,30})?|\.\d{1,30})([eE][+-]?\d{1,2}|[KMGTPE]i|[munkKMGTPE])?", re.ASCII
)
_SUFFIX = {"n": -9, "u": -6, "m": -3, "k": 3, "K": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_FIELDS = {
    "cpuLimit", "memoryLimit", "cpuRequest", "memoryRequest", "resourceCpuLimit", "resourceMemoryLimit",
    "resourceCpuRequest", "resourceMemoryRequest", "accelerator",
}  # fmt: skip
_ACCELERATOR = ("resourceType", "type", "resourceCount", "count")
_INPUT = re.compile(r"\{\{\$\.inputs\.parameters\[(?:'([^']+)'|\"([^\"]+)\")\]\}\}")
_GPU = re.compile(r"gpu|nvidia|(?:^|[^a-z])(?:amd|radeon)", re.IGNORECASE)
_MOST = 2**63 - 1


def read_resources(node: Node | None, inputs: Mapping[str, Binding]) -> Resources:
    """Limits and requests, the text form before the number, as Kubeflow has it.

    ``inputs`` are the task's: a limit may be one of them, where it is a constant. What would be known only
    when the step starts is NotSupported: it is placed before.
    """
    if node is None:
        return Resources()
    fields = node.fields(frozenset(_FIELDS))
    cpus = _one(fields, "resourceCpuLimit", "cpuLimit", 1, inputs)
    cpus_least = _one(fields, "resourceCpuRequest", "cpuRequest", 1, inputs)
    memory = math.ceil(_one(fields, "resourceMemoryLimit", "memoryLimit", 10**9, inputs))
    memory_least = math.ceil(_one(fields, "resourceMemoryRequest", "memoryRequest", 10**9, inputs))
    if (cpus and cpus_least > cpus) or (memory and memory_least > memory):
        raise node.wrong("it asks for more at least than at most")
    return Resources(
        cpus=float(cpus),
        memory_bytes=memory,
        cpus_least=float(cpus_least),
        memory_bytes_least=memory_least,
        gpus=_gpus(fields.get("accelerator"), inputs),
    )


def read_quantity(node: Node, text: str) -> Fraction:
    """A quantity as Kubernetes writes it: ``0.5``, ``500m``, ``4Gi``, ``1e3``."""
    found = _QUANTITY.fullmatch(text)
    if not found:
        raise node.wrong(f"{text[:80]!r} is not a quantity", hint="for example 2, 500m, 256Mi or 4G")
    number, suffix = Fraction(found[1]), found[2] or ""
    if suffix in _BINARY:
        number *= 2 ** _BINARY[suffix]
    elif suffix:
        number *= Fraction(10) ** (_SUFFIX[suffix] if suffix in _SUFFIX else int(suffix[1:]))
    if number > _MOST:
        raise node.wrong(f"{text[:80]!r} is more than there can be")
    return number


def _one(
    fields: Mapping[str, Node], text: str, number: str, unit: int, inputs: Mapping[str, Binding]
) -> Fraction:
    """The quantity in the field ``text``, else ``unit`` times the one in the field ``number``, else 0."""
    if text in fields and fields[text].string():
        return read_quantity(fields[text], _known(fields[text], inputs))
    if number not in fields:
        return Fraction(0)
    said = fields[number].number()
    if said < 0 or said * unit > _MOST:
        raise fields[number].wrong(f"{said} is not an amount")
    return Fraction(str(said)) * unit


def _gpus(node: Node | None, inputs: Mapping[str, Binding]) -> int:
    """How many GPUs. Of which make is not ours to choose: a machine has the kind that it has."""
    if node is None:
        return 0
    fields = node.fields(frozenset(_ACCELERATOR))
    given = [fields[name] for name in _ACCELERATOR if name in fields and fields[name].value != ""]
    kind = next((said for said in given if said.key in ("resourceType", "type")), None)
    count = next((said for said in given if said.key in ("resourceCount", "count")), None)
    if kind is not None:
        said = _known(kind, inputs)
        if not _GPU.search(said):
            raise kind.refuse(f"the accelerator {said[:80]!r}", hint="GPUs are")
    if count is None:
        return 0
    if count.key == "resourceCount":
        amount = read_quantity(count, _known(count, inputs))
        if amount.denominator != 1:
            raise count.wrong("half a GPU cannot be asked for")
        return int(amount)
    return count.whole()


def _known(node: Node, inputs: Mapping[str, Binding]) -> str:
    """The text, or the constant that it names."""
    text = node.text()
    named = _INPUT.fullmatch(text)
    source = inputs.get(named[1] or named[2]) if named else None
    if isinstance(source, Constant) and isinstance(source.value, str | int | float):
        return str(source.value)
    if holds_placeholder(text):
        raise node.refuse(
            f"a resource that is known only when the step starts ({text[:80]})",
            hint="write the amount into the pipeline",
        )
    return text
