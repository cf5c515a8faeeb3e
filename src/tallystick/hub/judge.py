"""Judge: attack a model within the policy's budget, and weigh what that shows."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

from tallystick.core.errors import TallyError
from tallystick.core.facts import from_json, to_json
from tallystick.core.model import ModelVersion
from tallystick.core.names import check_name
from tallystick.core.verdict import Evidence, Picture, Policy, Verdict, VerdictState, weigh
from tallystick.core.wall import Wall
from tallystick.hub.house import House
from tallystick.hub.house.errand import run_errand
from tallystick.hub.house.rows import Rows, rows_for_judging

__all__ = ["begin_judging", "gather"]


async def begin_judging(
    house: House, model: ModelVersion, data: str, policy: Policy, again: bool = False
) -> tuple[Verdict, Rows]:
    """A verdict that is being reached, and the rows that it will be reached on.

    A verdict that was reached before on the very same files, rows and policy is given as it is,
    unless ``again``: with the same seed, judging again would find the same.
    """
    rows = await rows_for_judging(house, model, data)
    before = None if again else await _judged_before(house, model, rows, policy)
    if before:
        return before, rows
    verdict = Verdict(
        key=house.new_key("verdict"),
        model=model.key,
        model_digest=model.digest,
        policy=policy.name,
        policy_digest=policy.digest,
        at_ms=house.clock.now_ms(),
        tenant=house.tenant,
    )
    await house.tell("verdict", verdict.key, "began", verdict, f"{model.key} on {rows.name}")
    return verdict, rows


async def _judged_before(house: House, model: ModelVersion, rows: Rows, policy: Policy) -> Verdict | None:
    for verdict in await house.all("verdict", Verdict):
        evidence = verdict.evidence
        if evidence is None or verdict.policy_digest != policy.digest or verdict.model != model.key:
            continue
        if evidence.model_digest == model.digest and evidence.dataset_digest == rows.digest:
            return verdict
    return None


async def gather(
    house: House, verdict: Verdict, model: ModelVersion, rows: Rows, policy: Policy, label: str
) -> Verdict:
    """Gather the evidence behind a wall, weigh it, and record the verdict that was reached.

    An attack that cannot be carried out is a verdict ``failed`` with the reason: no evidence, so
    the gate stays shut. It is also what a cancelled or interrupted judgement becomes.
    """
    try:
        evidence = await _attack(house, verdict, model, rows, policy, label)
        state, findings = weigh(policy, evidence)
        reached = replace(verdict, state=state, findings=findings, evidence=evidence)
        return await _tell(house, reached)
    except TallyError as wrong:
        return await _tell(house, replace(verdict, state=VerdictState.FAILED, error=str(wrong)))
    except asyncio.CancelledError:
        interrupted = "the judgement was interrupted"
        await _tell(house, replace(verdict, state=VerdictState.FAILED, error=interrupted))
        raise
    finally:
        house.progress.pop(verdict.key, None)


async def _tell(house: House, reached: Verdict) -> Verdict:
    reached = replace(reached, at_ms=house.clock.now_ms())
    note = "; ".join(reached.reasons) or reached.error or "every rule that refuses holds"
    await house.tell("verdict", reached.key, reached.state, reached, note)
    return reached


async def _attack(
    house: House, verdict: Verdict, model: ModelVersion, rows: Rows, policy: Policy, label: str
) -> Evidence:
    folder = house.folder("judge")
    try:
        await house.artifacts.unpack(model.digest, folder / "model")
        await house.artifacts.unpack(rows.artifact, folder / "rows.parquet")
        pictures = folder / "pictures"
        pictures.mkdir(mode=0o700)
        order = {
            "folder": str(folder / "model"),
            "rows": str(folder / "rows.parquet"),
            "label": label,
            "budget": to_json(policy.budget),
            "attack": house.attack,
            "pictures": str(pictures),
        }
        wall = Wall(
            workdir=str(pictures),
            readable=(str(folder / "model"), str(folder / "rows.parquet")),
            writable=(str(pictures),),
            env=house.worker_env(),
            cpu_seconds=house.limits.judge_cpu_s,
            memory_mib=house.limits.memory_mib,
        )

        def progress(share: float, text: str) -> None:
            house.progress[verdict.key] = (share, text)

        found = await run_errand(house.sandbox, "judge", order, wall, progress)
        about = {"model_digest": model.digest, "dataset": rows.name, "dataset_digest": rows.digest}
        evidence = from_json(Evidence, {**found, **about, "budget": to_json(policy.budget)}, "evidence")
        stored = [await _stored(house, pictures, p) for p in evidence.pictures]
        return replace(evidence, pictures=tuple(stored))
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, True)


async def _stored(house: House, folder: Path, picture: Picture) -> Picture:
    """The picture with its three files as artifacts; the worker names files, never paths."""
    files = (picture.original, picture.noise, picture.adversarial)
    blobs = [await house.artifacts.put_file(folder / check_name("picture", file)) for file in files]
    original, noise, adversarial = (blob.digest for blob in blobs)
    return replace(picture, original=original, noise=noise, adversarial=adversarial)
