"""The driver as the hub sees it: the process that speaks with Ray, since the hub's own never imports it.

The hub writes lines of JSON to its standard input: first the order, then ``{"ask": number, ...}`` for a step
to be run or an environment to be named, and ``{"cancel": number}``. It answers on its standard output:
``{"nodes": [...]}`` once it is connected and whenever they change, ``{"log": number, "lines": [...]}``,
``{"ended": number, ...}`` once for each question, and ``{"failed": error}`` when it cannot go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tallystick.core.errors import Failed, TallyError, Unavailable, error_from_dict
from tallystick.ports.sandbox import Confined
from tallystick.tiles.ray.fit import Node, node_of

__all__ = ["Driver"]

TAIL_BYTES = 16 * 1024
CANCEL_S_MAX = 60.0
"""How long a cancelled step may take until all of it is gone; its wall ends it after a few seconds."""
END_S = 8.0
"""For Ray to take leave, when the driver is ended."""


@dataclass
class _Asked:
    done: asyncio.Future[Mapping[str, Any]]
    on_log: Callable[[str], None] | None


class Driver:
    """A running driver; ``nodes`` are the cluster's machines, as far as it has told."""

    def __init__(self, process: Confined) -> None:
        self._process = process
        self._asked: dict[int, _Asked] = {}
        self._numbers = itertools.count(1)
        self._tail = b""
        self._connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.nodes: tuple[Node, ...] = ()
        self.ended = False
        self._listening = asyncio.create_task(self._listen())
        self._aside = asyncio.create_task(self._listen_aside())

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    async def begin(self, order: Mapping[str, Any]) -> None:
        """Hand it its order, and wait until it is connected; the error says why it is not."""
        await self._say(order)
        await asyncio.shield(self._connected)

    async def ask(
        self, question: Mapping[str, Any], on_log: Callable[[str], None] | None = None
    ) -> Mapping[str, Any]:
        """The answer to a question. Cancelling this cancels it there, and waits until that is done."""
        number = next(self._numbers)
        asked = self._asked[number] = _Asked(asyncio.get_running_loop().create_future(), on_log)
        try:
            if self.ended:
                raise self._gone()
            await self._say({"ask": number, **question})
            return await asyncio.shield(asked.done)
        except asyncio.CancelledError:
            asked.on_log = None
            await self._cancel(number, asked)
            raise
        finally:
            self._asked.pop(number, None)
            asked.done.cancel()

    async def _cancel(self, number: int, asked: _Asked) -> None:
        await self._say({"cancel": number})
        await asyncio.wait([asked.done], timeout=CANCEL_S_MAX)
        if asked.done.done() and not asked.done.cancelled():
            asked.done.exception()  # it was heard, though nobody asks any more

    async def close(self) -> None:
        """End it, with every step that still runs."""
        await self._process.end(grace_s=END_S)
        await asyncio.wait([self._listening, self._aside])

    # ------------------------------------------------------------------------------ what is said

    async def _say(self, said: Mapping[str, Any]) -> None:
        line = await asyncio.to_thread(_line, said) if "job" in said else _line(said)
        with contextlib.suppress(ConnectionError):  # its end is heard on the other side
            self._process.stdin.write(line)
            await self._process.stdin.drain()

    async def _listen(self) -> None:
        wrong: TallyError | None = None
        try:
            while line := await self._process.stdout.readline():
                await self._hear(json.loads(line))
        except (ValueError, KeyError, TypeError) as strange:
            wrong = Failed(f"it said something that is not its protocol: {strange}", where="Ray's driver")
        finally:
            self.ended = True
            if wrong:
                await self._process.end(grace_s=END_S)
            await self._end(wrong)

    async def _hear(self, said: dict[str, Any]) -> None:
        if "log" in said:
            asked = self._asked.get(said["log"])
            if asked and asked.on_log:
                for line in said["lines"]:
                    asked.on_log(line)
        elif "ended" in said:
            await self._settle(said)
        elif "nodes" in said:
            self.nodes = tuple(node_of(node) for node in said["nodes"])
            if not self._connected.done():
                self._connected.set_result(None)
        elif "failed" in said and not self._connected.done():
            self._connected.set_exception(error_from_dict(said["failed"]))

    async def _settle(self, said: dict[str, Any]) -> None:
        answer: dict[str, Any] = said
        if "file" in said:  # longer than a line may be
            answer = json.loads(await asyncio.to_thread(_taken, Path(said["file"])))
        asked = self._asked.get(said["ended"])
        if asked is None or asked.done.done():
            return
        if "wrong" in answer:
            asked.done.set_exception(error_from_dict(answer["wrong"]))
        else:
            asked.done.set_result(answer)

    async def _listen_aside(self) -> None:
        while chunk := await self._process.stderr.read(TAIL_BYTES):
            self._tail = (self._tail + chunk)[-TAIL_BYTES:]

    # ------------------------------------------------------------------------------------ its end

    async def _end(self, wrong: TallyError | None) -> None:
        status = await self._process.wait()
        await asyncio.wait([self._aside], timeout=1)
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        self._why = wrong or Unavailable(
            f"the process that speaks with Ray {how}: {self._last_words()}",
            where="executor/ray",
            hint="run it again: another one is started",
        )
        for asked in self._asked.values():
            if not asked.done.done():
                asked.done.set_exception(self._gone())
        if not self._connected.done():
            self._connected.set_exception(self._gone())
            self._connected.exception()  # begin() may have gone before
        await self._process.end()

    def _gone(self) -> TallyError:
        return type(self._why)(self._why.what, where=self._why.where, hint=self._why.hint)

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._tail.decode("utf-8", "replace").splitlines()]
        last = next((line for line in reversed(lines) if line), "it printed nothing")[:300]
        return "".join(c if c.isprintable() else " " for c in last)


def _line(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said, default=str).encode() + b"\n"  # the only other things in it are paths


def _taken(file: Path) -> bytes:
    text = file.read_bytes()
    file.unlink()
    return text
