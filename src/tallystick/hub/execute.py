"""Execute: drive a run to its end. The rules are in core/run.py; here its effects are carried out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tallystick.core.errors import MissingTile, TallyError
from tallystick.core.pipeline import Pipeline
from tallystick.core.run import (
    Began,
    CancelAsked,
    Effect,
    Event,
    Run,
    RunState,
    StartStep,
    StepEnded,
    StepState,
    StopStep,
    decide,
)
from tallystick.hub.house import House
from tallystick.hub.step import StepContext, run_step

__all__ = ["cancel", "execute"]

_STATUS = {RunState.SUCCEEDED: "FINISHED", RunState.FAILED: "FAILED", RunState.CANCELLED: "KILLED"}


@dataclass
class _Execution:
    house: House
    pipeline: Pipeline
    run: Run
    inbox: asyncio.Queue[Event]
    env: Mapping[str, str] = field(default_factory=dict)
    environment: str = ""
    steps: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def go(self) -> Run:
        await self._begin()
        self.inbox.put_nowait(Began(self.house.clock.now_ms()))
        while not self.run.state.ended:
            events = [await self.inbox.get()]
            while not self.inbox.empty():
                events.append(self.inbox.get_nowait())
            await self._take(events)
        return self.run

    async def _begin(self) -> None:
        self.environment = await self.house.executor.environment()
        tags = {"tally.run": self.run.key, "tally.spec": self.run.spec_digest}
        try:
            begun = await self.house.registry.begin_run(self.pipeline.name, self.run.key, tags)
        except MissingTile:  # a house without MLflow runs pipelines too; it only keeps no MLflow record
            return
        experiment, record = begun
        self.run = replace(self.run, record_id=record)
        self.env = {"MLFLOW_EXPERIMENT_ID": experiment, "TALLY_PARENT_RUN": record}

    async def _take(self, events: list[Event]) -> None:
        """Apply events, make the new state durable, and only then carry out what follows from it."""
        run, effects = self.run, list[Effect]()
        for event in events:
            run, more = decide(run, self.pipeline, event, self.house.limits.steps_at_once)
            effects += more
        words = "; ".join(_words(run, e) for e in events)
        name = run.state if run.state.ended else _event_name(events[-1])
        await self.house.tell("run", run.key, name, run, words)
        self.run = run
        for effect in effects:
            if isinstance(effect, StartStep):
                self._start(effect)
            elif isinstance(effect, StopStep) and effect.path in self.steps:
                self.steps[effect.path].cancel()

    def _start(self, effect: StartStep) -> None:
        path = effect.ready.path
        task = asyncio.create_task(self._step(effect), name=f"{self.run.key} {path}")
        task.add_done_callback(lambda done: self._cancelled(path) if done.cancelled() else None)
        self.steps[path] = task

    def _cancelled(self, path: str) -> None:
        """Said from outside the step's task: one that is cancelled before it begins never gets to speak."""
        now = self.house.clock.now_ms()
        self.inbox.put_nowait(StepEnded(path, StepState.CANCELLED, now, error="cancelled"))

    async def _step(self, effect: StartStep) -> None:
        ready, now = effect.ready, self.house.clock.now_ms
        context = StepContext(self.run.key, self.env, self.environment)
        try:
            ended = await run_step(self.house, context, ready)
        except TallyError as wrong:
            ended = StepEnded(ready.path, StepState.FAILED, now(), error=str(wrong))
        except Exception as wrong:  # noqa: BLE001  reason: the step's edge; the run must learn that it ended
            ended = StepEnded(ready.path, StepState.FAILED, now(), error=f"{type(wrong).__name__}: {wrong}")
        self.inbox.put_nowait(ended)

    async def leave(self) -> None:
        """End what still runs, when the execution itself is being ended."""
        for task in self.steps.values():
            task.cancel()
        await asyncio.gather(*self.steps.values(), return_exceptions=True)

    async def give_up(self, wrong: TallyError) -> None:
        """Tell that the run failed, from the last state that is durable; as far as the ledger still works."""
        now = self.house.clock.now_ms()
        steps = tuple(
            replace(s, state=StepState.CANCELLED, error="the run was given up", ended_ms=now)
            if s.state is StepState.RUNNING
            else s
            for s in self.run.steps
        )
        self.run = replace(self.run, state=RunState.FAILED, steps=steps, error=str(wrong), ended_ms=now)
        with contextlib.suppress(TallyError):
            await self.house.tell("run", self.run.key, "failed", self.run, str(wrong))

    async def end_record(self) -> None:
        """End MLflow's copy; the run is in the ledger, so that the copy's status may lag."""
        if self.run.record_id and self.run.state.ended:
            with contextlib.suppress(TallyError):
                await self.house.registry.end_run(self.run.record_id, _STATUS[self.run.state])


def _event_name(event: Event) -> str:
    if isinstance(event, StepEnded):
        return f"step {event.state}"
    return "cancel asked" if isinstance(event, CancelAsked) else "began"


def _words(run: Run, event: Event) -> str:
    if isinstance(event, StepEnded):
        step = run.step(event.path)
        seconds = (step.ended_ms - step.started_ms) / 1000 if step else 0.0
        return f"{event.path} {event.state} in {seconds:.1f} s" + (f": {event.error}" if event.error else "")
    return _event_name(event)


async def execute(house: House, pipeline: Pipeline, run: Run) -> Run:
    """Run every step, as parallel as the limits allow, and return the run in its end state.

    Each state is durable before it is acted upon. Cancelling this call ends all steps.
    """
    inbox = house.inboxes.setdefault(run.key, asyncio.Queue())
    execution = _Execution(house, pipeline, run, inbox)
    try:
        return await execution.go()
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
