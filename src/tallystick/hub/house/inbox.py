"""Inboxes: the events of a run on their way to whoever executes it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Iterable

from tallystick.core.errors import TallyError, Unavailable
from tallystick.core.run.events import Event, Step

__all__ = ["STOPPED", "Inbox"]

STOPPED = "the run is not executed any more"


class Inbox:
    """Taken in the order in which they were put. Who waits for one goes on once it is durable.

    The other way, whoever executes the run shows here which steps changed, and others look on.
    """

    def __init__(self) -> None:
        self._shown: dict[str, tuple[int, Step]] = {}
        self._mark = 0
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

    def show(self, steps: Iterable[Step], now_ms: int) -> None:
        """These steps have changed, durably. Marks grow from one hub to the next, as the clock does."""
        self._mark = max(self._mark + 1, now_ms)
        for step in steps:
            self._shown.pop(step.path, None)
            self._shown[step.path] = self._mark, step

    def since(self, mark: int) -> tuple[int, list[Step]]:
        """The steps that changed after ``mark`` (0: all), in that order, and the mark to ask with next."""
        newest = itertools.takewhile(lambda shown: shown[0] > mark, reversed(self._shown.values()))
        return self._mark, [step for _, step in newest][::-1]

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
