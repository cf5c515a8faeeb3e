"""Deploy: wish that a model be served. The gate is here; starting it is settling's work."""

from __future__ import annotations

from tallystick.core.endpoint import Endpoint, wish
from tallystick.core.model import ModelVersion
from tallystick.core.names import check_name
from tallystick.core.verdict import Verdict, check_gate
from tallystick.hub.house import House

__all__ = ["deploy", "withdraw"]


async def deploy(house: House, model: ModelVersion, name: str) -> Endpoint:
    """Wish that endpoint ``name`` serve ``model``; Refused, naming the verdict, where the gate is shut.

    Wishing for what is wished already changes nothing.
    """
    check_name("endpoint", name)
    verdicts = tuple(v for v in await house.all("verdict", Verdict) if v.model == model.key)
    verdict = check_gate(model.key, model.digest, house.policy.digest, verdicts)
    async with house.lock("endpoint", name):
        before = await house.find("endpoint", name, Endpoint)
        if before and not before.error and _same(before, model):
            return before
        wished = wish(before, name, model.key, model.digest, verdict.key, house.clock.now_ms(), house.tenant)
        await house.tell("endpoint", name, "wished", wished, f"{model.key}, let in by {verdict.key}")
    house.wake.set()
    return wished


def _same(endpoint: Endpoint, model: ModelVersion) -> bool:
    return endpoint.wished.model == model.key and endpoint.wished.model_digest == model.digest


async def withdraw(house: House, name: str) -> Endpoint:
    """Wish that endpoint ``name`` serve nothing."""
    async with house.lock("endpoint", name):
        before = await house.get("endpoint", name, Endpoint)
        if not before.wished.model:
            return before
        wished = wish(before, name, "", "", "", house.clock.now_ms(), house.tenant)
        await house.tell("endpoint", name, "wished", wished, "nothing")
    house.wake.set()
    return wished
