"""Runs each step in a fresh Python process on this machine, behind the wall of the sandbox it stands on."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import tallystick
from tallystick.core.errors import BadInput, MissingTile, Unavailable
from tallystick.core.pipeline.spec import Component
from tallystick.core.wall import Wall
from tallystick.ports.executor import Job, Outcome
from tallystick.ports.sandbox import Confined, Sandbox
from tallystick.ports.tile import Place
from tallystick.tiles.executor.box import Box, BrokenOutput, check_shape, function_of
from tallystick.tiles.executor.installed import check_packages, environment_digest, environment_stamp
from tallystick.tiles.executor.lines import LOG_BYTES_MAX, Lines, printable

__all__ = ["LocalExecutor", "open_tile"]

GRACE_S = 2.0
WAIT_S = 60
"""A step may last this long and twice its CPU seconds: one that only sleeps uses none of those."""
ERROR_CHARS_MAX = 500
OPTIONS = {
    "step_threads": 1,
    "step_cpu_seconds": 600,
    "step_memory_mib": 4096,
    "step_file_mib": 2048,
    "step_processes": 512,
    "step_log_bytes_max": LOG_BYTES_MAX,
}
"""The options with their defaults; ``step_threads`` is for OpenMP and BLAS."""
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_PACKAGE_HOME = Path(tallystick.__file__).parents[1]
_FOUND_ALREADY = _PACKAGE_HOME.is_relative_to(sys.prefix) or _PACKAGE_HOME.is_relative_to(sys.base_prefix)


class LocalExecutor:
    """Steps in processes of ``sandbox``, each with the limits in ``options``."""

    def __init__(self, sandbox: Sandbox, options: Mapping[str, int]) -> None:
        self._sandbox = sandbox
        self._options = options
        self._environment: tuple[object, str] = (None, "")

    def check(self, component: Component) -> None:
        """NotSupported, naming the name, output or package that this executor cannot do."""
        check_shape(component)
        check_packages(function_of(component).packages, component.name)

    async def environment(self) -> str:
        """Computed anew whenever a package was installed or removed."""
        stamp = environment_stamp()
        if self._environment[0] != stamp:
            self._environment = (stamp, await asyncio.to_thread(environment_digest))
        return self._environment[1]

    async def run(self, job: Job, on_log: Callable[[str], None]) -> Outcome:
        """Run a step; BadInput when its folder is not empty or an input file is missing."""
        check_shape(job.component)
        box = Box(job.workdir.resolve())
        try:
            await asyncio.to_thread(box.pack, job)
        except OSError as wrong:
            raise BadInput(f"the step's folder cannot be used: {wrong}", where=job.key) from wrong
        wall, lines = self._wall(job, box), Lines(on_log, self._options["step_log_bytes_max"])
        # -P: the step's folder is not on Python's path, so no file in it can pose as a module.
        command = [sys.executable, "-P", "-m", "tallystick.crew.step", str(box.order)]
        process = await self._sandbox.spawn(command, wall)
        seconds_max = 2 * self._options["step_cpu_seconds"] + WAIT_S
        try:
            async with asyncio.timeout(seconds_max):
                status = await self._attend(process, lines)
        except TimeoutError:
            limit = f"twice its {self._options['step_cpu_seconds']} CPU seconds and {WAIT_S} s"
            return Outcome(error=f"killed: it was not done after {seconds_max} s ({limit})")
        return await asyncio.to_thread(self._outcome, job, box, status, lines.last)

    async def _attend(self, process: Confined, lines: Lines) -> int:
        """Read what it prints until it has ended; whatever happens here, its tree is gone afterwards."""
        process.stdin.close()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(lines.pump(process.stdout))
                group.create_task(lines.pump(process.stderr))
                waiting = group.create_task(process.wait())
            return waiting.result()
        finally:
            await asyncio.shield(process.end(grace_s=GRACE_S))

    def _wall(self, job: Job, box: Box) -> Wall:
        files = [str(file.path.absolute()) for some in job.artifacts.values() for file in some]
        return Wall(
            workdir=str(box.root),
            readable=tuple(dict.fromkeys(files)),
            writable=(str(job.hub_socket.absolute()),) if job.hub_socket else (),
            env=self._env(job, box),
            cpu_seconds=self._options["step_cpu_seconds"],
            memory_mib=self._options["step_memory_mib"],
            file_mib=self._options["step_file_mib"],
            processes=self._options["step_processes"],
        )

    def _env(self, job: Job, box: Box) -> dict[str, str]:
        """The step's whole environment: nothing of the hub's own."""
        threads = dict.fromkeys(_THREADS, str(self._options["step_threads"]))
        return {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            **({} if _FOUND_ALREADY else {"PYTHONPATH": str(_PACKAGE_HOME)}),
            "PYTHONUNBUFFERED": "1",
            "LANG": "C.UTF-8",
            "HOME": str(box.home),
            "TMPDIR": str(box.temporary),
            **threads,
            **job.env,
        }

    def _outcome(self, job: Job, box: Box, status: int, last_line: str) -> Outcome:
        if status == 0:
            try:
                return box.unpack(job.component)
            except BrokenOutput as wrong:
                return Outcome(error=_one_line(str(wrong)))
            except OSError as wrong:
                return Outcome(error=_one_line(f"an output cannot be read: {wrong.strerror}"))
        return Outcome(error=_one_line(self._why(box.failed(), status, last_line)))

    def _why(self, failed: Mapping[str, Any], status: int, last_line: str) -> str:
        memory = self._options["step_memory_mib"]
        if isinstance(said := failed.get("error"), str) and status > 0:
            limit = f" (the step's limit is {memory} MiB of memory)" if failed.get("memory") else ""
            return said[:ERROR_CHARS_MAX] + limit
        if status == -signal.SIGXCPU:
            return f"killed: it used up its {self._options['step_cpu_seconds']} CPU seconds"
        if status == -signal.SIGKILL:
            return f"killed by SIGKILL: the machine may be out of memory (the step's limit is {memory} MiB)"
        how = f"ended by {_signal_name(-status)}" if status < 0 else f"ended with status {status}"
        return f"{how}: {last_line or 'it printed nothing'}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _one_line(text: str) -> str:
    return " ".join(printable(" ".join(text.split())).split())[: ERROR_CHARS_MAX + 100]


def open_tile(place: Place) -> LocalExecutor:
    """The executor on ``place.parts["sandbox"]``; ``OPTIONS`` says which options there are."""
    sandbox = place.parts.get("sandbox")
    if sandbox is None:
        raise Unavailable("it stands on a sandbox, and got none", where="executor/local")
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
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise BadInput(f"{value!r} is not a whole number of at least 1", where=f"option {name}")
    return LocalExecutor(sandbox, options)
