"""The two that are compared: stock `mlflow server`, and a hub; each in processes of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.journeys.conftest import RunningHub, processes_of, start_hub

__all__ = ["START_S", "Stock", "child_runs", "database_of", "free_port", "hub_at", "hub_on", "stock_on"]

START_S = 90.0


@dataclass
class Stock:
    """A stock server with one worker."""

    url: str
    process: subprocess.Popen[bytes]

    def end(self) -> None:
        """End it with all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(20)
        with contextlib.suppress(ProcessLookupError):  # workers that outlived their parent
            os.killpg(self.process.pid, signal.SIGKILL)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as door:
        return int(door.getsockname()[1])


def stock_on(database: str, folder: Path, *words: str) -> Stock:
    """Start stock MLflow on ``database``, with its artifacts and log in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "1", "--backend-store-uri", database),
        *("--artifacts-destination", (folder / "artifacts").as_uri(), *words),
    ]
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PYTHONWARNINGS": "ignore",
    }
    with (folder / "stock.log").open("ab") as log:
        process = subprocess.Popen(
            command, env=env, cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
    stock = Stock(f"http://127.0.0.1:{port}", process)
    try:
        _wait_for(stock, folder)
    except BaseException:
        stock.end()
        raise
    return stock


def _wait_for(stock: Stock, folder: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and stock.process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(stock.url + "/health", timeout=10).status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError(f"stock MLflow did not start: {(folder / 'stock.log').read_text()[-3000:]}")


UNGATED = Path(__file__).parents[1] / "conformance" / "ungated.toml"


def hub_on(home: Path, *words: str) -> RunningHub:
    """Start a hub on ``home``, whose gate stands at no alias and no stage of MLflow's."""
    return start_hub(home, "--policy", str(UNGATED), *words)


@contextlib.contextmanager
def hub_at(home: Path, *words: str) -> Iterator[RunningHub]:
    """A hub on ``home``, while the context lasts."""
    hub = hub_on(home, *words)
    try:
        yield hub
    finally:
        if hub.process.poll() is None:
            hub.end()


def database_of(home: Path) -> Path:
    """The file that a hub on ``home`` keeps MLflow's record in by default."""
    return home / "mlflow.db"


def child_runs(home: Path) -> bool:
    """Whether MLflow's own server runs behind the hub of ``home``."""
    return any("crew.mlflow.child" in line for line in processes_of(home))
