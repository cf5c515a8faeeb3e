"""A sandbox without walls, for tests of what runs in one: plain processes, nothing hidden."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from typing import Any

from tallystick.core.wall import Strength, Wall
from tallystick.ports.sandbox import Confined

__all__ = ["GRACE_S_MAX", "PlainSandbox"]

GRACE_S_MAX = 5.0
"""The longest that any process may take to heed SIGTERM."""


class _Stdin:
    """What is written to a process that has ended is lost, whatever the loop thinks of that."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def write(self, data: bytes) -> None:
        with contextlib.suppress(RuntimeError):
            self._writer.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)


class _Plain:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        self._process = process
        self.pid = process.pid
        self.stdin: Any = _Stdin(process.stdin)
        self.stdout, self.stderr = process.stdout, process.stderr

    async def wait(self) -> int:
        return await self._process.wait()

    async def end(self, grace_s: float = 5.0) -> int:
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(min(grace_s, GRACE_S_MAX)):
                await self._process.wait()
        except TimeoutError:
            pass
        self._signal(signal.SIGKILL)
        status = await self._process.wait()
        self.stdin.close()
        with contextlib.suppress(ConnectionError):
            await self.stdin.wait_closed()
        return status

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


class PlainSandbox:
    """Satisfies ``ports.sandbox.Sandbox`` on any machine, and keeps none of its promises."""

    def __init__(self) -> None:
        self._started: list[_Plain] = []

    def strength(self) -> Strength:
        return Strength("plain", False, False, False, False)

    async def spawn(self, argv: Sequence[str], wall: Wall) -> Confined:
        # A start is not to be broken off: what was forked by then would be nobody's, and outlive its loop.
        starting = asyncio.ensure_future(self._start(argv, wall))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            await (await starting).end(grace_s=0)
            raise

    async def _start(self, argv: Sequence[str], wall: Wall) -> _Plain:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=wall.workdir,
            env=dict(wall.env),
            start_new_session=True,
        )
        self._started.append(_Plain(process))
        return self._started[-1]

    async def close(self) -> None:
        for process in self._started:
            await process.end()
