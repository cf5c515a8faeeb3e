"""Heal: propose a remedy for a signal, and carry it out with the other verbs' hands."""

from __future__ import annotations

from typing import Protocol

from tallystick.core.data import Snapshot, TableRef
from tallystick.core.endpoint import Endpoint
from tallystick.core.errors import Failed, Refused, TallyError
from tallystick.core.model import ModelRef, ModelVersion, Origin
from tallystick.core.remedy import Remedy, RemedyAction, RemedyState, move, propose
from tallystick.core.run.events import Run, RunState
from tallystick.core.signal import Signal
from tallystick.core.verdict import Verdict, VerdictState
from tallystick.hub.house import House

__all__ = ["Hands", "begin_remedy", "carry", "propose_remedy"]


class Hands(Protocol):
    """The verbs that a remedy is carried out with; each returns when its work has ended."""

    async def rerun(self, run: Run, table: TableRef) -> Run:
        """Run the same pipeline again with ``table`` in the place of that table's earlier snapshot."""
        ...

    async def register(self, name: str, run: str, output: str) -> ModelVersion:
        """Register a run's output, as :func:`tallystick.hub.register.register` does."""
        ...

    async def judge(self, model: ModelVersion) -> Verdict:
        """Judge on the rows that the model's own run held out."""
        ...

    async def deploy(self, model: ModelVersion, endpoint: str) -> Endpoint:
        """Deploy and wait until what is observed is what was wished."""
        ...

    async def find(self, ref: ModelRef) -> ModelVersion:
        """The model version that ``ref`` means."""
        ...


async def propose_remedy(house: House, signal: Signal) -> Remedy:
    """The remedy for ``signal``. There is one for each signal, and it keeps its key: as long as nobody
    has begun it, asking again weighs anew what can be done, since data or models may have come.
    """
    async with house.lock("signal", signal.key):
        before = next((r for r in await house.all("remedy", Remedy) if r.signal == signal.key), None)
        if before and before.state not in (RemedyState.PROPOSED, RemedyState.FAILED):
            return before
        endpoint = await house.get("endpoint", signal.endpoint, Endpoint)
        model = await house.find("model", signal.model, ModelVersion)
        newest = await _newest_snapshot(house, model)
        key = before.key if before else house.new_key("remedy")
        remedy = propose(key, signal, endpoint, model, newest, house.clock.now_ms())
        if before and (before.action, before.target) == (remedy.action, remedy.target):
            return before
        await house.tell("remedy", remedy.key, "proposed", remedy, f"{remedy.action}: {remedy.why}")
    return remedy


async def _newest_snapshot(house: House, model: ModelVersion | None) -> Snapshot | None:
    """The newest snapshot of a table that the model was made from, if it is newer than that one."""
    origin = model.origin if model else Origin()
    tables = origin.tables
    newest: dict[str, Snapshot] = {}
    for snapshot in sorted(await house.all("data", Snapshot), key=lambda s: s.at_ms):
        if snapshot.table in tables:
            newest[snapshot.table] = snapshot
    newer = [s for s in newest.values() if s.key not in origin.snapshots]
    return max(newer, key=lambda s: s.at_ms, default=None)


async def begin_remedy(house: House, key: str) -> Remedy:
    """The remedy, now being carried out; Conflict when it is already, or was."""
    signal = (await house.get("remedy", key, Remedy)).signal
    async with house.lock("signal", signal):  # so that nobody weighs it anew meanwhile
        remedy = await house.get("remedy", key, Remedy)
        carrying = move(remedy, RemedyState.CARRYING, house.clock.now_ms())
        await house.tell("remedy", key, "began", carrying, carrying.action)
    return carrying


async def carry(house: House, remedy: Remedy, hands: Hands) -> Remedy:
    """Carry out a remedy that was begun, and record what came of it, success or not."""
    try:
        if remedy.action is RemedyAction.RERUN:
            remedy = await _rerun(house, remedy, hands)
        elif remedy.action is RemedyAction.FALL_BACK:
            model = await hands.find(ModelRef.parse(remedy.target))
            await hands.deploy(model, remedy.endpoint)
            now = house.clock.now_ms()
            remedy = move(remedy, RemedyState.DONE, now, outcome=f"{model.key} serves again", model=model.key)
        else:
            raise Refused(
                remedy.why, where=remedy.key, hint="ingest labelled rows, then ask for a remedy again"
            )
    except TallyError as wrong:
        remedy = move(remedy, RemedyState.FAILED, house.clock.now_ms(), outcome=str(wrong))
    finally:
        house.progress.pop(remedy.key, None)
    await house.tell("remedy", remedy.key, remedy.state, remedy, remedy.outcome)
    return remedy


async def _rerun(house: House, remedy: Remedy, hands: Hands) -> Remedy:
    """Pipeline, register, judge, deploy: the way that the model itself once took, on newer data."""
    signal = await house.get("signal", remedy.signal, Signal)
    old = await house.get("model", signal.model, ModelVersion)
    before = await house.get("run", old.origin.run, Run)

    def say(share: float, text: str) -> None:
        house.progress[remedy.key] = (share, text)

    say(0.05, f"running pipeline {before.pipeline} on {remedy.target}")
    run = await hands.rerun(before, TableRef.parse(remedy.target))
    if run.state is not RunState.SUCCEEDED:
        raise Failed(f"run {run.key} {run.state}: {run.error}", where=remedy.key)
    say(0.6, f"registering {old.name} from {run.key}")
    model = await hands.register(old.name, run.key, old.origin.output)
    say(0.65, f"judging {model.key}")
    verdict = await hands.judge(model)
    if verdict.state is not VerdictState.PASSED:
        reasons = "; ".join(verdict.reasons) or verdict.error
        raise Refused(f"{model.key} did not pass: {reasons}", where=verdict.key)
    say(0.95, f"deploying {model.key}")
    await hands.deploy(model, remedy.endpoint)
    outcome = f"{model.key}, made from {remedy.target}, serves now"
    keys = {"run": run.key, "model": model.key, "verdict": verdict.key}
    return move(remedy, RemedyState.DONE, house.clock.now_ms(), outcome=outcome, **keys)
