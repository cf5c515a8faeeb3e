"""A sandbox without processes: a script for each errand, played in this process over pipes in memory.

It is not a sandbox for production, and not one that ``SandboxProof`` can prove: it runs no programs and
has no walls. What a caller can see of an errand it does show: its order, its lines, its status, its end.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tallystick.core.errors import TallyError, Unavailable
from tallystick.core.wall import Strength, Wall

__all__ = ["Exit", "Played", "Say", "ScriptedSandbox"]

PACKAGE = "tallystick.crew."


class Exit(Exception):
    """Raised by a script: the process ends with ``status`` (negative: a signal), and says nothing more."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Say:
    """A script's mouth: ``say(progress=0.5, text="...")``, ``say(ready={})``, or bytes of its own choice."""

    def __init__(self, out: asyncio.StreamReader, err: asyncio.StreamReader) -> None:
        self._out, self._err = out, err

    def __call__(self, **said: Any) -> None:
        self.raw(json.dumps(said).encode() + b"\n")

    def raw(self, content: bytes) -> None:
        """Write to standard output whatever it is."""
        self._out.feed_data(content)

    def err(self, text: str) -> None:
        """Print to standard error."""
        self._err.feed_data(text.encode() + b"\n")

    def close(self) -> None:
        """Close standard output, as a process can that lives on."""
        self._out.feed_eof()


Script = Callable[[Mapping[str, Any], Say], Awaitable[Mapping[str, Any] | None]]


class _Pipe(asyncio.Transport):
    """The writing end of a pipe in memory."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        super().__init__()
        self._reader = reader
        self._open = True

    def write(self, data: Any) -> None:
        if self._open:
            self._reader.feed_data(bytes(data))

    def is_closing(self) -> bool:
        return not self._open

    def close(self) -> None:
        if self._open:
            self._open = False
            self._reader.feed_eof()


@dataclass
class Played:
    """An errand that is played: a ``Confined``, and what a test wants to know of it."""

    name: str
    wall: Wall
    pid: int
    script: Script
    line_bytes_max: int
    order: Mapping[str, Any] = field(default_factory=dict)
    status: int | None = None
    ended_by_hub: bool = False

    def __post_init__(self) -> None:
        inside, protocol = asyncio.StreamReader(), asyncio.StreamReaderProtocol(asyncio.StreamReader())
        loop = asyncio.get_running_loop()
        self.stdin = asyncio.StreamWriter(_Pipe(inside), protocol, None, loop)
        self.stdout = asyncio.StreamReader(self.line_bytes_max)
        self.stderr = asyncio.StreamReader(self.line_bytes_max)
        self._signal = -signal.SIGTERM
        self._gone = asyncio.Event()
        self._task = asyncio.create_task(self._play(inside), name=f"scripted {self.name}")

    async def _play(self, inside: asyncio.StreamReader) -> None:
        say = Say(self.stdout, self.stderr)
        try:
            self.order = json.loads(await inside.readline() or b"{}")
            result = await self.script(self.order, say)
            if result is not None:
                say(result=result)
            self.status = 0
        except TallyError as wrong:
            say(error=wrong.as_dict())
            self.status = wrong.exit_code
        except Exit as leaving:
            self.status = leaving.status
        except asyncio.CancelledError:
            self.status = self._signal
        finally:
            self._leave()

    def _leave(self) -> None:
        self.stdout.feed_eof()
        self.stderr.feed_eof()
        self.stdin.close()
        self._gone.set()

    async def wait(self) -> int:
        await self._gone.wait()
        return self.status or 0

    async def end(self, grace_s: float = 5.0) -> int:
        self.ended_by_hub = self.ended_by_hub or self.status is None
        return await self.die(-signal.SIGTERM)

    async def die(self, status: int = -signal.SIGKILL) -> int:
        """End it from outside, with this status unless it has ended already."""
        self._signal = status
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self.status is None:  # it was ended before its first step
            self.status = status
            self._leave()
        return self.status


class ScriptedSandbox:
    """Plays ``table[name]`` for ``python -m tallystick.crew.NAME``; ``started`` lists all, oldest first.

    With ``broken`` set, starting raises that error. A line of more than ``line_bytes_max`` is over-long.
    """

    def __init__(self, table: Mapping[str, Script] | None = None, line_bytes_max: int = 2**24) -> None:
        self.table: dict[str, Script] = dict(table or {})
        self.line_bytes_max = line_bytes_max
        self.started: list[Played] = []
        self.broken: TallyError | None = None
        self._pids = itertools.count(1)

    def strength(self) -> Strength:
        return Strength("scripted", False, False, False, False)

    async def spawn(self, argv: Sequence[str], wall: Wall) -> Played:
        if self.broken:
            raise self.broken
        name = argv[-1].removeprefix(PACKAGE)
        if name not in self.table:
            raise Unavailable(f"no script for {argv[-1]}", where="scripted sandbox")
        self.started.append(Played(name, wall, next(self._pids), self.table[name], self.line_bytes_max))
        return self.started[-1]

    def alive(self, name: str = "") -> list[Played]:
        """The errands that have not ended, oldest first."""
        return [p for p in self.started if p.status is None and name in ("", p.name)]

    async def close(self) -> None:
        for played in self.started:
            await played.end()
