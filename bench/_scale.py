"""Scale: searches with 100k runs and 10 million points in one database, and memory while 64 clients write."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Protocol

from _databases import Databases, Size
from _measure import Bench, Figures, Work
from _services import ONE_WORKER, SERVICES, TALLY, Running, running

SMALL = Size(10_000)
HUGE = Size(100_000, 20)
"""100k runs of 5 metrics of 20 points: 10 million, and the history's."""
SEARCH = Work("search, filter + order, 100 results", "search", size=100, limit=20_000)
WRITE = Work("log_batch of 100, 64 clients", "log_batch", 64, 100, 100, limit=60_000)
GROWTH_MAX = 2.0


class Session(Protocol):
    """What is needed of bench/tracking.py's."""

    quick: bool

    @property
    def seconds(self) -> float:
        """How long each work goes on."""
        ...

    def place(self) -> Path:
        """A new folder."""
        ...


class Watch(threading.Thread):
    """The most memory that a server uses, looked at every half second."""

    def __init__(self, server: Running) -> None:
        super().__init__(daemon=True)
        self.server, self.most_mib, self.over = server, 0.0, threading.Event()

    def run(self) -> None:
        """Until told that it is over."""
        while not self.over.wait(0.5):
            self.most_mib = max(self.most_mib, self.server.memory_mib())


def measure_scale(session: Session, databases: Databases) -> dict[str, Any]:
    """Searches on both sizes, writes on the large one; printed and returned."""
    print("\nScale: 100k runs and 10 million points", flush=True)
    found: dict[str, Any] = {}
    small = _search(session, databases, TALLY, SMALL)
    large = _search(session, databases, TALLY, HUGE)
    growth = large.p50_ms / small.p50_ms
    verdict = "reached" if growth <= GROWTH_MAX else "FALLS SHORT"
    print(f"  search p50 {small.p50_ms:.2f} ms with 10k runs, {large.p50_ms:.2f} ms with 100k: ", end="")
    print(f"{growth:.2f}x (goal within {GROWTH_MAX:g}x: {verdict})", flush=True)
    found["search"] = [small.row(), large.row()]
    for name in (TALLY,) if session.quick else (TALLY, ONE_WORKER):
        found[name] = _memory(session, databases, name)
    return found


def _search(session: Session, databases: Databases, name: str, size: Size) -> Figures:
    database = databases.copy(size, False)
    try:
        with running(SERVICES[name], database, session.place()) as server:
            return Bench(databases.kind, size.name, server, lambda: 0.0).measure(SEARCH, session.seconds)
    finally:
        databases.drop(database)


def _memory(session: Session, databases: Databases, name: str) -> dict[str, Any]:
    database = databases.copy(HUGE, False)
    try:
        with running(SERVICES[name], database, session.place()) as server:
            bench = Bench(databases.kind, HUGE.name, server, lambda: 0.0)
            idle = server.memory_mib()
            seconds = 10.0 if session.quick else 60.0
            halves, rates = [], []
            for _ in range(2):  # bounded: the second half needs no more than the first
                watch = Watch(server)
                watch.start()
                rates.append(bench.measure(WRITE, seconds / 2).rate)
                watch.over.set()
                watch.join()
                halves.append(watch.most_mib)
    finally:
        databases.drop(database)
    print(f"  {name}: {idle:.0f} MiB before; while 64 clients write, at most {halves[0]:.0f} MiB", end="")
    print(
        f" in the first half and {halves[1]:.0f} MiB in the second, at {rates[1]:,.0f} metrics/s", flush=True
    )
    return {"before_mib": idle, "halves_mib": halves, "rates": rates}
