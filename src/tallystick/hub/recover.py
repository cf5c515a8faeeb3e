"""Recover: what was left unfinished is said to be so, by a hub that starts or by work that broke."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tallystick.core.errors import TallyError
from tallystick.core.remedy import Remedy, RemedyState, move
from tallystick.core.run.events import Run, RunState, StepState
from tallystick.core.verdict import Verdict, VerdictState
from tallystick.hub.house import House
from tallystick.hub.house.removal import remove

__all__ = ["end_records", "give_up", "recover"]

INTERRUPTED = "the hub stopped meanwhile"

TIDY_WAIT_S = 5.0
"""How long a start waits for what was left behind to be removed: millions of files take minutes."""


async def recover(house: House) -> tuple[Sequence[Path], Sequence[str]]:
    """End what a hub that died had under way, and empty the scratch folder but for the marks of ingests.

    Nothing that was acknowledged is lost: finished steps stay in the cache, so that running the
    same pipeline again takes up where this one ended. Endpoints need nothing here: settling starts
    what is wished. What comes back is work for the background: marks of ingests that were cut off
    (the catalogue is to be reconciled with the ledger, and then they go), and MLflow's run ids of
    runs that were cut off (for :func:`end_records`).
    """
    records = [r.record_id for r in await house.all("run", Run) if not r.state.ended and r.record_id]
    for noun, kind in (("run", Run), ("verdict", Verdict), ("remedy", Remedy)):
        for found in await house.all(noun, kind):
            await _end(house, noun, found, INTERRUPTED)
    marks = list(house.scratch.glob("ingest-*"))
    house.start("tidy", _tidy([left for left in house.scratch.iterdir() if left not in marks]))
    await asyncio.wait([house.tasks["tidy"]], timeout=TIDY_WAIT_S)
    return marks, records


async def _tidy(left: Sequence[Path]) -> None:
    """Remove what a dead hub's work left. What cannot be removed stays, as no new work is given its name."""
    stop = threading.Event()
    try:
        for path in left:
            await remove(path, stop)
    finally:
        stop.set()


async def give_up(house: House, key: str, why: str) -> None:
    """End the run, verdict or remedy ``key`` with ``why``, if it has not ended; others are left alone."""
    for noun, kind in (("run", Run), ("verdict", Verdict), ("remedy", Remedy)):
        found = await house.find(noun, key, kind)
        if found is not None:
            await _end(house, noun, found, why)


async def end_records(house: House, records: Sequence[str]) -> None:
    """End MLflow's copies of runs that were cut off, as far as MLflow can be reached."""
    for record in records:
        with contextlib.suppress(TallyError):
            await house.registry.end_run(record, "KILLED")


async def _end(house: House, noun: str, found: object, why: str) -> None:
    now = house.clock.now_ms()
    if isinstance(found, Run) and not found.state.ended:
        steps = tuple(
            replace(s, state=StepState.CANCELLED, error=why, ended_ms=now)
            if s.state is StepState.RUNNING
            else s
            for s in found.steps
        )
        run = replace(found, state=RunState.FAILED, steps=steps, error=why, ended_ms=now)
        await house.tell(noun, run.key, "failed", run, f"{why}; finished steps are in the cache")
    elif isinstance(found, Verdict) and found.state is VerdictState.JUDGING:
        verdict = replace(found, state=VerdictState.FAILED, error=why, at_ms=now)
        await house.tell(noun, verdict.key, "failed", verdict, why)
    elif isinstance(found, Remedy) and found.state is RemedyState.CARRYING:
        remedy = move(found, RemedyState.FAILED, now, outcome=why)
        await house.tell(noun, remedy.key, "failed", remedy, why)
