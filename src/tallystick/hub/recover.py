"""Recover: what a hub that died left unfinished is said to be so, before anything new begins."""

from __future__ import annotations

import shutil
from dataclasses import replace

from tallystick.core.remedy import Remedy, RemedyState, move
from tallystick.core.run import Run, RunState, StepState
from tallystick.core.verdict import Verdict, VerdictState
from tallystick.hub.house import House

__all__ = ["recover"]

INTERRUPTED = "the hub stopped meanwhile"


async def recover(house: House) -> bool:
    """End what was under way, empty the scratch folder, and tell whether an ingest was cut off.

    Nothing that was acknowledged is lost: finished steps stay in the cache, so that running the
    same pipeline again takes up where this one ended. Endpoints need nothing here: settling starts
    what is wished. After a cut-off ingest the catalogue should be reconciled with the ledger.
    """
    now = house.clock.now_ms()
    for run in await house.all("run", Run):
        if not run.state.ended:
            steps = tuple(
                replace(s, state=StepState.CANCELLED, error=INTERRUPTED, ended_ms=now)
                if s.state is StepState.RUNNING
                else s
                for s in run.steps
            )
            failed = replace(run, state=RunState.FAILED, steps=steps, error=INTERRUPTED, ended_ms=now)
            await house.tell(
                "run", run.key, "failed", failed, f"{INTERRUPTED}; finished steps are in the cache"
            )
    for verdict in await house.all("verdict", Verdict):
        if verdict.state is VerdictState.JUDGING:
            lost = replace(verdict, state=VerdictState.FAILED, error=INTERRUPTED, at_ms=now)
            await house.tell("verdict", verdict.key, "failed", lost, INTERRUPTED)
    for remedy in await house.all("remedy", Remedy):
        if remedy.state is RemedyState.CARRYING:
            stopped = move(remedy, RemedyState.FAILED, now, outcome=INTERRUPTED)
            await house.tell("remedy", remedy.key, "failed", stopped, INTERRUPTED)
    cut_off = any(house.scratch.glob("ingest-*"))
    for left in house.scratch.iterdir():
        shutil.rmtree(left, ignore_errors=True)
    return cut_off
