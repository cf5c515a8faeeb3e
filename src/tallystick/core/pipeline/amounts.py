"""Amounts as Kubernetes writes them, and what a step asks for of them once its inputs are known."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from tallystick.core.errors import BadInput, NotSupported
from tallystick.core.pipeline.spec import Resources

__all__ = ["MOST", "amount_of", "check_accelerator", "check_order", "gpus_of", "settled"]

_QUANTITY = re.compile(
    r"\+?(\d{1,30}(?:\.\d{0,30})?|\.\d{1,30})([eE][+-]?\d{1,2}|[KMGTPE]i|[munkKMGTPE])?", re.ASCII
)
_SUFFIX = {"n": -9, "u": -6, "m": -3, "k": 3, "K": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_GPU = re.compile(r"gpu|nvidia|(?:^|[^a-z])(?:amd|radeon)", re.IGNORECASE)
MOST = 2**63 - 1


def amount_of(text: str) -> Fraction:
    """``0.5``, ``500m``, ``4Gi`` or ``1e3`` as a number; BadInput for anything else."""
    found = _QUANTITY.fullmatch(text)
    if not found:
        raise BadInput(f"{text[:80]!r} is not a quantity", hint="for example 2, 500m, 256Mi or 4G")
    number, suffix = Fraction(found[1]), found[2] or ""
    if suffix in _BINARY:
        number *= 2 ** _BINARY[suffix]
    elif suffix:
        number *= Fraction(10) ** (_SUFFIX[suffix] if suffix in _SUFFIX else int(suffix[1:]))
    if number > MOST:
        raise BadInput(f"{text[:80]!r} is more than there can be")
    return number


def gpus_of(text: str) -> int:
    """A number of GPUs; BadInput for a part of one."""
    amount = amount_of(text)
    if amount.denominator != 1:
        raise BadInput(f"{text[:80]!r} is no number of GPUs")
    return int(amount)


def check_accelerator(kind: str) -> None:
    """NotSupported for another kind than GPUs. Of which make is not ours to choose: a machine has its own."""
    if not _GPU.search(kind):
        raise NotSupported(f"the accelerator {kind[:80]!r} is not supported", hint="GPUs are")


def check_order(asked: Resources) -> Resources:
    """The resources, if what is asked for at least is not more than what is allowed."""
    if (asked.cpus and asked.cpus_least > asked.cpus) or (
        asked.memory_bytes and asked.memory_bytes_least > asked.memory_bytes
    ):
        raise BadInput("it asks for more at least than at most")
    return asked


def settled(asked: Resources, params: Mapping[str, Any]) -> Resources:
    """The resources with the amounts that a task's inputs tell; BadInput names an input that tells none."""
    found: dict[str, Any] = {}
    for name, source in asked.later:
        said = params.get(source)
        if isinstance(said, bool) or not isinstance(said, str | int | float):
            raise BadInput(f"what it asks for should be told by its input {source!r}, which is {said!r}")
        if name == "accelerator":
            check_accelerator(str(said))
        elif name == "gpus":
            found[name] = gpus_of(str(said))
        else:
            amount = amount_of(str(said))
            found[name] = math.ceil(amount) if name.startswith("memory") else float(amount)
    return check_order(replace(asked, later=(), **found))
