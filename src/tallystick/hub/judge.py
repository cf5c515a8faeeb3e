"""Judge: attack a model within the policy's budget, and weigh what that shows."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tallystick.core.errors import TallyError, TookTooLong
from tallystick.core.facts import from_json, to_json
from tallystick.core.model import ModelVersion
from tallystick.core.names import check_name
from tallystick.core.verdict import Evidence, Picture, Policy, Verdict, VerdictState, weigh
from tallystick.core.wall import Wall
from tallystick.hub.house import House
from tallystick.hub.house.errand import run_errand
from tallystick.hub.house.removal import remove
from tallystick.hub.house.rows import Rows, rows_for_judging
from tallystick.hub.house.serving import Served, serve_order, served, while_served

__all__ = ["begin_judging", "gather"]

WAITS_MAX = 3
"""How many times its CPU time a judgement may last: it may wait for a model that answers slowly."""

ASKED_BYTES_MAX = 64 * 2**20
"""Of one request to a model that is judged."""


async def begin_judging(
    house: House, model: ModelVersion, data: str, policy: Policy, label: str, again: bool = False
) -> tuple[Verdict, Rows]:
    """A verdict that is being reached, and the rows that it will be reached on.

    A verdict that was reached before on the very same files, rows, label column and policy is given as
    it is, unless ``again``: with the same seed, judging again would find the same.
    """
    rows = await rows_for_judging(house, model, data)
    before = None if again else await _judged_before(house, model, rows, policy, label)
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


async def _judged_before(
    house: House, model: ModelVersion, rows: Rows, policy: Policy, label: str
) -> Verdict | None:
    for verdict in await house.all("verdict", Verdict):
        evidence = verdict.evidence
        if evidence is None or verdict.policy_digest != policy.digest or verdict.model != model.key:
            continue
        same_rows = evidence.dataset_digest == rows.digest and evidence.label == label
        if evidence.model_digest == model.digest and same_rows:
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
        order, wall = _order(house, folder, policy, label)
        if house.errand_slots.locked():
            house.progress[verdict.key] = (0.0, "waiting for its turn")
        async with house.errand_slots:
            found = await _measured(house, verdict, model, order, wall)
        about = {"model_digest": model.digest, "dataset": rows.name, "dataset_digest": rows.digest}
        about["label"] = label
        evidence = from_json(Evidence, {**found, **about, "budget": to_json(policy.budget)}, "evidence")
        stored = [await _stored(house, pictures, p) for p in evidence.pictures]
        return replace(evidence, pictures=tuple(stored))
    finally:
        await remove(folder)


def _order(house: House, folder: Path, policy: Policy, label: str) -> tuple[Mapping[str, Any], Wall]:
    """The errand ``judge``: it sees the model's files, the rows, and a folder for pictures."""
    order = {
        "folder": str(folder / "model"),
        "rows": str(folder / "rows.parquet"),
        "label": label,
        "budget": to_json(policy.budget),
        "attack": house.attack,
        "pictures": str(folder / "pictures"),
    }
    wall = Wall(
        workdir=order["pictures"],
        readable=(order["folder"], order["rows"]),
        writable=(order["pictures"],),
        env=house.worker_env(),
        cpu_seconds=house.limits.judge_cpu_s,
        memory_mib=house.limits.memory_mib,
    )
    return order, wall


async def _measured(
    house: House, verdict: Verdict, model: ModelVersion, order: Mapping[str, Any], wall: Wall
) -> Mapping[str, Any]:
    """What the errand ``judge`` finds.

    Code of the model's own never runs in the process that measures, as it could forge what is measured:
    such a model is served by a process of its own, which sees the rows that it is asked about and never
    their labels. Whether there is such code is what the model's record says; where that is forged, the
    errand ``judge`` finds a model that runs code and no process to ask, and measures nothing.
    """

    def progress(share: float, text: str) -> None:
        house.progress[verdict.key] = (share, text)

    limit_s = WAITS_MAX * house.limits.judge_cpu_s
    try:
        async with asyncio.timeout(limit_s):
            if not model.runs_code:
                return await run_errand(house.sandbox, "judge", order, wall, progress)
            progress(0.0, "loading the model in a process of its own")
            async with _beside(house, model) as server:
                order = {**order, "socket": str(server.socket), "name": model.name}
                wall = replace(wall, writable=(*wall.writable, str(server.socket.parent)))
                return await while_served(server, run_errand(house.sandbox, "judge", order, wall, progress))
    except TimeoutError:
        raise TookTooLong(f"no evidence within {limit_s:g} s", where=model.key) from None


@contextlib.asynccontextmanager
async def _beside(house: House, model: ModelVersion) -> AsyncIterator[Served]:
    """The model served in a folder of its own, in no way that tells it from an endpoint of its name."""
    folder = house.folder("serve")
    try:
        await house.artifacts.unpack(model.digest, folder / "model")
        order, wall = serve_order(house, folder, model.name, model.key, body_bytes_max=ASKED_BYTES_MAX)
        async with served(house, order, wall, model.key) as server:
            yield server
    finally:
        await remove(folder)


async def _stored(house: House, folder: Path, picture: Picture) -> Picture:
    """The picture with its three files as artifacts; the worker names files, never paths."""
    files = (picture.original, picture.noise, picture.adversarial)
    blobs = [await house.artifacts.put_file(folder / check_name("picture", file)) for file in files]
    original, noise, adversarial = (blob.digest for blob in blobs)
    return replace(picture, original=original, noise=noise, adversarial=adversarial)
