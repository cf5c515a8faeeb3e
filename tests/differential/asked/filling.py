"""Runs and experiments that have everything which a search can ask for, made on both servers."""

from __future__ import annotations

from tests.differential.twin import Call, Twin

__all__ = ["API", "experiments_of_all_kinds", "runs_of_all_kinds"]

API = "/api/2.0/mlflow"
NAN, INF = float("nan"), float("inf")

LOSSES = [0.5, NAN, INF, -INF, None, 0.5, 0, -0.0, 1, 1.5, -1, 1e308, NAN, None, 1000]
PARAMS = [None, "a", "A", "b", "abc", "0.1", "ünï", "it's", "100%", "a_c", "ABC", "x" * 600]
NAMES = ["a", "A", "run b", "ünï", "it's", "100%"]


def runs_of_all_kinds(twin: Twin, name: str, count: int) -> None:
    """Two experiments with runs; no two start at one time, as such are in the order of random ids."""
    for which in ("first", "second"):
        twin.ask(Call("POST", f"{API}/experiments/create", {"name": f"{name} {which}"}))
    for n in range(count):
        tags = [{"key": "stage", "value": PARAMS[n % 7]}] if n % 7 else []
        tags += [{"key": "a b", "value": f"%{n}"}] if n % 3 else []
        body = {
            "experiment_id": f"@experiment:{n % 5 == 4:d}@",
            "start_time": 1000 + n * 7 % 48 + n // 48 * 48,
            "tags": tags,
            "run_name": NAMES[n % 6],
            "user_id": ["me", "", "ünï"][n % 3],
        }
        twin.ask(Call("POST", f"{API}/runs/create", body))
        twin.ask(Call("POST", f"{API}/runs/log-batch", _content(n)))
        if n % 4 == 1:
            status = ["FINISHED", "FAILED", "KILLED"][n % 3]
            body = {"run_id": f"@run:{n}@", "status": status, "end_time": 5000 + n}
            twin.ask(Call("POST", f"{API}/runs/update", body))
        if n % 6 == 2:
            dataset = {"name": "data", "digest": f"d{n % 4}", "source_type": "local", "source": "{}"}
            tags = [{"key": "mlflow.data.context", "value": "train"}] if n % 4 else []
            body = {"run_id": f"@run:{n}@", "datasets": [{"dataset": dataset, "tags": tags}]}
            twin.ask(Call("POST", f"{API}/runs/log-inputs", body))
        if n % 9 == 8:
            twin.ask(Call("POST", f"{API}/runs/delete", {"run_id": f"@run:{n}@"}))


def _content(n: int) -> dict[str, object]:
    """A batch for run ``n``: two points of each metric, the later one first in every other run."""
    values = {
        "loss": LOSSES[n % 15],
        "acc": LOSSES[n * 7 % 15],
        "val/loss": n % 4,
        "a b": -n,
        "ünï": LOSSES[n * 4 % 15],
    }
    points = [{"key": k, "value": v, "timestamp": 5, "step": 2} for k, v in values.items() if v is not None]
    points += [
        {"key": k, "value": 7, "timestamp": 5, "step": 1 + n % 2 * (k == "acc")}
        for k, v in values.items()
        if v is not None
    ]
    params = {"lr": PARAMS[n % 12], "opt": PARAMS[n * 5 % 12], "a b": "b", "x.y": str(n % 3)}
    return {
        "run_id": f"@run:{n}@",
        "metrics": points[:: -1 if n % 2 else 1],
        "params": [{"key": k, "value": v} for k, v in params.items() if v is not None],
    }


def experiments_of_all_kinds(twin: Twin, prefix: str) -> None:
    """Eight, one of them deleted; their names try what LIKE and quotes make of them."""
    kinds = [
        f"{prefix}-a",
        f"{prefix.upper()}-A",
        f"{prefix}_a",
        f"{prefix}-ünï",
        f"it's {prefix}",
        f"{prefix} 100%",
    ]
    for n, name in enumerate([*kinds, f"{prefix}-b", f"{prefix}-c"]):
        tags = [{"key": "stage", "value": PARAMS[1 + n]}] if n % 3 else []
        twin.ask(Call("POST", f"{API}/experiments/create", {"name": name, "tags": tags}))
        if n == 6:
            twin.ask(Call("POST", f"{API}/experiments/delete", {"experiment_id": f"@experiment:{2 + n}@"}))
