"""A clock that stands still until it is told to go on; sleeping moves it on at once."""

from __future__ import annotations

import asyncio
import time

from tallystick.core.errors import BadInput

__all__ = ["FakeClock"]


class FakeClock:
    """``set_ms`` and ``advance`` move it; ``slept`` lists how long others have slept."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._now_ns = now_ms * 1_000_000
        self._start_ns = self._now_ns
        self.slept: list[float] = []

    def now_ms(self) -> int:
        return self._now_ns // 1_000_000

    def monotonic_s(self) -> float:
        return (self._now_ns - self._start_ns) / 1e9

    async def sleep(self, seconds: float) -> None:
        if not seconds >= 0:
            raise BadInput(f"cannot sleep for {seconds} seconds", where="clock")
        self.slept.append(seconds)
        self.advance(seconds)
        time.sleep(0)  # noqa: ASYNC251  reason: who polls by this clock must leave threads their turn
        await asyncio.sleep(0)

    def advance(self, seconds: float) -> None:
        self._now_ns += round(seconds * 1e9)

    def set_ms(self, now_ms: int) -> None:
        """Set it on; it does not go back."""
        self._now_ns = max(self._now_ns, now_ms * 1_000_000)
