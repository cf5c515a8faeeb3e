"""Counts of one endpoint's exchanges, kept in memory: fixed size, however many there are."""

from __future__ import annotations

import math
from collections import deque

from tallystick.ports.traffic import Exchange, TrafficStats

__all__ = ["Counts"]

LATENCIES = 1000
SECONDS = 60
SLOTS = 128
"""Seconds that are counted at once; more than ``SECONDS``, as exchanges do not come in exact order."""


class Counts:
    """Requests, errors (status 400 and up), the newest ``LATENCIES`` latencies, requests by second."""

    def __init__(self) -> None:
        self._requests = 0
        self._errors = 0
        self._latencies: deque[float] = deque(maxlen=LATENCIES)
        self._second = [-1] * SLOTS
        self._count = [0] * SLOTS

    def add(self, exchange: Exchange) -> None:
        """Count one exchange."""
        self._requests += 1
        self._errors += exchange.status >= 400
        self._latencies.append(exchange.latency_ms)
        second = exchange.at_ms // 1000
        slot = second % SLOTS
        if self._second[slot] < second:
            self._second[slot], self._count[slot] = second, 0
        if self._second[slot] == second:
            self._count[slot] += 1

    def stats(self, at_ms: int, recorded_bytes: int) -> TrafficStats:
        """What was counted; percentiles by nearest rank."""
        newest = at_ms // 1000
        latencies = sorted(self._latencies)
        return TrafficStats(
            requests=self._requests,
            errors=self._errors,
            latency_ms_p50=_percentile(latencies, 0.50),
            latency_ms_p99=_percentile(latencies, 0.99),
            recorded_bytes=recorded_bytes,
            per_second=tuple(self._in_second(s) for s in range(newest - SECONDS + 1, newest + 1)),
        )

    def _in_second(self, second: int) -> int:
        slot = second % SLOTS
        return self._count[slot] if self._second[slot] == second else 0


def _percentile(values: list[float], share: float) -> float:
    return values[max(0, math.ceil(share * len(values)) - 1)] if values else 0.0
