"""What one step may use: the executor's limits, and its component's own where these are narrower."""

from __future__ import annotations

import contextlib
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tallystick.core.pipeline.spec import Component

__all__ = ["Cores", "Limits", "TooMuch", "memory_folder_bytes"]

MIB = 1024 * 1024
CPU_GRACE_SECONDS = 5
"""From SIGXCPU at the limit to SIGKILL, for a process that catches the former."""
OPEN_FILES = 1024
FOLDER_MIB_MAX = 512
"""Of each folder in memory, as the sandbox has it."""


class TooMuch(Exception):
    """A step was ended for what it used; the message says what. It never leaves the executor."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one step. ``seconds`` by the clock; ``asked_seconds`` is what its component said.

    All but those of time and of ``disk_mib`` hold for each of its processes.
    """

    cpu_seconds: int
    memory_mib: int
    file_mib: int
    disk_mib: int
    processes: int
    threads: int
    cpus: float
    seconds: int
    asked_seconds: int

    @classmethod
    def of(cls, component: Component, options: Mapping[str, int], seconds_max: int) -> Limits:
        """The executor's ``options``, narrowed by what ``component`` asks for."""
        asked, memory = component.resources, options["step_memory_mib"]
        if asked.memory_bytes:
            memory = max(1, min(memory, asked.memory_bytes // MIB))
        threads = options["step_threads"]
        if asked.cpus:
            threads = min(threads, math.ceil(asked.cpus))
        return cls(
            cpu_seconds=options["step_cpu_seconds"],
            memory_mib=memory,
            file_mib=options["step_file_mib"],
            disk_mib=options["step_disk_mib"],
            processes=options["step_processes"],
            threads=threads,
            cpus=asked.cpus,
            seconds=min(seconds_max, component.timeout_s or seconds_max),
            asked_seconds=component.timeout_s,
        )

    def less_than_asked(self, component: Component) -> Iterator[str]:
        """A line for each thing of which the step gets less than its component allows it, or asks for."""
        asked, cores = component.resources, len(os.sched_getaffinity(0))
        memory = max(asked.memory_bytes, asked.memory_bytes_least) // MIB
        if memory > self.memory_mib:
            yield f"[it may have {memory} MiB of memory; here it gets {self.memory_mib} (setting memory_mib)]"
        cpus = max(asked.cpus, asked.cpus_least) * asked.workers
        if cpus > cores:
            yield f"[it may have {cpus:g} CPUs, and this machine gives {cores}]"
        if self.asked_seconds > self.seconds:
            yield f"[it may last {self.asked_seconds} s; here it gets {self.seconds} (setting step_cpu_s)]"

    @property
    def memory_folder_bytes(self) -> int:
        """Of each folder in memory."""
        return memory_folder_bytes(self.memory_mib)

    def wire(self, *, counted: bool) -> dict[str, tuple[int, int]]:
        """As setrlimit(2) takes them, by name. ``counted``: the step's own processes can be told apart."""
        limits = {
            "RLIMIT_CORE": (0, 0),
            "RLIMIT_DATA": (self.memory_mib * MIB,) * 2,
            "RLIMIT_FSIZE": (self.file_mib * MIB,) * 2,
            "RLIMIT_NOFILE": (OPEN_FILES,) * 2,
            "RLIMIT_CPU": (self.cpu_seconds, self.cpu_seconds + CPU_GRACE_SECONDS),
        }
        return limits | ({"RLIMIT_NPROC": (self.processes,) * 2} if counted else {})


def memory_folder_bytes(memory_mib: int) -> int:
    """Of each folder in memory, for a step that may use so much of it."""
    return min(memory_mib, FOLDER_MIB_MAX) * MIB


class Cores:
    """Deals out the machine's cores to steps that may not use all of them."""

    def __init__(self) -> None:
        self._steps: Counter[int] = Counter()

    @contextlib.contextmanager
    def taken(self, cpus: float) -> Iterator[list[int]]:
        """The cores for a step of so many ``cpus``, those with the fewest steps; none means all of them."""
        own = sorted(os.sched_getaffinity(0))
        count = math.ceil(cpus)
        chosen = sorted(own, key=lambda core: self._steps[core])[:count] if 0 < count < len(own) else []
        self._steps.update(chosen)
        try:
            yield sorted(chosen)
        finally:
            self._steps.subtract(chosen)
