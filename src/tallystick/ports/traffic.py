"""Traffic: what was asked of an endpoint, recorded outside the model's process so that it cannot lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

__all__ = ["Exchange", "Traffic", "TrafficStats"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request: its raw body with the length of its JSON part (Open Inference Protocol, binary data
    extension; 0 when it is all JSON), the answer's status and the milliseconds it took."""

    at_ms: int
    generation: int
    status: int
    latency_ms: float
    body: bytes
    json_bytes: int = 0


@dataclass(frozen=True, slots=True)
class TrafficStats:
    """Counts since the hub started, and latency over the newest exchanges."""

    requests: int = 0
    errors: int = 0
    latency_ms_p50: float = 0.0
    latency_ms_p99: float = 0.0
    recorded_bytes: int = 0
    per_second: Sequence[int] = ()
    """Requests in each of the last 60 seconds, oldest first."""


@runtime_checkable
class Traffic(Protocol):
    """A bounded record for each endpoint: the oldest exchanges make room for the newest."""

    def record(self, tenant: str, endpoint: str, exchange: Exchange) -> None:
        """Keep an exchange. Never blocks on the disk and never raises for lack of room."""
        ...

    async def window(self, tenant: str, endpoint: str) -> Sequence[Path]:
        """Files that hold the recorded exchanges, oldest first, flushed; see the tile for the format."""
        ...

    def stats(self, tenant: str, endpoint: str, at_ms: int) -> TrafficStats:
        """Counts and latencies at ``at_ms``."""
        ...

    async def clear(self, tenant: str, endpoint: str) -> None:
        """Forget what was recorded, after it led to a signal or a new model."""
        ...

    def limits(self) -> Mapping[str, int]:
        """``bytes_max`` for an endpoint."""
        ...
