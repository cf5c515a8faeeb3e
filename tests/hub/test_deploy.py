from __future__ import annotations

from dataclasses import replace

import pytest

from tallystick.core.endpoint import Endpoint, EndpointState
from tallystick.core.errors import BadInput, NotFound, Refused
from tallystick.core.verdict import VerdictState
from tallystick.hub.deploy import deploy, withdraw
from tests.fakes.house import POLICY, add_model, add_verdict, events

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
