"""Runs each step in a fresh Python process on this machine, behind the wall of the sandbox it stands on.

A step is forked from a zygote: a process that has imported what steps need, behind a wall of the sandbox, in
which each step gets a fence of its own that keeps from it what a wall of its own would. Where the machine
cannot do that, or a step asks for what only a new Python can do, it gets a process and wall of its own, which
takes a second instead of a few ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tallystick.core.errors import BadInput, MissingTile, NotSupported, Unavailable
from tallystick.core.pipeline.spec import Component
from tallystick.core.values import Environment
from tallystick.ports.executor import Job, Outcome
from tallystick.ports.runs.bases import Bases
from tallystick.ports.tile import Place
from tallystick.tiles.executor.box import Box, BrokenOutput, check_shape
from tallystick.tiles.executor.forked import StepLost, StepNotBegun
from tallystick.tiles.executor.limits import Cores, Limits, TooMuch
from tallystick.tiles.executor.lines import LOG_BYTES_MAX, Lines, printable
from tallystick.tiles.executor.python import Python
from tallystick.tiles.executor.running import Packed, Running

__all__ = ["LocalExecutor", "open_tile"]

WORKERS_MAX = 64
"""Workers of one step, all on this machine."""
WAIT_S = 60
"""A step may last this long and twice its CPU seconds: one that only sleeps uses none of those."""
ERROR_CHARS_MAX = 500
SPARE_BYTES = 5 << 20
"""What a process that waits for a step has of its own, with its keeper, where few modules are imported."""


def _memory_bytes() -> int:
    """What there is for all processes: the machine's, or as much as this container may have (cgroup v2)."""
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):  # there is no such file, or it says "max"
        return min(whole, int(Path("/sys/fs/cgroup/memory.max").read_text("ascii")))
    return whole


OPTIONS = {
    "step_threads": 1,
    "step_cpu_seconds": 600,
    "step_memory_mib": 4096,
    "step_file_mib": 2048,
    "step_processes": 512,
    "step_disk_mib": 8192,
    "step_log_bytes_max": LOG_BYTES_MAX,
    "step_zygotes": 4,
    "step_zygote_rest_seconds": 300,
    "step_spares": max(1, min(24, _memory_bytes() // 100 // SPARE_BYTES)),
}
"""The options with their defaults; ``step_threads`` is for OpenMP and BLAS.

``step_file_mib`` is for one file, ``step_disk_mib`` for all that a step leaves in its folder.

``step_zygotes`` are alive at rest at most (0: every step is a new Python), each for so many seconds. Of each,
``step_spares`` processes at most wait for steps to come, as many as the largest burst of steps has taken: by
default no more than take a hundredth of the machine's memory.
``step_folders`` lists the folders in which all steps have theirs, with their inputs and sockets: by default
``scratch``, ``run`` and ``workspaces`` in the home. A step that has anything elsewhere is a new Python.
"""
_MAY_BE_NONE = ("step_zygotes",)


class LocalExecutor:
    """Steps in processes of ``sandbox``, each with the limits in ``options``."""

    def __init__(self, running: Running, bases: Bases, options: Mapping[str, int]) -> None:
        self._running = running
        self._bases = bases
        self._options = options
        self._cores = Cores()

    @property
    def manner(self) -> str:
        """How steps come to be here, in words: forked or not, and why not."""
        return self._running.manner

    def check(self, component: Component, *, commands: bool = False) -> None:
        """See the port: of names, outputs, packages and resources that are not for this executor."""
        check_shape(component, commands=commands)
        _check_resources(component)
        self._bases.check(component)

    async def environment(self, component: Component) -> Environment:
        """What is installed beside the hub where that is enough, or else what its packages resolve to."""
        return await self._bases.environment(component)

    async def run(self, job: Job, on_log: Callable[[str], None]) -> Outcome:
        """Run a step; BadInput when its folder is not empty or an input file is missing."""
        check_shape(job.component, commands=job.commands)
        _check_resources(job.component)
        box = Box(_resolved(job.workdir.parent) / job.workdir.name)
        limits = Limits.of(job.component, self._options, 2 * self._options["step_cpu_seconds"] + WAIT_S)
        lines = Lines(on_log, self._options["step_log_bytes_max"])
        for less in limits.less_than_asked(job.component):
            on_log(less)
        python = Python.of(await self._bases.built(job.component, job.environment, on_log))
        with self._cores.taken(limits.cpus * job.component.resources.workers) as cores:
            try:
                _pack(box, job)  # a few small folders: sooner done than a thread is found for it
            except OSError as wrong:
                raise BadInput(
                    f"the step's folder or inputs cannot be used: {wrong}", where=job.key
                ) from wrong
            try:
                status = await self._running.run(Packed(job, box, limits, cores, lines, python))
            except TimeoutError:
                return Outcome(error=_too_long(limits))
            except (StepLost, StepNotBegun, TooMuch) as wrong:
                return Outcome(error=_one_line(str(wrong)) or _why_killed(limits))
        if status == 0 and box.is_soon_unpacked(job.component):
            return _outcome(job, box, limits, status, lines.last)
        return await asyncio.to_thread(_outcome, job, box, limits, status, lines.last)

    async def close(self) -> None:
        """End all that steps are forked from, and every step; its sandbox's end does that too."""
        await self._running.close()


@lru_cache(maxsize=16)
def _resolved(folder: Path) -> Path:
    """Free of links. To find out takes a look at each folder above it, and all steps have theirs in one."""
    return folder.resolve()


def _pack(box: Box, job: Job) -> None:
    for file in (file for some in job.artifacts.values() for file in some):
        file.path.stat()
    box.open()


def _check_resources(component: Component) -> None:
    asked = component.resources
    if asked.gpus:
        what = "it asks for GPUs, which steps on this machine do not get"
        raise NotSupported(what, where=component.name, hint="--no-gpus runs it without any")
    if not 1 <= asked.workers <= WORKERS_MAX:
        raise NotSupported(
            f"it asks for {asked.workers} workers; here it gets 1 to {WORKERS_MAX}", where=component.name
        )


def _outcome(job: Job, box: Box, limits: Limits, status: int, last_line: str) -> Outcome:
    if status == 0:
        try:
            return box.unpack(job.component)
        except BrokenOutput as wrong:
            return Outcome(error=_one_line(str(wrong)))
        except OSError as wrong:
            return Outcome(error=_one_line(f"an output cannot be read: {wrong.strerror}"))
    return Outcome(error=_one_line(_why(box.failed(), limits, status, last_line)))


def _why(failed: Mapping[str, Any], limits: Limits, status: int, last_line: str) -> str:
    if isinstance(said := failed.get("error"), str) and status > 0:
        limit = f" (the step's limit is {limits.memory_mib} MiB of memory)" if failed.get("memory") else ""
        return said[:ERROR_CHARS_MAX] + limit
    if status == -signal.SIGXCPU:
        return f"killed: it used up its {limits.cpu_seconds} CPU seconds"
    if status == -signal.SIGKILL:
        return _why_killed(limits)
    how = f"ended by {_signal_name(-status)}" if status < 0 else f"ended with status {status}"
    return f"{how}: {last_line or 'it printed nothing'}"


def _why_killed(limits: Limits) -> str:
    limit = f"the step's limit is {limits.memory_mib} MiB"
    return f"killed by SIGKILL: the machine may be out of memory ({limit})"


def _too_long(limits: Limits) -> str:
    done = f"killed: it was not done after {limits.seconds} s"
    if limits.seconds == limits.asked_seconds:
        return done
    return f"{done} (twice its {limits.cpu_seconds} CPU seconds and {WAIT_S} s)"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _one_line(text: str) -> str:
    return " ".join(printable(" ".join(text.split())).split())[: ERROR_CHARS_MAX + 100]


def open_tile(place: Place) -> LocalExecutor:
    """The executor on ``place.parts``: ``sandbox``, for its processes, and ``bases``, for what they run on.

    ``OPTIONS`` says which options there are.
    """
    for part in ("sandbox", "bases"):
        if part not in place.parts:
            raise Unavailable(f"it stands on the part {part!r}, and got none", where="executor/local")
    sandbox, bases = place.parts["sandbox"], place.parts["bases"]
    try:
        version("kfp")
    except PackageNotFoundError:
        raise MissingTile(
            "it needs the Python package kfp, for the runtime of components alone",
            where="executor/local",
            hint="pip install --no-deps kfp",
        ) from None
    options = {name: place.options.get(name, default) for name, default in OPTIONS.items()}
    for name, value in options.items():
        least = 0 if name in _MAY_BE_NONE else 1
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise BadInput(f"{value!r} is not a whole number of at least {least}", where=f"option {name}")
    usual = [place.home / name for name in ("scratch", "run", "workspaces")]
    roots = place.options.get("step_folders") or usual
    running = Running(sandbox, options, [Path(root) for root in roots], bases.stamp)
    return LocalExecutor(running, bases, options)
