from __future__ import annotations

from dataclasses import replace

import pytest

from tallystick.core.endpoint import Endpoint, EndpointState
from tallystick.core.errors import BadInput, NotFound, Refused
from tallystick.core.model import ModelRef
from tallystick.core.names import digest_of
from tallystick.core.verdict import VerdictState
from tallystick.evidence.policy import Policy, Rule
from tallystick.hub.register import admit
from tallystick.judging.deploy import check_files, deploy, let_in, withdraw
from tests.fakes.house import POLICY, SEEN, add_model, add_run, add_verdict, events, folder_of, model_files

PASSED, REFUSED, FAILED = VerdictState.PASSED, VerdictState.REFUSED, VerdictState.FAILED


async def test_a_model_that_passed_is_wished_for(house):
    model = await add_model(house)
    verdict = await add_verdict(house, model)
    endpoint = await deploy(house, model, "digits")
    wished = endpoint.wished
    assert (wished.generation, wished.model, wished.model_digest) == (1, "digits@1", model.digest)
    assert wished.verdict == verdict.key
    assert (endpoint.state, endpoint.settled) == (EndpointState.STARTING, False)
    assert await house.get("endpoint", "digits", Endpoint) == endpoint
    assert house.wake.is_set()


@pytest.mark.parametrize("state", [REFUSED, FAILED, VerdictState.JUDGING])
async def test_the_gate_is_shut_for_all_others(house, state):
    model = await add_model(house)
    verdict = await add_verdict(house, model, state)
    words = f"verdict {verdict.key} refused" if state is REFUSED else "has no verdict"
    with pytest.raises(Refused, match=words):
        await deploy(house, model, "digits")
    assert events(house, "endpoint") == []
    assert not house.wake.is_set()


async def test_without_a_verdict_the_hint_is_how_to_get_one(house):
    with pytest.raises(Refused, match="tally judge digits@1 --data TABLE"):
        await deploy(house, await add_model(house), "digits")


async def test_a_verdict_on_another_version_does_not_count(house):
    await add_verdict(house, await add_model(house, 1))
    with pytest.raises(Refused, match="digits@2 has no verdict"):
        await deploy(house, await add_model(house, 2), "digits")


async def test_a_verdict_on_other_files_or_under_another_policy_does_not_count(house):
    model = await add_model(house)
    await add_verdict(house, model)
    moved = replace(model, digest=(await add_model(house, 2)).digest)
    with pytest.raises(Refused, match="other files"):
        await deploy(house, moved, "digits")
    house.policy = replace(POLICY, name="stricter")
    with pytest.raises(Refused, match="another policy"):
        await deploy(house, model, "digits")


async def test_the_newest_verdict_that_was_reached_counts(house):
    model = await add_model(house)
    for state in (REFUSED, PASSED, FAILED, VerdictState.JUDGING):
        await add_verdict(house, model, state)
    await deploy(house, model, "digits")
    await add_verdict(house, model, REFUSED)
    with pytest.raises(Refused):
        await deploy(house, model, "other")


async def test_the_same_wish_twice_changes_nothing(house):
    model = await add_model(house)
    await add_verdict(house, model)
    first = await deploy(house, model, "digits")
    house.wake.clear()
    assert await deploy(house, model, "digits") == first
    assert events(house, "endpoint") == ["wished"]
    assert not house.wake.is_set()


async def test_the_same_wish_after_a_failure_is_a_new_one(house):
    model = await add_model(house)
    await add_verdict(house, model)
    first = await deploy(house, model, "digits")
    failed = replace(first, state=EndpointState.FAILED, tries=3, error="it died")
    await house.tell("endpoint", "digits", "failed", failed)
    again = await deploy(house, model, "digits")
    assert (again.wished.generation, again.tries, again.error) == (2, 0, "")


async def test_another_model_is_a_new_generation(house):
    for version in (1, 2):
        model = await add_model(house, version)
        await add_verdict(house, model)
        assert (await deploy(house, model, "digits")).wished.generation == version


async def test_an_endpoint_has_a_good_name(house):
    model = await add_model(house)
    await add_verdict(house, model)
    with pytest.raises(BadInput):
        await deploy(house, model, "../digits")


async def test_withdrawing_wishes_for_nothing(house):
    model = await add_model(house)
    await add_verdict(house, model)
    await deploy(house, model, "digits")
    gone = await withdraw(house, "digits")
    assert (gone.wished.model, gone.wished.generation) == ("", 2)
    assert await withdraw(house, "digits") == gone
    assert events(house, "endpoint") == ["wished", "wished"]
    assert (await deploy(house, model, "digits")).wished.generation == 3
    with pytest.raises(NotFound, match="there is digits"):
        await withdraw(house, "other")


async def test_a_model_that_a_run_made_is_judged_on_what_that_held_out(house):
    model = await add_model(house, run=await add_run(house))
    with pytest.raises(Refused) as refused:
        await let_in(house, model)
    assert refused.value.hint == "tally judge digits@1"


async def test_a_newer_list_of_threats_ends_a_verdict(house):
    model = await add_model(house)
    await add_verdict(house, model, threats=digest_of("an older list"))
    with pytest.raises(Refused, match="before the list of threats changed") as refused:
        await let_in(house, model)
    assert refused.value.hint == "tally judge digits@1 --data digits@1"


async def test_a_verdict_without_its_evidence_opens_nothing(house):
    model = await add_model(house)
    await add_verdict(house, model, evidence_digest="")
    with pytest.raises(Refused, match="earlier tallystick"):
        await let_in(house, model)
    await add_verdict(house, model, evidence_digest=digest_of("gone"))
    with pytest.raises(NotFound):
        await let_in(house, model)


async def test_who_is_trusted_is_asked_anew_each_time(house):
    """The verdict passed while a key vouched for the files; nobody does now, and nothing else has changed."""
    signed = Policy("signed", (*POLICY.rules, Rule("signed", "signature_valid", 1.0)), POLICY.budget)
    house.policy = signed
    model = await add_model(house)
    verdict = await add_verdict(house, model, policy=signed)
    with pytest.raises(Refused) as refused:
        await deploy(house, model, "digits")
    assert refused.value.what == (
        f"verdict {verdict.key} holds no more: signed: validity of its signature is 0.0%, below 100.0%"
    )
    assert refused.value.hint == "tally judge digits@1 --data digits@1"


async def test_a_verdict_for_another_stage_opens_none_but_that(house):
    model = await add_model(house)
    await add_verdict(house, model, stage="live traffic")
    with pytest.raises(Refused, match="no verdict for stage Production"):
        await let_in(house, model)
    passed = await add_verdict(house, model, stage="Staging")
    assert (await let_in(house, model, "Staging")).key == passed.key


async def test_what_is_said_to_be_for_every_stage_is_weighed_for_the_one_that_is_asked_for(house):
    """Judged at stage "" by rules of another one, it says yes to nothing that Production asks."""
    strict = replace(POLICY.rules[1], name="strict", at_least=0.9, stages=("Production",))
    house.policy = policy = replace(POLICY, rules=(*POLICY.rules, strict))
    model = await add_model(house)
    verdict = await add_verdict(house, model, policy=policy, stage="")
    with pytest.raises(Refused, match=f"verdict {verdict.key} holds no more: strict: "):
        await let_in(house, model)


async def test_the_registry_s_files_must_be_those_that_were_admitted(house, tmp_path):
    async def inspect(order, say):
        return SEEN

    house.sandbox.table["inspect"] = inspect
    folder = folder_of(model_files("one"), tmp_path / "logged")
    found = await house.registry.register("digits", folder, {})
    model = await admit(house, ModelRef("digits", 1))
    await check_files(house, model)
    house.registry.logged[found.model_id]["model.onnx"] = b"another"
    with pytest.raises(Refused, match="the registry's files of digits@1 are not those"):
        await check_files(house, model)
    assert list(house.scratch.glob("gate-*")) == []
