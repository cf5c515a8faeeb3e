"""Judge: gather evidence about a model within the policy's budget, weigh it, sign the verdict, and tell."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace

from tallystick.core.errors import BadInput, TallyError
from tallystick.core.facts import to_json
from tallystick.core.model import ModelVersion
from tallystick.core.verdict import PRODUCTION, Verdict, VerdictState, expired
from tallystick.evidence.address import ModelAddress
from tallystick.evidence.evidence import Evidence
from tallystick.evidence.papers.statement import PAYLOAD_TYPE, verdict_statement
from tallystick.evidence.policy import Policy
from tallystick.evidence.weigh import figures_of, weigh
from tallystick.hub.house import House
from tallystick.hub.house.rows import Rows, rows_of
from tallystick.judging.gather import gather, gather_endpoint, threats_of
from tallystick.judging.rows import rows_for_judging
from tallystick.judging.weighed import evidence_of, keep_json, with_supply

__all__ = [
    "ENDPOINT",
    "begin_endpoint",
    "begin_judging",
    "begin_on",
    "expired_now",
    "finish_endpoint",
    "finish_judging",
]

ENDPOINT = "endpoint"
"""The stage of verdicts on what merely answers somewhere."""

INTERRUPTED = "the judgement was interrupted; what was probed is kept, and judging again goes on from there"


async def begin_judging(
    house: House,
    model: ModelVersion,
    data: str,
    policy: Policy,
    label: str,
    again: bool = False,
    stage: str = PRODUCTION,
) -> tuple[Verdict, Rows]:
    """A verdict that is being reached, and the rows that it will be reached on.

    A verdict that was reached before on the very same files, rows, label column, policy, stage and list of
    threats is given as it is, unless ``again``: with the same seed, judging again would find the same.
    """
    rows = await rows_for_judging(house, model, data)
    stage = policy.stage_of(model.key, stage or PRODUCTION, house.tenant)
    return await begin_on(house, model, rows, policy, label, again, stage), rows


async def begin_on(
    house: House,
    model: ModelVersion,
    rows: Rows,
    policy: Policy,
    label: str,
    again: bool = False,
    stage: str = "",
) -> Verdict:
    """The same on given rows, for this very stage; an empty one is for every stage."""
    verdict = Verdict(
        key=house.new_key("verdict"),
        model=model.key,
        model_digest=model.digest,
        policy=policy.name,
        policy_digest=policy.digest,
        dataset=rows.name,
        dataset_digest=rows.digest,
        label=label,
        stage=stage,
        threats=await threats_of(house, policy),
        at_ms=house.clock.now_ms(),
        tenant=house.tenant,
    )
    before = None if again else await _judged_before(house, model, policy, verdict)
    if before:
        return before
    await house.tell("verdict", verdict.key, "began", verdict, f"{model.key} on {rows.name}")
    return verdict


async def _judged_before(
    house: House, model: ModelVersion, policy: Policy, wanted: Verdict
) -> Verdict | None:
    """The newest verdict that was reached on all that ``wanted`` is to be reached on, and still counts.

    Where somebody was trusted or signed since, so that the same evidence weighs otherwise now, it is none.
    """
    now = house.clock.now_ms()
    for verdict in await house.all("verdict", Verdict):
        same_rows = verdict.dataset_digest == wanted.dataset_digest and verdict.label == wanted.label
        if not (verdict.reached and verdict.model == wanted.model and verdict.stage == wanted.stage):
            continue
        if same_rows and not expired(verdict, wanted.model_digest, wanted.policy_digest, now, wanted.threats):
            return verdict if await _weighs_alike(house, model, policy, verdict, now) else None
    return None


async def _weighs_alike(
    house: House, model: ModelVersion, policy: Policy, verdict: Verdict, now_ms: int
) -> bool:
    evidence = await evidence_of(house.artifacts, verdict)
    if evidence is None:
        return False
    evidence = await with_supply(house, model, evidence)
    state, _ = weigh(policy, evidence, now_ms, verdict.model, verdict.stage, verdict.tenant)
    return state is verdict.state


async def finish_judging(
    house: House,
    verdict: Verdict,
    model: ModelVersion,
    rows: Rows,
    policy: Policy,
    label: str,
    again: bool = False,
) -> Verdict:
    """Gather the evidence, weigh it, and record the verdict that was reached, with its signed statement.

    Evidence that cannot be gathered is a verdict ``failed`` with the reason: the gate stays shut. It is also
    what a cancelled or interrupted judgement becomes.
    """

    async def found() -> Evidence:
        evidence = await gather(house, verdict.key, model, rows, policy, label, again)
        return await with_supply(house, model, evidence)

    return await _finished(house, verdict, policy, found())


async def begin_endpoint(
    house: House, address: str, data: str, policy: Policy, label: str
) -> tuple[Verdict, Rows]:
    """The same about whatever answers at ``address`` (``http://HOST/v2/models/NAME``), on the rows named.

    Nobody knows its files: such a verdict is of its own stage, and opens no gate.
    """
    if not data:
        raise BadInput("say on which rows to judge an endpoint", where="data", hint="--data TABLE")
    address = str(ModelAddress.parse(address))
    rows = await rows_of(house, data)
    verdict = Verdict(
        key=house.new_key("verdict"),
        model=address,
        model_digest="",
        policy=policy.name,
        policy_digest=policy.digest,
        dataset=rows.name,
        dataset_digest=rows.digest,
        label=label,
        stage=ENDPOINT,
        at_ms=house.clock.now_ms(),
        tenant=house.tenant,
    )
    await house.tell("verdict", verdict.key, "began", verdict, f"{address[:200]} on {rows.name}")
    return verdict, rows


async def finish_endpoint(house: House, verdict: Verdict, rows: Rows, policy: Policy, label: str) -> Verdict:
    """As :func:`finish_judging`, of what :func:`begin_endpoint` began."""
    found = gather_endpoint(house, verdict.key, verdict.model, rows, policy, label)
    return await _finished(house, verdict, policy, found)


async def _finished(house: House, verdict: Verdict, policy: Policy, found: Awaitable[Evidence]) -> Verdict:
    try:
        return await _tell(house, await _reached(house, verdict, await found, policy))
    except TallyError as wrong:
        return await _tell(house, replace(verdict, state=VerdictState.FAILED, error=str(wrong)))
    except asyncio.CancelledError:
        await _tell(house, replace(verdict, state=VerdictState.FAILED, error=INTERRUPTED))
        raise
    finally:
        house.progress.pop(verdict.key, None)


async def _reached(house: House, verdict: Verdict, evidence: Evidence, policy: Policy) -> Verdict:
    now = house.clock.now_ms()
    state, findings = weigh(policy, evidence, now, verdict.model, verdict.stage, verdict.tenant)
    reached = replace(
        verdict,
        model_digest=evidence.model_digest,
        state=state,
        findings=findings,
        evidence_digest=await keep_json(house, to_json(evidence)),
        figures=figures_of(evidence, findings),
        threats=evidence.threats or verdict.threats,
        at_ms=now,
    )
    return replace(reached, envelope=await _signed(house, reached))


async def _signed(house: House, verdict: Verdict) -> str:
    """The artifact with the signed statement; an empty text where the hub has no key of its own."""
    if house.signing is None:
        return ""
    statement = verdict_statement(verdict).to_bytes()
    envelope = await asyncio.to_thread(house.signing.sign, PAYLOAD_TYPE, statement)
    return await keep_json(house, envelope)


async def _tell(house: House, reached: Verdict) -> Verdict:
    reached = replace(reached, at_ms=house.clock.now_ms())
    note = "; ".join(reached.reasons) or reached.error or "every rule that refuses holds or is excepted"
    await house.tell("verdict", reached.key, reached.state, reached, note)
    return reached


async def expired_now(house: House, verdict: Verdict, threats: str = "") -> str:
    """Why a verdict that was reached counts no more, in words that follow its key; empty where it does.

    ``threats`` is what :func:`tallystick.judging.gather.threats_of` says, for who asks about many verdicts.
    """
    model = await house.find("model", verdict.model, ModelVersion)
    digest = model.digest if model else verdict.model_digest
    threats = threats or await threats_of(house, house.policy)
    return expired(verdict, digest, house.policy.digest, house.clock.now_ms(), threats)
