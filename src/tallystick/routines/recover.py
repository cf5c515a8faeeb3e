"""Recover: what was left unfinished is taken up by a hub that starts, or is said to be so."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from tallystick.core.errors import Damaged, TallyError
from tallystick.core.pipeline.spec import Pipeline
from tallystick.core.remedy import Remedy, RemedyState, move
from tallystick.core.run.events import Run, RunState, StepState, snapshots_of
from tallystick.core.run.options import KUBEFLOW
from tallystick.core.verdict import Verdict, VerdictState
from tallystick.hub.execute import execute
from tallystick.hub.house import House
from tallystick.hub.house.recorder import MARK, begin_record, end_record
from tallystick.hub.house.removal import remove
from tallystick.hub.house.whole import pins_of, with_steps
from tallystick.routines.begin import follow

__all__ = ["PipelineReader", "end_records", "give_up", "recover"]

PipelineReader = Callable[[str], Awaitable[Pipeline]]
"""The pipeline of a run's ``spec_digest``; TallyError where it cannot be read any more."""

INTERRUPTED = "the hub stopped meanwhile"

TIDY_WAIT_S = 5.0
"""How long a start waits for what was left behind to be removed: millions of files take minutes."""


async def recover(house: House, read: PipelineReader) -> tuple[Sequence[Path], Sequence[str]]:
    """Take up what a hub that died had under way, or end it, and empty the scratch folder but for the marks
    of ingests.

    Runs go on where their journals end, in the background: ``read`` gives a run's pipeline by its
    ``spec_digest``. Those that a cluster executes are followed. Runs of a tallystick that
    kept no journal, verdicts and remedies are ended. Endpoints need nothing here: settling starts what is
    wished. What comes back is work for the background: marks of ingests that were cut off (the catalogue is
    to be reconciled with the ledger, and then they go), and MLflow's run ids of runs that were ended here
    (for :func:`end_records`).
    """
    marks = list(house.scratch.glob("ingest-*"))
    unfinished = list(house.scratch.glob(f"{MARK}*"))
    left = [path for path in house.scratch.iterdir() if path not in (*marks, *unfinished)]  # before new ones
    for mark in unfinished:
        house.start(mark.name, _record(house, mark.name.removeprefix(MARK)))
    records = await _runs(house, read)
    for noun, kind in (("verdict", Verdict), ("remedy", Remedy)):
        for found in await house.all(noun, kind):
            await _end(house, noun, found, INTERRUPTED)
    house.start("tidy", _tidy(left))
    await asyncio.wait([house.tasks["tidy"]], timeout=TIDY_WAIT_S)
    return marks, records


async def _runs(house: House, read: PipelineReader) -> list[str]:
    """Take up every run that has not ended; MLflow's run ids of those that cannot be, and are ended."""
    records = []
    for run in reversed(await house.all("run", Run)):
        if run.state.ended:
            continue
        if run.options.on == KUBEFLOW:
            house.start(run.key, follow(house, run))
        elif run.steps:  # an older tallystick kept them here, and no journal
            await _end(house, "run", run, INTERRUPTED)
            records += [run.record_id] if run.record_id else []
        else:
            house.start(run.key, _resume(house, run, read))
    return records


async def _record(house: House, key: str) -> None:
    """Tell MLflow how a run ended, where a hub died after that and before it had told all."""
    run = await house.find("run", key, Run)
    if run and run.state.ended:  # another tells it as it is taken up
        steps = (await with_steps(house.journal, run)).steps
        recorder = begin_record(house, run, again=True)
        for step in steps:
            if recorder:
                recorder.add(step)
        await end_record(house, run, recorder)


async def _resume(house: House, run: Run, read: PipelineReader) -> None:
    """Drive a run on; one whose pipeline cannot be read any more is given up, as any work that breaks off."""
    await execute(house, await read(run.spec_digest), run, await pins_of(house, run))


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
        with contextlib.suppress(Damaged):  # then the run is ended all the same
            whole = await with_steps(house.journal, run)
            run = replace(run, snapshots=snapshots_of(whole.steps), counts=whole.counted)
        await house.tell(noun, run.key, "failed", run, f"{why}; finished steps are in the cache")
    elif isinstance(found, Verdict) and found.state is VerdictState.JUDGING:
        verdict = replace(found, state=VerdictState.FAILED, error=why, at_ms=now)
        await house.tell(noun, verdict.key, "failed", verdict, why)
    elif isinstance(found, Remedy) and found.state is RemedyState.CARRYING:
        remedy = move(found, RemedyState.FAILED, now, outcome=why)
        await house.tell(noun, remedy.key, "failed", remedy, why)
