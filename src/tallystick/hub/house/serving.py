"""Serving: a model in a process of its own behind a wall, for an endpoint or for as long as it is judged."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tallystick.core.errors import Failed, TookTooLong
from tallystick.core.wall import Wall
from tallystick.hub.house.errand import Errand
from tallystick.hub.house.parts import House

__all__ = ["Served", "serve_order", "served", "while_served"]

T = TypeVar("T")

LAST_WORDS_S = 1.0
"""How long to wait for a process that went away to be known as gone, and why."""


def serve_order(
    house: House, folder: Path, name: str, model: str, *, body_bytes_max: int
) -> tuple[Mapping[str, Any], Wall]:
    """Order and wall of the errand ``serve`` for the files in ``folder``/model.

    It answers to ``name`` on a socket in a new folder below ``folder``; these two are all it sees. It works
    until it is told to end. Whoever has the socket may ask for gradients, at an endpoint too, as a model must
    not be able to tell that it is judged: there the hub alone has it, and its door hands on no such question.
    """
    sockets = folder / "s"
    sockets.mkdir(mode=0o700)
    called, _, version = model.partition("@")
    order = {
        "folder": str(folder / "model"),
        "socket": str(sockets / "m"),
        "name": name,
        "model": called,
        "version": version,
        "body_bytes_max": body_bytes_max,
        "pull": True,
    }
    wall = Wall(
        workdir=str(sockets),
        readable=(str(folder / "model"),),
        writable=(str(sockets),),
        env=house.worker_env(),
        cpu_seconds=0,
        memory_mib=house.limits.memory_mib,
    )
    return order, wall


@dataclass(frozen=True, slots=True)
class Served:
    """A serving process that answers at ``socket``; ``ended`` never returns, and raises why it ended."""

    socket: Path
    ended: asyncio.Task[None]


@contextlib.asynccontextmanager
async def served(house: House, order: Mapping[str, Any], wall: Wall, where: str) -> AsyncIterator[Served]:
    """Have a model served until the block is left, however it is left.

    Its own error where it does not load, TookTooLong where it is not ready in time.
    """
    errand = await Errand.start(house.sandbox, "serve", order, wall)
    ready = asyncio.Event()
    ended = asyncio.create_task(_watch(errand, ready, where))
    waiting = asyncio.create_task(ready.wait())
    try:
        start_s = house.limits.start_s
        await asyncio.wait((ended, waiting), timeout=start_s, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            await ended
        if not ready.is_set():
            raise TookTooLong(f"it was not ready within {start_s:g} s", where=where)
        yield Served(Path(order["socket"]), ended)
    finally:
        for task in (ended, waiting):
            task.cancel()
        await asyncio.gather(ended, waiting, return_exceptions=True)
        await errand.end()


async def _watch(errand: Errand, ready: asyncio.Event, where: str) -> None:
    """Read what the process says, as it could not go on otherwise; its end is an error, whatever it says."""
    async for said in errand.lines():
        if "ready" in said:
            ready.set()
    raise Failed("the serving process ended", where=where)


async def while_served(server: Served, work: Awaitable[T]) -> T:
    """The result of ``work``, which asks the server; where the server ended, its error is the reason."""
    working = asyncio.ensure_future(work)
    try:
        await asyncio.wait((working, server.ended), return_when=asyncio.FIRST_COMPLETED)
        if working.done() and isinstance(working.exception(), Failed):
            await asyncio.wait((server.ended,), timeout=LAST_WORDS_S)
        if server.ended.done() and not (working.done() and working.exception() is None):
            await server.ended
        return await working
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
