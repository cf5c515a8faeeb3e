"""Logs of steps: of one that runs as far as it has come, of others from among the artifacts."""

from __future__ import annotations

import asyncio
import codecs
from dataclasses import dataclass
from pathlib import Path

from tallystick.core.errors import NotFound
from tallystick.core.run.events import Run, Step, StepState
from tallystick.core.run.record import read_step
from tallystick.hub.house import House
from tallystick.hub.house.whole import ended_with

__all__ = ["PIECE_BYTES", "Piece", "read_log"]

PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a log: its text, the byte after it, which try printed it, and whether no more will come."""

    text: str
    next: int
    attempt: int
    ended: bool


async def read_log(house: House, run_key: str, path: str, start: int) -> Piece:
    """At most ``PIECE_BYTES`` from byte ``start`` on; NotFound says why a step that has ended has no log."""
    run = await house.get("run", run_key, Run)
    found = await house.journal.steps(run.tenant, run_key, path)
    if not path or not found:
        raise NotFound(f"no step {path[:200]!r} has begun", where=run_key)
    step = ended_with(run, read_step(found[0]))
    live = house.logs.get((run_key, path))
    if live is not None:
        live.flush()
        file = Path(live.name)
    elif step.log_digest:
        file = await house.artifacts.path_of(step.log_digest)
    elif step.state.ended:
        raise NotFound(f"no log: {_why(step)}", where=f"{run_key} {path}")
    else:
        return Piece("", start, step.attempt, False)
    try:
        raw = await asyncio.to_thread(_read, file, start)
    except FileNotFoundError:  # it ended between the two looks
        return Piece("", start, step.attempt, False)
    last = live is None and step.state.ended and len(raw) < PIECE_BYTES
    decoder = codecs.getincrementaldecoder("utf-8")("replace")  # half a character waits for its other half
    text = decoder.decode(raw, last)
    return Piece(text, start + len(raw) - len(decoder.getstate()[0]), step.attempt, last)


def _read(file: Path, start: int) -> bytes:
    with file.open("rb") as source:
        source.seek(start)
        return source.read(PIECE_BYTES)


def _why(step: Step) -> str:
    if step.state is StepState.CACHED:
        return "it came from the cache, so nothing ran"
    if step.state is StepState.SKIPPED:
        return f"it was skipped: {step.error}"
    return step.error or "it printed nothing"
