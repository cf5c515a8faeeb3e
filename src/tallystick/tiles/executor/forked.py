"""A step that a zygote has forked, as the hub sees it: what it prints, how it ended, and a way to end it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import socket
import struct
import termios
from typing import Any

from tallystick.ports.executor import Door
from tallystick.tiles.executor.limits import TooMuch

__all__ = ["Forked", "NobodyThere", "Pipe", "StepLost", "StepNotBegun"]

HEAD = struct.Struct(">QI?")
"""What a keeper reads of an order."""
CALLERS_MAX = 64
"""Taken at once; a keeper hands over fewer."""


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
    """A step under its keeper. ``life`` is the socket to the keeper, ``out`` the pipe that it prints to, and
    ``go`` the one on which it waits before its own code begins.

    Who calls the hub from the step comes by ``life`` too, and is served at the step's ``door``.
    """

    def __init__(self, life: socket.socket, out: int, go: int, door: Door | None) -> None:
        life.setblocking(False)
        self._life = life
        self._go = go
        self._door = door
        self.stdout = Pipe(out)
        self.trouble: NobodyThere | StepLost | StepNotBegun | TooMuch | None = None
        """After it has ended: why there is no status of its own."""
        self._order = self._heard = b""
        self._unread = self._told = False
        self._said: dict[str, Any] = {}
        self._ended: asyncio.Future[None] | None = None
        self._callers: set[asyncio.Task[None]] = set()

    def put(self, order: dict[str, Any]) -> None:
        """Lay the order where a keeper finds it as it takes the step, as far as there is room for it."""
        wire = json.dumps(order).encode()
        self._order = HEAD.pack(len(wire), order["processes"], order["hub"]) + wire
        with contextlib.suppress(BlockingIOError):
            self._order = self._order[self._life.send(self._order) :]

    async def begin(self, kept: asyncio.Event | None) -> None:
        """Send what is left of the order, and once it is ``kept`` let the step's own code begin.

        A keeper that is gone already shows in :meth:`wait`.
        """
        loop = asyncio.get_running_loop()
        if self._order:
            try:
                await loop.sock_sendall(self._life, self._order)
            except ConnectionError:
                self._unread = True
        self._ended = loop.create_future()
        loop.add_reader(self._life, self._hear)
        if kept:
            await kept.wait()
        with contextlib.suppress(BrokenPipeError):
            os.write(self._go, b"+")
        self._close_go()

    def _close_go(self) -> None:
        if self._go >= 0:
            os.close(self._go)
            self._go = -1

    def _hear(self) -> None:
        """Take what the keeper says, up to its last word, or its end."""
        try:
            piece, callers, _, _ = socket.recv_fds(self._life, 4096, CALLERS_MAX)
        except BlockingIOError:
            return
        except ConnectionError:  # see unix(7): something that we sent was not read
            piece, callers, self._unread = b"", [], self._unread or not self._told
        for caller in callers:
            self._serve(socket.socket(fileno=caller))
        *lines, self._heard = (self._heard + piece).split(b"\n")
        for line in lines:
            self._said |= json.loads(line)
        if not piece or "status" in self._said or "error" in self._said:
            self._stop_hearing()

    def _stop_hearing(self) -> None:
        if self._ended is not None and not self._ended.done():
            asyncio.get_running_loop().remove_reader(self._life)
            self._ended.set_result(None)

    def _serve(self, caller: socket.socket) -> None:
        caller.setblocking(False)
        task = asyncio.create_task(self._served(caller))
        self._callers.add(task)
        task.add_done_callback(self._callers.discard)

    async def _served(self, caller: socket.socket) -> None:
        try:
            if self._door:
                await self._door.serve(caller)
            else:
                caller.close()
        finally:
            self._tell(b"D")

    async def wait(self) -> int:
        """Its exit status (negative: the signal that ended it), once it and all below it are gone.

        With ``trouble`` it has none; SIGKILL's stands for it.
        """
        if self._ended:
            await asyncio.shield(self._ended)
        said = self._said
        if "processes" in said:
            self.trouble = TooMuch(f"killed: it had more than {said['processes']} processes at once")
        if "status" in said:
            return int(said["status"])
        if "error" in said:
            self.trouble = StepNotBegun(str(said["error"]))
        else:
            self.trouble = NobodyThere() if self._unread else StepLost("")
        return -signal.SIGKILL

    async def end(self, grace_s: float) -> None:
        """SIGTERM to all of it, SIGKILL after ``grace_s`` seconds, and nothing of it is left. Twice is fine.

        Cancelling this kills at once.
        """
        try:
            if self._ended is not None and not self._ended.done():
                await self._finish(self._ended, grace_s)
        finally:
            self.let_go()

    async def _finish(self, ended: asyncio.Future[None], grace_s: float) -> None:
        waits = self._not_read()
        self._tell(b"T")
        try:
            async with asyncio.timeout(grace_s):
                await asyncio.shield(ended)
        except TimeoutError:
            if waits and self._not_read() > waits:
                return  # nobody has taken it, and whoever does now finds that we have let go of it
            self._tell(b"K")
            await asyncio.shield(ended)

    def _not_read(self) -> int:
        """What of all that we have sent nobody has read, as the kernel counts it (unix(7), SIOCOUTQ)."""
        (count,) = struct.unpack("i", fcntl.ioctl(self._life, termios.TIOCOUTQ, bytes(4)))
        return int(count)

    def _tell(self, word: bytes) -> None:
        self._told = True
        with contextlib.suppress(OSError):
            self._life.send(word)

    def let_go(self) -> None:
        """Close our ends: the keeper takes that for the hub's death, should anything still run."""
        self._stop_hearing()
        for task in self._callers:
            task.cancel()
        self._life.close()
        self._close_go()
        self.stdout.close()
