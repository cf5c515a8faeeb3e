"""Deploy: wish that a model be served. The gate is here; starting it is settling's work."""

from __future__ import annotations

from tallystick.core.endpoint import Endpoint, wish
from tallystick.core.errors import Refused
from tallystick.core.model import ModelVersion
from tallystick.core.names import check_name
from tallystick.core.verdict import PRODUCTION, Entry, Verdict, VerdictState, check_gate
from tallystick.evidence.weigh import weigh
from tallystick.hub.house import House
from tallystick.hub.house.removal import remove
from tallystick.judging.gather import threats_of
from tallystick.judging.weighed import evidence_of, with_supply

__all__ = ["check_files", "deploy", "let_in", "withdraw"]


async def let_in(house: House, model: ModelVersion, stage: str = PRODUCTION) -> Verdict:
    """The verdict that lets ``model`` into ``stage`` now; Refused names it, what changed, and what to run.

    Everything asks here that puts a model into production: deploying it, MLflow's aliases and its stages.
    """
    verdicts = [v for v in await house.all("verdict", Verdict) if v.model == model.key]
    entry = Entry(
        model=model.key,
        model_digest=model.digest,
        policy_digest=house.policy.digest,
        threats=await threats_of(house, house.policy),
        stage=stage,
        data="" if model.origin.run else next((v.dataset for v in verdicts if v.dataset), "TABLE"),
    )
    verdict = check_gate(entry, verdicts, house.clock.now_ms())
    await _check_holds(house, model, verdict, entry)
    return verdict


async def _check_holds(house: House, model: ModelVersion, verdict: Verdict, entry: Entry) -> None:
    """Refused where a key is trusted, or data allowed, no more on which the verdict rests.

    Weighed is for the stage that is asked for, whatever stage the verdict says that it was reached for.
    """
    evidence = await evidence_of(house.artifacts, verdict)
    if evidence is None:
        raise Refused(f"verdict {verdict.key} has no evidence", where="gate", hint=entry.judge)
    evidence = await with_supply(house, model, evidence)
    now, policy = house.clock.now_ms(), house.policy
    state, findings = weigh(policy, evidence, now, model.key, entry.stage, verdict.tenant)
    if state is not VerdictState.PASSED:
        why = "; ".join(f.text for f in findings if f.refuses)
        text = f"verdict {verdict.key} holds no more: {why}"
        raise Refused(text, where="gate", hint=entry.judge)


async def check_files(house: House, model: ModelVersion) -> None:
    """Refused where the registry's files of a version are no longer those that were admitted and judged.

    Who loads a model by its alias takes its files from the registry, and there they can be exchanged.
    """
    folder = house.folder("gate")
    try:
        await house.registry.fetch(model.name, model.version, folder / "model")
        blob = await house.artifacts.put_folder(folder / "model")
    finally:
        await remove(folder)
    if blob.digest != model.digest:
        raise Refused(
            f"the registry's files of {model.key} are not those that were judged",
            where="gate",
            hint="register them as a version of their own, and judge that",
        )


async def deploy(house: House, model: ModelVersion, name: str) -> Endpoint:
    """Wish that endpoint ``name`` serve ``model``; Refused, naming the verdict, where the gate is shut.

    Wishing for what is wished already changes nothing.
    """
    check_name("endpoint", name)
    verdict = await let_in(house, model)
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
