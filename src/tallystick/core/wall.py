"""Walls: what a process that runs somebody's code may use and see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tallystick.core.errors import BadInput

__all__ = ["Strength", "Wall"]


@dataclass(frozen=True, slots=True)
class Wall:
    """Limits and views of one confined process and all its children.

    ``readable`` and ``writable`` are absolute paths shown at the same place inside; everything else
    of the file system is absent or read-only, as the tile is able. ``env`` is the whole environment:
    nothing is inherited. ``network`` False means no way out but through sockets in ``writable``.
    ``cpu_seconds`` 0 means no limit (for what serves until it is told to end). ``nests`` is for our own
    code alone: it may put narrower walls inside this one, and in a tile with namespaces it has the
    capabilities for that, over these namespaces and nothing outside of them.
    """

    workdir: str
    readable: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cpu_seconds: int = 600
    memory_mib: int = 4096
    file_mib: int = 2048
    open_files: int = 1024
    processes: int = 512
    network: bool = False
    nests: bool = False

    def __post_init__(self) -> None:
        for path in (self.workdir, *self.readable, *self.writable):
            if not path.startswith("/") or "/../" in f"{path}/":
                raise BadInput(f"{path!r} is not an absolute path", where="wall")
        if self.cpu_seconds < 0 or min(self.memory_mib, self.file_mib, self.open_files, self.processes) < 1:
            raise BadInput("limits of a wall are at least 1", where="wall")


@dataclass(frozen=True, slots=True)
class Strength:
    """What a sandbox can and cannot do, said plainly."""

    name: str
    hides_files: bool
    blocks_network: bool
    hides_processes: bool
    limits_resources: bool

    def __str__(self) -> str:
        can = {
            "hides files": self.hides_files,
            "blocks the network": self.blocks_network,
            "hides processes": self.hides_processes,
            "limits resources": self.limits_resources,
        }
        yes = [text for text, able in can.items() if able]
        no = [text for text, able in can.items() if not able]
        return f"{self.name}: {', '.join(yes) or 'nothing'}" + (f"; not: {', '.join(no)}" if no else "")
