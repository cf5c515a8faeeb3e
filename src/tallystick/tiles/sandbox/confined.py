"""The hub's side of the warden: a confined process as the hub sees it, and the one who asks for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import tallystick
from tallystick.core.errors import BadInput, Unavailable
from tallystick.core.wall import Wall

__all__ = ["LINE_BYTES_MAX", "STARTING_MAX", "Order", "WardedProcess", "Warden"]

LINE_BYTES_MAX = 16 * 1024 * 1024
"""The longest line that can be read from a confined process; the same figure as an errand's."""
STARTING_MAX = 8
"""How many may be in the making at once: more would only wait in the kernel's queue, which is short."""
CPU_GRACE_SECONDS = 5
"""From SIGXCPU at the limit to SIGKILL, for a process that catches the former."""
MIB = 1024 * 1024
_WARDEN = Path(tallystick.__file__).parent / "crew" / "warden.py"
_KEPT_ENV = ("LD_LIBRARY_PATH",)
"""What a Python that is not in the system's folders may need to start; the warden gets nothing else."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the warden is to start. ``spare`` generations of the wall itself are not sent SIGTERM.

    ``processes`` is how many there may be at once, 0 for any number. ``unseen`` are arguments that the
    program reads from a descriptor (``--args``), so that they do not stand where every user can read them.
    """

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    limits: dict[str, tuple[int, int]]
    spare: int = 0
    processes: int = 0
    unseen: tuple[str, ...] = ()

    @classmethod
    def behind(cls, wall: Wall, argv: Sequence[str], *, spare: int = 0) -> Order:
        """``argv`` with the environment, folder and limits of ``wall``.

        Memory is limited as RLIMIT_DATA: private memory that can be written, and so none that is shared.
        RLIMIT_AS would count that too, and with it every file that is mapped, and the address space that
        ONNX Runtime, Arrow and allocators reserve for each thread and never use: honest work would break.
        """
        if not argv or not argv[0].startswith("/"):
            raise BadInput("a confined program is named by its absolute path", where="sandbox")
        if any("\0" in text for text in (*argv, *wall.env, *wall.env.values())):
            raise BadInput("an argument or variable holds a NUL byte", where="sandbox")
        limits = {
            "RLIMIT_CORE": (0, 0),
            "RLIMIT_DATA": (wall.memory_mib * MIB, wall.memory_mib * MIB),
            "RLIMIT_FSIZE": (wall.file_mib * MIB, wall.file_mib * MIB),
            "RLIMIT_NOFILE": (wall.open_files, wall.open_files),
        }
        if wall.cpu_seconds:
            limits["RLIMIT_CPU"] = (wall.cpu_seconds, wall.cpu_seconds + CPU_GRACE_SECONDS)
        # What serves until it is told to end is ours at its core, and nobody counts it four times a second.
        processes = wall.processes + spare if wall.cpu_seconds else 0
        return cls(tuple(argv), dict(wall.env), wall.workdir, limits, spare, processes)


class _Stdin(asyncio.StreamWriter):
    """What is written to a process that has ended is lost, as `drain` says; uvloop would raise at once."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        with contextlib.suppress(RuntimeError):
            super().write(data)


class WardedProcess:
    """A confined process, its three pipes, and the life socket to its keeper."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self.pid = 0
        self.stdin: asyncio.StreamWriter
        self.stdout: asyncio.StreamReader
        self.stderr: asyncio.StreamReader
        self._transports: list[asyncio.BaseTransport] = []
        self._unconnected: list[tuple[int, str]] = []
        self._listening: asyncio.Task[int] | None = None

    async def begin(self, ours: socket.socket, stdin: int, stdout: int, stderr: int) -> None:
        """Send the order and connect the pipes; Unavailable says why it could not be started."""
        self._unconnected = [(stderr, "rb"), (stdout, "rb"), (stdin, "wb")]
        self._hear, self._say = await asyncio.open_unix_connection(sock=ours)
        self._transports.append(self._say.transport)
        await self._connect()
        order = json.dumps(asdict(self._order)).encode()
        with contextlib.suppress(ConnectionError):
            self._say.write(len(order).to_bytes(8, "big") + order)
            await self._say.drain()
        said = await self._heard()
        if "pid" not in said:
            raise Unavailable(
                f"cannot start {self._order.argv[0]}: {said.get('error', 'the warden ended')}",
                where="sandbox",
            )
        self.pid = int(said["pid"])
        self._listening = asyncio.create_task(self._listen())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader())
        writing, _ = await loop.connect_write_pipe(lambda: protocol, self._next_pipe(loop))
        self._transports.append(writing)
        self.stdin = _Stdin(writing, protocol, None, loop)
        self.stdout = await self._reader(loop)
        self.stderr = await self._reader(loop)

    async def _reader(self, loop: asyncio.AbstractEventLoop) -> asyncio.StreamReader:
        reader = asyncio.StreamReader(limit=LINE_BYTES_MAX + 1)
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), self._next_pipe(loop)
        )
        self._transports.append(transport)
        return reader

    def _next_pipe(self, loop: asyncio.AbstractEventLoop) -> FileIO:
        """A pipe for a transport, closed once: uvloop's closes the descriptor and then the file as well."""
        fd, mode = self._unconnected.pop()
        return FileIO(fd, mode, closefd=isinstance(loop, asyncio.BaseEventLoop))

    async def _heard(self) -> dict[str, Any]:
        try:
            line = await self._hear.readline()
        except ConnectionError:
            line = b""
        return dict(json.loads(line)) if line else {}

    async def _listen(self) -> int:
        # A keeper that ends without a word was killed; the kernel and the warden have killed the rest.
        said = await self._heard()
        if "processes" in said:  # why it is killed; that it is gone is said next
            said = await self._heard()
        status = int(said.get("status", -signal.SIGKILL))
        if self._order.spare and status > 128:
            status = 128 - status  # bubblewrap, like a shell, says 128 + n for signal n
        return status

    async def wait(self) -> int:
        """Its exit status (negative: the signal that ended it), once it and its children are gone."""
        if self._listening is None:
            raise Unavailable("the process has not been started", where="sandbox")
        status = await asyncio.shield(self._listening)
        self.stdin.close()
        self._say.close()
        return status

    async def end(self, grace_s: float = 5.0) -> int:
        """SIGTERM to all of it, SIGKILL after ``grace_s`` seconds; its exit status. Twice is fine.

        What it printed and nobody read is gone afterwards. Cancelling this kills at once.
        """
        try:
            if not self.ended:
                self._tell(b"T")
                async with asyncio.timeout(grace_s):
                    await self.wait()
        except TimeoutError:
            self._tell(b"K")
        except asyncio.CancelledError:
            self._tell(b"K")
            raise
        status = await self.wait()
        self.let_go()
        return status

    @property
    def ended(self) -> bool:
        """Whether it and all below it are gone."""
        return self._listening is not None and self._listening.done()

    def _tell(self, word: bytes) -> None:
        if not self._say.is_closing():
            with contextlib.suppress(RuntimeError):  # uvloop's, where the other side has gone this moment
                self._say.write(word)

    def let_go(self) -> None:
        """Close our ends: the keeper takes that for the hub's death, should anything still run."""
        for transport in self._transports:
            transport.close()
        while self._unconnected:
            os.close(self._unconnected.pop()[0])


class Warden:
    """Starts the warden's process when it is first needed, and asks it for confined processes."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._making = asyncio.Semaphore(STARTING_MAX)
        self._running: set[WardedProcess] = set()

    async def start(self, order: Order) -> WardedProcess:
        """Start what is ordered; Unavailable when it cannot be."""
        async with self._making:
            process = WardedProcess(order)
            try:
                await process.begin(*self._send())
            except BaseException:  # cancelled too: closing our ends is what tells the keeper to kill
                process.let_go()
                raise
        self._running = {other for other in self._running if not other.ended} | {process}
        return process

    def _send(self) -> tuple[socket.socket, int, int, int]:
        """Hand a new process's ends to the warden; ours: life socket, stdin, stdout, stderr."""
        ours, theirs = socket.socketpair()
        (in_read, in_write), (out_read, out_write), (err_read, err_write) = os.pipe(), os.pipe(), os.pipe()
        fds = [in_read, out_write, err_write, theirs.fileno()]
        try:
            try:
                socket.send_fds(self._door(), [b"+"], fds)
            except ConnectionError:  # the warden was killed: another takes its place
                self._dismiss()
                socket.send_fds(self._door(), [b"+"], fds)
        except OSError as wrong:
            for fd in (in_write, out_read, err_read):
                os.close(fd)
            ours.close()
            raise Unavailable(f"the warden does not answer: {wrong}", where="sandbox") from wrong
        finally:
            theirs.close()
            for fd in (in_read, out_write, err_write):
                os.close(fd)
        return ours, in_write, out_read, err_read

    def _door(self) -> socket.socket:
        if self._control is None:
            self._control, theirs = socket.socketpair()
            self._control.setblocking(False)
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(_WARDEN)],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    env={name: os.environ[name] for name in _KEPT_ENV if name in os.environ},
                    start_new_session=True,
                )
        return self._control

    def _dismiss(self) -> subprocess.Popen[bytes] | None:
        gone, self._process = self._process, None
        if self._control is not None:
            self._control.close()
            self._control = None
        if gone is not None:
            gone.poll()
        return gone

    async def close(self) -> None:
        """End all that still runs, and then the warden itself."""
        await asyncio.gather(*(process.end(grace_s=1.0) for process in self._running))
        self._running = set()
        if (process := self._dismiss()) is not None:
            await asyncio.to_thread(process.wait)
