#!/usr/bin/env python3
"""Tracking: tallystick beside stock `mlflow server` and other trackers, in turn, on copies of one database.

Each work is driven from a process of its own over keep-alive sockets (bench/loads/load.py), or by
MLflow's own Python client. Printed are rate, p50, p99 and the CPU of all of a server's processes for each
unit of work; with PostgreSQL, that of PostgreSQL behind a plus. Stock runs with one worker, with its default
workers, and (searches) with one worker on a database after ANALYZE. What was acknowledged is counted in the
database.

    python bench/tracking.py [--quick] [--only NAME] [--backend NAME] [--scale] [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _databases import Databases, Size, Sqlite
from _measure import PLUGIN, READS, WRITES, Bench, Figures, Work
from _others import measure_others
from _postgresql import Postgresql, find_bin
from _processes import family, tree_cpu_s
from _report import print_figures, print_idle
from _scale import measure_scale
from _services import ANALYSED, DEFAULT, ONE_WORKER, SERVICES, TALLY, running

SMALL, LARGE = Size(10_000), Size(50_000)


@dataclass
class Session:
    """What was chosen, and what came of it."""

    folder: Path
    quick: bool
    only: str
    figures: list[Figures] = field(default_factory=list)
    idle: list[dict[str, Any]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    made: int = 0

    @property
    def seconds(self) -> float:
        """How long each work goes on."""
        return 2.0 if self.quick else 8.0

    def wants(self, name: str) -> bool:
        """Whether ``--only`` lets this through."""
        return self.only.lower() in name.lower()

    def place(self) -> Path:
        """A new folder for a server's state."""
        self.made += 1
        return self.folder / f"server-{self.made}"


def side_by_side(session: Session, databases: Databases, size: Size, works: tuple[Work, ...]) -> None:
    """Each server in turn, each on a copy of its own."""
    works = tuple(work for work in works if session.wants(work.name))
    if not works and not session.wants("memory"):
        return
    for name in servers(session, databases, works):
        wanted = [w for w in works if applies(session, w, name)]
        if wanted or (session.wants("memory") and name != ANALYSED and size is SMALL):
            database = databases.copy(size, SERVICES[name].analysed)
            try:
                one_server(session, databases, size, name, database, wanted)
            finally:
                databases.drop(database)


def servers(session: Session, databases: Databases, works: tuple[Work, ...]) -> tuple[str, ...]:
    """Which servers take part: PostgreSQL analyses by itself, so there is nobody to compare with there."""
    if databases.kind == "PostgreSQL":
        return (ONE_WORKER, TALLY) if session.quick else (ONE_WORKER, DEFAULT, TALLY)
    return (ONE_WORKER, ANALYSED, TALLY) if session.quick else (ONE_WORKER, DEFAULT, ANALYSED, TALLY)


def applies(session: Session, work: Work, name: str) -> bool:
    """Whether a server does this work: workers matter to writes, statistics to reads."""
    if work is PLUGIN:
        return name == TALLY
    if name == ANALYSED:
        return work.kind in ("search", "history")
    if name == ONE_WORKER and session.quick:
        return work.kind != "search" or session.only != ""  # minutes without statistics
    return name != DEFAULT or work.kind not in ("search", "history")


def one_server(
    session: Session, databases: Databases, size: Size, name: str, database: str, works: list[Work]
) -> None:
    """All the works of one server; then what it acknowledged is looked for in the database."""
    with running(SERVICES[name], database, session.place()) as server:
        bench = Bench(databases.kind, size.name, server, database_cpu(databases))
        if session.wants("memory") and name != ANALYSED and size is SMALL:
            session.idle.append(bench.idle(3 if session.quick else 15))
        for work in works:
            try:
                figures = bench.measure(work, session.seconds)
            except RuntimeError as error:
                session.broken.append(f"{name}, {databases.kind}, {work.name}: {error}")
                continue
            session.figures.append(figures)
            note = f"  {figures.errors} errors" if figures.errors else ""
            print(
                f"{name}, {databases.kind}, {work.name}: {figures.rate:,.1f}/s{note}",
                file=sys.stderr,
                flush=True,
            )
            if figures.errors and name == TALLY:
                session.broken.append(f"{work.name}, {databases.kind}: {figures.first_error}")
    lost = bench.lost(lambda sql: databases.count(database, sql))
    session.broken += lost if name == TALLY else []
    for line in lost:
        print(f"LOST: {line}", file=sys.stderr)


def database_cpu(databases: Databases) -> Callable[[], float]:
    """What the database's own processes have used, where it has some."""
    if not isinstance(databases, Postgresql):
        return lambda: 0.0
    leader = databases.process.pid
    return lambda: sum(tree_cpu_s(pid) for pid in family(leader))


@contextlib.contextmanager
def kinds(session: Session, backend: str) -> Iterator[list[Databases]]:
    """The kinds of database that there are on this machine."""
    found: list[Databases] = []
    with contextlib.ExitStack() as stack:
        if backend in ("sqlite", "both"):
            (session.folder / "sqlite").mkdir()
            found.append(Sqlite(session.folder / "sqlite"))
        if backend in ("postgresql", "both"):
            if binaries := find_bin():
                cluster = Postgresql(session.folder / "postgresql", binaries)
                stack.callback(cluster.close)
                found.append(cluster)
            else:
                print("PostgreSQL is not installed here: its half is left out")
        yield found


def measure(session: Session, chosen: argparse.Namespace) -> None:
    """Everything that was chosen."""
    with kinds(session, chosen.backend) as found:
        for databases in found:
            works: tuple[Work, ...] = (*READS, *WRITES, PLUGIN)
            if session.quick and databases.kind == "PostgreSQL":
                works = tuple(w for w in WRITES if w.name.startswith(("log_batch", "log_metric, 32")))
            side_by_side(session, databases, SMALL, works)
            searches = tuple(w for w in READS if w.kind == "search")
            if not (session.quick and databases.kind == "PostgreSQL"):
                side_by_side(session, databases, LARGE, searches)
        if chosen.scale and chosen.backend != "postgresql":
            session.extra["scale"] = measure_scale(session, found[0])
    if session.wants("peers") and not chosen.scale:
        session.extra["peers"] = measure_others(session)


def print_machine() -> None:
    """What this was measured on, and what is compared with what."""
    cores = len(os.sched_getaffinity(0))
    version = importlib.metadata.version("mlflow")
    print(
        f"{cores} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, MLflow {version}"
    )
    print(
        "Stock and tallystick answer once a write is on the disk: SQLite as each leaves it (stock: rollback"
    )
    print("journal, synchronous=FULL), PostgreSQL with its defaults, analysed by itself.", flush=True)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few minutes: short works, fewer servers")
    parser.add_argument(
        "--only", default="", metavar="NAME", help="works with this in their name; memory, peers"
    )
    parser.add_argument("--backend", choices=("sqlite", "postgresql", "both"), default="both")
    parser.add_argument("--scale", action="store_true", help="10 million points and 100k runs as well")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tally-bench-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)  # PostgreSQL may run as another user
        session = Session(Path(name), chosen.quick, chosen.only)
        print_machine()
        measure(session, chosen)
    print_figures(session.figures)
    print_idle(session.idle)
    if chosen.json:
        report = {"figures": [f.row() for f in session.figures], "idle": session.idle, **session.extra}
        chosen.json.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    for line in session.broken:
        print(f"BROKEN: {line}")
    sys.exit(1 if session.broken else 0)


if __name__ == "__main__":
    main()
