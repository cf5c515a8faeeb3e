"""A zygote, as the hub sees it: a warm process behind a wall of its own that forks steps when it is asked."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import secrets
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tallystick.core.errors import TallyError
from tallystick.core.wall import Wall
from tallystick.ports.executor import Door
from tallystick.ports.sandbox import Confined, Sandbox
from tallystick.tiles.executor.forked import Forked, NobodyThere
from tallystick.tiles.executor.python import Python

__all__ = ["CannotFork", "Order", "Zygote", "start_zygote"]

START_S_MAX = 120.0
END_S = 1.0
RETRY_S = 0.005
"""Until the zygote has taken some of the orders that wait for it."""
_FULL = {errno.EAGAIN, errno.ETOOMANYREFS}


class CannotFork(Exception):
    """No zygote can be had; the message says why. It never leaves the executor."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a zygote is to be. ``roots`` are absolute folders; its door is made in the first one.

    ``memory_folder_bytes`` is how large a step's folders in memory mostly may be, and ``spares`` how many
    processes may wait for steps.
    """

    python: Python
    modules: frozenset[str]
    roots: tuple[str, ...]
    fence: bool
    memory_folder_bytes: int
    spares: int


class Zygote:
    """A running zygote of ``python`` with ``modules`` imported; ``running`` steps of it go on now."""

    def __init__(self, process: Confined, control: socket.socket, order: Order) -> None:
        self._process = process
        self._control = control
        self.python = order.python
        self.modules = order.modules
        self.pid = process.pid
        self.ended = False
        self.retired = False
        self.running = 0
        self.used_at = 0.0
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        await self._process.wait()
        self._control.close()
        self.ended = True
        await self._process.end()

    async def fork(
        self, order: dict[str, Any], door: Door | None, kept: asyncio.Event | None = None
    ) -> Forked:
        """Fork a step, which reaches the hub by ``door`` and gets as far as its own code before ``kept``.

        NobodyThere when it can be asked of another.
        """
        step = await self._asked(order, door)
        try:
            await step.begin(kept)
        except BaseException:  # cancelled too: closing our ends is what tells the keeper to kill
            step.let_go()
            raise
        return step

    async def _asked(self, order: dict[str, Any], door: Door | None) -> Forked:
        ours, theirs = socket.socketpair()
        (out, printed), (waits, go) = os.pipe(), os.pipe()
        step = Forked(ours, out, go, door)
        try:
            step.put(order)
            while not self._sent([printed, waits, theirs.fileno()]):  # noqa: ASYNC110  no event tells
                await asyncio.sleep(RETRY_S)
        except BaseException:
            step.let_go()
            raise
        finally:
            theirs.close()
            os.close(printed)
            os.close(waits)
        return step

    def _sent(self, fds: list[int]) -> bool:
        try:
            socket.send_fds(self._control, [b"+"], fds)
        except OSError as wrong:
            if wrong.errno in _FULL:
                return False
            raise NobodyThere from wrong
        return True

    async def has_ended(self, seconds: float) -> bool:
        """Whether it has ended, or does within so many seconds."""
        await asyncio.wait([self._watching], timeout=seconds)
        return self.ended

    async def close(self) -> None:
        """End it, and every step that still runs."""
        self._control.close()
        await self._process.end(grace_s=END_S)
        await self._watching


async def start_zygote(sandbox: Sandbox, order: Order, wall: Wall) -> Zygote:
    """Start a zygote behind ``wall``; CannotFork says why there is none."""
    door = Path(order.roots[0]) / f"zygote-{secrets.token_hex(6)}"
    said = {
        "door": str(door),
        "modules": sorted(order.modules),
        "fence": order.fence,
        "roots": order.roots,
        "memory_folder_bytes": order.memory_folder_bytes,
        "spares": order.spares,
        "runtime": order.python.runtime,
        "program": order.python.program,
    }
    # Nothing that packages have brought is run here: they may have put a program in place of their Python,
    # and what they would have it do at its start (hence -S) is done in the step.
    bare = ["-S"] if order.python.runtime else []
    argv = [sys.executable, *bare, "-P", "-m", "tallystick.crew.steps.zygote", json.dumps(said)]
    try:
        process = await sandbox.spawn(argv, wall)
    except TallyError as wrong:
        raise CannotFork(str(wrong)) from wrong
    try:
        async with asyncio.timeout(START_S_MAX):
            await _ready(process)
            control = _through(door)
    except BaseException as wrong:
        await process.end(grace_s=END_S)
        with contextlib.suppress(OSError):
            door.unlink()
        if isinstance(wrong, TimeoutError):
            raise CannotFork(f"it was not ready after {START_S_MAX:g} s") from wrong
        if isinstance(wrong, OSError):
            raise CannotFork(f"its door cannot be reached: {wrong.strerror}") from wrong
        raise
    return Zygote(process, control, order)


async def _ready(process: Confined) -> None:
    """Wait until it says that it is ready."""
    process.stdin.close()
    try:
        said = json.loads(await process.stdout.readline() or "{}")
    except ValueError:
        said = {}
    if "ready" in said:
        return
    if "cannot" in said:
        raise CannotFork(str(said["cannot"]))
    wrong = await _last_words(process.stderr)
    raise CannotFork(f"it ended before it was ready: {wrong}")


async def _last_words(stream: asyncio.StreamReader) -> str:
    text = (await _tail(stream)).decode("utf-8", "replace").strip()
    return text.splitlines()[-1][:300] if text else "it said nothing"


async def _tail(stream: asyncio.StreamReader) -> bytes:
    tail = b""
    while piece := await stream.read(4096):
        tail = (tail + piece)[-4096:]
    return tail


def _through(door: Path) -> socket.socket:
    """Connected to ``door``, which may be longer than the 107 bytes that a socket's address has."""
    folder = os.open(door.parent, os.O_PATH | os.O_DIRECTORY)
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        control.connect(f"/proc/self/fd/{folder}/{door.name}")
        control.setblocking(False)
    except OSError:
        control.close()
        raise
    finally:
        os.close(folder)
    return control
