"""The hub's side of the worker: starts it when needed, asks one thing at a time, ends it when idle."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tallystick
from tallystick.core.errors import Failed, Unavailable, error_from_dict
from tallystick.core.wall import Wall
from tallystick.ports.sandbox import Confined, Sandbox

__all__ = ["ANSWER_BYTES_MAX", "Clerk", "Terms"]

ANSWER_BYTES_MAX = 64 * 1024 * 1024
TAIL_LINES = 20


@dataclass(frozen=True, slots=True)
class Terms:
    """How the worker is kept: seconds of idleness before it is ended, of one request, of its start."""

    idle_s: float = 600.0
    call_s_max: float = 1800.0
    start_s_max: float = 120.0
    memory_mib: int = 8192


class Clerk:
    """One worker at most, restarted by the next request after it has died."""

    def __init__(
        self, sandbox: Sandbox, order: Mapping[str, Any], folders: tuple[Path, ...], terms: Terms
    ) -> None:
        self._sandbox = sandbox
        self._order = order
        self._folders = folders
        self._terms = terms
        self._turn = asyncio.Lock()
        self._process: Confined | None = None
        self._lines = _Lines()
        self._idle: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The worker's process id while it runs."""
        return self._process.pid if self._process else None

    async def ask(self, verb: str, **details: Any) -> Mapping[str, Any]:
        """The worker's answer; its error is raised, Failed when it died or took too long.

        Cancelling this ends the worker: whether the request was done is then unknown, as after a crash.
        """
        async with self._turn:
            if self._closed:
                raise Unavailable("the catalogue is closed", where="catalogue")
            self._rest()
            try:
                await self._start()
                said = await self._exchange({"verb": verb, **details}, self._terms.call_s_max)
            except (
                BaseException
            ):  # cancelled, too late, died: a worker that was interrupted is never asked again
                await self._end()
                raise
            self._watch()
        if "error" in said:
            raise error_from_dict(dict(said["error"]))
        return dict(said["result"])

    async def _start(self) -> None:
        if self._process:
            return
        argv = [sys.executable, "-P", "-m", "tallystick.tiles.catalogue.worker"]
        self._process = await self._sandbox.spawn(argv, self._wall())
        self._lines = _Lines(self._process)
        said = await self._exchange(self._order, self._terms.start_s_max)
        if "error" in said:
            raise error_from_dict(dict(said["error"]))

    def _wall(self) -> Wall:
        source = str(Path(tallystick.__file__).resolve().parent.parent)
        return Wall(
            workdir=str(self._folders[0]),
            readable=tuple(dict.fromkeys((sys.prefix, sys.base_prefix, source))),
            writable=tuple(map(str, self._folders)),
            env={
                "PYTHONPATH": source,
                "PYTHONUTF8": "1",
                "HOME": str(self._folders[0]),
                "TZ": "UTC",
                "ARROW_DEFAULT_MEMORY_POOL": "system",
            },
            cpu_seconds=0,
            memory_mib=self._terms.memory_mib,
            file_mib=1024 * 1024,
        )

    async def _exchange(self, asked: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        process = self._process
        if process is None:
            raise Unavailable("the worker is not running", where="catalogue worker")
        try:
            async with asyncio.timeout(seconds):
                with contextlib.suppress(ConnectionError):  # it has died; reading says so
                    process.stdin.write(json.dumps(asked).encode() + b"\n")
                    await process.stdin.drain()
                line = await self._lines.next()
        except TimeoutError:
            raise Failed(
                f"the worker did not answer within {seconds:g} s", where="catalogue worker"
            ) from None
        return _parsed(line) if line else await self._died(process)

    async def _died(self, process: Confined) -> dict[str, Any]:
        status = await process.wait()
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        last = await self._lines.last_words()
        raise Failed(
            f"the worker {how}: {last[:500]}", where="catalogue worker", hint="try again: it is started anew"
        )

    def _rest(self) -> None:
        if self._idle:
            self._idle.cancel()
            self._idle = None

    def _watch(self) -> None:
        self._rest()
        self._idle = asyncio.get_running_loop().call_later(self._terms.idle_s, self._idled)

    def _idled(self) -> None:
        if not self._turn.locked():
            self._ending = asyncio.create_task(self._end_idle(self._idle))

    async def _end_idle(self, elapsed: asyncio.TimerHandle | None) -> None:
        async with self._turn:
            # Whoever asked meanwhile has set another timer. The clock cannot say so: a loop may call a timer
            # at a time() that, rounded, lies just before its when().
            if elapsed is not None and self._idle is elapsed:
                await self._end()

    async def _end(self) -> None:
        process, self._process = self._process, None
        self._rest()
        if process:
            await process.end()
            self._lines.stop()

    async def close(self) -> None:
        """End the worker, in the middle of a request if need be; twice is fine."""
        self._closed = True
        process = self._process
        if process:
            await process.end()
        async with self._turn:
            await self._end()
        if self._ending:
            await self._ending


class _Lines:
    """What a process says: whole lines from standard output, the last ones from standard error."""

    def __init__(self, process: Confined | None = None) -> None:
        self._process = process
        self._rest = b""
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._listening = asyncio.create_task(self._listen(process)) if process else None

    async def _listen(self, process: Confined) -> None:
        rest = b""
        while some := await process.stderr.read(65536):
            *lines, rest = (rest + some).split(b"\n")
            self._tail.extend(line.decode("utf-8", "replace") for line in lines)
            rest = rest[-4096:]
        self._tail.append(rest.decode("utf-8", "replace"))

    async def next(self) -> bytes:
        """One line, empty at the end; the stream's own limit on lines does not matter."""
        if self._process is None:
            return b""
        parts = [self._rest]
        size = len(self._rest)
        while b"\n" not in parts[-1]:
            some = await self._process.stdout.read(1024 * 1024)
            if not some:
                return b""
            parts.append(some)
            size += len(some)
            if size > ANSWER_BYTES_MAX:
                raise Failed(
                    f"the worker's answer has over {ANSWER_BYTES_MAX} bytes", where="catalogue worker"
                )
        line, _, self._rest = b"".join(parts).partition(b"\n")
        return line

    async def last_words(self) -> str:
        """The last that it printed."""
        if self._listening:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._listening), 1)
        return next((line for line in reversed(self._tail) if line.strip()), "it printed nothing")

    def stop(self) -> None:
        """Listen no more."""
        if self._listening:
            self._listening.cancel()


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        said = json.loads(line)
    except ValueError:
        said = None
    if not isinstance(said, dict) or not said.keys() & {"result", "error", "ready"}:
        raise Failed("the worker said something that is not its protocol", where="catalogue worker")
    return said
