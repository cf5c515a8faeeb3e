"""The hands of a study: the tuner's process as the hub keeps it, and a trial's run."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace

import pytest

from tallystick.core.errors import Failed, NotSupported
from tallystick.core.facts import to_json
from tallystick.core.run.events import Run, RunState
from tallystick.core.run.options import RunOptions
from tallystick.core.study import Trial, TrialState
from tallystick.proofs.runs.tuner import BOWL, TunerProof
from tallystick.wiring.tuning import TrialHands, TunerProcess, take_up_studies
from tests.fakes.executor import FakeExecutor
from tests.fakes.house import make_house
from tests.fakes.plain_sandbox import PlainSandbox
from tests.hub.runs.steps import planned, side_by_side

pytest.importorskip("optuna")


@pytest.fixture
async def house(tmp_path):
    house = make_house(tmp_path, sandbox=PlainSandbox())
    yield house
    for task in house.tasks.values():
        task.cancel()
    await house.sandbox.close()
    await house.traffic.close()


@pytest.mark.slow
class TestTunerProcess(TunerProof):
    """Through the process it is the same tuner."""

    samplers = ("cmaes", "grid")
    pruners = ("median",)
    judged = 2

    @pytest.fixture(autouse=True)
    async def _house(self, house):
        self.house, self.opened = house, []
        yield
        for process in self.opened:
            await process.close()
        assert not list(house.scratch.iterdir())

    async def open(self):
        self.opened.append(TunerProcess(self.house, "optuna"))
        return self.opened[-1]


async def test_one_that_died_is_started_again_and_told_everything(house):
    study, process = replace(BOWL, sampler="cmaes"), TunerProcess(house, "optuna")
    trials = [Trial(n, {"x": n / 2, "n": n}, state=TrialState.SUCCEEDED, value=float(n)) for n in range(9)]
    first = await process.ask(study, trials)
    died = process.errand.process
    os.killpg(died.pid, signal.SIGKILL)
    await died.wait()
    assert await process.ask(study, trials) == first
    assert process.errand.process.pid != died.pid
    await process.close()
    await process.close()
    assert not list(house.scratch.iterdir())


async def test_what_the_tuner_itself_refuses_is_not_asked_again(house):
    process = TunerProcess(house, "optuna")
    with pytest.raises(NotSupported):
        await process.ask(replace(BOWL, sampler="guess"), [])
    await process.close()


async def test_one_that_cannot_live_is_given_up(house, monkeypatch):
    process, opened = TunerProcess(house, "optuna"), []

    async def broken():
        opened.append(1)
        raise Failed("the worker was ended by signal 9")

    monkeypatch.setattr(process, "_open", broken)
    with pytest.raises(Failed, match="signal 9"):
        await process.ask(BOWL, [])
    assert len(opened) == 2


async def test_a_run_is_asked_to_stop_once_and_only_while_it_runs(house, monkeypatch):
    asked = []

    async def cancel(_, key):
        asked.append(key)

    monkeypatch.setattr("tallystick.wiring.tuning.cancel", cancel)
    hands = TrialHands(house)
    await hands.cancel("run-none")
    run = await planned(house, side_by_side("a"))
    await hands.cancel(run.key)
    await house.tell("run", run.key, "cancelling", replace(run, state=RunState.CANCELLING))
    await hands.cancel(run.key)
    assert asked == [run.key]
    assert await hands.logged(run.key, "loss") == {}, "there is no record"


async def test_a_trial_whose_run_has_ended_is_not_run_again(house):
    run = replace(await planned(house, side_by_side("a")), state=RunState.SUCCEEDED)
    await house.tell("run", run.key, "succeeded", run)
    ended = await TrialHands(house).run(BOWL, Trial(0, {}, run.key))
    assert (ended.key, ended.state) == (run.key, RunState.SUCCEEDED)
    assert isinstance(await house.get("run", run.key, Run), Run)


async def test_studies_that_have_not_ended_are_taken_up(house, monkeypatch):
    taken = []

    async def tune(_, study, hands):
        taken.append(study.key)

    monkeypatch.setattr("tallystick.wiring.tuning.tune", tune)
    for key, state in (("study-1", "running"), ("study-2", "succeeded"), ("study-3", "stopping")):
        await house.tell("study", key, "x", {**to_json(BOWL), "key": key, "state": state})
    await take_up_studies(house, TrialHands(house))
    await asyncio.gather(*house.tasks.values())
    assert sorted(taken) == ["study-1", "study-3"]


async def test_a_trial_is_run_where_its_study_says(house, monkeypatch):
    """In the way that it says, below the study's own record."""

    async def pipeline_of(_, digest):
        return side_by_side("a"), b"spec"

    monkeypatch.setattr("tallystick.wiring.tuning.pipeline_of", pipeline_of)
    house.executors["other"] = FakeExecutor({"a": lambda: 1})
    study = replace(BOWL, params={}, options=RunOptions(on="other", seed=3), record_id="parent")
    run = await TrialHands(house).run(study, Trial(0, {}, "run-7"))
    assert run.options == RunOptions(on="other", seed=3, parent_record="parent")
    assert (run.state, house.executors["other"].ran) == (RunState.SUCCEEDED, ["run-7 a"])
