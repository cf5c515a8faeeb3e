"""The hands with which a study is carried out: its tuner in a process of its own, and runs as its trials."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tallystick.core.errors import Failed, TallyError, TookTooLong
from tallystick.core.facts import to_json
from tallystick.core.run.events import Run, RunState
from tallystick.core.run.options import KUBEFLOW
from tallystick.core.study import Kind, Study, Trial
from tallystick.core.wall import Wall
from tallystick.hub.execute import cancel
from tallystick.hub.house import House
from tallystick.hub.house.errand import Errand
from tallystick.hub.house.removal import remove
from tallystick.hub.house.whole import whole_run
from tallystick.ports.runs.tuner import Tuner
from tallystick.ports.tracking import DEFAULT_WORKSPACE, Tracking
from tallystick.record import entries
from tallystick.record.asks import HistoryInterval, NotPlain, SearchRuns
from tallystick.record.search import read_conditions
from tallystick.routines.begin import carry_on, planned
from tallystick.routines.tune import Hands, tune
from tallystick.wiring.hands import pipeline_of

__all__ = ["TrialHands", "TunerProcess", "take_up_studies"]

ANSWER_S = 120.0
"""Within this the tuner answers; with thousands of trials TPE takes a second."""
TRIES = 2
STEPS_MAX = 1000


@dataclass
class TunerProcess:
    """A tuner in a process behind a wall. One that died is started again, and told everything anew."""

    house: House
    tile: str
    errand: Errand | None = None
    folder: Path | None = None
    lines: AsyncIterator[Mapping[str, Any]] | None = None
    told: dict[int, Trial] = field(default_factory=dict)

    async def ask(self, study: Study, trials: Sequence[Trial]) -> Mapping[str, Any] | None:
        """See :class:`Tuner`."""
        values = (await self._asked(study, trials))["values"]
        if values is None:
            return None
        named = zip(study.space, values, strict=True)
        return {one.name: one.values[v] if one.kind is Kind.CHOICE else v for one, v in named}

    async def worse(self, study: Study, trials: Sequence[Trial], number: int) -> bool:
        """See :class:`Tuner`."""
        return bool((await self._asked(study, trials, number=number))["worse"])

    async def _asked(self, study: Study, trials: Sequence[Trial], **about: Any) -> Mapping[str, Any]:
        for left in reversed(range(TRIES)):
            try:
                async with asyncio.timeout(ANSWER_S):
                    return await self._answer(study, trials, about)
            except TimeoutError:
                await self.close()
                raise TookTooLong(f"the tuner did not answer in {ANSWER_S:g} s", where=study.key) from None
            except TallyError as wrong:
                await self.close()
                if type(wrong) is not Failed or not left:  # what it says itself, it would say again
                    raise
        raise AssertionError

    async def _answer(
        self, study: Study, trials: Sequence[Trial], about: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        if self.errand is None:
            await self._open()
        assert self.errand is not None  # noqa: S101  reason: for mypy
        news = [trial for trial in trials if self.told.get(trial.number) != trial]
        plain = to_json(replace(study, trials=(), best=None))
        said = {"study": plain, "count": len(trials), "trials": to_json(news), **about}
        with contextlib.suppress(ConnectionError):  # its last words say more
            self.errand.process.stdin.write(json.dumps(said).encode() + b"\n")
            await self.errand.process.stdin.drain()
        answer = await self._heard()
        self.told = {trial.number: trial for trial in trials}
        return answer

    async def _open(self) -> None:
        self.folder = self.house.folder("tuner")
        wall = Wall(
            workdir=str(self.folder),
            env=self.house.worker_env(),
            cpu_seconds=self.house.limits.judge_cpu_s,
            memory_mib=self.house.limits.memory_mib,
        )
        self.errand = await Errand.start(self.house.sandbox, "tune", {"tuner": self.tile}, wall)
        self.lines = self.errand.lines()
        await self._heard()

    async def _heard(self) -> Mapping[str, Any]:
        assert self.lines is not None  # noqa: S101  reason: for mypy
        async for said in self.lines:
            if isinstance(said.get("ready"), dict):
                return dict(said["ready"])
        raise Failed("the tuner ended before it was asked everything", where="tuner")

    async def close(self) -> None:
        """End the process."""
        errand, folder = self.errand, self.folder
        self.errand, self.folder, self.lines = None, None, None
        self.told.clear()
        if errand:
            await errand.end()
        if folder:
            await remove(folder)


@dataclass
class TrialHands:
    """See :class:`tallystick.routines.tune.Hands`."""

    house: House
    tracking: Tracking | None = None
    tile: str = "optuna"

    @contextlib.asynccontextmanager
    async def tuner(self, _: Study) -> AsyncIterator[Tuner]:
        """The tuner's process, started when it is asked first."""
        process = TunerProcess(self.house, self.tile)
        try:
            yield process
        finally:
            await process.close()

    async def run(self, study: Study, trial: Trial) -> Run:
        """The trial's run once it has ended, whoever began it."""
        run = await self.house.find("run", trial.run, Run)
        if run is None:
            pipeline, spec = await pipeline_of(self.house, study.spec_digest)
            away = study.options.on == KUBEFLOW  # there it has an experiment of the study's name
            options = replace(
                study.options, parent_record=study.record_id, experiment=study.name if away else ""
            )
            given = {**study.params, **trial.params}
            run = await planned(self.house, pipeline, spec, given, options, key=trial.run)
        if not run.state.ended and run.key not in self.house.tasks:
            pipeline, _ = await pipeline_of(self.house, run.spec_digest)
            carry_on(self.house, pipeline, run)
        if (task := self.house.tasks.get(run.key)) is not None:
            await asyncio.wait([task])
        return await whole_run(self.house, run.key)

    async def cancel(self, run: str) -> None:
        """Ask a run to stop, once: a second time would cut its exit handlers off."""
        found = await self.house.find("run", run, Run)
        if found is not None and found.state is RunState.RUNNING:
            await cancel(self.house, run)

    async def logged(self, run: str, metric: str) -> Mapping[str, float]:
        """The metric in MLflow's run of ``run`` or in one that a step of it began, by step."""
        found = await self.house.find("run", run, Run)
        if found is None or not found.record_id or self.tracking is None:
            return {}
        wanted = read_conditions(f"tags.`tally.run` = '{run}'", "run")
        experiments = (int(found.experiment_id),)
        try:
            if wanted is None or not await self.tracking.ready():
                return {}
            page = await self.tracking.read(SearchRuns(experiments, wanted), DEFAULT_WORKSPACE)
            ids = tuple(one.run_id for one in page.items if isinstance(one, entries.Run))
            points = await self.tracking.read(HistoryInterval(ids, metric, STEPS_MAX), DEFAULT_WORKSPACE)
        except NotPlain:
            return {}
        kept = sorted((p.step, p.timestamp_ms, p.value) for p in points if math.isfinite(p.value))
        return {str(step): value for step, _, value in kept if step >= 0}


async def take_up_studies(house: House, hands: Hands) -> None:
    """Have every study that has not ended go on, in the background; its trials' runs were taken up before."""
    for study in await house.all("study", Study):
        if not study.state.ended:
            house.start(study.key, tune(house, study, hands))
