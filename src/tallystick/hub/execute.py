"""Execute: drive a run to its end. The rules are in core/run; here its decisions are carried out.

Each event is in the run's journal, durably, before anything is done about it: a hub that was killed takes the
run up where it stood.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tallystick.core.errors import Conflict, Damaged, MissingTile, TallyError, Unavailable
from tallystick.core.pipeline.spec import Pipeline
from tallystick.core.run.bind import Facts
from tallystick.core.run.events import (
    Began,
    CancelAsked,
    Decision,
    Event,
    Resumed,
    RetryDue,
    Run,
    RunState,
    StartStep,
    StepEnded,
    StepState,
    StopStep,
    WakeAt,
    snapshots_of,
)
from tallystick.core.run.machine import Machine
from tallystick.core.run.record import read_event, write_event, write_step
from tallystick.core.values import Values
from tallystick.hub.house import House
from tallystick.hub.house.inbox import STOPPED, Inbox
from tallystick.hub.house.whole import with_steps
from tallystick.hub.step import StepContext, run_step
from tallystick.ports.runs.journal import Entry

__all__ = ["cancel", "execute"]

_STATUS = {RunState.SUCCEEDED: "FINISHED", RunState.FAILED: "FAILED", RunState.CANCELLED: "KILLED"}


@dataclass
class _Execution:
    house: House
    pipeline: Pipeline
    run: Run
    inbox: Inbox
    machine: Machine
    env: Mapping[str, str] = field(default_factory=dict)
    environment: str = ""
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def go(self, past: Sequence[str]) -> Run:
        """Take the run up after ``past``, the events of its journal, and drive it to its end."""
        await asyncio.to_thread(self._replay, past)
        if not self.machine.state.ended:
            await self._begin()
            await self._tell("resumed" if self.machine.began else "began")
            now, slots = self.house.clock.now_ms(), self.house.limits.steps_at_once
            self.inbox.put(Resumed(now, slots) if self.machine.began else Began(now, slots))
        while not self.machine.state.ended:
            async with self.inbox.taken() as events:
                decisions = await self._take(events)
            for decision in decisions:
                self._carry_out(decision)
        await self._tell(self.machine.state)
        return self.run

    def _replay(self, past: Sequence[str]) -> None:
        try:
            for text in past:
                self.machine.apply(read_event(text))
        except Conflict as wrong:
            raise Damaged(
                f"its journal does not fit its pipeline: {wrong.what}",
                where=f"{self.run.key} {wrong.where}",
                hint="run the pipeline again: finished steps are in the cache",
            ) from wrong

    async def _begin(self) -> None:
        self.environment = await self.house.executor.environment()
        if not self.run.record_id:
            tags = {"tally.run": self.run.key, "tally.spec": self.run.spec_digest}
            try:
                begun = await self.house.registry.begin_run(self.pipeline.name, self.run.key, tags)
            except MissingTile:  # a house without MLflow runs pipelines too; it only keeps no MLflow record
                return
            self.run = replace(self.run, experiment_id=begun[0], record_id=begun[1])
        self.env = {"MLFLOW_EXPERIMENT_ID": self.run.experiment_id, "TALLY_PARENT_RUN": self.run.record_id}

    async def _take(self, events: Sequence[Event]) -> list[Decision]:
        """Apply events and make them durable; what follows from them."""
        before, decisions, entries = self.machine.state, list[Decision](), list[Entry]()
        for event in events:
            decisions += self.machine.apply(event)
            changed = [(step.path, write_step(step)) for step in self.machine.changed()]
            entries.append(Entry(write_event(event), changed))
        await self.house.journal.record(self.run.tenant, self.run.key, entries)
        if self.machine.state is not before and not self.machine.state.ended:
            await self._tell(self.machine.state)
        return decisions

    async def _tell(self, event: str) -> None:
        """Where the run stands now, for the ledger."""
        machine = self.machine
        self.run = replace(
            self.run,
            state=machine.state,
            error=machine.error,
            outputs=machine.outputs,
            ended_ms=machine.ended_ms,
            **self._known(),
        )
        await self.house.tell("run", self.run.key, event, self.run, machine.error)

    def _known(self) -> dict[str, Any]:
        """What a run's fact says of its steps."""
        steps = self.machine.steps.values()
        return {"snapshots": snapshots_of(steps), "counts": Counter(str(step.state) for step in steps)}

    def _carry_out(self, decision: Decision) -> None:
        if isinstance(decision, StartStep):
            self._start(decision)
        elif isinstance(decision, StopStep) and decision.path in self.tasks:
            self.tasks[decision.path].cancel()
        elif isinstance(decision, WakeAt):
            self._go_on(decision.path, self._wake(decision))

    async def _wake(self, decision: WakeAt) -> None:
        await self.house.clock.sleep(max(0.0, (decision.at_ms - self.house.clock.now_ms()) / 1000))
        self.inbox.put(RetryDue(decision.path, self.house.clock.now_ms()))

    def _start(self, start: StartStep) -> None:
        task = self._go_on(start.path, self._step(start))
        task.add_done_callback(lambda done: self._cancelled(start) if done.cancelled() else None)

    def _go_on(self, path: str, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Let ``work`` go on until it ends, known by its step's path."""
        task = asyncio.create_task(work, name=f"{self.run.key} {path}")
        self.tasks[path] = task
        task.add_done_callback(lambda _: self.tasks.pop(path) if self.tasks.get(path) is task else None)
        return task

    def _cancelled(self, start: StartStep) -> None:
        """Said from outside the step's task: one that is cancelled before it begins never gets to speak."""
        now = self.house.clock.now_ms()
        self.inbox.put(StepEnded(start.path, StepState.CANCELLED, now, start.attempt, error="cancelled"))

    async def _step(self, start: StartStep) -> None:
        context, error = StepContext(self.run.key, self.env, self.environment), ""
        try:
            self.inbox.put(await run_step(self.house, context, start))
            return
        except TallyError as wrong:
            error = str(wrong)
        except Exception as wrong:  # noqa: BLE001  reason: the step's edge; the run must learn that it ended
            error = f"{type(wrong).__name__}: {wrong}"
        now = self.house.clock.now_ms()
        self.inbox.put(StepEnded(start.path, StepState.FAILED, now, start.attempt, error=error))

    async def leave(self) -> None:
        """End what still runs, when the execution itself is being ended."""
        tasks = list(self.tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def give_up(self, wrong: TallyError) -> None:
        """Tell that the run failed; as far as the ledger still works."""
        now, known = self.house.clock.now_ms(), self._known()
        self.run = replace(
            self.run, state=RunState.FAILED, error=str(wrong), outputs=Values(), ended_ms=now, **known
        )
        with contextlib.suppress(TallyError):
            await self.house.tell("run", self.run.key, "failed", self.run, str(wrong))

    async def end_record(self) -> None:
        """End MLflow's copy; the run is in the ledger, so that the copy's status may lag."""
        if self.run.record_id and self.run.state.ended:
            with contextlib.suppress(TallyError):
                await self.house.registry.end_run(self.run.record_id, _STATUS[self.run.state])


async def execute(house: House, pipeline: Pipeline, run: Run) -> Run:
    """Run every step, as parallel as the limits allow, and return the run, with its steps, in its end state.

    A run that has a journal already is taken up where that ends: finished steps are not run again. Cancelling
    this call ends all steps, and leaves the run to be taken up. Conflict where it is being executed already.
    """
    if run.key in house.inboxes:
        raise Conflict("it is being executed already", where=run.key)
    inbox = house.inboxes[run.key] = Inbox()
    facts = Facts(pipeline.name, run.key, run.started_ms)
    machine = Machine(pipeline, run.params, house.conditions.holds, facts)
    execution = _Execution(house, pipeline, run, inbox, machine)
    left: TallyError | None = Unavailable(STOPPED, where=run.key)
    try:
        async with house.lock(
            "run", run.key
        ):  # whoever cancels it at this moment has written, or will ask us
            past = await house.journal.events(run.tenant, run.key)
        ended = await execution.go(past)
        left = None
    except TallyError as wrong:
        left = wrong
        await execution.leave()
        await execution.give_up(wrong)
        raise
    finally:
        await execution.leave()
        house.inboxes.pop(run.key, None)
        house.locks.pop(("run", run.key), None)
        inbox.close(left)
        await execution.end_record()
    return await with_steps(house.journal, ended)


async def cancel(house: House, key: str) -> Run:
    """Ask a run to stop, and a second time to stop at once; its state when that was asked.

    On return the asking is durable; the run ends soon after. One that nobody executes at this moment ends as
    it is taken up.
    """
    await house.get("run", key, Run)
    async with house.lock("run", key):
        run = await house.get("run", key, Run)
        if run.state.ended:
            return run
        asked = CancelAsked(house.clock.now_ms())
        inbox = house.inboxes.get(key)
        if inbox is None:
            await house.journal.record(run.tenant, key, [Entry(write_event(asked))])
            return run
        kept = inbox.put(asked)
    await kept
    return run
