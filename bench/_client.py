"""MLflow's own Python client, end to end: log points until the time is up, end the run, and say how many.

Reads one line of JSON: ``uri``, ``run``, ``seconds``, and ``batch``, how many metrics are logged at once
(1: log_metric). Says ``ready``, waits for a line, and prints one line of JSON. The run's end is part of
the time: by then a client that gathers points must have sent them.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import sys
import time

os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


def main() -> None:
    """One order."""
    order = json.loads(sys.stdin.readline())
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    client, run, batch = MlflowClient(order["uri"]), order["run"], order["batch"]
    client.get_run(run)
    print("ready", flush=True)
    sys.stdin.readline()
    times: list[float] = []
    used, began = _cpu_s(), time.perf_counter()
    until, last, n = began + order["seconds"], began, 0
    while last < until:
        if batch == 1:
            client.log_metric(run, "loss", n / 7, timestamp=1_700_000_000_000 + n, step=n)
        else:
            now_ms = 1_700_000_000_000 + n
            client.log_batch(run, [Metric(f"k{i}", n / 7, now_ms, n) for i in range(batch)])
        now = time.perf_counter()
        times.append(now - last)
        last, n = now, n + 1
    with contextlib.redirect_stdout(io.StringIO()):  # it tells people where to look at the run
        client.set_terminated(run)
    seconds = time.perf_counter() - began
    times.sort()
    figures = {"n": n, "seconds": seconds, "rate": n / seconds, "errors": 0, "first_error": ""}
    figures |= {"p50_ms": times[n // 2] * 1000, "p99_ms": times[n * 99 // 100] * 1000}
    print(json.dumps(figures | {"load_cpu_s": _cpu_s() - used}), flush=True)


def _cpu_s() -> float:
    spent = resource.getrusage(resource.RUSAGE_SELF)
    return spent.ru_utime + spent.ru_stime


if __name__ == "__main__":
    main()
