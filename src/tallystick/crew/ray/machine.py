"""One machine of the cluster: its executors, and what can be known of it."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import ray

from tallystick.core.pipeline.spec import Component
from tallystick.core.wall import Strength, Wall
from tallystick.ports.executor import Executor
from tallystick.ports.sandbox import Confined, Sandbox
from tallystick.ports.tile import Place
from tallystick.wiring.tiles import known_tiles, open_tile

__all__ = ["Machine", "boot_id", "is_same_machine", "roots_of"]

MIB = 1024 * 1024
SIOCGIFADDR = 0x8915


def boot_id() -> str:
    """What no other machine has, nor this one after its next start."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def roots_of(roots: Sequence[str]) -> list[list[Any]]:
    """Folders with what tells them from others of the same name."""
    found: list[list[Any]] = []
    for root in roots:
        with contextlib.suppress(OSError):
            seen = Path(root).stat()
            found.append([root, seen.st_dev, seen.st_ino])
    return found


def is_same_machine(plan: Mapping[str, Any]) -> bool:
    """Whether the driver's folders are seen here, by the same kernel: files, and sockets too."""
    return (
        bool(plan["roots"])
        and plan["boot_id"] == boot_id()
        and plan["roots"] == roots_of([root for root, _, _ in plan["roots"]])
    )


class _WithNetwork:
    """A sandbox whose processes reach the network of their machine."""

    def __init__(self, inner: Sandbox) -> None:
        self._inner = inner

    def strength(self) -> Strength:
        """But for the network, that of the inner one."""
        return replace(self._inner.strength(), blocks_network=False)

    async def spawn(self, argv: Sequence[str], wall: Wall) -> Confined:
        """Start a process."""
        return await self._inner.spawn(argv, replace(wall, network=True))

    async def close(self) -> None:
        """The inner one is closed by who opened it."""


@dataclass
class Machine:
    """A node's executors: opened as they are needed, one for each combination of limits."""

    home: Path
    options: Mapping[str, Any]
    sandbox: Sandbox
    parts: Mapping[str, Any]
    opened_already: dict[tuple[int, int, bool], Executor]

    @classmethod
    def opened(cls, plan: Mapping[str, Any], folder: Path, *, in_place: bool) -> Machine:
        """With the sandbox that the hub has chosen; Unavailable where that does not work here."""
        own = [str(folder / name) for name in ("w", "c", "s")]
        home = Path(plan["home"]) if in_place else folder
        sandbox = open_tile("sandbox", plan["sandbox"], Place(home))
        parts = {"sandbox": sandbox, "process_sandbox": sandbox}
        if plan["sandbox"] != "process":
            parts["process_sandbox"] = open_tile("sandbox", "process", Place(home))
        if "uv" in known_tiles("environments"):
            parts["environments"] = open_tile("environments", "uv", Place(home, plan["options"], dict(parts)))
        parts["bases"] = open_tile("bases", "local", Place(home, parts=dict(parts)))
        roots = [root for root, _, _ in plan["roots"]] if in_place else []
        return cls(home, {**plan["options"], "step_folders": own + roots}, sandbox, parts, {})

    @property
    def hides_files(self) -> bool:
        """Whether a step sees only what it is shown."""
        return self.sandbox.strength().hides_files

    @property
    def usual(self) -> Executor:
        """With the hub's own limits."""
        return self._with(int(self._option("step_memory_mib", 4096)), int(self._option("step_threads", 1)))

    def executor(self, component: Component, *, apart: bool) -> Executor:
        """One whose limits leave ``component`` what it asks for; ``apart``: it reaches the network."""
        asked = component.resources
        memory, threads = int(self._option("step_memory_mib", 4096)), int(self._option("step_threads", 1))
        wanted = max(asked.memory_bytes, asked.memory_bytes_least) / MIB
        if wanted > memory:  # the component's own limit narrows it again
            memory = max(memory, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MIB)
        threads = max(threads, math.ceil(max(asked.cpus, asked.cpus_least)))
        return self._with(memory, threads, apart=apart)

    def _option(self, name: str, default: int) -> Any:
        return self.options.get(name, default)

    def _with(self, memory_mib: int, threads: int, *, apart: bool = False) -> Executor:
        key = (memory_mib, threads, apart)
        if key not in self.opened_already:
            options = {**self.options, "step_memory_mib": memory_mib, "step_threads": threads}
            parts = dict(self.parts)
            if apart:  # a step that is forked has a network of its own, or none
                options["step_zygotes"] = 0
                parts["sandbox"] = _WithNetwork(self.sandbox)
            self.opened_already[key] = open_tile("executor", "local", Place(self.home, options, parts))
        return self.opened_already[key]

    def network(self) -> dict[str, str]:
        """Which interface bears the node's address, as gloo and NCCL want to know it."""
        address = _own_address()
        for _, name in socket.if_nameindex():
            if _address_of(name) == address:
                return {"GLOO_SOCKET_IFNAME": name, "NCCL_SOCKET_IFNAME": name}
        return {}

    def meeting_place(self) -> dict[str, str]:
        """An address of this node with a port that nobody had a moment ago."""
        address = _own_address()
        with socket.create_server((address, 0)) as server:
            return {"MASTER_ADDR": address, "MASTER_PORT": str(server.getsockname()[1])}

    async def close(self) -> None:
        """End all that runs."""
        for executor in self.opened_already.values():
            if close := getattr(executor, "close", None):
                await close()
        for part in {id(part): part for part in self.parts.values()}.values():
            if close := getattr(part, "close", None):
                await close()


def _own_address() -> str:
    """The address under which Ray knows this node."""
    own, nodes = ray.get_runtime_context().get_node_id(), cast(Any, ray.nodes)
    return str(next(node["NodeManagerAddress"] for node in nodes() if node["NodeID"] == own))


def _address_of(interface: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            said = fcntl.ioctl(asking, SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
        except OSError:
            return ""
    return socket.inet_ntoa(said[20:24])
