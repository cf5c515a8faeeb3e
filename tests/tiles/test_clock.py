"""The system's clock, and the one that tests move."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tallystick.ports.clock import Clock
from tallystick.ports.tile import Place
from tallystick.proofs.clock import ClockProof
from tallystick.tiles.clock.system import open_tile
from tests.fakes.clock import FakeClock


class TestSystemClock(ClockProof):
    def open(self) -> Clock:
        return open_tile(Place(Path()))

    def test_it_stands_still_while_the_system_is_set_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = self.open()
        before = clock.now_ms()
        monkeypatch.setattr(time, "time_ns", lambda: (before - 5000) * 1_000_000)
        assert clock.now_ms() == before
        monkeypatch.setattr(time, "time_ns", lambda: (before + 1) * 1_000_000)
        assert clock.now_ms() == before + 1


class TestFakeClock(ClockProof):
    def open(self) -> Clock:
        return FakeClock()

    async def test_an_hour_passes_at_once(self) -> None:
        clock = FakeClock(1_700_000_000_000)
        async with asyncio.timeout(60):
            await clock.sleep(3600)
        assert clock.now_ms() == 1_700_003_600_000
        assert clock.monotonic_s() == 3600
        assert clock.slept == [3600]
        clock.set_ms(1)
        assert clock.now_ms() == 1_700_003_600_000
