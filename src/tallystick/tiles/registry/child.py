"""MLflow's server as a supervised child: started when first needed, and again after a crash."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import sys
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tallystick.core.errors import BadInput, MissingTile, TallyError, Unavailable
from tallystick.core.wall import Wall
from tallystick.ports.sandbox import Sandbox
from tallystick.record.address import cleaned
from tallystick.tiles.registry.life import Life

__all__ = ["HOLD_S_MAX", "IDLE_S", "READY_S_MAX", "STEADY_S", "MlflowChild", "Store", "passed_on"]

READY_S_MAX = 60.0
"""How long a start may take: 2 s here, more on a cold disk."""
STEADY_S = 10.0
"""After one that lived this long the next starts at once; after others there is a pause."""
HOLD_S_MAX = 30.0
"""After failing again and again, the longest pause before another try."""
IDLE_S = 600.0
"""Without a request for this long it rests, where nothing else is said."""
_DOUBT_S = 0.5
"""A killed process breaks its connections a moment before its end is known."""
_MEMORY_MIB = 8192
_FILE_MIB = 1024 * 1024
"""A database or an artifact may grow to 1 TiB: a lower limit would cut off a write in its middle."""
_SOCKET_BYTES_MAX = 107


@dataclass(frozen=True, slots=True)
class Store:
    """What the server works on; what is empty is in the home.

    ``database`` is a URL as SQLAlchemy has it, and bears a password where there is one. ``artifacts`` is a
    folder or ``s3://bucket/prefix``. ``roots`` are further places (folders as ``file:///...``, or for example
    ``s3://bucket/mlflow``) whose artifacts it may open when an experiment says that they are there.
    """

    database: str = ""
    artifacts: str = ""
    roots: tuple[str, ...] = ()
    workspaces: bool = False

    def database_in(self, home: Path) -> str:
        """The URL, with ``home`` filled in."""
        return self.database or f"sqlite:///{home}/mlflow.db"

    def folder_of_database(self, home: Path) -> str:
        """Where a database of SQLite lies, which also needs files beside it; empty for a server's."""
        url = self.database_in(home)
        return str(Path(url.removeprefix("sqlite:///")).parent) if url.startswith("sqlite:") else ""

    def without_password(self, text: str) -> str:
        """``text`` of the server's, without the database's passwords, should they be in there."""
        return cleaned(text, self.database)


class MlflowChild:
    """MLflow's server on ``<home>/run/mlflow.sock``, over ``store``.

    It is started when it is first needed, and after ``idle_s`` seconds without a request it rests: it is
    ended, and started when it is needed again.
    """

    def __init__(
        self, home: Path, sandbox: Sandbox, store: Store | None = None, idle_s: float = IDLE_S
    ) -> None:
        self.home = home
        self.socket = home / "run" / "mlflow.sock"
        self._sandbox = sandbox
        self._store = store or Store()
        self._idle_s = idle_s
        self._life: Life | None = None
        self._dying: Life | None = None
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

    @property
    def state(self) -> str:
        """In a word, for a person: ``runs``, ``starts``, ``rests``, or why it last could not start."""
        if self._life:
            return "runs"
        if self._starting:
            return "starts"
        held = self._held_error and time.monotonic() < self._held_until_s
        return f"does not start: {self._held_error}" if held else "rests"

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
            self._life.requests.touch()
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

    async def _doubt(self, life: Life) -> None:
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
            "database": self._store.database_in(self.home),
            "artifacts": self._store.artifacts or str(self.home / "mlartifacts"),
            "roots": self._store.roots,
            "workspaces": self._store.workspaces,
            "folder": str(Path.cwd()),
        }
        if self._failures:  # whoever asks waits meanwhile, as for any start
            await asyncio.sleep(max(0.0, self._held_until_s - time.monotonic()))
        if self._dying:  # it would take the new one's socket away as it ends
            await self._dying.end()
        command = [sys.executable, "-P", "-m", "tallystick.crew.mlflow.child"]
        life = Life(await self._sandbox.spawn(command, self._wall()), self.socket)
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
            if isinstance(wrong, TallyError):
                raise self._told(wrong) from None
            raise
        return await self._settle_in(life)

    async def _settle_in(self, life: Life) -> httpx.AsyncClient:
        await self._drop_stale()
        self._life = life
        life.requests.touch()
        life.watching = self._go_on(self._watch(life))
        life.resting = self._go_on(self._rest(life))
        return life.client

    def _go_on(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)
        return task

    async def _rest(self, life: Life) -> None:
        """Once nobody has asked for a while, end the server; who asks from then on has another started."""
        while True:
            left_s = life.requests.close_if_idle(self._idle_s)
            if not left_s:
                break
            await asyncio.sleep(left_s)
        life.rests = True
        if self._life is life:
            self._dying, self._life = life, None
        await life.end()

    def _told(self, wrong: TallyError) -> TallyError:
        clean = self._store.without_password
        return type(wrong)(clean(wrong.what), where=clean(wrong.where), hint=clean(wrong.hint))

    async def _watch(self, life: Life) -> None:
        """Read on what it says until it ends, and see that the next request starts another."""
        async for _ in life.process.stdout:
            continue
        await life.process.wait()
        if life.resting and not life.rests:
            life.resting.cancel()
        if life.rests or time.monotonic() - life.began_s >= STEADY_S:
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
        store = self._store
        env = {
            **passed_on(store),
            "PATH": os.defpath,
            "HOME": str(work),
            "TMPDIR": str(work),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "MALLOC_ARENA_MAX": "2",
        }
        folders = dict.fromkeys((str(self.home), store.folder_of_database(self.home), store.artifacts))
        return Wall(
            workdir=str(work),
            writable=tuple(folder for folder in folders if folder.startswith("/")),
            env=env,
            cpu_seconds=0,
            memory_mib=_MEMORY_MIB,
            file_mib=_FILE_MIB,
            open_files=4096,
            network=not store.folder_of_database(self.home) or "://" in store.artifacts,
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


def passed_on(store: Store) -> Mapping[str, str]:
    """Variables that tell how a server or an object store is reached: only where there is one."""
    kept: tuple[str, ...] = ()
    files: dict[str, str] = {}
    if store.database.startswith("postgresql"):
        kept, files = ("PG",), {"PGPASSFILE": ".pgpass"}
    if store.artifacts.startswith("s3:"):
        kept = (*kept, "AWS_", "MLFLOW_S3_")
        files |= {"AWS_SHARED_CREDENTIALS_FILE": ".aws/credentials", "AWS_CONFIG_FILE": ".aws/config"}
    there = {name: Path.home() / file for name, file in files.items()}  # its own HOME is another folder
    found = {name: str(file) for name, file in there.items() if file.is_file()}
    return found | {name: value for name, value in os.environ.items() if name.startswith(kept)}
