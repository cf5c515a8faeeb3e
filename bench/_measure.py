"""One measurement: a load in a process of its own against a running server, and what both spent on it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from _databases import HISTORY_RUN, WRITERS
from _services import TALLY, Running

HERE = Path(__file__).parent
sys.path.append(str(HERE / "loads"))  # each is also a program of its own

from load import Order  # noqa: E402  reason: as above

END_TO_END = 61
"""The writers from here on are kept for MLflow's client, which ends its run."""
PLUGIN_RUN = WRITERS[END_TO_END + 1]


@dataclass(frozen=True)
class Work:
    """Something to measure. ``per`` is what one operation counts for; goals are ratios to stock.

    ``uri`` and ``call`` are for MLflow's client: where it logs to, and what bench/loads/client.py calls.
    """

    name: str
    kind: str
    clients: int = 1
    size: int = 1
    per: int = 1
    limit: int = 100_000
    rate_goal: float = 0
    cpu_goal: float = 0
    p50_goal_ms: float = 0
    uri: str = "http"
    call: str = "log_metric"


READS = (
    Work("get-history of 100k points", "history", limit=5000, rate_goal=20),
    Work("search, filter + order, 100 results", "search", size=100, limit=20_000, rate_goal=10),
    Work("search, filter + order, 1,000 results", "search", size=1000, limit=20_000, rate_goal=10),
)
WRITES = (
    Work("log_metric, 1 client", "log_metric", 1, rate_goal=10),
    Work("log_metric, 8 clients", "log_metric", 8, rate_goal=30),
    Work("log_metric, 32 clients", "log_metric", 32, limit=200_000, rate_goal=75, cpu_goal=40),
    Work("log_batch of 1,000, 1 client", "log_batch", 1, 1000, 1000, limit=2500, rate_goal=15),
    Work("log_batch of 1,000, 8 clients", "log_batch", 8, 1000, 1000, limit=2500, rate_goal=15),
    Work("create_run, 8 clients", "create_run", 8, rate_goal=20),
    Work("Python client, log_metric", "client", rate_goal=4),
)
PLUGIN = Work("Python client with the plugin, log_metric", "client", rate_goal=50, uri="tally")


@dataclass(frozen=True)
class Figures:
    """What came of one work on one server. Rates count what ``per`` says; CPU is for each of those."""

    backend: str
    size: str
    work: str
    service: str
    n: int
    rate: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    database_cpu_ms: float
    load_ms: float
    errors: int = 0
    first_error: str = ""

    def row(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


@dataclass
class Bench:
    """A running server and what was acknowledged to have been written to it, by kind."""

    backend: str
    size: str
    running: Running
    database_cpu: Callable[[], float]
    written: dict[str, int] = field(default_factory=dict)
    next_number: int = 0
    runs: list[str] = field(default_factory=lambda: WRITERS)

    def measure(self, work: Work, seconds: float) -> Figures:
        """Carry out the work for about so many seconds."""
        script = "client.py" if work.kind == "client" else "load.py"
        got, cpu_s, database_s = self._drive(script, self._order(work, seconds))
        units = max(1, got["n"]) * work.per
        kind = "log_metric" if work.kind == "client" else work.kind
        self.written[kind] = self.written.get(kind, 0) + got["n"] * work.per
        return Figures(
            backend=self.backend,
            size=self.size,
            work=work.name,
            service=self.running.service.name,
            n=got["n"],
            rate=got["rate"] * work.per,
            p50_ms=got["p50_ms"],
            p99_ms=got["p99_ms"],
            cpu_ms=cpu_s * 1000 / units,
            database_cpu_ms=database_s * 1000 / units,
            load_ms=got["load_cpu_s"] * 1000 / units,
            errors=got["errors"],
            first_error=got["first_error"],
        )

    def _order(self, work: Work, seconds: float) -> dict[str, Any]:
        if work.kind == "client":
            uri = f"{work.uri}://127.0.0.1:{self.running.port}"
            run = PLUGIN_RUN if work.uri == "tally" else WRITERS[END_TO_END]
            return {"uri": uri, "run": run, "seconds": seconds, "call": work.call, "batch": work.size}
        runs = [HISTORY_RUN] if work.kind == "history" else self.runs[: work.clients]
        order = Order(
            port=self.running.port,
            kind=work.kind,
            clients=work.clients,
            seconds=seconds,
            limit=work.limit,
            runs=runs,
            size=work.size,
            begin=self.next_number,
            prefix=self.running.service.prefix,
        )
        self.next_number += work.limit + 1
        return asdict(order)

    def _drive(self, script: str, order: dict[str, Any]) -> tuple[dict[str, Any], float, float]:
        command = [sys.executable, "-W", "ignore", str(HERE / "loads" / script)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
            assert load.stdin is not None  # noqa: S101  reason: for mypy
            assert load.stdout is not None  # noqa: S101  reason: for mypy
            load.stdin.write(json.dumps(order) + "\n")
            load.stdin.flush()
            if load.stdout.readline().strip() != "ready":
                raise RuntimeError(f"{script} against {self.running.service.name} did not get ready")
            time.sleep(0.3)  # what the warming up left to do
            cpu_s, database_s = self.running.cpu_s(), self.database_cpu()
            load.stdin.write("go\n")
            load.stdin.flush()
            line = load.stdout.readline()
            cpu_s, database_s = self.running.cpu_s() - cpu_s, self.database_cpu() - database_s
        if not line:
            raise RuntimeError(f"{script} against {self.running.service.name} ended with {load.returncode}")
        return json.loads(line), cpu_s, database_s

    def idle(self, seconds: float) -> dict[str, Any]:
        """Memory and processes after one request and so many seconds of rest."""
        url = f"{self.running.url}{self.running.service.prefix}/experiments/get?experiment_id=1"
        urllib.request.urlopen(url, timeout=60).read()  # noqa: S310  reason: an http address of ours
        time.sleep(seconds)
        figures = {"mib": self.running.memory_mib(), "processes": self.running.processes()}
        return {"service": self.running.service.name, "backend": self.backend, "size": self.size} | figures

    def lost(self, count: Callable[[str], int]) -> list[str]:
        """Of what was acknowledged, whatever is not there; ``count`` asks the database itself."""
        ids = ",".join(f"'{run}'" for run in WRITERS)
        queries = {
            "log_metric": f"SELECT count(*) FROM metrics WHERE key = 'loss' AND run_uuid IN ({ids})",  # noqa: S608  reason: our own
            "log_batch": f"SELECT count(*) FROM metrics WHERE key LIKE 'b%' AND run_uuid IN ({ids})",  # noqa: S608  reason: our own
            "create_run": "SELECT count(*) FROM runs WHERE name LIKE 'made-%'",
        }
        asked = {kind: sql for kind, sql in queries.items() if self.written.get(kind)}
        there = {kind: count(sql) for kind, sql in asked.items()}
        return [
            f"{self.running.service.name} on {self.backend}: {self.written[kind]:,} {kind} acknowledged,"
            f" {there[kind]:,} there"
            for kind in asked
            if there[kind] < self.written[kind]
        ]


def is_ours(figures: Figures) -> bool:
    """Whether these are tallystick's."""
    return figures.service == TALLY
