"""Inboxes: the events of a run on their way to whoever executes it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tallystick.core.errors import TallyError, Unavailable
from tallystick.core.run.events import Event

__all__ = ["STOPPED", "Inbox"]

STOPPED = "the run is not executed any more"


class Inbox:
    """Taken in the order in which they were put. Who waits for one goes on once it is durable."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[tuple[Event, asyncio.Future[None]]] = asyncio.Queue()

    def put(self, event: Event) -> asyncio.Future[None]:
        """Hand an event over; the future is done once it is in the journal, and fails where it cannot be."""
        kept = asyncio.get_running_loop().create_future()
        self._events.put_nowait((event, kept))
        return kept

    @contextlib.asynccontextmanager
    async def taken(self) -> AsyncIterator[list[Event]]:
        """All that wait, at least one; they are durable when the block is left."""
        found = [await self._events.get(), *self._waiting()]
        wrong: TallyError | None = Unavailable(STOPPED)
        try:
            yield [event for event, _ in found]
            wrong = None
        except TallyError as error:
            wrong = error
            raise
        finally:
            _answer(found, wrong)

    def close(self, wrong: TallyError | None) -> None:
        """Nobody takes any more: whoever waits hears ``wrong``, or that there is nothing left to do."""
        _answer(self._waiting(), wrong)

    def _waiting(self) -> list[tuple[Event, asyncio.Future[None]]]:
        return [self._events.get_nowait() for _ in range(self._events.qsize())]


def _answer(waiting: list[tuple[Event, asyncio.Future[None]]], wrong: TallyError | None) -> None:
    for _, kept in waiting:
        if kept.done():
            continue
        if wrong is None:
            kept.set_result(None)
        else:
            kept.set_exception(wrong)
            kept.exception()  # most are waited for by nobody, and that is no fault
