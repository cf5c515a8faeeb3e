"""Traffic: what was asked of an endpoint, recorded outside the model's process so that it cannot lie.

The files of a window are records end to end, whichever tile wrote them. A record is

1. eight lower-case hex digits and a space: how many bytes the header line has, its newline included;
2. the header line: JSON ``{at_ms, generation, status, latency_ms, json_bytes, body_bytes, crc32}`` and a
   newline, where ``crc32`` is that of the body;
3. ``body_bytes`` bytes: the request's body as it came. Its first ``json_bytes`` are JSON, the rest tensors
   (Open Inference Protocol, binary data extension); ``json_bytes`` 0 means that all of it is JSON.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, runtime_checkable

__all__ = ["Exchange", "Traffic", "TrafficStats", "read_window"]

HEADER_BYTES_MAX = 4096
LENGTH_DIGITS = 8


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request: its raw body with the length of its JSON part (Open Inference Protocol, binary data
    extension; 0 when it is all JSON), the answer's status and the milliseconds it took.
    """

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
        """Files that hold the recorded exchanges, oldest first, flushed; :func:`read_window` reads them."""
        ...

    def stats(self, tenant: str, endpoint: str, at_ms: int) -> TrafficStats:
        """Counts and latencies at ``at_ms``."""
        ...

    async def clear(self, tenant: str, endpoint: str) -> None:
        """Forget what was recorded, after it led to a signal or a new model."""
        ...

    async def close(self) -> None:
        """Write what is waiting and let go of the files; what is recorded afterwards is dropped."""
        ...

    def limits(self) -> Mapping[str, int]:
        """``bytes_max`` for an endpoint."""
        ...


def read_window(paths: Iterable[Path]) -> Iterator[Exchange]:
    """The exchanges in the files of a window, oldest first.

    What is torn, by a crash while it was written, is left out with whatever follows it in its file; a
    file that has made room since is passed over.
    """
    for path in paths:
        try:
            segment = path.open("rb")
        except FileNotFoundError:
            continue
        with segment:
            while (exchange := _decode(segment)) is not None:
                yield exchange


def _decode(segment: IO[bytes]) -> Exchange | None:
    """The next exchange; None at the end, or where the file is no longer whole."""
    try:
        size = int(segment.read(LENGTH_DIGITS + 1), 16)
        if not 2 <= size <= HEADER_BYTES_MAX:
            return None
        line = segment.read(size)
        if not line.endswith(b"\n"):
            return None
        header = json.loads(line)
        body = segment.read(int(header["body_bytes"]))
        if len(body) != header["body_bytes"] or zlib.crc32(body) != header["crc32"]:
            return None
        return _exchange(header, body)
    except (ValueError, KeyError, TypeError):
        return None


def _exchange(header: dict[str, Any], body: bytes) -> Exchange:
    return Exchange(
        at_ms=int(header["at_ms"]),
        generation=int(header["generation"]),
        status=int(header["status"]),
        latency_ms=float(header["latency_ms"]),
        body=body,
        json_bytes=int(header["json_bytes"]),
    )
