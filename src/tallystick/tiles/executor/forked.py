"""A step that a zygote has forked, as the hub sees it: what it prints, how it ended, and a way to end it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from typing import Any

from tallystick.tiles.executor.limits import TooMuch

__all__ = ["Forked", "NobodyThere", "Pipe", "StepLost", "StepNotBegun"]


class StepLost(Exception):
    """A step's keeper was killed, or its zygote, and said no more. It never leaves the executor."""


class StepNotBegun(Exception):
    """A step could not be set up; the message says why. It never leaves the executor."""


class NobodyThere(Exception):
    """Nobody took a step's order, and nobody will: it can be given again. It never leaves the executor."""


class Pipe:
    """Reading from a pipe's descriptor; cheaper than a transport, which a step of a few ms would notice."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd

    async def read(self, n: int = -1, /) -> bytes:
        """At most ``n`` bytes, as soon as there are any; none at the end, or once it is closed."""
        while self._fd >= 0:
            try:
                return os.read(self._fd, n if n >= 0 else 65536)
            except BlockingIOError:
                await self._readable()
        return b""

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        loop.add_reader(self._fd, _settled, ready)
        try:
            await ready
        finally:
            loop.remove_reader(self._fd)

    def close(self) -> None:
        """Close it; nobody may be reading."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _settled(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


class Forked:
    """A step under its keeper. ``life`` is the socket to the keeper, ``out`` the pipe that it prints to."""

    def __init__(self, life: socket.socket, out: int) -> None:
        life.setblocking(False)
        self._life = life
        self.stdout = Pipe(out)
        self.trouble: NobodyThere | StepLost | StepNotBegun | TooMuch | None = None
        """After it has ended: why there is no status of its own."""
        self._listening: asyncio.Task[dict[str, Any]] | None = None

    async def begin(self, order: dict[str, Any]) -> None:
        """Send the order; a keeper that is gone already shows in :meth:`wait`."""
        wire = json.dumps(order).encode()
        with contextlib.suppress(ConnectionError):
            await asyncio.get_running_loop().sock_sendall(self._life, len(wire).to_bytes(8, "big") + wire)
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> dict[str, Any]:
        loop, said = asyncio.get_running_loop(), b""
        with contextlib.suppress(ConnectionError):
            while piece := await loop.sock_recv(self._life, 4096):
                said += piece
        words: dict[str, Any] = {}
        for line in said.splitlines():
            words |= json.loads(line)
        return words

    async def wait(self) -> int:
        """Its exit status (negative: the signal that ended it), once it and all below it are gone.

        With ``trouble`` it has none; SIGKILL's stands for it.
        """
        said = await asyncio.shield(self._listening) if self._listening else {}
        if "processes" in said:
            self.trouble = TooMuch(f"killed: it had more than {said['processes']} processes at once")
        if "status" in said:
            return int(said["status"])
        if "error" in said:
            self.trouble = StepNotBegun(str(said["error"]))
        else:
            self.trouble = StepLost("") if "begun" in said else NobodyThere()
        return -signal.SIGKILL

    async def end(self, grace_s: float) -> None:
        """SIGTERM to all of it, SIGKILL after ``grace_s`` seconds, and nothing of it is left. Twice is fine.

        Cancelling this kills at once.
        """
        try:
            if self._listening is not None and not self._listening.done():
                await self._finish(self._listening, grace_s)
        finally:
            self.let_go()

    async def _finish(self, listening: asyncio.Task[dict[str, Any]], grace_s: float) -> None:
        self._tell(b"T")
        try:
            async with asyncio.timeout(grace_s):
                await asyncio.shield(listening)
        except TimeoutError:
            self._tell(b"K")
            await asyncio.shield(listening)

    def _tell(self, word: bytes) -> None:
        with contextlib.suppress(OSError):
            self._life.send(word)

    def let_go(self) -> None:
        """Close our ends: the keeper takes that for the hub's death, should anything still run."""
        if self._listening is None or self._listening.done():
            self._life.close()
        else:  # not before it is out of the loop's hands: another could have its number by then
            self._listening.add_done_callback(lambda _: self._life.close())
            self._listening.cancel()
        self.stdout.close()
