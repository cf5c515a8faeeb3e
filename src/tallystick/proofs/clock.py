"""What every clock must do. Subclass :class:`ClockProof`.

The tests are coroutines: run them with pytest-asyncio in its ``auto`` mode.
"""

from __future__ import annotations

import abc
import asyncio
import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest

from tallystick.core.errors import BadInput
from tallystick.ports.clock import Clock

__all__ = ["ClockProof"]

YEAR_2020_MS = 1_577_836_800_000
YEAR_2200_MS = 7_258_118_400_000


class ClockProof(abc.ABC):
    """Time goes on and never back."""

    @abc.abstractmethod
    def open(self) -> Clock:
        """A clock."""

    @pytest.fixture
    def clock(self) -> Clock:
        """A clock."""
        return self.open()

    def test_now_is_in_this_age_and_in_milliseconds(self, clock: Clock) -> None:
        assert YEAR_2020_MS < clock.now_ms() < YEAR_2200_MS

    def test_time_never_goes_back(self, clock: Clock) -> None:
        def look(_: int) -> bool:
            times = [(clock.now_ms(), clock.monotonic_s()) for _ in range(500)]
            return all(a[0] <= b[0] and a[1] <= b[1] for a, b in itertools.pairwise(times))

        with ThreadPoolExecutor(4) as threads:
            assert all(threads.map(look, range(4)))

    @pytest.mark.parametrize("seconds", [0, 0.001, 0.02])
    async def test_sleeping_takes_its_time(self, clock: Clock, seconds: float) -> None:
        before_s, before_ms = clock.monotonic_s(), clock.now_ms()
        await clock.sleep(seconds)
        assert clock.monotonic_s() - before_s >= seconds - 0.0015  # the resolution of uvloop's timers
        assert clock.now_ms() - before_ms >= int(seconds * 1000) - 1

    async def test_others_run_meanwhile(self, clock: Clock) -> None:
        ran = asyncio.Event()
        task = asyncio.create_task(_set(ran))
        await clock.sleep(0)
        assert ran.is_set()
        await task

    @pytest.mark.parametrize("seconds", [-1, -0.001, float("nan")])
    async def test_nobody_sleeps_backwards(self, clock: Clock, seconds: float) -> None:
        with pytest.raises(BadInput):
            await clock.sleep(seconds)

    async def test_a_sleeper_can_be_cancelled(self, clock: Clock) -> None:
        task = asyncio.create_task(clock.sleep(0.05))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.done()


async def _set(event: asyncio.Event) -> None:
    event.set()
