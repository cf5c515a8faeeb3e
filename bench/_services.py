"""The servers: how each is started on a database, what its processes use, and how it is ended."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from _processes import TELLS_NOBODY, answering, family, free_port, pss_mib, tree_cpu_s

BIN = Path(sys.executable).parent
START_S = 180.0
TALLY = "tallystick"
ONE_WORKER = "mlflow server, 1 worker"
DEFAULT = "mlflow server, default"
ANALYSED = "mlflow server, 1 worker, analysed"
STOCK = (ONE_WORKER, DEFAULT, ANALYSED)


@dataclass(frozen=True)
class Service:
    """A server: ``command`` with {port}, {database} and {folder} in it; ``path`` answers once it is up."""

    name: str
    command: tuple[str, ...]
    path: str
    prefix: str = "/api/2.0/mlflow"

    @property
    def analysed(self) -> bool:
        """Whether it is given a database after ANALYZE."""
        return self.name == ANALYSED


def _mlflow(name: str, *more: str) -> Service:
    command: tuple[str, ...] = (
        str(BIN / "mlflow"),
        "server",
        "--port",
        "{port}",
        "--backend-store-uri",
        "{database}",
    )
    command += ("--artifacts-destination", "{folder}/artifacts", *more)
    return Service(name, command, "/health")


SERVICES = {
    TALLY: Service(
        TALLY,
        (str(BIN / "tally"), "up", "--home", "{folder}/home", "--port", "{port}", "--database", "{database}"),
        "/api/tally/status",
    ),
    ONE_WORKER: _mlflow(ONE_WORKER, "--workers", "1"),
    DEFAULT: _mlflow(DEFAULT),
    ANALYSED: _mlflow(ANALYSED, "--workers", "1"),
}


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    service: Service
    pid: int
    port: int

    @property
    def url(self) -> str:
        """Where its clients go."""
        return f"http://127.0.0.1:{self.port}"

    def cpu_s(self) -> float:
        """User and system CPU seconds of all its processes so far, those included that were waited for."""
        return sum(tree_cpu_s(pid) for pid in family(self.pid))

    def memory_mib(self) -> float:
        """Proportional set size of all its processes."""
        return sum(pss_mib(pid) for pid in family(self.pid))

    def processes(self) -> int:
        """How many they are."""
        return len(family(self.pid))


@contextlib.contextmanager
def running(service: Service, database: str, folder: Path) -> Iterator[Running]:
    """The server, once it answers; ended with all its processes."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    words = [word.format(port=port, database=database, folder=folder) for word in service.command]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TALLY_", "MLFLOW_"))}
    url, log = f"http://127.0.0.1:{port}{service.path}", folder / "log"
    with answering(words, url, log, kept | TELLS_NOBODY, limit_s=START_S, look_s=0.05) as process:
        yield Running(service, process.pid, port)
