"""Execute: drive a run to its end. The rules are in core/run; here its decisions are carried out.

Each event is in the run's journal, durably, before anything is done about it: a hub that was killed takes the
run up where it stood.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tallystick.core.errors import MissingTile, TallyError
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
)
from tallystick.core.run.machine import Machine
from tallystick.core.run.record import read_event, write_event, write_step
from tallystick.hub.house import House
from tallystick.hub.house.whole import with_steps
from tallystick.hub.step import StepContext, run_step
from tallystick.ports.journal import Entry

__all__ = ["cancel", "execute"]

_STATUS = {RunState.SUCCEEDED: "FINISHED", RunState.FAILED: "FAILED", RunState.CANCELLED: "KILLED"}


@dataclass
class _Execution:
    house: House
    pipeline: Pipeline
    run: Run
    inbox: asyncio.Queue[Event]
    machine: Machine
    env: Mapping[str, str] = field(default_factory=dict)
    environment: str = ""
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def go(self) -> Run:
        await self._begin()
        past = await self.house.journal.events(self.run.tenant, self.run.key)
        for text in past:
            self.machine.apply(read_event(text))
        self.machine.changed()
        now = self.house.clock.now_ms()
        if not self.machine.state.ended:
            self.inbox.put_nowait(Resumed(now) if past else Began(now))
        await self._tell("resumed" if past else "began")
        while not self.machine.state.ended:
            events = [await self.inbox.get()]
            while not self.inbox.empty():
                events.append(self.inbox.get_nowait())
            await self._take(events)
        await self._tell(self.machine.state)
        return self.run

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

    async def _take(self, events: list[Event]) -> None:
        """Apply events, make them durable, and only then carry out what follows from them."""
        before, decisions, entries = self.machine.state, list[Decision](), list[Entry]()
        for event in events:
            decisions += self.machine.apply(event)
            changed = [(step.path, write_step(step)) for step in self.machine.changed()]
            entries.append(Entry(write_event(event), changed))
        await self.house.journal.record(self.run.tenant, self.run.key, entries)
        if self.machine.state is not before and not self.machine.state.ended:
            await self._tell(self.machine.state)
        for decision in decisions:
            self._carry_out(decision)

    async def _tell(self, event: str) -> None:
        """Where the run stands now, for the ledger."""
        machine = self.machine
        ended_ms = self.house.clock.now_ms() if machine.state.ended else 0
        self.run = replace(
            self.run, state=machine.state, error=machine.error, outputs=machine.outputs, ended_ms=ended_ms
        )
        await self.house.tell("run", self.run.key, event, self.run, machine.error)

    def _carry_out(self, decision: Decision) -> None:
        if isinstance(decision, StartStep):
            self._start(decision)
        elif isinstance(decision, StopStep) and decision.path in self.tasks:
            self.tasks[decision.path].cancel()
        elif isinstance(decision, WakeAt):
            self.tasks[decision.path] = asyncio.create_task(self._wake(decision), name=decision.path)

    async def _wake(self, decision: WakeAt) -> None:
        await self.house.clock.sleep(max(0.0, (decision.at_ms - self.house.clock.now_ms()) / 1000))
        self.inbox.put_nowait(RetryDue(decision.path, self.house.clock.now_ms()))

    def _start(self, start: StartStep) -> None:
        task = asyncio.create_task(self._step(start), name=f"{self.run.key} {start.path}")
        task.add_done_callback(lambda done: self._cancelled(start) if done.cancelled() else None)
        self.tasks[start.path] = task

    def _cancelled(self, start: StartStep) -> None:
        """Said from outside the step's task: one that is cancelled before it begins never gets to speak."""
        now = self.house.clock.now_ms()
        self.inbox.put_nowait(
            StepEnded(start.path, StepState.CANCELLED, now, start.attempt, error="cancelled")
        )

    async def _step(self, start: StartStep) -> None:
        context, error = StepContext(self.run.key, self.env, self.environment), ""
        try:
            self.inbox.put_nowait(await run_step(self.house, context, start))
            return
        except TallyError as wrong:
            error = str(wrong)
        except Exception as wrong:  # noqa: BLE001  reason: the step's edge; the run must learn that it ended
            error = f"{type(wrong).__name__}: {wrong}"
        now = self.house.clock.now_ms()
        self.inbox.put_nowait(StepEnded(start.path, StepState.FAILED, now, start.attempt, error=error))

    async def leave(self) -> None:
        """End what still runs, when the execution itself is being ended."""
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)

    async def give_up(self, wrong: TallyError) -> None:
        """Tell that the run failed; as far as the ledger still works."""
        now = self.house.clock.now_ms()
        self.run = replace(self.run, state=RunState.FAILED, error=str(wrong), ended_ms=now)
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
    this call ends all steps, and leaves the run to be taken up.
    """
    inbox = house.inboxes.setdefault(run.key, asyncio.Queue())
    facts = Facts(pipeline.name, run.key, run.started_ms)
    limits = house.limits
    machine = Machine(pipeline, run.params, house.conditions.holds, limits.steps_at_once, facts)
    execution = _Execution(house, pipeline, run, inbox, machine)
    try:
        return await with_steps(house.journal, await execution.go())
    except TallyError as wrong:
        await execution.leave()
        await execution.give_up(wrong)
        raise
    finally:
        await execution.leave()
        house.inboxes.pop(run.key, None)
        await execution.end_record()


async def cancel(house: House, key: str) -> Run:
    """Ask a run to stop; its state when the asking was taken (it ends soon after)."""
    run = await house.get("run", key, Run)
    inbox = house.inboxes.get(key)
    if inbox and not run.state.ended:
        inbox.put_nowait(CancelAsked(house.clock.now_ms()))
    return run
