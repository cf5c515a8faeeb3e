"""The clock: the only source of time, so that tests need not wait for it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

__all__ = ["Clock"]


@runtime_checkable
class Clock(Protocol):
    """Wall time for the record, monotonic time for durations."""

    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01T00:00Z; never less than the call before returned."""
        ...

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let others run for at least ``seconds`` (0 or more)."""
        ...
