"""A journal in memory: what hub tests stand on. It passes the same proof as the real one."""

from __future__ import annotations

from collections.abc import Sequence

from tallystick.core.errors import BadInput, TooLarge
from tallystick.ports.runs.journal import ENTRY_BYTES_MAX, Entry

__all__ = ["MemoryJournal"]


class MemoryJournal:
    """Events and steps by tenant and run. With ``broken`` set, recording raises that error."""

    def __init__(self) -> None:
        self.broken: Exception | None = None
        self._events: dict[tuple[str, str], list[str]] = {}
        self._steps: dict[tuple[str, str], dict[str, str]] = {}

    async def record(self, tenant: str, run: str, entries: Sequence[Entry]) -> None:
        if self.broken:
            raise self.broken
        for text in [text for entry in entries for text in (entry.event, *(step for _, step in entry.steps))]:
            _check(text, run)
        for entry in entries:
            self._events.setdefault((tenant, run), []).append(entry.event)
            self._steps.setdefault((tenant, run), {}).update(entry.steps)

    async def events(self, tenant: str, run: str) -> Sequence[str]:
        return list(self._events.get((tenant, run), ()))

    async def steps(self, tenant: str, run: str, path: str = "") -> Sequence[str]:
        found = self._steps.get((tenant, run), {})
        return [step for at, step in found.items() if path in ("", at)]


def _check(text: str, run: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeError as wrong:
        raise BadInput("an entry is not text", where=run) from wrong
    if size > ENTRY_BYTES_MAX:
        raise TooLarge("over ENTRY_BYTES_MAX", where=run)
