from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tallystick.core.endpoint import Endpoint, EndpointState, Wish
from tallystick.core.errors import Conflict, Failed, NotFound
from tallystick.core.model import ModelVersion
from tallystick.core.names import digest_of
from tallystick.core.remedy import Remedy, RemedyAction, RemedyState
from tallystick.core.run.events import RunState
from tallystick.core.signal import Drift, Signal
from tallystick.core.verdict import Finding, Severity, VerdictState
from tallystick.routines.served.heal import begin_remedy, carry, propose_remedy
from tests.fakes.house import add_model, add_run, add_table, add_verdict, events

DONE, FAILED = RemedyState.DONE, RemedyState.FAILED


class FakeHands:
    """Does as a test says, and notes what it was asked for; ``wrong`` names the hand that fails."""

    def __init__(self, house, wrong=""):
        self.house, self.wrong, self.asked = house, wrong, []
        self.run_state, self.verdict_state = RunState.SUCCEEDED, VerdictState.PASSED

    def _ask(self, what, *about):
        self.asked.append((what, *about))
        if what == self.wrong:
            raise Failed(f"{what} did not work")

    async def rerun(self, run, table):
        self._ask("rerun", run.key, str(table))
        return replace(run, key="run-again", state=self.run_state, error="train: no")

    async def register(self, name, run, output):
        self._ask("register", name, run, output)
        return await add_model(self.house, 2, name)

    async def judge(self, model):
        self._ask("judge", model.key)
        verdict = await add_verdict(self.house, model, self.verdict_state)
        finding = Finding("robust", False, Severity.REFUSE, "robust: below 50%")
        return replace(verdict, findings=(finding,))

    async def deploy(self, model, endpoint):
        self._ask("deploy", model.key, endpoint)
        return await self.house.get("endpoint", endpoint, Endpoint)

    async def find(self, ref):
        self._ask("find", str(ref))
        return await add_model(self.house, ref.version, ref.name)


async def served(house, model, *before):
    """An endpoint that serves ``model``, after the keys in ``before``."""
    past = tuple(Wish(n, key, digest_of(key)) for n, key in enumerate(before, 1))
    wished = Wish(len(past) + 1, model, digest_of(model))
    endpoint = Endpoint("digits", wished, wished.generation, EndpointState.READY, served=(*past, wished))
    await house.tell("endpoint", "digits", "ready", endpoint)
    return endpoint


async def raised(house, model, key="signal-1"):
    drift = Drift("digits@1000", digest_of("data"), 10, 10, ())
    signal = Signal(key, "digits", model, 0.5, ("a",), "drifted", drift)
    await house.tell("signal", key, "raised", signal)
    return signal


async def remedy_for(house, action):
    """A remedy of this kind, proposed because it is the one that fits."""
    model = await add_model(house, run=await add_run(house) if action is RemedyAction.RERUN else None)
    if action is RemedyAction.RERUN:
        await add_table(house)
    await served(house, model.key, *(["digits@7"] if action is RemedyAction.FALL_BACK else []))
    remedy = await propose_remedy(house, await raised(house, model.key))
    assert remedy.action is action
    return remedy


# ---------------------------------------------------------------------- proposing


async def test_newer_data_means_running_the_pipeline_again(house):
    remedy = await remedy_for(house, RemedyAction.RERUN)
    newest = (await house.catalogue.snapshots("digits"))[-1]
    assert (remedy.target, remedy.state) == (newest.key, RemedyState.PROPOSED)
    assert await house.get("remedy", remedy.key, Remedy) == remedy


async def test_proposing_again_gives_the_one_that_was_proposed(house):
    remedy = await remedy_for(house, RemedyAction.LABEL)
    signal = await house.get("signal", remedy.signal, Signal)
    assert await asyncio.gather(*(propose_remedy(house, signal) for _ in range(3))) == [remedy] * 3
    assert events(house, "remedy") == ["proposed"]


async def test_proposing_many_times_at_once_makes_one(house):
    model = await add_model(house)
    await served(house, model.key)
    signal = await raised(house, model.key)
    made = await asyncio.gather(*(propose_remedy(house, signal) for _ in range(5)))
    assert len({r.key for r in made}) == 1
    assert events(house, "remedy") == ["proposed"]


async def test_what_has_come_meanwhile_is_weighed_anew_under_the_same_key(house):
    model = await add_model(house, run=await add_run(house))
    await served(house, model.key)
    signal = await raised(house, model.key)
    first = await propose_remedy(house, signal)
    assert first.action is RemedyAction.LABEL
    await add_table(house)
    second = await propose_remedy(house, signal)
    assert (second.key, second.action) == (first.key, RemedyAction.RERUN)
    await begin_remedy(house, second.key)
    await add_table(house)
    assert (await propose_remedy(house, signal)).state is RemedyState.CARRYING


async def test_weighing_anew_while_it_is_begun_does_not_undo_the_beginning(house):
    model = await add_model(house, run=await add_run(house))
    await served(house, model.key)
    signal = await raised(house, model.key)
    key = (await propose_remedy(house, signal)).key
    await add_table(house)
    await asyncio.gather(begin_remedy(house, key), propose_remedy(house, signal))
    assert (await house.get("remedy", key, Remedy)).state is RemedyState.CARRYING


async def test_a_signal_of_an_endpoint_that_is_not_there(house):
    with pytest.raises(NotFound):
        await propose_remedy(house, await raised(house, "digits@1"))
    assert events(house, "remedy") == []


# ---------------------------------------------------------------------- beginning


async def test_beginning_twice_is_a_conflict(house):
    remedy = await remedy_for(house, RemedyAction.LABEL)
    both = await asyncio.gather(*(begin_remedy(house, remedy.key) for _ in range(2)), return_exceptions=True)
    assert sorted(type(b).__name__ for b in both) == ["Conflict", "Remedy"]
    assert events(house, "remedy") == ["proposed", "began"]
    with pytest.raises(NotFound):
        await begin_remedy(house, "remedy-none")


async def test_what_failed_may_be_begun_again_and_what_is_done_may_not(house):
    remedy = await remedy_for(house, RemedyAction.FALL_BACK)
    failed = await carry(house, await begin_remedy(house, remedy.key), FakeHands(house, wrong="deploy"))
    assert failed.state is FAILED
    assert (await carry(house, await begin_remedy(house, remedy.key), FakeHands(house))).state is DONE
    with pytest.raises(Conflict):
        await begin_remedy(house, remedy.key)


# ---------------------------------------------------------------------- carrying out


async def carried(house, action, hands):
    remedy = await remedy_for(house, action)
    remedy = await carry(house, await begin_remedy(house, remedy.key), hands)
    assert await house.get("remedy", remedy.key, Remedy) == remedy
    assert house.progress == {}
    return remedy


async def test_running_again_goes_the_whole_way(house):
    hands = FakeHands(house)
    remedy = await carried(house, RemedyAction.RERUN, hands)
    run = (await house.get("model", "digits@1", ModelVersion)).origin.run
    assert hands.asked == [
        ("rerun", run, remedy.target),
        ("register", "digits", "run-again", "model"),
        ("judge", "digits@2"),
        ("deploy", "digits@2", "digits"),
    ]
    assert (remedy.state, remedy.run, remedy.model) == (DONE, "run-again", "digits@2")
    assert remedy.verdict.startswith("verdict-")
    assert remedy.outcome == f"digits@2, made from {remedy.target}, serves now"


@pytest.mark.parametrize("wrong", ["rerun", "register", "judge", "deploy"])
async def test_running_again_fails_where_a_hand_fails_and_goes_no_further(house, wrong):
    hands = FakeHands(house, wrong)
    remedy = await carried(house, RemedyAction.RERUN, hands)
    assert (remedy.state, remedy.outcome) == (FAILED, f"{wrong} did not work")
    assert hands.asked[-1][0] == wrong


async def test_a_run_that_failed_is_the_end_of_it(house):
    hands = FakeHands(house)
    hands.run_state = RunState.FAILED
    remedy = await carried(house, RemedyAction.RERUN, hands)
    assert (remedy.state, [a[0] for a in hands.asked]) == (FAILED, ["rerun"])
    assert "run run-again failed: train: no" in remedy.outcome


async def test_a_model_that_is_refused_leaves_the_endpoint_as_it_was(house):
    hands = FakeHands(house)
    hands.verdict_state = VerdictState.REFUSED
    remedy = await carried(house, RemedyAction.RERUN, hands)
    assert (remedy.state, [a[0] for a in hands.asked]) == (FAILED, ["rerun", "register", "judge"])
    assert "digits@2 did not pass: robust: below 50%" in remedy.outcome
    assert (await house.get("endpoint", "digits", Endpoint)).wished.model == "digits@1"
    assert events(house, "endpoint") == ["ready"]


async def test_falling_back_serves_the_model_before(house):
    hands = FakeHands(house)
    remedy = await carried(house, RemedyAction.FALL_BACK, hands)
    assert hands.asked == [("find", "digits@7"), ("deploy", "digits@7", "digits")]
    assert (remedy.state, remedy.model, remedy.outcome) == (DONE, "digits@7", "digits@7 serves again")


@pytest.mark.parametrize("wrong", ["find", "deploy"])
async def test_falling_back_that_does_not_work(house, wrong):
    remedy = await carried(house, RemedyAction.FALL_BACK, FakeHands(house, wrong))
    assert (remedy.state, remedy.outcome) == (FAILED, f"{wrong} did not work")


async def test_labelling_is_for_people(house):
    hands = FakeHands(house)
    remedy = await carried(house, RemedyAction.LABEL, hands)
    assert (remedy.state, hands.asked) == (FAILED, [])
    assert "ingest labelled rows" in remedy.outcome
