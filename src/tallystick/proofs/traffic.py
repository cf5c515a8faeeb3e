"""What every traffic record must do. Subclass :class:`TrafficProof`.

The tests are coroutines: run them with pytest-asyncio in its ``auto`` mode.
"""

from __future__ import annotations

import abc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tallystick.core.errors import BadInput
from tallystick.ports.traffic import Exchange, Traffic, TrafficStats, read_window

__all__ = ["TrafficProof"]

NOW_MS = 1_700_000_000_500


def exchange(n: int = 0, *, body: bytes = b"{}", at_ms: int = NOW_MS, status: int = 200) -> Exchange:
    """The ``n``-th exchange, which took ``n`` ms, for the tests."""
    return Exchange(at_ms, 1 + n % 3, status, float(n), body, json_bytes=len(body) // 2)


class TrafficProof(abc.ABC):
    """Recording, the bound, counting, clearing."""

    @abc.abstractmethod
    async def open(self, home: Path) -> Traffic:
        """Open the record of ``home`` with the smallest bound that it allows."""

    @abc.abstractmethod
    async def shut(self, traffic: Traffic) -> None:
        """Let go of ``traffic`` and its files."""

    @pytest.fixture
    async def traffic(self, tmp_path: Path) -> AsyncIterator[Traffic]:
        """A new record."""
        traffic = await self.open(tmp_path)
        yield traffic
        await self.shut(traffic)

    async def recorded(self, traffic: Traffic, endpoint: str = "e", tenant: str = "t") -> list[Exchange]:
        """What a window holds."""
        return list(read_window(await traffic.window(tenant, endpoint)))

    async def test_what_was_recorded_is_in_the_window(self, traffic: Traffic) -> None:
        bodies = [b"", b'{"inputs":[]}', b'{"a":1}' + bytes(range(256)), b"\n\x00\n" * 1000]
        exchanges = [exchange(n, body=body) for n, body in enumerate(bodies)]
        for each in exchanges:
            traffic.record("t", "e", each)
        assert await self.recorded(traffic) == exchanges
        traffic.record("t", "e", exchange(9))
        assert await self.recorded(traffic) == [*exchanges, exchange(9)]

    async def test_nothing_was_recorded(self, traffic: Traffic) -> None:
        assert list(await traffic.window("t", "e")) == []
        assert traffic.stats("t", "e", NOW_MS) == TrafficStats(per_second=(0,) * 60)

    async def test_the_oldest_make_room_for_the_newest(self, traffic: Traffic) -> None:
        bytes_max = traffic.limits()["bytes_max"]
        for n in range(2 * bytes_max // 10_000):
            traffic.record("t", "e", exchange(n, body=b"x" * 10_000))
            if n % 50 == 0:
                await traffic.window("t", "e")
        window = await traffic.window("t", "e")
        kept = [int(each.latency_ms) for each in read_window(window)]
        assert kept == list(range(kept[0], 2 * bytes_max // 10_000))
        assert bytes_max // 2 < sum(path.stat().st_size for path in window) <= bytes_max
        assert traffic.stats("t", "e", NOW_MS).recorded_bytes <= bytes_max

    async def test_a_body_with_no_room_at_all_is_only_counted(self, traffic: Traffic) -> None:
        traffic.record("t", "e", exchange(1))
        traffic.record("t", "e", exchange(2, body=b"x" * (traffic.limits()["bytes_max"] + 1)))
        traffic.record("t", "e", exchange(3))
        assert await self.recorded(traffic) == [exchange(1), exchange(3)]
        assert traffic.stats("t", "e", NOW_MS).requests == 3

    async def test_recording_far_more_than_fits_never_raises(self, traffic: Traffic) -> None:
        body = b"x" * 50_000
        for n in range(2000):
            traffic.record("t", "e", exchange(n, body=body))
        kept = [each.latency_ms for each in await self.recorded(traffic)]
        assert kept == sorted(set(kept))
        assert traffic.stats("t", "e", NOW_MS).requests == 2000

    async def test_stats(self, traffic: Traffic) -> None:
        for n in range(1, 101):
            second = 1000 * (n % 2 * 59)
            traffic.record("t", "e", exchange(n, at_ms=NOW_MS - second, status=500 if n % 10 == 0 else 200))
        traffic.record("t", "e", exchange(0, at_ms=NOW_MS - 60_000, status=404))
        stats = traffic.stats("t", "e", NOW_MS)
        assert (stats.requests, stats.errors) == (101, 11)
        assert stats.latency_ms_p50 == pytest.approx(50, abs=1)
        assert stats.latency_ms_p99 == pytest.approx(99, abs=1)
        assert list(stats.per_second) == [50, *[0] * 58, 50]
        assert list(traffic.stats("t", "e", NOW_MS + 60_000).per_second) == [0] * 60

    async def test_latency_is_of_the_newest(self, traffic: Traffic) -> None:
        for n in [1000] * 5000 + [1] * 5000:
            traffic.record("t", "e", exchange(n))
        assert traffic.stats("t", "e", NOW_MS).latency_ms_p99 == pytest.approx(1)

    async def test_clearing_forgets_one_endpoint_only(self, traffic: Traffic) -> None:
        for name in ("e", "f"):
            traffic.record("t", name, exchange(1))
        await traffic.clear("t", "e")
        await traffic.clear("t", "never-seen")
        assert await self.recorded(traffic, "e") == []
        assert await self.recorded(traffic, "f") == [exchange(1)]
        assert traffic.stats("t", "e", NOW_MS).recorded_bytes == 0
        traffic.record("t", "e", exchange(2))
        assert await self.recorded(traffic, "e") == [exchange(2)]

    async def test_tenants_and_endpoints_are_apart(self, traffic: Traffic) -> None:
        for n, (tenant, name) in enumerate([("t", "e"), ("t", "f"), ("u", "e")]):
            traffic.record(tenant, name, exchange(n))
        assert await self.recorded(traffic, "e", "t") == [exchange(0)]
        assert await self.recorded(traffic, "f", "t") == [exchange(1)]
        assert await self.recorded(traffic, "e", "u") == [exchange(2)]
        assert traffic.stats("u", "e", NOW_MS).requests == 1

    @pytest.mark.parametrize("name", ["", "..", "a/b", "../e", ".hidden", "a\x00b", "x" * 101])
    async def test_names_that_would_lead_elsewhere_are_refused(self, traffic: Traffic, name: str) -> None:
        for tenant, endpoint in (("t", name), (name, "e")):
            with pytest.raises(BadInput):
                traffic.record(tenant, endpoint, exchange())
            with pytest.raises(BadInput):
                traffic.stats(tenant, endpoint, NOW_MS)
            with pytest.raises(BadInput):
                await traffic.window(tenant, endpoint)
            with pytest.raises(BadInput):
                await traffic.clear(tenant, endpoint)
