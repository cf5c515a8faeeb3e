"""MLflow's own Python client, end to end: log points until the time is up, end the run, and say how many.

Reads one line of JSON: ``uri``, ``run``, ``seconds``, ``call``, what is called, and ``batch``, how many
metrics are logged at once. Says ``ready``, waits for a line, and prints one line of JSON. The run's end is
part of the time: by then a client that gathers points must have sent them.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from timing import cpu_s, figures

os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


def log_metric(uri: str, run: str, batch: int) -> tuple[Callable[[int], Any], Callable[[], Any]]:
    """``MlflowClient.log_metric``: what logs the n-th point, and what ends the run."""
    client = _client(uri, run)

    def log(n: int) -> None:
        client.log_metric(run, "loss", n / 7, timestamp=1_700_000_000_000 + n, step=n)

    return log, lambda: client.set_terminated(run)


def log_batch(uri: str, run: str, batch: int) -> tuple[Callable[[int], Any], Callable[[], Any]]:
    """The same with ``MlflowClient.log_batch``, some metrics at once."""
    from mlflow.entities import Metric

    client = _client(uri, run)

    def log(n: int) -> None:
        now_ms = 1_700_000_000_000 + n
        client.log_batch(run, [Metric(f"k{i}", n / 7, now_ms, n) for i in range(batch)])

    return log, lambda: client.set_terminated(run)


def log_metrics(uri: str, run: str, batch: int) -> tuple[Callable[[int], Any], Callable[[], Any]]:
    """The same with ``tallystick.client.log_metrics``, in the active run."""
    import mlflow

    from tallystick.client import log_metrics

    mlflow.set_tracking_uri(uri)
    mlflow.start_run(run)

    def log(n: int) -> None:
        log_metrics({f"k{i}": n / 7 for i in range(batch)}, step=n)

    return log, mlflow.end_run


CALLS = {"log_metric": log_metric, "log_batch": log_batch, "log_metrics": log_metrics}


def _client(uri: str, run: str) -> Any:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    client.get_run(run)
    return client


def main() -> None:
    """One order."""
    order = json.loads(sys.stdin.readline())
    log, end = CALLS[order["call"]](order["uri"], order["run"], order["batch"])
    print("ready", flush=True)
    sys.stdin.readline()
    times: list[float] = []
    used, began = cpu_s(), time.perf_counter()
    until, last, n = began + order["seconds"], began, 0
    while last < until:
        log(n)
        now = time.perf_counter()
        times.append(now - last)
        last, n = now, n + 1
    with contextlib.redirect_stdout(io.StringIO()):  # it tells people where to look at the run
        end()
    seconds = time.perf_counter() - began
    print(json.dumps(figures(times, seconds, cpu_s() - used)), flush=True)


if __name__ == "__main__":
    main()
