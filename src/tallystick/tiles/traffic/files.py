"""The embedded traffic record: a bounded ring of files for each endpoint, below ``traffic`` of the home.

::

    traffic/<tenant>/<endpoint>/0000000001.exchanges     segments by rising number; the highest is in use

A segment is records end to end; ``ports.traffic`` tells their format, and how they are read.
A record that a crash has torn ends its segment. A process never adds to a
segment of another. Recording goes to memory; one thread writes, and nothing is synced: the record is a
sample, not a fact. What cannot be kept (a full disk, a body over an eighth of the ring, more than
``PENDING_BYTES_MAX`` waiting) is counted and dropped.

Option ``traffic_mib_max``: MiB of each endpoint's ring (default 64).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tallystick.core.errors import BadInput, Unavailable
from tallystick.core.names import check_name
from tallystick.ports.tile import Place
from tallystick.ports.traffic import Exchange, TrafficStats, read_window
from tallystick.tiles.traffic.counts import Counts
from tallystick.tiles.traffic.segments import Ring, encode

__all__ = ["FileTraffic", "open_tile", "read_window"]

PENDING_BYTES_MAX = 32 * 1024 * 1024
EXCHANGE_BYTES = 256
"""What an exchange counts in memory beside its body."""
GATHER_S = 0.05
"""How long exchanges may gather before the thread writes them; nobody waits for it."""

_log = logging.getLogger(__name__)

Key = tuple[str, str]
Chore = Callable[[], None]


def open_tile(place: Place) -> FileTraffic:
    """Open, or make, the traffic record of ``place.home``."""
    mib_max = place.options.get("traffic_mib_max", 64)
    if isinstance(mib_max, bool) or not isinstance(mib_max, int) or not 1 <= mib_max <= 2**20:
        raise BadInput(f"{mib_max!r} is not a number of MiB from 1 to 1048576", where="traffic_mib_max")
    return FileTraffic(place.home / "traffic", mib_max * 2**20)


class FileTraffic:
    """See the module; the methods are those of :class:`tallystick.ports.traffic.Traffic`, and ``close``."""

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self._folder = folder
        self._bytes_max = bytes_max
        self._counts: dict[Key, Counts] = {}
        self._rings: dict[Key, Ring] = {}
        self._pending: deque[tuple[Key, Exchange] | Chore] = deque()
        self._pending_bytes = 0
        self._chores = 0
        self._thread: threading.Thread | None = None
        self._closed = False
        self._complained = False
        self._wake = threading.Condition()
        self._find()

    def record(self, tenant: str, endpoint: str, exchange: Exchange) -> None:
        """Count an exchange, and keep it if there is room; after ``close`` it is only counted."""
        self._counts_of(tenant, endpoint).add(exchange)
        size = len(exchange.body) + EXCHANGE_BYTES
        with self._wake:
            if self._closed or self._pending_bytes + size > PENDING_BYTES_MAX:
                return
            self._pending.append(((tenant, endpoint), exchange))
            self._pending_bytes += size
            self._start()
            if len(self._pending) == 1:
                self._wake.notify()

    async def window(self, tenant: str, endpoint: str) -> Sequence[Path]:
        """Files with the recorded exchanges, oldest first, flushed; :func:`read_window` reads them."""
        key = _key(tenant, endpoint)
        found: Sequence[Path] = await self._do(lambda: self._flushed(key))
        return found

    def stats(self, tenant: str, endpoint: str, at_ms: int) -> TrafficStats:
        """Counts and latencies; ``errors`` are answers with status 400 and up."""
        key = _key(tenant, endpoint)
        ring = self._rings.get(key)
        return self._counts.get(key, _NOTHING).stats(at_ms, ring.bytes if ring else 0)

    async def clear(self, tenant: str, endpoint: str) -> None:
        """Delete what was recorded of an endpoint; its counts stay."""
        key = _key(tenant, endpoint)
        await self._do(lambda: self._ring(key).clear())

    def limits(self) -> Mapping[str, int]:
        """``bytes_max`` for an endpoint."""
        return {"bytes_max": self._bytes_max}

    async def close(self) -> None:
        """Write what is pending and let go of the files. Twice is fine."""
        with self._wake:
            self._closed = True
            self._wake.notify()
            thread = self._thread
        if thread is not None:
            await asyncio.to_thread(thread.join)

    def _counts_of(self, tenant: str, endpoint: str) -> Counts:
        found = self._counts.get((tenant, endpoint))
        if found is None:
            found = self._counts.setdefault(_key(tenant, endpoint), Counts())
        return found

    def _start(self) -> None:
        """Start the thread with the first work for it; the caller holds ``_wake``."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="tally-traffic", daemon=True)
            self._thread.start()

    async def _do(self, work: Callable[[], Any]) -> Any:
        """Have the thread do ``work`` after all that was recorded before, and return its value."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def chore() -> None:
            try:
                answer, wrong = work(), None
            except OSError as error:
                answer, wrong = (
                    None,
                    Unavailable(f"the disk refuses: {error.strerror}", where=str(self._folder)),
                )
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
                loop.call_soon_threadsafe(_resolve, future, answer, wrong)

        with self._wake:
            if self._closed:
                raise Unavailable("the traffic record is closed", where=str(self._folder))
            self._pending.append(chore)
            self._chores += 1
            self._start()
            self._wake.notify()
        return await future

    def _run(self) -> None:
        while work := self._gather():
            for item in work:
                if callable(item):
                    item()
                else:
                    self._keep(*item)
            self._flush()
        for ring in self._rings.values():
            with contextlib.suppress(OSError):
                ring.close()

    def _gather(self) -> list[tuple[Key, Exchange] | Chore]:
        """All that is pending, once something is; empty when closed and nothing is left."""
        with self._wake:
            self._wake.wait_for(lambda: self._pending or self._closed)
            self._wake.wait_for(lambda: self._chores or self._closed, timeout=GATHER_S)
            work = list(self._pending)
            self._pending.clear()
            self._pending_bytes = self._chores = 0
            return work

    def _keep(self, key: Key, exchange: Exchange) -> None:
        try:
            self._ring(key).write(encode(exchange))
        except (OSError, ValueError, TypeError) as wrong:
            self._complain(self._ring(key), wrong)

    def _flush(self) -> None:
        for ring in self._rings.values():
            try:
                ring.flush()
            except OSError as wrong:
                self._complain(ring, wrong)

    def _complain(self, ring: Ring, wrong: Exception) -> None:
        """Leave the segment, which may be torn now; say so once, as exchanges come by the thousand."""
        with contextlib.suppress(OSError):
            ring.close()
        if not self._complained:
            self._complained = True
            _log.warning("%s: exchanges are not recorded: %s", self._folder, wrong)

    def _flushed(self, key: Key) -> Sequence[Path]:
        ring = self._ring(key)
        ring.flush()
        return ring.paths()

    def _ring(self, key: Key) -> Ring:
        if key not in self._rings:
            self._rings[key] = Ring(self._folder.joinpath(*key), self._bytes_max)
        return self._rings[key]

    def _find(self) -> None:
        """The rings that earlier processes left, so that their size is known from the start."""
        for folder in self._folder.glob("*/*"):
            with contextlib.suppress(BadInput, OSError):
                self._ring(_key(folder.parent.name, folder.name))


_NOTHING = Counts()


def _key(tenant: str, endpoint: str) -> Key:
    return check_name("tenant", tenant), check_name("endpoint", endpoint)


def _resolve(future: asyncio.Future[Any], answer: Any, wrong: Exception | None) -> None:
    if future.done():
        return
    if wrong is None:
        future.set_result(answer)
    else:
        future.set_exception(wrong)
