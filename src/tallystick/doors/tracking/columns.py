"""Points of many runs as columns: a protocol of our own, for clients that buffer.

::

    POST /api/tally/metrics/columns
    {"batch_id": "64 characters of A-Za-z0-9_-",
     "runs": [{"run_id": "...", "keys": ["loss", ...] or {"names": ["loss"], "of": [0, ...]},
               "values": [0.5, "NaN", ...], "timestamps": [...], "steps": [...]}]}
    -> {"points": 2}

A run's points may be told in blocks, too, where several keys have the same times and steps::

    {
        "run_id": "...",
        "blocks": [
            {
                "names": ["loss", "acc"],
                "values": [[0.5, "NaN", ...], [0.9, 1.0, ...]],
                "timestamps": [...],
                "steps": [...],
            }
        ],
    }

with one list of values for each name. Columns of a run, or of a block, have one length, a run is there once,
and all are applied, or none, and once, however often the same ``batch_id`` arrives.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from tallystick.core.errors import BadInput, Conflict, NotFound, TallyError
from tallystick.doors.tracking import plain
from tallystick.ports.tracking import Tracking
from tallystick.record import asks

__all__ = ["BODY_BYTES_MAX", "PATH", "POINTS_MAX", "answer", "ask", "read", "refusal"]

PATH = b"/api/tally/metrics/columns"
BODY_BYTES_MAX = 16 * 1024 * 1024
POINTS_MAX = 100_000
_MOST = msgspec.Meta(max_length=POINTS_MAX)
_BATCH_ID = re.compile(r"[A-Za-z0-9_\-]{1,64}")


class Keys(plain.Body):
    """Keys that are there often: each name once, and which of them each point has."""

    names: Annotated[list[str], _MOST]
    of: Annotated[list[Annotated[int, msgspec.Meta(ge=0)]], _MOST]


class Block(plain.Body):
    """Points of several keys, each with these times and steps."""

    names: Annotated[list[str], _MOST]
    values: Annotated[list[Annotated[list[float | str], _MOST]], _MOST]
    timestamps: Annotated[list[plain.Millis], _MOST]
    steps: Annotated[list[plain.Int64], _MOST]


class RunColumns(plain.Body):
    """One run's points: four columns, or blocks, or both."""

    run_id: str
    keys: Annotated[list[str], _MOST] | Keys = msgspec.field(default_factory=list)
    values: Annotated[list[float | str], _MOST] = msgspec.field(default_factory=list)
    timestamps: Annotated[list[plain.Millis], _MOST] = msgspec.field(default_factory=list)
    steps: Annotated[list[plain.Int64], _MOST] = msgspec.field(default_factory=list)
    blocks: Annotated[list[Block], _MOST] = msgspec.field(default_factory=list)


class Batch(plain.Body):
    """Points of several runs."""

    batch_id: str
    runs: Annotated[list[RunColumns], _MOST]


read = msgspec.json.Decoder(Batch).decode


def ask(said: Batch, _: Callable[[], int]) -> asks.LogColumns:
    """The ask for a batch; NotPlain or IndexError where it is not one."""
    if not _BATCH_ID.fullmatch(said.batch_id):
        raise asks.NotPlain
    blocks = [block for run in said.runs for block in run.blocks]
    plain.bounded(POINTS_MAX, *(run.values for run in said.runs), *(v for b in blocks for v in b.values))
    plain.bounded(len({run.run_id for run in said.runs}), said.runs)
    return asks.LogColumns(said.batch_id, tuple((plain.run_id(r.run_id), _columns(r)) for r in said.runs))


def _columns(said: RunColumns) -> asks.Columns:
    keys = [said.keys.names[i] for i in said.keys.of] if isinstance(said.keys, Keys) else [*said.keys]
    for key in set(keys):
        plain.key(key)
    if not len(keys) == len(said.values) == len(said.timestamps) == len(said.steps):
        raise asks.NotPlain
    columns = asks.Columns(keys, _numbers(said.values), [*said.timestamps], [*said.steps])
    for block in said.blocks:
        _add(columns, block)
    return columns


def _add(columns: asks.Columns, block: Block) -> None:
    """Key by key, as the record's indexes have them: so they go in faster."""
    names, rows = block.names, len(block.steps)
    if len(block.values) != len(names) or {len(block.timestamps), *map(len, block.values)} != {rows}:
        raise asks.NotPlain
    for name, values in zip(names, block.values, strict=True):
        columns.keys.extend([plain.key(name)] * rows)
        columns.values.extend(_numbers(values))
    columns.timestamps_ms.extend(block.timestamps * len(names))
    columns.steps.extend(block.steps * len(names))


def _numbers(said: list[float | str]) -> list[float]:
    return [value if type(value) is float else plain.number(value) for value in said]


def answer(ask: asks.LogColumns, _: None) -> bytes:
    """How many points there were."""
    return b'{"points": %d}' % sum(len(columns.keys) for _, columns in ask.runs)


async def refusal(ask: Any, tracking: Tracking, workspace: str) -> TallyError:
    """Why a batch was not applied: it is malformed (no ``ask``), or a run is not there, or not active."""
    if ask is None:
        return BadInput(
            "this is no batch of columns",
            where=PATH.decode(),
            hint="known fields only, columns of one length, each run once",
        )
    for run_id, _ in ask.runs:
        try:
            run = await tracking.read(asks.GetRun(run_id), workspace)
        except asks.NotPlain:
            return NotFound("there is no such run", where=run_id)
        if run.lifecycle_stage != "active":
            return Conflict("the run is deleted", where=run_id, hint="restore it first")
    return Conflict("the batch could not be applied", where=ask.batch_id)
