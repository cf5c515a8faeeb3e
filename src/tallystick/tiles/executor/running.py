"""One step's process, from its start to its end: forked from a zygote, or else on its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tallystick.core.pipeline.imports import modules_of, packages_in, starts_differently
from tallystick.core.pipeline.spec import Function
from tallystick.core.wall import Wall
from tallystick.ports.executor import Job
from tallystick.ports.sandbox import Sandbox
from tallystick.tiles.executor.box import Box, bytes_on_disk
from tallystick.tiles.executor.forked import NobodyThere, StepLost
from tallystick.tiles.executor.limits import Limits, TooMuch, memory_folder_bytes
from tallystick.tiles.executor.lines import Lines, Stream
from tallystick.tiles.executor.pool import Zygotes
from tallystick.tiles.executor.python import Python, usual_env
from tallystick.tiles.executor.zygote import CannotFork, Order, Zygote, start_zygote

__all__ = ["Packed", "Running"]

GRACE_S = 2.0
ASKED_MAX = 3
"""Zygotes that may end between being found alive and being asked, before the step gets a process alone."""
LOST_S = 1.0
"""After a step has gone without a word, how long to wait for its zygote's end, to say whose fault it was."""
LOOK_EVERY_S = 1.0
"""How often to see whether packages were installed."""
DISK_LOOK_S = 1.0
"""Between two looks at a folder's size, or ten times as long as one takes."""
ZYGOTE_MEMORY_MIB = 4096
PROCESSES_MAX = 1 << 16
"""Of all steps of a zygote together; each has a limit of its own."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A job in its folder, ready to run with ``python``, on ``cores`` if any, printing to ``lines``."""

    job: Job
    box: Box
    limits: Limits
    cores: Sequence[int]
    lines: Lines
    python: Python


@dataclass(frozen=True, slots=True)
class _Process:
    """What can be done with a step's process, however it came to be."""

    streams: Sequence[Stream]
    wait: Callable[[], Awaitable[int]]
    end: Callable[[float], Awaitable[Any]]


class Running:
    """Runs steps of ``sandbox`` with zygotes that see ``roots``, as far as there are any.

    ``stamp`` changes whenever a package is installed or removed beside the hub.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        options: Mapping[str, int],
        roots: Sequence[Path],
        stamp: Callable[[], Hashable],
    ) -> None:
        self._sandbox = sandbox
        self._options = options
        self._roots = _spelled(roots)
        strength = sandbox.strength()
        self._fence = strength.hides_files or strength.hides_processes or strength.blocks_network
        self._stamp = stamp
        self._stamped: Hashable = None
        self._looked_at = -LOOK_EVERY_S
        self._zygotes = Zygotes(
            self._start, options["step_zygotes"], float(options["step_zygote_rest_seconds"])
        )

    @property
    def manner(self) -> str:
        """How steps come to be, in words, and why none is forked where none can be."""
        alone = "each step is a new Python, behind a wall of its own"
        if not self._options["step_zygotes"]:
            return alone
        if self._zygotes.trouble:
            return f"{alone}, as it cannot be forked: {self._zygotes.trouble}"
        fenced = "put behind a fence of its own" if self._fence else "kept from signalling or tracing others"
        return f"each step is forked from a process that has its modules, and {fenced}"

    async def run(self, step: Packed) -> int:
        """A step's exit status (negative: the signal that ended it), once all of it is gone.

        TimeoutError when it was ended for the time it took; StepLost or StepNotBegun, with the reason.
        """
        for _ in range(ASKED_MAX if self._may_fork(step) else 0):
            with contextlib.suppress(CannotFork, NobodyThere):
                return await self._run_forked(step)
            if self._zygotes.trouble:
                break
        return await self._run_alone(step)

    async def close(self) -> None:
        """End all zygotes, and every step of theirs."""
        await self._zygotes.close()

    def _may_fork(self, step: Packed) -> bool:
        if not self._options["step_zygotes"]:
            return False
        if starts_differently({**step.job.component.env, **step.job.env}, self._zygote_env(step.python)):
            return False
        return not self._fence or all(self._is_shared(path) for path, _ in _shown(step))

    def _is_shared(self, path: str) -> bool:
        return any(path.startswith(f"{root}/") for root in self._roots)

    # ------------------------------------------------------------------ forked

    async def _run_forked(self, step: Packed) -> int:
        self._heed_environment()
        order = {
            "step": step.box.order_of(step.job, step.cores),
            "env": self._env(step),
            "cwd": str(step.box.root),
            "limits": step.limits.wire(counted=self._fence),
            "shown": [*_shown(step), *((path, False) for path in step.python.shown)],
            "memory_folder_bytes": step.limits.memory_folder_bytes,
            "processes": step.limits.processes,
            "hub": step.job.door is not None,
            "runtime": step.python.runtime if self._fence else "",
            "program": step.python.program,
        }
        async with self._zygotes.taken(step.python, self._modules(step)) as zygote:
            forked = await zygote.fork(order, step.job.door, step.job.kept)
            process = _Process((forked.stdout,), forked.wait, forked.end)
            status = await _attended(process, step)
            if isinstance(forked.trouble, StepLost) and await zygote.has_ended(LOST_S):
                raise StepLost("killed: the process that steps are forked from has ended")
            if forked.trouble:
                raise forked.trouble
            return status

    def _heed_environment(self) -> None:
        """Packages that were installed or removed make new zygotes: what they have imported may be old."""
        if (now := time.monotonic()) < self._looked_at + LOOK_EVERY_S:
            return
        self._looked_at = now
        if (stamp := self._stamp()) != self._stamped:
            self._stamped = stamp
            self._zygotes.retire()

    def _modules(self, step: Packed) -> frozenset[str]:
        """Numeric libraries start threads as they are imported: with more than one, they come in the step.

        Nor does a zygote that sees the folders of all steps import what a component has asked for: anything
        can be in a package that has the name of a known one.
        """
        code = step.job.component.code
        if step.limits.threads > 1 or not isinstance(code, Function) or (step.python.runtime and self._fence):
            return frozenset()
        return modules_of(packages_in(code.source))

    async def _start(self, python: Python, modules: frozenset[str]) -> Zygote:
        for root in self._roots:
            try:
                await asyncio.to_thread(_make, root)
            except OSError as wrong:
                raise CannotFork(f"{root}: {wrong.strerror}") from wrong
        ceiling = resource.getrlimit(resource.RLIMIT_NPROC)[1]
        wall = Wall(
            workdir=self._roots[0],
            readable=python.shown,
            writable=self._roots,
            env=self._zygote_env(python),
            cpu_seconds=0,
            memory_mib=max(ZYGOTE_MEMORY_MIB, self._options["step_memory_mib"]),
            file_mib=self._options["step_file_mib"],
            processes=PROCESSES_MAX if ceiling == resource.RLIM_INFINITY else min(ceiling, PROCESSES_MAX),
            nests=self._fence,
        )
        usual = memory_folder_bytes(self._options["step_memory_mib"])
        order = Order(python, modules, self._roots, self._fence, usual, self._options["step_spares"])
        return await start_zygote(self._sandbox, order, wall)

    # ------------------------------------------------------------------- alone

    async def _run_alone(self, step: Packed) -> int:
        box, limits, shown = step.box, step.limits, _shown(step)
        hub_socket = await step.job.door.path() if step.job.door else None
        order = json.dumps(box.order_of(step.job, step.cores, hub_socket))
        await asyncio.to_thread(box.order.write_text, order, encoding="utf-8")
        wall = Wall(
            workdir=str(box.root),
            readable=(*step.python.shown, *(path for path, writable in shown if not writable)),
            writable=(
                *(path for path, writable in shown[1:] if writable),
                *([str(hub_socket.absolute())] if hub_socket else []),
            ),
            env=self._env(step),
            cpu_seconds=limits.cpu_seconds,
            memory_mib=limits.memory_mib,
            file_mib=limits.file_mib,
            processes=limits.processes,
        )
        # -P: the step's folder is not on Python's path, so no file in it can pose as a module.
        command = [step.python.program, "-P", "-m", "tallystick.crew.step", str(box.order)]
        if step.job.kept:
            await step.job.kept.wait()
        process = await self._sandbox.spawn(command, wall)
        process.stdin.close()
        return await _attended(_Process((process.stdout, process.stderr), process.wait, process.end), step)

    # ------------------------------------------------------------- environment

    def _zygote_env(self, python: Python) -> dict[str, str]:
        # pyarrow's jemalloc would start a thread as it is imported.
        still = {"JE_ARROW_MALLOC_CONF": "background_thread:false", "HOME": "/nonexistent"}
        return {**usual_env(python, 1), **still, **python.bare_path()}

    def _env(self, step: Packed) -> dict[str, str]:
        """The step's whole environment: nothing of the hub's own process."""
        env = {
            **usual_env(step.python, step.limits.threads),
            **step.job.component.env,
            "HOME": str(step.box.home),
            "TMPDIR": str(step.box.temporary),
            **step.job.env,
        }
        return env | step.python.path(env.get("PYTHONPATH", ""))


def _shown(step: Packed) -> list[tuple[str, bool]]:
    """The paths that a step may see, its folder first, and whether it may write there."""
    job = step.job
    files = [str(file.path.absolute()) for some in job.artifacts.values() for file in some]
    more = [(str(job.shared.absolute()), True)] if job.shared else []
    return [(str(step.box.root), True), *((path, False) for path in dict.fromkeys(files)), *more]


def _spelled(roots: Sequence[Path]) -> tuple[str, ...]:
    """The folders under each name that a job may use for them: as they are given, and free of links."""
    return tuple(dict.fromkeys(str(way) for root in roots for way in (root.absolute(), root.resolve())))


def _make(folder: str) -> None:
    Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)


async def _attended(process: _Process, step: Packed) -> int:
    """Read what it prints until it has ended; whatever happens here, its tree is gone afterwards."""
    try:
        async with asyncio.timeout(step.limits.seconds), asyncio.TaskGroup() as group:
            for stream in process.streams:
                group.create_task(step.lines.pump(stream))
            watching = group.create_task(_watched(step))
            waiting = group.create_task(_status(process, watching))
        if step.job.shared_bytes:  # a step that is quick is not looked at while it runs
            await asyncio.to_thread(_check_shared, step.job)
        return waiting.result()
    except ExceptionGroup as several:
        raise several.exceptions[0] from None
    finally:
        await asyncio.shield(asyncio.ensure_future(process.end(GRACE_S)))


async def _status(process: _Process, watching: asyncio.Task[None]) -> int:
    status = await process.wait()
    watching.cancel()
    return status


async def _watched(step: Packed) -> None:
    """Look at the size of its folders again and again; TooMuch once one is over what it may be."""
    pause = DISK_LOOK_S
    while True:
        await asyncio.sleep(pause)
        begun = time.monotonic()
        await asyncio.to_thread(_check_disk, step)
        pause = max(DISK_LOOK_S, 10 * (time.monotonic() - begun))


def _check_disk(step: Packed) -> None:
    mib_max = step.limits.disk_mib
    if bytes_on_disk(step.box.root) > mib_max << 20:
        raise TooMuch(f"killed: it has left more than {mib_max} MiB in its folder (option step_disk_mib)")
    _check_shared(step.job)


def _check_shared(job: Job) -> None:
    if job.shared and job.shared_bytes and bytes_on_disk(job.shared) > job.shared_bytes:
        raise TooMuch(f"the run's workspace holds more than the {job.shared_bytes} bytes that it may")
