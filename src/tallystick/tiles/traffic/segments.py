"""Segments: the files in which exchanges lie, in a bounded ring (``ports.traffic`` tells their format)."""

from __future__ import annotations

import json
import zlib
from collections import deque
from pathlib import Path
from typing import IO

from tallystick.ports.traffic import LENGTH_DIGITS, Exchange

__all__ = ["SEGMENTS", "Ring", "encode"]

SEGMENTS = 8
"""Into how many files the bytes of an endpoint are divided; the oldest makes room as a whole."""

SEGMENTS_MAX = 64
SUFFIX = ".exchanges"


def encode(exchange: Exchange) -> bytes:
    """One exchange as it lies in a segment."""
    header = {
        "at_ms": exchange.at_ms,
        "generation": exchange.generation,
        "status": exchange.status,
        "latency_ms": exchange.latency_ms,
        "json_bytes": exchange.json_bytes,
        "body_bytes": len(exchange.body),
        "crc32": zlib.crc32(exchange.body),
    }
    line = json.dumps(header, separators=(",", ":")).encode() + b"\n"
    return b"%0*x %b%b" % (LENGTH_DIGITS, len(line), line, exchange.body)


class Ring:
    """The segments of one endpoint: at most ``bytes_max`` in all. Only the writing thread may use it."""

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self._folder = folder
        self._bytes_max = bytes_max
        self._sizes: deque[tuple[Path, int]] = deque()
        self._out: IO[bytes] | None = None
        self._number = 0
        self.bytes = 0
        if folder.is_dir():
            self._find()

    def _find(self) -> None:
        """What an earlier process left; it is never added to, as its end may be torn."""
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            if path.stem.isdigit():
                self._sizes.append((path, path.stat().st_size))
                self._number = int(path.stem)
        self.bytes = sum(size for _, size in self._sizes)
        self._make_room(0)

    def write(self, record: bytes) -> None:
        """Add a record, after the oldest segments have made room. OSError from the disk."""
        if len(record) > self._bytes_max // SEGMENTS:
            return
        self._make_room(len(record))
        if self._out is None or self._sizes[-1][1] + len(record) > self._bytes_max // SEGMENTS:
            self._next()
        out, (path, size) = self._out, self._sizes[-1]
        if out is not None:
            out.write(record)
            self._sizes[-1] = (path, size + len(record))
            self.bytes += len(record)

    def flush(self) -> None:
        """Hand what was written to the system, where readers see it."""
        if self._out is not None:
            self._out.flush()

    def paths(self) -> list[Path]:
        """The segments, oldest first."""
        return [path for path, _ in self._sizes]

    def clear(self) -> None:
        """Delete all segments. Numbers go on, so that no old path means something new."""
        self.close()
        while self._sizes:
            self._drop_oldest()

    def close(self) -> None:
        """Let go of the open file; what is written next begins a new one."""
        if self._out is not None:
            out, self._out = self._out, None
            out.close()

    def _next(self) -> None:
        self.close()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._number += 1
        path = self._folder / f"{self._number:010d}{SUFFIX}"
        self._out = path.open("xb")
        self._sizes.append((path, 0))

    def _make_room(self, size: int) -> None:
        while self._sizes and (self.bytes + size > self._bytes_max or len(self._sizes) >= SEGMENTS_MAX):
            if len(self._sizes) == 1:
                self.close()
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        path, size = self._sizes.popleft()
        self.bytes -= size
        path.unlink(missing_ok=True)
