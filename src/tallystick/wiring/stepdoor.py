"""One door to MLflow for each step: a socket and an instance of its own, gone when the step is."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import secrets
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.server import ServerState

from tallystick.core.errors import Unavailable
from tallystick.doors.mlflow.proxy import Native
from tallystick.doors.mlflow.relay import MlflowServer
from tallystick.doors.mlflow.step import step_app
from tallystick.judging.seals import Seals
from tallystick.ports.executor import Door
from tallystick.wiring.protocol import BoundedHttp

__all__ = ["CONNECTIONS_MAX", "step_doors"]

CONNECTIONS_MAX = 64
"""Of one step, at once: its relay opens 32, and what goes past the relay is ended here."""
GRACE_S = 2.0
"""How long calls may go on that the step left behind."""
_FOLDER = re.compile(r"[0-9a-f]{8}")


def step_doors(
    child: MlflowServer, run: Path, lane: Native | None = None, seals: Seals | None = None
) -> Callable[[str], AbstractAsyncContextManager[Door]]:
    """What opens a door for a step, named by its run and path (``run-1 train``), its socket under ``run``.

    The socket is ``<run>/<8 hex>/s``, 15 bytes after ``<home>``, its mode 0600 in a folder of 0700:
    within the 107 bytes of unix(7) for every home. What a hub that was killed left there is removed.
    Nothing is made before the step is heard of by the door: most never are.
    """
    for left in run.iterdir() if run.is_dir() else ():
        if _FOLDER.fullmatch(left.name):
            shutil.rmtree(left, ignore_errors=True)
    return lambda key: _opened(child, run, key, lane, seals)


@contextlib.asynccontextmanager
async def _opened(
    child: MlflowServer, run: Path, key: str, lane: Native | None, seals: Seals | None
) -> AsyncIterator[Door]:
    name, _, path = key.partition(" ")
    tags = {"tally.run": name, "tally.step": path}
    door = _StepDoor(lambda: step_app(child, tags, lane=lane, seals=seals), run)
    try:
        yield door
    finally:
        await door.close()


class _StepDoor:
    """The app behind a door. Not a whole uvicorn.Server: that one looks ten times a second for its end."""

    def __init__(self, app: Callable[[], Starlette], run: Path) -> None:
        self._app = app
        self._folder = run / secrets.token_hex(4)
        self._state = ServerState()
        self._making = asyncio.Lock()
        self._listening: asyncio.Server | None = None

    @functools.cached_property
    def _config(self) -> uvicorn.Config:
        config = uvicorn.Config(
            self._app(),
            http=BoundedHttp,
            ws="none",
            lifespan="off",
            log_config=None,  # the front door's holds for all
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            limit_concurrency=CONNECTIONS_MAX,
        )
        config.load()
        return config

    async def path(self) -> Path:
        """Unavailable when the socket cannot be made."""
        path = self._folder / "s"
        async with self._making:
            if self._listening is None:
                try:
                    self._folder.mkdir(mode=0o700)
                    loop = asyncio.get_running_loop()
                    self._listening = await loop.create_unix_server(self._protocol, sock=_bound(path))
                except OSError as wrong:
                    shutil.rmtree(self._folder, ignore_errors=True)
                    what = f"no socket can be made: {wrong.strerror}"
                    raise Unavailable(what, where=str(self._folder)) from wrong
        return path

    async def serve(self, connection: socket.socket) -> None:
        """Answer what was accepted elsewhere."""
        loop = asyncio.get_running_loop()
        protocol = self._protocol()
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection)
        try:
            await protocol.lost
        finally:
            transport.abort()

    def _protocol(self) -> _Counted:
        return _Counted(config=self._config, server_state=self._state, app_state={})

    async def close(self) -> None:
        """Take no more, let what is under way end for a moment, then end it."""
        if self._listening:
            shutil.rmtree(self._folder, ignore_errors=True)  # at once: whoever comes now finds nothing
            self._listening.close()
        if self._state.connections or self._state.tasks:
            await asyncio.shield(asyncio.ensure_future(self._end()))

    async def _end(self) -> None:
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=GRACE_S)
        left = list(self._state.tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for connection in list(self._state.connections):
            _transport_of(connection).abort()


class _Counted(BoundedHttp):
    """HTTP/1.1 for at most so many connections: each is a file of the hub's, and those are not endless."""

    lost: asyncio.Future[None]
    """Done once the connection is."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        if len(self.there()) > CONNECTIONS_MAX:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self.lost.done():
            self.lost.set_result(None)


def _bound(path: Path) -> socket.socket:
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        door.bind(str(path))
        path.chmod(0o600)
    except OSError:
        door.close()
        raise
    return door


def _transport_of(connection: Any) -> asyncio.Transport:
    transport: asyncio.Transport = connection.transport
    return transport
