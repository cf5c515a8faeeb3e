"""The zygotes that are alive: few, the right one for each step, and none that nobody has needed for long."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace

from tallystick.tiles.executor.forked import NobodyThere
from tallystick.tiles.executor.python import Python
from tallystick.tiles.executor.zygote import CannotFork, Zygote

__all__ = ["Zygotes"]

AGAIN_AFTER_S = 60.0
"""After a zygote could not be started, until it is tried again."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Zygotes:
    """At most ``alive_max`` zygotes at rest, each for at most ``rest_s`` seconds.

    Of each Python, one has nothing but the runtime of components: its forks are cheapest. The others have
    modules too; a step that needs more than any of them has makes one that has all of theirs as well, which
    takes their place: so that a module weighs in memory once.
    """

    start: Callable[[Python, frozenset[str]], Awaitable[Zygote]]
    alive_max: int
    rest_s: float
    trouble: str = ""
    """Why there is no zygote, where the last one could not be started."""
    _alive: list[Zygote] = field(default_factory=list)
    _starting: asyncio.Lock = field(default_factory=asyncio.Lock)
    _closing: set[asyncio.Task[None]] = field(default_factory=set)
    _not_before: dict[tuple[Python, frozenset[str]], float] = field(default_factory=dict)
    _look: asyncio.TimerHandle | None = None

    @contextlib.asynccontextmanager
    async def taken(self, python: Python, modules: frozenset[str]) -> AsyncIterator[Zygote]:
        """A zygote of ``python`` with at least ``modules``, kept alive meanwhile; CannotFork if none is."""
        zygote = await self._one(python, modules)
        zygote.running += 1
        try:
            yield zygote
        except NobodyThere:  # it is ending, and must not be asked again
            if zygote in self._alive:
                self._retire(zygote)
            raise
        finally:
            zygote.running -= 1
            zygote.used_at = time.monotonic()
            if zygote.retired and not zygote.running:
                self._close(zygote)
            self._settle()
            self._settle_later()

    async def _one(self, python: Python, modules: frozenset[str]) -> Zygote:
        async with self._starting:
            if found := self._found(python, modules):
                return found
            alike = (z.modules for z in self._alive if z.python == python)
            wanted = modules.union(*alike) if modules else modules
            try:
                return await self._started(python, wanted)
            except CannotFork as wrong:
                self._note(python, wanted, str(wrong))
                if not wanted:
                    raise
            # What is imported may be at fault: a step can import it by itself.
            if found := self._found(python, frozenset()):
                return found
            try:
                return await self._started(python, frozenset())
            except CannotFork as wrong:
                self._note(python, frozenset(), str(wrong))
                raise

    def _found(self, python: Python, modules: frozenset[str]) -> Zygote | None:
        self._alive = [z for z in self._alive if not z.ended]
        alike = [z for z in self._alive if z.python == python]
        fit = [z for z in alike if z.modules >= modules and (modules or not z.modules)]
        return min(fit, key=lambda z: len(z.modules), default=None)

    async def _started(self, python: Python, modules: frozenset[str]) -> Zygote:
        if time.monotonic() < self._not_before.get((python, modules), 0.0):
            raise CannotFork(self.trouble)
        fresh = await self.start(python, modules)
        self.trouble = self.trouble if modules else ""
        for other in [z for z in self._alive if z.python == python and z.modules and z.modules <= modules]:
            self._retire(other)
        self._settle(coming=1)
        fresh.used_at = time.monotonic()
        self._alive.append(fresh)
        return fresh

    def _note(self, python: Python, modules: frozenset[str], why: str) -> None:
        if self._not_before.get((python, modules), 0.0) <= time.monotonic():
            self._not_before[replace(python, hold=None), modules] = time.monotonic() + AGAIN_AFTER_S
            names = f" with {', '.join(sorted(modules))}" if modules else ""
            _log.warning("steps are not forked from a process%s: %s", names, why)
        if not modules:
            self.trouble = why

    def _settle(self, coming: int = 0) -> None:
        """Let go of who has rested too long, and of the longest at rest while there are too many.

        Those that are ``coming`` count, and are not at rest: one that is new has not had its step yet.
        """
        now = time.monotonic()
        resting = sorted((z for z in self._alive if not z.running), key=lambda z: z.used_at)
        many = len(self._alive) + coming - self.alive_max
        for place, zygote in enumerate(resting):
            if place < many or now - zygote.used_at >= self.rest_s:
                self._retire(zygote)

    def _settle_later(self) -> None:
        """Once who rests now has rested too long; one look for all steps that end meanwhile."""
        if self._look is None:
            self._look = asyncio.get_running_loop().call_later(self.rest_s + 0.1, self._look_again)

    def _look_again(self) -> None:
        self._look = None
        self._settle()
        if self._alive:
            self._settle_later()

    def _retire(self, zygote: Zygote) -> None:
        """Give it to no more steps, and end it with the last of them."""
        self._alive.remove(zygote)
        zygote.retired = True
        if not zygote.running:
            self._close(zygote)

    def _close(self, zygote: Zygote) -> None:
        closing = asyncio.create_task(zygote.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def retire(self) -> None:
        """Let all go, each once its steps have ended: what they have imported is not what is installed."""
        for zygote in list(self._alive):
            self._retire(zygote)
        self._not_before.clear()

    async def close(self) -> None:
        """End them all, with every step that still runs."""
        if self._look:
            self._look.cancel()
        alive, self._alive = self._alive, []
        await asyncio.gather(*(z.close() for z in alive), *self._closing, return_exceptions=True)
