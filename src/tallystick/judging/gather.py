"""Gather: evidence about a model, probe by probe; each result is kept as soon as it is there.

So a judgement that was cancelled, or whose worker was killed, goes on with what is there, and judging again
after nothing changed starts no process at all.
"""

from __future__ import annotations

import asyncio

from tallystick.core.errors import Failed, NotFound
from tallystick.core.facts import from_json
from tallystick.core.model import ModelVersion
from tallystick.core.names import digest_of
from tallystick.core.wall import Wall
from tallystick.evidence.evidence import Evidence
from tallystick.evidence.figures import Rate
from tallystick.evidence.policy import Policy
from tallystick.evidence.probe import Point
from tallystick.evidence.threats import BASE, Listed, ThreatList
from tallystick.hub.house import House
from tallystick.hub.house.errand import run_errand
from tallystick.hub.house.removal import remove
from tallystick.hub.house.rows import Rows
from tallystick.hub.house.whole import whole_run
from tallystick.hub.loading import check_loadable
from tallystick.judging.probe import Probing
from tallystick.judging.recall import fingerprint, keep_threats, recall, recall_threats
from tallystick.judging.rows import rows_trained_on
from tallystick.judging.sought import Sought, Subject, failed

__all__ = ["cancel_gathering", "gather", "gather_endpoint", "threat_list", "threats_of"]

LIST_CPU_S = 120


async def threat_list(house: House) -> ThreatList:
    """All probes that the installed tiles offer; a worker is asked where another is installed now."""
    return (await _listed(house))[0]


async def _listed(house: House) -> tuple[ThreatList, str]:
    """The list, and the fingerprint of what is installed, which it goes by."""
    installed = await asyncio.to_thread(fingerprint)
    known = await recall_threats(house, installed)
    if known is not None:
        return known, installed
    folder = house.folder("threats")
    wall = Wall(
        workdir=str(folder),
        writable=(str(folder),),
        env=house.worker_env(),
        cpu_seconds=LIST_CPU_S,
        memory_mib=house.limits.memory_mib,
    )
    try:
        said = await run_errand(house.sandbox, "judge", {"list": True, "out": str(folder)}, wall)
    finally:
        await remove(folder)
    threats = from_json(ThreatList, said, "threats")
    await keep_threats(house, installed, threats)
    return threats, installed


async def threats_of(house: House, policy: Policy) -> str:
    """The digest of what evidence for ``policy`` has to hold now: see :meth:`ThreatList.digest`."""
    return (await threat_list(house)).digest(policy.probes)


async def cancel_gathering(house: House, key: str) -> bool:
    """End the judgement that is under way as ``key``; False where none is. What was probed is kept."""
    task = house.tasks.get(key)
    if task is None:
        return False
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return True


async def gather(
    house: House, key: str, model: ModelVersion, rows: Rows, policy: Policy, label: str, again: bool = False
) -> Evidence:
    """All evidence about ``model`` on ``rows`` that ``policy`` asks for; only probes and pictures are stored.

    ``key`` is what progress is told under. With ``again`` nothing is taken over from before. A probe that
    fails, or does not apply, is in the evidence with the reason, as is one that ended its process. Failed,
    TookTooLong or BadInput where not even the clean rows could be asked about, Refused where its files are
    not to be loaded.
    """
    await check_loadable(house, model)
    subject = Subject(model.key, model.digest, {"model": model.digest}, model=model)
    train = await rows_trained_on(house, model)
    sought = await _sought(house, key, subject, rows, policy, label, train)
    sought.trained_on = train is not None and await _consumed(house, model, train)
    return await _gathered(sought, again)


async def gather_endpoint(
    house: House, key: str, address: str, rows: Rows, policy: Policy, label: str
) -> Evidence:
    """The same about whatever answers at ``address`` (``http://HOST/v2/models/NAME``), ours or not.

    Nobody knows its files, so the evidence's model digest is of the address and ``key``: it opens no gate,
    and nothing is taken over from another judgement.
    """
    depends = {"endpoint": address, "at": key}
    subject = Subject(address, digest_of(depends), depends, address=address)
    return await _gathered(await _sought(house, key, subject, rows, policy, label, None), again=False)


async def _sought(
    house: House, key: str, subject: Subject, rows: Rows, policy: Policy, label: str, train: Rows | None
) -> Sought:
    threats, installed = await _listed(house)
    return Sought(
        house=house,
        key=key,
        subject=subject,
        rows=rows,
        policy=policy,
        label=label,
        train=train,
        probes=_chosen(threats, policy, subject.model),
        engine=threats.engine,
        threats=threats.digest(policy.probes),
        installed=installed,
    )


def _chosen(threats: ThreatList, policy: Policy, model: ModelVersion | None) -> tuple[Listed, ...]:
    """The probes to carry out: what asks a model beside its twin, only where it may have one, or by name."""
    twin = model is not None and model.runs_code
    return tuple(p for p in threats.chosen(policy.probes) if twin or not p.itself or p.name in policy.probes)


async def _consumed(house: House, model: ModelVersion, train: Rows) -> bool:
    """Whether, by the run's own record, the step that put out these very files took in these very rows.

    What a run calls ``train`` is its author's word. Rows that went into the step that made the model may have
    been passed over there: but then its source, which is on record, does so.
    """
    try:
        steps = (await whole_run(house, model.origin.run)).steps
    except NotFound:
        return False
    return any(
        step.outputs.holds(model.digest) and step.inputs.holds(train.artifact)
        for step in steps
        if step.state.done
    )


async def _gathered(sought: Sought, again: bool) -> Evidence:
    if not again:
        known = await recall(sought.house, sought.base, sought.probes, sought.train_digest, sought.installed)
        sought.known |= known
    if not sought.begun or sought.left():
        await Probing(sought).find_out()
    return await _assembled(sought)


async def _assembled(sought: Sought) -> Evidence:
    """Evidence of what is known and what failed; the curve is as the last evasion probe left it."""
    first = await sought.record(sought.base, BASE)
    base, budget = first.base, sought.budget
    if base is None:
        raise Failed("the clean rows were not asked about", where=sought.subject.name)
    right = (base.right.right,) * len(budget.eps)
    probes, versions = [first.probe], dict(base.versions)
    for listed, key in sought.keyed():
        if key not in sought.known:
            given_up = sought.given_up.get(listed.name)
            probes.append(given_up or failed(listed, "it was not carried out"))
            continue
        probes.append((await sought.record(key, listed.name)).probe)
        versions |= listed.libraries
        right = sought.known[key].robust if sought.chained(listed, key) else right
    points = zip(budget.eps, right, base.noise, strict=True)
    return Evidence(
        model=sought.subject.name,
        model_digest=sought.subject.digest,
        dataset=sought.rows.name,
        dataset_digest=sought.rows.digest,
        clean=base.clean,
        budget=budget,
        domain=base.domain,
        label=sought.label,
        curve=tuple(Point(eps, Rate(count, base.right.total), noise) for eps, count, noise in points),
        probes=tuple(probes),
        classes=base.classes,
        threats=sought.threats,
        versions=versions,
        seconds=round(sum(p.seconds for p in probes), 3),
    )
