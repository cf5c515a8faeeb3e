"""Tune: run a pipeline again and again, as a study's tuner proposes, and keep what came of each trial.

Each trial is in the study's journal before its run begins: a hub that was killed takes the study up where it
stood, and a trial whose run is still under way is waited for, not started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from tallystick.core.errors import BadInput, Conflict, MissingTile, TallyError
from tallystick.core.facts import from_json, to_json
from tallystick.core.names import canonical_json
from tallystick.core.run.events import Run, RunState
from tallystick.core.study import Study, StudyState, Trial, TrialState, best_of, found
from tallystick.core.values import Values
from tallystick.hub.house import House
from tallystick.hub.house.specs import keep_spec
from tallystick.ports.runs.journal import Entry
from tallystick.ports.runs.tuner import Tuner

__all__ = ["Hands", "begin_study", "give_up_study", "resume_study", "stop_study", "tune", "whole_study"]

LOOK_S = 0.5
"""How often is looked whether somebody wants the study to stop, and at the metrics of trials under way."""
PRUNED = "it was worse than others at the same step"
_STATUS = {StudyState.SUCCEEDED: "FINISHED", StudyState.FAILED: "FAILED", StudyState.STOPPED: "KILLED"}


class Hands(Protocol):
    """What a study is carried out with: its tuner, and the other verbs."""

    def tuner(self, study: Study) -> AbstractAsyncContextManager[Tuner]:
        """The tuner, for as long as the study goes on."""
        ...

    async def run(self, study: Study, trial: Trial) -> Run:
        """The run ``trial.run`` once it has ended, with its steps: planned and begun where it was not yet."""
        ...

    async def cancel(self, run: str) -> None:
        """Ask a run to stop, once; one that has not begun, or has ended, is left alone."""
        ...

    async def logged(self, run: str, metric: str) -> Mapping[str, float]:
        """What was logged to MLflow in a run so far, by step: finite numbers, of many steps only some."""
        ...


async def begin_study(house: House, draft: Study, spec: bytes) -> Study:
    """``draft`` with its key and with ``spec`` stored, recorded and ready for :func:`tune`."""
    digest = await keep_spec(house, spec)
    key, now = house.new_key("study"), house.clock.now_ms()
    study = replace(draft, key=key, spec_digest=digest, started_ms=now, tenant=house.tenant)
    await house.tell("study", key, "planned", study, f"{study.trials_max} trials of {study.pipeline}")
    return study


async def whole_study(house: House, key: str) -> Study:
    """A study with its trials; NotFound names some that do exist."""
    study = await house.get("study", key, Study)
    texts = await house.journal.steps(study.tenant, key)
    return replace(study, trials=tuple(from_json(Trial, json.loads(text), key) for text in texts))


async def stop_study(house: House, key: str) -> Study:
    """Ask a study to stop: its trials under way are cancelled. On return the asking is durable."""
    async with house.lock("study", key):
        study = await house.get("study", key, Study)
        if study.state is StudyState.RUNNING:
            study = replace(study, state=StudyState.STOPPING)
            await house.tell("study", key, study.state, study)
    return study


async def resume_study(house: House, key: str, trials_max: int = 0, parallel: int = 0) -> Study:
    """A study that goes on, with other limits where they are said; BadInput when nothing is left to do.

    Who asks has :func:`tune` carry it on, unless that is under way.
    """
    async with house.lock("study", key):
        study = await whole_study(house, key)
        if study.state is StudyState.STOPPING:
            raise Conflict("it is being stopped", where=key, hint="try again when it has stopped")
        counts = Counter(t.state for t in study.trials if t.state is not TrialState.STOPPED)
        most, failed = trials_max or study.trials_max, counts[TrialState.FAILED]
        if counts.total() >= most:
            hint = f"say how many there are to be in all: --trials {most + 10}"
            raise BadInput(f"it has had its {most} trials", where=key, hint=hint)
        again = replace(study, trials=(), trials_max=most, parallel=parallel or study.parallel)
        if study.state.ended:
            allowed = max(study.failures_max, failed + 3)
            again = replace(again, state=StudyState.RUNNING, error="", ended_ms=0, failures_max=allowed)
        await house.tell("study", key, "to go on", again, f"{most} trials in all")
    return again


async def give_up_study(house: House, key: str, why: str) -> None:
    """End the study ``key`` with ``why``, if there is one and it has not ended."""
    async with house.lock("study", key):
        study = await house.find("study", key, Study)
        if study is not None and not study.state.ended:
            now = house.clock.now_ms()
            study = replace(study, state=StudyState.FAILED, error=why, ended_ms=now)
            await house.tell("study", key, study.state, study, why)


async def tune(house: House, study: Study, hands: Hands) -> Study:
    """Drive a study to its end; it is returned with its trials. Cancelling this leaves it to be taken up."""
    tuning = _Tuning(house, hands, study)
    try:
        async with hands.tuner(study) as tuner:
            await tuning.go(tuner)
    except TallyError as wrong:
        await give_up_study(house, study.key, str(wrong))
    finally:
        for task in tuning.tasks:
            task.cancel()
        house.progress.pop(study.key, None)
        house.locks.pop(("study", study.key), None)
    return await whole_study(house, study.key)


@dataclass
class _Tuning:
    house: House
    hands: Hands
    study: Study
    trials: list[Trial] = field(default_factory=list)
    tasks: dict[asyncio.Task[Run], int] = field(default_factory=dict)
    exhausted: bool = False
    error: str = ""

    async def go(self, tuner: Tuner) -> None:
        """Trials, until there are enough of them, or nobody wants more."""
        self.trials = list((await whole_study(self.house, self.study.key)).trials)
        await self._begin()
        for trial in self._in(TrialState.RUNNING):
            self._start(trial)
            if trial.why:  # it was pruned, and the hub that did so may have died before it could stop it
                await self.hands.cancel(trial.run)
        while await self._fill(tuner):
            done, _ = await asyncio.wait(self.tasks, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await self._ended(self.trials[self.tasks.pop(task)], task)
            if self.study.pruner != "none":
                await self._look(tuner)
        await self._end()

    def _in(self, *states: TrialState) -> list[Trial]:
        return [trial for trial in self.trials if trial.state in states]

    @property
    def _over(self) -> bool:
        return bool(self.error) or self.study.state is StudyState.STOPPING

    async def _begin(self) -> None:
        record = self.study.record_id
        if not record:
            tags = {"tally.study": self.study.key, "tally.spec": self.study.spec_digest}
            with contextlib.suppress(MissingTile):  # a house without MLflow tunes too
                begun = await self.house.registry.begin_run(self.study.pipeline, self.study.name, tags)
                record = begun[1]
        await self._tell("resumed" if self.trials else "began", record_id=record)

    async def _tell(self, event: str, note: str = "", **changes: Any) -> None:
        """A fact of the study; others may have changed it meanwhile."""
        async with self.house.lock("study", self.study.key):
            now = await self.house.get("study", self.study.key, Study)
            self.study = replace(now, best=best_of(self.trials, now.maximize), **changes)
            await self.house.tell("study", self.study.key, event, self.study, note)

    async def _keep(self, trial: Trial) -> None:
        """Put a trial into the study's journal; it is durable on return."""
        self.trials[trial.number : trial.number + 1] = [trial]
        event = canonical_json({"event": "trial", "number": trial.number, "state": trial.state})
        entry = Entry(event, [(f"{trial.number:06d}", canonical_json(to_json(trial)))])
        await self.house.journal.record(self.study.tenant, self.study.key, [entry])

    async def _fill(self, tuner: Tuner) -> bool:
        """Begin as many trials as may be under way; whether any is."""
        self.study = await self.house.get("study", self.study.key, Study)
        failed = self._in(TrialState.FAILED)
        if len(failed) > self.study.failures_max:
            self.error = f"{len(failed)} trials failed, the last one: {failed[-1].why}"
        counted = len(self.trials) - len(self._in(TrialState.STOPPED))
        while not self._over and not self.exhausted and len(self.tasks) < self.study.parallel:
            if counted >= self.study.trials_max:
                break
            params = await tuner.ask(self.study, self.trials)
            self.exhausted = params is None
            if params is not None:
                now, counted = self.house.clock.now_ms(), counted + 1
                trial = Trial(len(self.trials), params, self.house.new_key("run"), started_ms=now)
                await self._keep(trial)
                self._start(trial)
        for trial in self._in(TrialState.RUNNING) if self._over else ():
            await self.hands.cancel(trial.run)
        share = (counted - len(self.tasks)) / self.study.trials_max
        self.house.progress[self.study.key] = (share, f"{len(self.tasks)} trials under way")
        return bool(self.tasks)

    def _start(self, trial: Trial) -> None:
        task = asyncio.create_task(self.hands.run(self.study, trial), name=f"{self.study.key} {trial.number}")
        self.tasks[task] = trial.number

    async def _ended(self, trial: Trial, task: asyncio.Task[Run]) -> None:
        before = best_of(self.trials, self.study.maximize)
        try:
            trial = await self._weighed(trial, task.result())
        except TallyError as wrong:
            trial = replace(trial, state=TrialState.FAILED, why=str(wrong))
        await self._keep(replace(trial, ended_ms=self.house.clock.now_ms()))
        if best_of(self.trials, self.study.maximize) != before:
            await self._tell("best so far", f"trial {trial.number}: {trial.value}")

    async def _weighed(self, trial: Trial, run: Run) -> Trial:
        """What came of a trial whose run has ended."""
        if run.state is RunState.CANCELLED and (trial.why or self._over):
            return replace(trial, state=TrialState.PRUNED if trial.why else TrialState.STOPPED)
        if run.state is not RunState.SUCCEEDED:
            return replace(trial, state=TrialState.FAILED, why=run.error or f"its run was {run.state}")
        name = self.study.objective
        values, steps = found(run, name), trial.steps
        if not values or self.study.pruner != "none":
            steps = await self.hands.logged(run.key, name)
            values = values or ({name: steps[max(steps, key=int)]} if steps else {})
        if len(values) == 1:
            value = next(iter(values.values()))
            return replace(trial, state=TrialState.SUCCEEDED, value=value, steps=steps, why="")
        why = f"it has {len(values)} metrics {name!r}, say which: {', '.join(sorted(values))}"
        why = why if values else f"it has no metric {name!r}, or none that is a finite number"
        if run.away and not any(step.outputs != Values() for step in run.steps):
            why = f"the Kubeflow at {run.options.host} says nothing of what its steps put out"
        return replace(trial, state=TrialState.FAILED, why=why)

    async def _look(self, tuner: Tuner) -> None:
        """Prune trials that are worse than others were at the same step."""
        for trial in self._in(TrialState.RUNNING):
            steps = trial.steps if trial.why else await self.hands.logged(trial.run, self.study.objective)
            if steps == trial.steps:
                continue
            self.trials[trial.number] = seen = replace(trial, steps=steps)
            if await tuner.worse(self.study, self.trials, trial.number):
                await self._keep(replace(seen, why=PRUNED))
                await self.hands.cancel(trial.run)

    async def _end(self) -> None:
        best, failed = best_of(self.trials, self.study.maximize), self._in(TrialState.FAILED)
        error = self.error or (
            "" if best else f"no trial succeeded: {failed[-1].why if failed else 'none ran to its end'}"
        )
        state = StudyState.FAILED if error else StudyState.SUCCEEDED
        if self.study.state is StudyState.STOPPING:
            state, error = StudyState.STOPPED, ""
        now = self.house.clock.now_ms()
        note = error or f"{len(self.trials)} trials" + (f", the best {best.value}" if best else "")
        if self.study.record_id:  # before it is told, as nobody takes up a study that has ended
            with contextlib.suppress(TallyError):  # MLflow's copy may lag
                await self.house.registry.end_run(self.study.record_id, _STATUS[state])
        await self._tell(state, note, state=state, error=error, ended_ms=now)
