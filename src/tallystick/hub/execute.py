"""Execute: drive a run to its end. The rules are in core/run; here its decisions are carried out.

Each event is in the run's journal, durably, before anything is done about it: a hub that was killed takes the
run up where it stood. Only what a step needs is made ready meanwhile, up to its own code.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tallystick.core.data import TABLE_URI
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
    Step,
    StepEnded,
    StepState,
    StopStep,
    WakeAt,
    snapshots_of,
)
from tallystick.core.run.machine import Machine
from tallystick.core.run.options import Pins
from tallystick.core.run.record import read_event, write_event, write_step
from tallystick.core.values import Values
from tallystick.hub.house import House
from tallystick.hub.house.cache import StepCache
from tallystick.hub.house.inbox import STOPPED, Inbox
from tallystick.hub.house.recorder import Recorder, begin_record, end_record
from tallystick.hub.house.removal import remove
from tallystick.hub.house.whole import ended_with
from tallystick.hub.step import StepContext, at_once, run_step
from tallystick.ports.runs.journal import Entry

__all__ = ["cancel", "execute"]

AT_ONCE_MAX = 256
"""Events that are made durable together."""


@dataclass
class _Execution:
    house: House
    pipeline: Pipeline
    run: Run
    inbox: Inbox
    machine: Machine
    facts: Facts
    cache: StepCache
    env: Mapping[str, str] = field(default_factory=dict)
    recorder: Recorder | None = None
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    tidying: set[asyncio.Future[bool]] = field(default_factory=set)

    async def go(self, past: Sequence[str]) -> None:
        """Take the run up after ``past``, the events of its journal, and drive it to its end."""
        await asyncio.to_thread(self._replay, past)
        self.inbox.show(self.machine.changed(), self.house.clock.now_ms())
        going = not self.machine.state.ended
        if going:
            await self._begin()
        self._record_steps()
        if going:
            await self._tell("resumed" if self.machine.began else "began")
            now, slots = self.house.clock.now_ms(), self.house.slots_of(self.run.options.on)[1]
            self.inbox.put(Resumed(now, slots) if self.machine.began else Began(now, slots))
        while not self.machine.state.ended:
            async with self.inbox.taken() as events:
                decisions = await self._take(events)
            for decision in decisions:
                self._carry_out(decision)
        await self._tell(self.machine.state)

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
        if not self.run.record_id:
            tags = {"tally.run": self.run.key, "tally.spec": self.run.spec_digest}
            options = self.run.options
            if options.parent_record:
                tags["mlflow.parentRunId"] = options.parent_record
            experiment = options.experiment or self.pipeline.name
            try:
                begun = await self.house.registry.begin_run(experiment, self.run.key, tags)
            except MissingTile:  # a house without MLflow runs pipelines too; it only keeps no MLflow record
                return
            self.run = replace(self.run, experiment_id=begun[0], record_id=begun[1])
        self.env = {"MLFLOW_EXPERIMENT_ID": self.run.experiment_id, "TALLY_PARENT_RUN": self.run.record_id}

    def _record_steps(self) -> None:
        """Take up MLflow's record of steps, and each table's snapshot, where a hub before left them."""
        self.recorder = begin_record(self.house, self.run, again=bool(self.machine.steps))
        self._record(self.machine.steps.values())
        for step in self.machine.steps.values():
            for ref in step.outputs.artifacts.get("artifact", ()):
                if ref.uri.startswith(TABLE_URI) and "uri" in step.inputs.params:
                    self.cache.pins[step.inputs.params["uri"]] = ref.uri.removeprefix(TABLE_URI)

    def _record(self, steps: Iterable[Step]) -> None:
        if recorder := self.recorder:
            for step in steps:
                recorder.add(step)

    async def _take(self, events: Sequence[Event]) -> list[Decision]:
        """Apply events and make them durable; what follows from them, but for steps, which have started."""
        before, decisions, entries = self.machine.state, list[Decision](), list[Entry]()
        shown, waiting = list[Step](), deque(events)
        while waiting:
            event = waiting.popleft()
            follows = self.machine.apply(event)
            changed = self.machine.changed()
            entries.append(Entry(write_event(event), [(step.path, write_step(step)) for step in changed]))
            shown += changed
            # A chain of steps whose outputs are there needs no sync of the disk for each of them.
            alone = follows[0] if len(follows) == 1 and len(entries) < AT_ONCE_MAX else None
            ended = isinstance(alone, StartStep) and await at_once(self.house, self._context(), alone)
            if ended:
                waiting.append(ended)
            else:
                decisions += follows
        kept = asyncio.Event()
        recorded = [self.house.journal.record(self.run.tenant, self.run.key, entries)]
        if self.cache.waits:
            recorded.append(self.cache.flush())  # one sync of the disk, where both lie on one
        recording = asyncio.gather(*recorded)
        for start in [decision for decision in decisions if isinstance(decision, StartStep)]:
            self._start(start, kept)  # all that it needs is made ready while the disk writes
        await recording
        kept.set()
        self.inbox.show(shown, self.house.clock.now_ms())
        self._record(shown)
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
        if isinstance(decision, StopStep) and decision.path in self.tasks:
            self.tasks[decision.path].cancel()
        elif isinstance(decision, WakeAt):
            self._go_on(decision.path, self._wake(decision))

    async def _wake(self, decision: WakeAt) -> None:
        await self.house.clock.sleep(max(0.0, (decision.at_ms - self.house.clock.now_ms()) / 1000))
        self.inbox.put(RetryDue(decision.path, self.house.clock.now_ms()))

    def _start(self, start: StartStep, kept: asyncio.Event) -> None:
        task = self._go_on(start.path, self._step(start, kept))
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

    async def _step(self, start: StartStep, kept: asyncio.Event) -> None:
        context, error = replace(self._context(), kept=kept), ""
        try:
            self.inbox.put(await run_step(self.house, context, start))
            return
        except TallyError as wrong:
            error = str(wrong)
        except Exception as wrong:  # noqa: BLE001  reason: the step's edge; the run must learn that it ended
            error = f"{type(wrong).__name__}: {wrong}"
        now = self.house.clock.now_ms()
        self.inbox.put(StepEnded(start.path, StepState.FAILED, now, start.attempt, error=error))

    def _context(self) -> StepContext:
        return StepContext(self.run, self.env, self.facts, self.cache, self.tidying)

    async def leave(self) -> None:
        """End what still runs, when the execution itself is being ended."""
        tasks = list(self.tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*self.tidying)

    async def give_up(self, wrong: TallyError) -> None:
        """Tell that the run failed; as far as the ledger still works."""
        now, known = self.house.clock.now_ms(), self._known()
        self.run = replace(
            self.run, state=RunState.FAILED, error=str(wrong), outputs=Values(), ended_ms=now, **known
        )
        with contextlib.suppress(TallyError):
            await self.house.tell("run", self.run.key, "failed", self.run, str(wrong))

    async def end_record(self) -> None:
        """End MLflow's copy, and tell the cache which steps are the newest."""
        await end_record(self.house, self.run, self.recorder)
        with contextlib.suppress(TallyError):
            await self.cache.close()

    def whole(self) -> Run:
        """The run with its steps."""
        return replace(self.run, steps=tuple(ended_with(self.run, s) for s in self.machine.steps.values()))


async def execute(house: House, pipeline: Pipeline, run: Run, pins: Pins | None = None) -> Run:
    """Run every step, as parallel as the limits allow, and return the run, with its steps, in its end state.

    A run that has a journal already is taken up where that ends: finished steps are not run again. Cancelling
    this call ends all steps, and leaves the run to be taken up. Conflict where it is being executed already.
    ``pins`` are what a run that reproduces another takes from that.
    """
    if run.key in house.inboxes:
        raise Conflict("it is being executed already", where=run.key)
    shared = _workspace(house, pipeline, run)
    inbox = house.inboxes[run.key] = Inbox()
    facts = Facts(
        pipeline.name,
        run.key,
        run.started_ms,
        root_uri=pipeline.root_uri,
        workspace_path=str(shared or ""),
        workspace_bytes=pipeline.workspace_bytes,
    )
    machine = Machine(pipeline, run.params, house.conditions.holds, facts)
    cache = StepCache(house, run, pins or Pins())
    execution = _Execution(house, pipeline, run, inbox, machine, facts, cache)
    left: TallyError | None = Unavailable(STOPPED, where=run.key)
    try:
        async with house.lock(
            "run", run.key
        ):  # whoever cancels it at this moment has written, or will ask us
            past = await house.journal.events(run.tenant, run.key)
        await execution.go(past)
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
        if shared and execution.run.state.ended:
            await remove(shared)
    return execution.whole()


def _workspace(house: House, pipeline: Pipeline, run: Run) -> Path | None:
    """The folder that the run's steps share, where they want one; it outlives the hub, as the run does."""
    if not pipeline.workspace_bytes:
        return None
    folder = house.scratch.parent / "workspaces" / run.key
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as wrong:
        raise Unavailable(f"no folder can be made: {wrong.strerror}", where=str(folder)) from wrong
    return folder


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
