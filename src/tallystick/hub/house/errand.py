"""Errands: work that the hub has done in a process of its own, behind a wall.

The hub writes one line of JSON, the order, to the process's standard input and reads lines of JSON
from its standard output: ``{"progress": share, "text": ...}`` any number of times, ``{"ready": {}}``
where it goes on serving, and at the end ``{"result": {...}}`` or ``{"error": {...}}``. What it
prints to standard error is kept for the message, should it end without a result.

A worker that runs somebody's code may say anything at all, so its words are bounded: their length and
number, the kinds of error, and the characters that reach a terminal.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from tallystick.core.errors import (
    BadInput,
    Conflict,
    Failed,
    MissingTile,
    NotFound,
    NotSupported,
    TallyError,
    TookTooLong,
    TooLarge,
)
from tallystick.core.names import canonical_json
from tallystick.core.wall import Wall
from tallystick.ports.sandbox import Confined, Sandbox

__all__ = ["LINE_BYTES_MAX", "Errand", "run_errand"]

LINE_BYTES_MAX = 16 * 1024 * 1024
WORD_BYTES_MAX = 4 * 1024
"""Of a line that is neither a result nor an error."""

WORDS_MAX = 100_000
"""Lines that one errand may say."""

ASIDE_BYTES = 1024 * 1024
"""Longer lines are read in a thread, as that takes a while."""

TAIL_BYTES = 16 * 1024
TEXT_CHARS_MAX = 500
GRACE_S = 60
LEAVE_S = 5.0
"""How long a worker may live on after it closed its standard output."""

ENDINGS = ("result", "error")
KINDS = (BadInput, NotSupported, TooLarge, Failed, MissingTile, NotFound, Conflict, TookTooLong)
"""What may go wrong in a worker; no gate, ledger or disk speaks through one."""

STRANGERS = ("inspect", "serve", "twin")
"""Errands that run code of a model's own: a hint of theirs would be advice from a stranger."""

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
        count = 0
        while line := await _read_line(self.process.stdout):
            long = len(line) > ASIDE_BYTES
            said = await asyncio.to_thread(self._parse, line) if long else self._parse(line)
            count += 1
            if "error" in said:
                raise self._error(said["error"])
            if count > WORDS_MAX or (len(line) > WORD_BYTES_MAX and "result" not in said):
                limits = f"at most {WORDS_MAX} lines of at most {WORD_BYTES_MAX} bytes before the result"
                raise Failed(f"the worker said too much: {limits}", where=self.name)
            yield said
            if "result" in said:
                return
            await asyncio.sleep(0)  # lines that wait already are read without a pause for anybody else
        raise await self.died()

    def _error(self, said: Mapping[str, Any]) -> TallyError:
        """The error that the worker told, of a kind and in words that a worker may use."""
        kind = next((kind for kind in KINDS if kind.__name__ == said.get("error")), Failed)
        hint = "" if self.name in STRANGERS else _plain(said.get("hint"))
        return kind(_plain(said.get("what")) or "unknown error", where=_plain(said.get("where")), hint=hint)

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
        return Failed(f"the worker {how}: {_plain(last)}", where=self.name)

    @staticmethod
    def plain(said: Any) -> str:
        """Text of a worker's as it may be shown: cut, and without what does not print."""
        return _plain(said)

    async def end(self) -> int:
        """End the process and all its children; its status."""
        status = await self.process.end()
        self._listening.cancel()
        return status


def _plain(said: Any) -> str:
    """Text of a worker's, cut, with a space for all that does not print: it may end up on a terminal."""
    text = said[:TEXT_CHARS_MAX] if isinstance(said, str) else ""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


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
                    progress(min(1.0, max(0.0, share)), _plain(said.get("text")))
                if "result" in said:
                    return dict(said["result"])
            raise await errand.died()
    except TimeoutError:
        raise TookTooLong(f"the worker was not done after {seconds_max} s", where=name) from None
    finally:
        await errand.end()
