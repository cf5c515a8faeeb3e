"""Policies: which one is in force, as a fact: what it said can be read for as long as its verdicts."""

from __future__ import annotations

import asyncio

from tallystick.evidence.policy import PolicyVersion
from tallystick.hub.house import House
from tallystick.hub.house.removal import remove

__all__ = ["enforce"]


async def enforce(house: House) -> PolicyVersion:
    """Tell that the house's policy is in force from now on, unless the newest fact says so already.

    Its file is kept among the artifacts as it was written; the noun's key is the digest of what it says, so
    that a change of comments alone is told as a new text of the same policy.
    """
    folder = house.folder("policy")
    try:
        file = folder / "policy.toml"
        await asyncio.to_thread(file.write_text, house.policy_text, "utf-8")
        text = (await house.artifacts.put_file(file)).digest
    finally:
        await remove(folder)
    policy = house.policy
    now = PolicyVersion(
        name=policy.name,
        digest=policy.digest,
        text=text,
        rules=len(policy.rules),
        exceptions=len(policy.exceptions),
        at_ms=house.clock.now_ms(),
        tenant=house.tenant,
    )
    newest = await house.all("policy", PolicyVersion, 1)
    if newest and (newest[0].digest, newest[0].text) == (now.digest, now.text):
        return newest[0]
    note = f"{policy.name}: {now.rules} rules, {now.exceptions} exceptions"
    await house.tell("policy", policy.digest, "in force", now, note)
    return now
