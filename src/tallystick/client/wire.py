"""Points as the columns of ``POST /api/tally/metrics/columns``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import msgspec

__all__ = ["BODY_MAX", "POINTS_MAX", "Point", "by_run", "by_workspace", "encode"]

Point = tuple[str, str, float, int, int, str | None]
"""Run id, key, value, timestamp in ms since 1970, step, workspace."""

POINTS_MAX = 20_000
"""In one request. The hub takes 100,000; this many keep one caller's commit short for the others."""
BODY_MAX = 16 * 1024 * 1024
"""Bytes that the hub takes in one request."""


def encode(batch_id: str, points: Sequence[Point]) -> bytes:
    """The request's body; points of one run stay in their order."""
    runs = [_columns(run_id, some) for run_id, some in by_run(points).items()]
    return msgspec.json.encode({"batch_id": batch_id, "runs": runs})


def by_run(points: Sequence[Point]) -> dict[str, Sequence[Point]]:
    """The points of each run, in their order."""
    if alike := _all_alike(points, 0):
        return {alike[0]: points}
    runs: dict[str, list[Point]] = {}
    for point in points:
        runs.setdefault(point[0], []).append(point)
    return dict(runs)


def by_workspace(points: Sequence[Point]) -> dict[str | None, Sequence[Point]]:
    """The points of each workspace: a request is about one, which its header names."""
    if alike := _all_alike(points, 5):
        return {alike[0]: points}
    found: dict[str | None, list[Point]] = {}
    for point in points:
        found.setdefault(point[5], []).append(point)
    return dict(found)


def _all_alike(points: Sequence[Point], at: int) -> tuple[Any] | None:
    """The one value that all points have there: the usual case, and quickly told."""
    values = list(map(itemgetter(at), points))
    return (values[0],) if values.count(values[0]) == len(values) else None


def _columns(run_id: str, points: Sequence[Point]) -> dict[str, Any]:
    _, keys, values, timestamps, steps, _ = zip(*points, strict=True)
    names = {name: at for at, name in enumerate(dict.fromkeys(keys))}
    return {
        "run_id": run_id,
        "keys": {"names": list(names), "of": list(map(names.__getitem__, keys))},
        "values": values if math.isfinite(sum(values)) else [_number(value) for value in values],
        "timestamps": timestamps,
        "steps": steps,
    }


def _number(value: float) -> float | str:
    """JSON has no word for these, so MLflow's stands in."""
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
