"""What a step asks of a machine, what the machines of a cluster have, and whether the one fits the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tallystick.core.errors import NotSupported
from tallystick.core.pipeline.spec import Component

__all__ = ["Ask", "Node", "check_fits", "node_of"]

GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster: all that it has, whether free or not. ``memory`` in bytes."""

    name: str
    cpus: float
    memory: int
    gpus: float

    def __str__(self) -> str:
        return _words(self.cpus, self.memory, self.gpus)

    def holds(self, ask: Ask) -> int:
        """How many processes with these wishes it could hold at once."""
        pairs = ((self.cpus, ask.cpus), (self.memory, ask.memory), (self.gpus, ask.gpus))
        return min((int(has / wants + 1e-9) for has, wants in pairs if wants), default=ask.workers)


@dataclass(frozen=True, slots=True)
class Ask:
    """What each of a step's ``workers`` processes is to have."""

    cpus: float
    memory: int
    gpus: int
    workers: int

    @classmethod
    def of(cls, component: Component, cpus_usual: float) -> Ask:
        """A component's wishes: what it needs at least, or else its limit, or else ``cpus_usual``."""
        asked = component.resources
        cpus = asked.cpus_least or asked.cpus or (0.0 if asked.gpus else cpus_usual)
        if cpus > 1:
            cpus = math.ceil(cpus)  # Ray deals out whole cores above one
        memory = asked.memory_bytes_least or asked.memory_bytes
        return cls(cpus, memory, asked.gpus, max(1, asked.workers))

    def __str__(self) -> str:
        words = _words(self.cpus, self.memory, self.gpus)
        return f"{self.workers} workers with {words} each" if self.workers > 1 else words


def _words(cpus: float, memory: int, gpus: float) -> str:
    parts = [f"{cpus:g} CPU{'' if cpus == 1 else 's'}"] if cpus or not gpus else []
    parts += [f"{memory / GIB:.3g} GiB of memory"] if memory else []
    parts += [f"{gpus:g} GPU{'' if gpus == 1 else 's'}"] if gpus else []
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def check_fits(ask: Ask, nodes: Sequence[Node], where: str) -> None:
    """NotSupported, with what is asked and the largest machine, when the cluster could never hold ``ask``."""
    if sum(node.holds(ask) for node in nodes) >= ask.workers:
        return
    if not nodes:
        raise NotSupported(f"it asks for {ask}, and the cluster has no node", where=where)
    largest = max(nodes, key=lambda node: (bool(ask.gpus) and node.gpus, node.cpus, node.memory))
    many = f", of {len(nodes)}" if len(nodes) > 1 else ""
    raise NotSupported(
        f"it asks for {ask}, and the largest node{many}, {largest.name}, has {largest}",
        where=where,
        hint="ask for less, or add a node that has it",
    )


def node_of(said: dict[str, Any]) -> Node:
    """A machine as the driver tells of it."""
    return Node(str(said["name"]), float(said["cpus"]), int(said["memory"]), float(said["gpus"]))
