"""The system's clock."""

from __future__ import annotations

import asyncio
import threading
import time

from tallystick.core.errors import BadInput
from tallystick.ports.tile import Place

__all__ = ["SystemClock", "open_tile"]


def open_tile(place: Place) -> SystemClock:
    """The clock of this machine; it has no options."""
    return SystemClock()


class SystemClock:
    """See :class:`tallystick.ports.clock.Clock`. Any thread may ask."""

    def __init__(self) -> None:
        self._newest_ms = 0
        self._one = threading.Lock()

    def now_ms(self) -> int:
        """Milliseconds since 1970; stands still while the system's clock is set back."""
        with self._one:
            self._newest_ms = max(self._newest_ms, time.time_ns() // 1_000_000)
            return self._newest_ms

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Let others run for at least ``seconds``; BadInput below 0 or NaN."""
        if not seconds >= 0:
            raise BadInput(f"cannot sleep for {seconds} seconds", where="clock")
        await asyncio.sleep(seconds)
