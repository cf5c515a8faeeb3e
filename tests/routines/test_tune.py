from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest

from tallystick.core.errors import BadInput, Conflict, Failed, NotFound
from tallystick.core.facts import to_json
from tallystick.core.names import canonical_json
from tallystick.core.run.events import Run, RunState, Step, StepState
from tallystick.core.run.options import RunOptions
from tallystick.core.study import Dimension, Kind, Study, StudyState, Trial, TrialState, best_of, found
from tallystick.core.values import ArtifactRef, Values
from tallystick.ports.runs.journal import Entry
from tallystick.routines import tune as verb
from tallystick.routines.tune import begin_study, give_up_study, resume_study, stop_study, tune, whole_study
from tests.fakes.house import events, until
from tests.fakes.runs.tuner import FakeTuner

SUCCEEDED, FAILED, PRUNED = TrialState.SUCCEEDED, TrialState.FAILED, TrialState.PRUNED
DRAFT = Study(
    "", "s", "p", "", "loss", (Dimension("x", Kind.FLOAT, -5, 5),), sampler="random", seed=3, trials_max=6
)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(verb, "LOOK_S", 0.005)


def metrics(value, step="train"):
    ref = ArtifactRef("m", "sha256:0", "system.Metrics", metadata={"loss": value})
    return Step(step, StepState.SUCCEEDED, outputs=Values(artifacts={"m": (ref,)}))


class FakeHands:
    """Runs that end as ``came`` says: a number is the metric, a text an error, a Run itself.

    With ``held`` set they go on until they are let go, or cancelled. ``runs`` outlive these hands.
    """

    def __init__(self, house, came=lambda trial: trial.params["x"] ** 2, runs=None):
        self.house, self.came, self.fake = house, came, FakeTuner()
        self.runs = {} if runs is None else runs
        self.began, self.cancelled, self.log = [], [], {}
        self.held = None
        self.at_once = self.most = 0

    @contextlib.asynccontextmanager
    async def tuner(self, study):
        yield self.fake

    async def run(self, study, trial):
        assert trial in (await whole_study(self.house, study.key)).trials, (
            "it is in the journal before it begins"
        )
        if trial.run not in self.runs:
            self.began.append(trial.run)
            self.runs[trial.run] = None
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await until(lambda: not self.held or self.held.is_set() or trial.run in self.cancelled)
            await asyncio.sleep(0)
        finally:
            self.at_once -= 1
        run = Run(trial.run, "p", "", {})
        if trial.run in self.cancelled:
            return replace(run, state=RunState.CANCELLED)
        came = self.came(trial)
        if isinstance(came, Exception):
            raise came
        if isinstance(came, str):
            return replace(run, state=RunState.FAILED, error=came)
        steps = () if came is None else (metrics(came),)
        self.runs[trial.run] = run
        return replace(run, state=RunState.SUCCEEDED, steps=steps)

    async def cancel(self, run):
        assert run not in self.cancelled or self.held is None
        self.cancelled.append(run)

    async def logged(self, run, metric):
        return self.log.get(run, {}) if metric == "loss" else {}


async def begun(house, **more):
    return await begin_study(house, replace(DRAFT, **more), b"the file")


# ------------------------------------------------------------------------------------------------ trials


async def test_a_study_tries_as_often_as_it_may_and_knows_the_best(house):
    study, hands = await begun(house, parallel=3), FakeHands(house)
    ended = await tune(house, study, hands)
    assert ended.state is StudyState.SUCCEEDED
    assert [t.number for t in ended.trials] == list(range(6))
    assert {t.state for t in ended.trials} == {SUCCEEDED}
    assert ended.best.value == min(t.params["x"] ** 2 for t in ended.trials)
    assert hands.most == 3
    assert hands.began == [t.run for t in ended.trials]
    told = events(house, "study")
    assert told[:2] == ["planned", "began"]
    assert told[-1] == "succeeded"
    assert set(told[2:-1]) <= {"best so far"}
    (record,) = house.registry.runs.values()
    assert (record.name, record.status, record.tags["tally.study"]) == ("s", "FINISHED", study.key)
    assert house.progress == {}
    assert not list(house.scratch.iterdir())
    path = await house.artifacts.path_of(ended.spec_digest)
    assert path.read_bytes() == b"the file"


async def test_the_largest_is_the_best_where_it_is_to_be(house):
    ended = await tune(house, await begun(house, maximize=True), FakeHands(house))
    assert ended.best.value == max(t.value for t in ended.trials)


async def test_a_grid_ends_by_itself(house):
    space = (Dimension("x", Kind.CHOICE, values=(1, 2, 3)),)
    ended = await tune(
        house, await begun(house, sampler="grid", space=space, trials_max=50), FakeHands(house)
    )
    assert (ended.state, len(ended.trials)) == (StudyState.SUCCEEDED, 3)


@pytest.mark.parametrize(
    ("came", "why"),
    [
        (None, "no metric 'loss'"),
        ("step train: it fell over", "it fell over"),
        (BadInput("no such table"), "no such table"),
        (float("inf"), "finite"),
        (float("nan"), "finite"),
    ],
)
async def test_a_trial_that_comes_to_nothing_says_why_and_the_study_goes_on(house, came, why):
    hands = FakeHands(house, lambda trial: came if trial.number == 1 else float(trial.number))
    ended = await tune(house, await begun(house), hands)
    assert [t.state for t in ended.trials] == [SUCCEEDED, FAILED, *[SUCCEEDED] * 4]
    assert why in ended.trials[1].why
    assert (ended.state, ended.best.number) == (StudyState.SUCCEEDED, 0)


class AwayHands(FakeHands):
    """Every trial is done by a Kubeflow: it says what its steps put out, or only that they ended well."""

    async def run(self, study, trial):
        run = await super().run(study, trial)
        return replace(run, away="id", options=RunOptions(on="kubeflow", host="http://far"), steps=self.told)


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ((Step("train", StepState.SUCCEEDED),), "the Kubeflow at http://far says nothing of what its steps"),
        ((Step("train", StepState.SUCCEEDED, outputs=Values({"n": 1})),), "it has no metric 'loss'"),
    ],
)
async def test_a_kubeflow_that_does_not_say_the_metric_is_named(house, told, why):
    hands = AwayHands(house)
    hands.told = told
    ended = await tune(house, await begun(house), hands)
    assert ended.state is StudyState.FAILED
    assert {t.state for t in ended.trials} == {FAILED}
    assert why in ended.trials[0].why


async def test_too_many_failures_end_it_and_it_may_go_on_later(house):
    hands = FakeHands(house, lambda _: "broken")
    ended = await tune(house, await begun(house, failures_max=2, trials_max=10), hands)
    assert (ended.state, len(ended.trials)) == (StudyState.FAILED, 3)
    assert ended.error == "3 trials failed, the last one: broken"
    again = await resume_study(house, ended.key)
    assert (again.state, again.error, again.failures_max) == (StudyState.RUNNING, "", 6)
    ended = await tune(house, again, FakeHands(house))
    assert (ended.state, len(ended.trials)) == (StudyState.SUCCEEDED, 10)


async def test_a_study_in_which_nothing_succeeded_has_failed(house):
    ended = await tune(house, await begun(house, trials_max=2), FakeHands(house, lambda _: "broken"))
    assert (ended.state, ended.error) == (StudyState.FAILED, "no trial succeeded: broken")


async def test_a_tuner_that_breaks_ends_the_study(house):
    hands = FakeHands(house)
    hands.fake.broken = Failed("the tuner broke")
    ended = await tune(house, await begun(house), hands)
    assert (ended.state, ended.error) == (StudyState.FAILED, "the tuner broke")


async def test_the_value_may_have_been_logged_to_mlflow(house):
    hands = FakeHands(house, lambda _: None)
    study = await begun(house, trials_max=1)
    hands.held = asyncio.Event()
    work = asyncio.create_task(tune(house, study, hands))
    await until(lambda: hands.began)
    hands.log[hands.began[0]] = {"0": 9.0, "10": 0.5, "9": 7.0}
    hands.held.set()
    assert (await work).best.value == 0.5


async def test_the_objective_may_be_an_output_or_one_steps_metric():
    run = Run("run-1", "p", "", {}, outputs=Values({"score": 3, "flag": True}))
    assert found(run, "score") == {"score": 3.0}
    assert found(run, "flag") == {}
    run = replace(run, steps=(metrics(1.0, "loop[0]/train"), metrics(2.0, "check")))
    assert found(run, "train.loss") == {"loop[0]/train.loss": 1.0}
    assert found(run, "loop[0]/train.loss") == {"loop[0]/train.loss": 1.0}
    assert found(run, "loss") == {"loop[0]/train.loss": 1.0, "check.loss": 2.0}
    assert found(run, "other") == {}


async def test_several_metrics_of_that_name_are_named(house):
    hands = FakeHands(house)
    one = hands.run

    async def two(study, trial):
        run = await one(study, trial)
        return replace(run, steps=(metrics(1.0, "a"), metrics(2.0, "b")))

    hands.run = two
    ended = await tune(house, await begun(house, trials_max=1), hands)
    assert ended.trials[0].why == "it has 2 metrics 'loss', say which: a.loss, b.loss"


# ------------------------------------------------------------------------------------- pruning and stopping


async def test_a_trial_that_is_worse_on_the_way_is_pruned(house):
    study = await begun(house, pruner="median", trials_max=4)
    hands = FakeHands(house, lambda trial: 1.0)
    work = asyncio.create_task(tune(house, study, hands))
    original = hands.run

    async def run(study, trial):
        if trial.number == 3:
            hands.held = asyncio.Event()
        hands.log[trial.run] = {"0": 1.0, "1": 99.0 if trial.number == 3 else 1.0}
        return await original(study, trial)

    hands.run = run
    ended = await work
    assert [t.state for t in ended.trials] == [SUCCEEDED] * 3 + [PRUNED]
    assert ended.trials[3].steps == {"0": 1.0, "1": 99.0}
    assert hands.cancelled == [ended.trials[3].run]
    assert ended.state is StudyState.SUCCEEDED
    assert ended.best.number == 0


async def test_stopping_cancels_what_is_under_way_and_it_may_go_on(house):
    hands = FakeHands(house)
    hands.held = asyncio.Event()
    study = await begun(house, parallel=2)
    work = asyncio.create_task(tune(house, study, hands))
    await until(lambda: len(hands.began) == 2)
    assert (await stop_study(house, study.key)).state is StudyState.STOPPING
    with pytest.raises(Conflict):
        await resume_study(house, study.key)
    ended = await work
    assert (ended.state, ended.error) == (StudyState.STOPPED, "")
    assert [t.state for t in ended.trials] == [TrialState.STOPPED] * 2
    assert (await stop_study(house, study.key)).state is StudyState.STOPPED
    assert {r.status for r in house.registry.runs.values()} == {"KILLED"}
    ended = await tune(house, await resume_study(house, study.key, parallel=1), FakeHands(house))
    assert (ended.state, len(ended.trials)) == (StudyState.SUCCEEDED, 8), (
        "those that were stopped do not count"
    )


async def test_what_has_had_its_trials_needs_more_to_go_on(house):
    ended = await tune(house, await begun(house), FakeHands(house))
    with pytest.raises(BadInput, match="has had its 6 trials"):
        await resume_study(house, ended.key)
    more = await tune(house, await resume_study(house, ended.key, 9), FakeHands(house))
    assert len(more.trials) == 9
    assert more.trials[:6] == ended.trials
    assert more.record_id == ended.record_id
    with pytest.raises(NotFound):
        await resume_study(house, "study-none")


# -------------------------------------------------------------------------------------------- a hub that died


async def test_a_study_outlives_its_hub(house):
    whole = await tune(house, await begun(house, parallel=2, trials_max=8), FakeHands(house))
    study = await begun(house, parallel=2, trials_max=8)
    hands = FakeHands(house)
    counted = hands.run

    async def until_third(study, trial):
        if trial.number >= 3:
            hands.held = asyncio.Event()
        return await counted(study, trial)

    hands.run = until_third
    work = asyncio.create_task(tune(house, study, hands))
    await until(lambda: len(hands.began) == 5)
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work
    left = await whole_study(house, study.key)
    assert left.state is StudyState.RUNNING
    assert sorted(t.state for t in left.trials) == [
        "running",
        "running",
        "succeeded",
        "succeeded",
        "succeeded",
    ]
    again = FakeHands(house, runs=hands.runs)
    ended = await tune(house, left, again)
    assert ended.state is StudyState.SUCCEEDED
    assert [t.params for t in ended.trials] == [t.params for t in whole.trials], (
        "none lost, none counted twice"
    )
    assert [t.run for t in ended.trials[:5]] == [t.run for t in left.trials]
    assert again.began == [t.run for t in ended.trials[5:]], "a run that was begun is not begun again"
    assert "resumed" in events(house, "study", study.key)


async def test_a_trial_that_was_being_pruned_as_the_hub_died_is_pruned(house):
    study = await begun(house, trials_max=1)
    pruned = Trial(0, {"x": 1.0}, "run-x", why="it was worse", steps={"0": 4.0})
    hands = FakeHands(house)
    tuning = verb._Tuning(house, hands, study)
    await tuning._keep(pruned)
    hands.cancelled.append("run-x")
    ended = await tune(house, study, hands)
    assert [t.state for t in ended.trials] == [PRUNED]
    assert ended.error == "no trial succeeded: none ran to its end"


async def test_giving_up_says_why_once(house):
    study = await begun(house)
    await give_up_study(house, study.key, "a defect")
    await give_up_study(house, study.key, "another")
    await give_up_study(house, "run-1", "no study")
    assert (await whole_study(house, study.key)).error == "a defect"
    assert events(house, "study") == ["planned", "failed"]


async def test_the_first_of_equal_ones_is_the_best():
    trials = [Trial(n, {}, state=SUCCEEDED, value=v) for n, v in enumerate((2.0, 1.0, 1.0))]
    trials.append(Trial(3, {}, state=PRUNED, value=0.0))
    assert best_of(trials, False).number == 1
    assert best_of(trials, True).number == 0
    assert best_of([], False) is None


async def test_a_trial_that_a_hub_pruned_and_could_not_stop_any_more_is_stopped(house):
    study, hands = await begun(house, trials_max=1, pruner="median"), FakeHands(house)
    trial = Trial(0, {"x": 1.0}, "run-x", why=verb.PRUNED)
    entry = Entry(canonical_json({"event": "trial"}), [("000000", canonical_json(to_json(trial)))])
    await house.journal.record(study.tenant, study.key, [entry])
    hands.held = asyncio.Event()
    async with asyncio.timeout(60):
        ended = await tune(house, study, hands)
    assert [t.state for t in ended.trials] == [PRUNED]


async def test_a_hub_that_dies_as_a_study_ends_leaves_its_record_to_the_next(house):
    study, end_run = await begun(house, trials_max=1), house.registry.end_run

    async def away(*_):
        await asyncio.Event().wait()

    house.registry.end_run = away
    going = asyncio.create_task(tune(house, study, FakeHands(house)))
    await until(lambda: house.progress.get(study.key, (0,))[0] == 1)
    await asyncio.sleep(0.02)
    going.cancel()
    await asyncio.gather(going, return_exceptions=True)
    house.registry.end_run = end_run
    study = await whole_study(house, study.key)
    if not study.state.ended:  # the next hub takes up no other
        study = await tune(house, study, FakeHands(house))
    assert study.state is StudyState.SUCCEEDED
    assert [r.status for r in house.registry.runs.values()] == ["FINISHED"]
