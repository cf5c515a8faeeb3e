"""Rows as the body of ``POST /api/tally/metrics/columns``.

What was logged in one call is one row: its keys, a value for each, and the time and the step that they share.
Rows of one run with the same keys are a block, which names the keys, times and steps once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any

import msgspec

__all__ = ["BODY_MAX", "POINTS_MAX", "Row", "by_run", "by_workspace", "encode", "halves", "weigh"]

Row = tuple[str, str | tuple[str, ...], Any, int, int, str | None]
"""Run id, key, value, timestamp in ms since 1970, step, workspace.

Of several metrics at once: their keys, none twice, and as many values. A value is a float.
"""

POINTS_MAX = 20_000
"""In one request. The hub takes 100,000; this many keep one caller's commit short for the others."""
BODY_MAX = 16 * 1024 * 1024
"""Bytes that the hub takes in one request."""
_BLOCKS_MAX = 256
"""Blocks of one run; where there would be more, they are hardly longer than what they save."""


def weigh(rows: Iterable[Row]) -> int:
    """How many points there are in ``rows``."""
    return sum(1 if type(row[1]) is str else len(row[1]) for row in rows)


def encode(batch_id: str, rows: Sequence[Row]) -> bytes:
    """The request's body; points of one run and key stay in their order."""
    runs = [{"run_id": run_id, **_said(some)} for run_id, some in by_run(rows).items()]
    return msgspec.json.encode({"batch_id": batch_id, "runs": runs})


def by_run(rows: Sequence[Row]) -> dict[str, Sequence[Row]]:
    """The rows of each run, in their order."""
    return _grouped(rows, itemgetter(0))


def by_workspace(rows: Sequence[Row]) -> dict[str | None, Sequence[Row]]:
    """The rows of each workspace: a request is about one, which its header names."""
    return _grouped(rows, itemgetter(5))


def halves(rows: Sequence[Row]) -> list[Sequence[Row]]:
    """Two parts of about the same length; none of a single point."""
    if len(rows) == 1:
        rows = _points(rows)
    half = len(rows) // 2
    return [rows[:half], rows[half:]] if half else []


def _grouped(rows: Sequence[Row], of: Callable[[Row], Any]) -> dict[Any, Sequence[Row]]:
    found = list(map(of, rows))
    if found.count(found[0]) == len(found):  # the usual case, and quickly told
        return {found[0]: rows}
    groups: dict[Any, list[Row]] = {}
    for name, row in zip(found, rows, strict=True):
        groups.setdefault(name, []).append(row)
    return dict(groups)


def _said(rows: Sequence[Row]) -> dict[str, Any]:
    """One run's rows: in blocks, unless they are many, or would mix up the order of a key's points."""
    blocks = _grouped(rows, itemgetter(1))
    names = [name for keys in blocks for name in ((keys,) if type(keys) is str else keys)]
    if len(blocks) > _BLOCKS_MAX or len(set(names)) < len(names):
        return _columns(_points(rows))
    return {"blocks": [_block(keys, some) for keys, some in blocks.items()]}


def _block(keys: str | tuple[str, ...], rows: Sequence[Row]) -> dict[str, Any]:
    _, _, values, timestamps, steps, _ = zip(*rows, strict=True)
    one = type(keys) is str
    return {
        "names": (keys,) if one else keys,
        "values": [_numbers(values)] if one else [_numbers(column) for column in zip(*values, strict=True)],
        "timestamps": timestamps,
        "steps": steps,
    }


def _columns(points: Sequence[Row]) -> dict[str, Any]:
    _, keys, values, timestamps, steps, _ = zip(*points, strict=True)
    names = {name: at for at, name in enumerate(dict.fromkeys(keys))}
    return {
        "keys": {"names": list(names), "of": list(map(names.__getitem__, keys))},
        "values": _numbers(values),
        "timestamps": timestamps,
        "steps": steps,
    }


def _points(rows: Iterable[Row]) -> list[Row]:
    """Each point as a row of its own."""
    points: list[Row] = []
    for row in rows:
        run_id, keys, values, *rest = row
        if type(keys) is str:
            points.append(row)
        else:
            points += [(run_id, key, value, *rest) for key, value in zip(keys, values, strict=True)]
    return points


def _numbers(values: Sequence[float]) -> Sequence[float | str]:
    return values if math.isfinite(sum(values)) else [_number(value) for value in values]


def _number(value: float) -> float | str:
    """JSON has no word for these, so MLflow's stands in."""
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
