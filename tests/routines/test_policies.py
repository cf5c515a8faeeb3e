"""Which policy is in force is a fact, told once for each change of what it says or how it says it."""

from __future__ import annotations

from dataclasses import replace

from tallystick.evidence.policy import PolicyVersion
from tallystick.routines.policies import enforce
from tests.fakes.house import events


async def test_a_policy_is_told_when_it_changes_and_its_text_is_kept(house):
    house.policy_text = "# one\n"
    first = await enforce(house)
    path = await house.artifacts.path_of(first.text)
    assert path.read_text() == "# one\n"
    assert (first.digest, first.rules) == (house.policy.digest, 2)
    assert await enforce(house) == first
    assert events(house, "policy") == ["in force"]
    house.policy_text = "# another comment\n"
    again = await enforce(house)
    assert (again.digest, again.text != first.text) == (first.digest, True)
    before, house.policy = house.policy, replace(house.policy, name="strict")
    strict = await enforce(house)
    house.policy, house.policy_text = before, "# one\n"
    await enforce(house)  # back to what it was: that is told too
    assert events(house, "policy") == ["in force"] * 4
    assert events(house, "policy", strict.digest) == ["in force"]
    assert (
        await house.get("policy", first.digest, PolicyVersion)
        == (await house.all("policy", PolicyVersion))[0]
    )
    assert list(house.scratch.iterdir()) == []
