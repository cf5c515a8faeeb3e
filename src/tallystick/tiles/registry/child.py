"""MLflow's server as a supervised child: started when first needed, and again after a crash."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import httpx

from tallystick.core.errors import BadInput, MissingTile, TallyError, Unavailable, error_from_dict
from tallystick.core.wall import Wall
from tallystick.ports.sandbox import Confined, Sandbox

__all__ = ["HOLD_S_MAX", "READY_S_MAX", "STEADY_S", "MlflowChild"]

READY_S_MAX = 60.0
"""How long a start may take: 2 s here, more on a cold disk."""
STEADY_S = 10.0
"""After one that lived this long the next starts at once; after others there is a pause."""
HOLD_S_MAX = 30.0
"""After failing again and again, the longest pause before another try."""
CONNECTIONS_MAX = 64
_DOUBT_S = 0.5
"""A killed process breaks its connections a moment before its end is known."""
_MEMORY_MIB = 8192
_FILE_MIB = 1024 * 1024
"""A database or an artifact may grow to 1 TiB: a lower limit would cut off a write in its middle."""
_SOCKET_BYTES_MAX = 107


class _Life:
    """One started process: what it says, and its end."""

    def __init__(self, process: Confined, socket: Path) -> None:
        self.process = process
        self.began_s = time.monotonic()
        self.tail: deque[str] = deque(maxlen=20)
        self.client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(
                uds=str(socket),
                limits=httpx.Limits(
                    max_connections=CONNECTIONS_MAX, max_keepalive_connections=32, keepalive_expiry=30
                ),
            ),
            base_url="http://localhost",
            timeout=httpx.Timeout(60, connect=10),
            trust_env=False,
        )
        self.watching: asyncio.Task[None] | None = None
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        """Keep the last lines of standard error; unread, the pipe would fill and stop the server."""
        async for line in self.process.stderr:
            self.tail.append(line.decode("utf-8", "replace").rstrip())

    async def ready(self) -> None:
        """Wait until it says that it serves; what went wrong instead is raised."""
        async for line in self.process.stdout:
            said = json.loads(line)
            if "error" in said:
                raise error_from_dict(said["error"])
            if "ready" in said:
                return
        raise await self.died()

    async def died(self) -> TallyError:
        """The error for its end: the status and the last that it printed."""
        status = await self.process.wait()
        last = next((line for line in reversed(self.tail) if line.strip()), "it printed nothing")
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return Unavailable(f"MLflow's server {how}: {last[:500]}", where="MLflow")

    async def end(self) -> None:
        await self.process.end()
        self._listening.cancel()


class MlflowChild:
    """MLflow's server on ``<home>/run/mlflow.sock``, over ``<home>/tally.db`` and ``<home>/mlartifacts``.

    ``roots`` are further places (folders as ``file:///...``, or for example ``s3://bucket/mlflow``) whose
    artifacts it may open when an experiment says that they are there.
    """

    def __init__(self, home: Path, sandbox: Sandbox, roots: Sequence[str] = ()) -> None:
        self.home = home
        self.socket = home / "run" / "mlflow.sock"
        self._sandbox = sandbox
        self._roots = tuple(roots)
        self._life: _Life | None = None
        self._dying: _Life | None = None
        self._starting: asyncio.Task[httpx.AsyncClient] | None = None
        self._watching: set[asyncio.Task[None]] = set()
        self._stale: list[httpx.AsyncClient] = []
        self._failures = 0
        self._held_until_s = 0.0
        self._held_error: TallyError | None = None
        self._closed = False

    @property
    def pid(self) -> int:
        """The serving process, 0 when there is none."""
        return self._life.process.pid if self._life else 0

    async def client(self, dead: httpx.AsyncClient | None = None) -> httpx.AsyncClient:
        """A client on the socket, once the server answers; it is started when there is none.

        ``dead`` is a client whose connection failed: should its process be gone, another takes its place.
        MissingTile when MLflow is not installed, Conflict when the database has another version's
        schema, Unavailable when it does not start or has just failed to.
        """
        if self._life and self._life.client is dead:
            await self._doubt(self._life)
        if self._closed:
            raise Unavailable("the hub is closing", where="MLflow")
        if self._life:
            return self._life.client
        if self._starting is None:
            self._check_held()
            self._starting = asyncio.create_task(self._start())
            self._starting.add_done_callback(self._started)
        return await asyncio.shield(self._starting)

    async def close(self) -> None:
        """End the server; twice is fine."""
        self._closed = True
        if self._starting:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        life, self._life = self._life, None
        if life:
            await life.end()
            self._stale.append(life.client)
        if self._watching:
            await asyncio.wait(self._watching)
        await self._drop_stale()
        self.socket.unlink(missing_ok=True)

    async def _doubt(self, life: _Life) -> None:
        """See whether ``life`` still answers; one that does not, though it has not ended, is ended."""
        if life.watching:
            await asyncio.wait([life.watching], timeout=_DOUBT_S)
        if self._life is not life:
            return
        try:
            _, writer = await asyncio.open_unix_connection(self.socket)
            writer.close()
        except OSError:
            if self._life is life:
                self._dying, self._life = life, None

    def _started(self, task: asyncio.Task[httpx.AsyncClient]) -> None:
        self._starting = None
        if not task.cancelled() and isinstance(wrong := task.exception(), TallyError):
            self._stumbled()
            self._held_error = wrong

    def _check_held(self) -> None:
        if self._held_error and time.monotonic() < self._held_until_s:
            raise self._held_error
        self._held_error = None

    def _stumbled(self) -> None:
        """Hold the next start back: 1 second, then twice as long each time, to the limit."""
        self._held_until_s = time.monotonic() + min(2.0**self._failures, HOLD_S_MAX)
        self._failures += 1

    async def _start(self) -> httpx.AsyncClient:
        if importlib.util.find_spec("mlflow") is None:
            raise MissingTile(
                "MLflow is not installed",
                where="tile registry/mlflow",
                hint="pip install 'tallystick[mlflow]'",
            )
        order = {
            "socket": str(self.socket),
            "database": f"sqlite:///{self.home}/tally.db",
            "artifacts": str(self.home / "mlartifacts"),
            "roots": self._roots,
        }
        if self._failures:  # whoever asks waits meanwhile, as for any start
            await asyncio.sleep(max(0.0, self._held_until_s - time.monotonic()))
        if self._dying:  # it would take the new one's socket away as it ends
            await self._dying.end()
        command = [sys.executable, "-P", "-m", "tallystick.crew.mlflow_child"]
        life = _Life(await self._sandbox.spawn(command, self._wall()), self.socket)
        try:
            with contextlib.suppress(ConnectionError):
                life.process.stdin.write(json.dumps(order).encode() + b"\n")
                await life.process.stdin.drain()
            async with asyncio.timeout(READY_S_MAX):
                await life.ready()
        except BaseException as wrong:
            self._stale.append(life.client)
            await life.end()
            if isinstance(wrong, TimeoutError):
                raise Unavailable(f"it did not start in {READY_S_MAX:g} s", where="MLflow") from wrong
            raise
        return await self._settle_in(life)

    async def _settle_in(self, life: _Life) -> httpx.AsyncClient:
        await self._drop_stale()
        self._life = life
        life.watching = asyncio.create_task(self._watch(life))
        self._watching.add(life.watching)
        life.watching.add_done_callback(self._watching.discard)
        return life.client

    async def _watch(self, life: _Life) -> None:
        """Read on what it says until it ends, and see that the next request starts another."""
        async for _ in life.process.stdout:
            continue
        await life.process.wait()
        if time.monotonic() - life.began_s >= STEADY_S:
            self._failures = 0
        else:
            self._stumbled()
        if self._life is life:
            self._life = None
        await life.end()
        self._stale.append(life.client)

    async def _drop_stale(self) -> None:
        """Close the clients of processes that are gone: not at once, as somebody may be about to use one."""
        while self._stale:
            await self._stale.pop().aclose()

    def _wall(self) -> Wall:
        self._check_home()
        work = self.socket.parent / "mlflow"
        for folder in (self.socket.parent, work):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
        env = {
            "PATH": os.defpath,
            "HOME": str(work),
            "TMPDIR": str(work),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "MALLOC_ARENA_MAX": "2",
        }
        return Wall(
            workdir=str(work),
            writable=(str(self.home),),
            env=env,
            cpu_seconds=0,
            memory_mib=_MEMORY_MIB,
            file_mib=_FILE_MIB,
            open_files=4096,
        )

    def _check_home(self) -> None:
        if any(mark in str(self.home) for mark in "?#%"):
            raise BadInput("the path of the home must not hold '?', '#' or '%'", where=str(self.home))
        if len(os.fsencode(self.socket)) > _SOCKET_BYTES_MAX:
            raise BadInput(
                f"the path of a unix socket is at most {_SOCKET_BYTES_MAX} bytes long",
                where=str(self.socket),
                hint="choose a home with a shorter path",
            )
