"""Errands: work that the hub has done in a process of its own, behind a wall.

The hub writes one line of JSON, the order, to the process's standard input and reads lines of JSON
from its standard output: ``{"progress": share, "text": ...}`` any number of times, ``{"ready": {}}``
where it goes on serving, and at the end ``{"result": {...}}`` or ``{"error": {...}}``. What it
prints to standard error is kept for the message, should it end without a result.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from tallystick.core.errors import Failed, TallyError, TookTooLong, error_from_dict
from tallystick.core.names import canonical_json
from tallystick.core.wall import Wall
from tallystick.ports.sandbox import Confined, Sandbox

__all__ = ["LINE_BYTES_MAX", "Errand", "run_errand"]

LINE_BYTES_MAX = 16 * 1024 * 1024
TAIL_BYTES = 16 * 1024
TEXT_CHARS_MAX = 500
GRACE_S = 60
LEAVE_S = 5.0
"""How long a worker may live on after it closed its standard output."""

ENDINGS = ("result", "error")
Progress = Callable[[float, str], None]


class Errand:
    """A started errand: its process, and the lines that it says."""

    def __init__(self, name: str, process: Confined) -> None:
        self.name = name
        self.process = process
        self._tail = b""
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, sandbox: Sandbox, name: str, order: Mapping[str, Any], wall: Wall) -> Errand:
        """Start ``tallystick.crew.<name>`` behind ``wall`` and hand it ``order``."""
        process = await sandbox.spawn([sys.executable, "-m", f"tallystick.crew.{name}"], wall)
        errand = cls(name, process)
        try:
            with contextlib.suppress(ConnectionError):
                process.stdin.write(json.dumps(order).encode() + b"\n")
                await process.stdin.drain()
        except asyncio.CancelledError:  # nobody else knows of the process yet
            await errand.end()
            raise
        return errand

    async def _listen(self) -> None:
        while chunk := await self.process.stderr.read(TAIL_BYTES):
            self._tail = (self._tail + chunk)[-TAIL_BYTES:]

    async def lines(self) -> AsyncIterator[Mapping[str, Any]]:
        """What it says, line by line; an ``error`` line is raised, and so is an end without a result."""
        while line := await _read_line(self.process.stdout):
            said = self._parse(line)
            if "error" in said:
                raise error_from_dict(said["error"])
            yield said
            if "result" in said:
                return
        raise await self.died()

    def _parse(self, line: bytes) -> dict[str, Any]:
        """A line of the protocol; what a ledger could not keep (NaN, half a character) is none."""
        try:
            said = json.loads(line)
            canonical_json(said).encode()
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict) or not all(isinstance(said.get(k, {}), dict) for k in ENDINGS):
            raise Failed("the worker said something that is not its protocol", where=self.name)
        return said

    async def died(self) -> TallyError:
        """The error for a process that ended by itself: its status and the last that it printed."""
        try:
            status = await asyncio.wait_for(self.process.wait(), LEAVE_S)
        except TimeoutError:  # it lives on, but has closed the only way to say something
            status = await self.process.end()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._listening), 1)
        printed = self._tail.decode("utf-8", "replace").splitlines()
        last = next((line.strip() for line in reversed(printed) if line.strip()), "it printed nothing")
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return Failed(f"the worker {how}: {last[:TEXT_CHARS_MAX]}", where=self.name)

    async def end(self) -> int:
        """End the process and all its children; its status."""
        status = await self.process.end()
        self._listening.cancel()
        return status


async def _read_line(stream: asyncio.StreamReader) -> bytes:
    """One line, or what is left at the end; a line over the limit is an error, not a growing buffer."""
    try:
        return await stream.readuntil(b"\n")
    except asyncio.IncompleteReadError as rest:
        return rest.partial
    except asyncio.LimitOverrunError:
        raise Failed(f"the worker said a line of over {LINE_BYTES_MAX} bytes", where="errand") from None


async def run_errand(
    sandbox: Sandbox, name: str, order: Mapping[str, Any], wall: Wall, progress: Progress | None = None
) -> Mapping[str, Any]:
    """Have an errand done and return its result; cancelling this ends the process.

    TookTooLong after twice the CPU time that the wall allows: a worker that only sleeps uses none.
    """
    errand = await Errand.start(sandbox, name, order, wall)
    seconds_max = 2 * wall.cpu_seconds + GRACE_S if wall.cpu_seconds else None
    try:
        async with asyncio.timeout(seconds_max):
            async for said in errand.lines():
                share = said.get("progress")
                if progress and isinstance(share, int | float):
                    progress(min(1.0, max(0.0, share)), str(said.get("text", ""))[:TEXT_CHARS_MAX])
                if "result" in said:
                    return dict(said["result"])
            raise await errand.died()
    except TimeoutError:
        raise TookTooLong(f"the worker was not done after {seconds_max} s", where=name) from None
    finally:
        await errand.end()
