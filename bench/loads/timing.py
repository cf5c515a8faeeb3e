"""What a load, MLflow's client and a peer tell of their calls, alike; run in environments of others too."""

from __future__ import annotations

import resource
from typing import Any

__all__ = ["cpu_s", "figures"]


def cpu_s() -> float:
    """Seconds of CPU that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def figures(
    times: list[float], seconds: float, load_cpu_s: float, errors: int = 0, first_error: str = ""
) -> dict[str, Any]:
    """Of ``times``, the seconds of each good call: their number, rate, median and 99th percentile."""
    ordered, n = sorted(times), len(times)
    return {
        "n": n,
        "seconds": seconds,
        "rate": n / seconds,
        "p50_ms": ordered[n // 2] * 1000 if n else 0.0,
        "p99_ms": ordered[n * 99 // 100] * 1000 if n else 0.0,
        "errors": errors,
        "first_error": first_error,
        "load_cpu_s": load_cpu_s,
    }
