"""The papers of a model as they are now: its bill of materials, and the attestation that counts."""

from __future__ import annotations

from typing import Any

from tallystick import __version__
from tallystick.core.attestation import Attestation
from tallystick.core.errors import TallyError
from tallystick.core.model import ModelVersion
from tallystick.core.verdict import PRODUCTION, Verdict, VerdictState
from tallystick.evidence.evidence import Evidence
from tallystick.evidence.papers.bom import Parts, bill_of
from tallystick.hub.house import House
from tallystick.judging.weighed import evidence_of
from tallystick.routines.attest.lineage import Lineage, lineage_of

__all__ = ["bill", "current", "newest_verdict"]

LIMITS_MAX = 30
UNJUDGED = "No verdict was reached: how it stands up to attack, noise and strange inputs is not known."


async def current(house: House, model: ModelVersion) -> Attestation | None:
    """The attestation about these very files of the model; None where there is none."""
    found = await house.find("attestation", model.key, Attestation)
    return found if found and found.model_digest == model.digest else None


async def newest_verdict(house: House, model: ModelVersion) -> Verdict | None:
    """The newest verdict that was reached about these very files of the model.

    Of those for production where there are any: one on what an endpoint was asked, which comes after them,
    knows no right answers.
    """
    known = [v for v in await house.all("verdict", Verdict) if v.model == model.key and v.reached]
    same = [v for v in known if v.model_digest == model.digest]
    return max(same, key=lambda v: (v.stage in ("", PRODUCTION), v.at_ms), default=None)


async def bill(house: House, model: ModelVersion, lineage: Lineage | None = None) -> dict[str, Any]:
    """The BOM of a model, with the figures of its newest verdict in the model card."""
    lineage = lineage or await lineage_of(house, model)
    verdict = await newest_verdict(house, model)
    evidence = await _evidence(house, verdict)
    judged = {"tallystick:verdict": verdict.key, "tallystick:state": str(verdict.state)} if verdict else {}
    parts = Parts(
        data=lineage.data,
        environment=lineage.environment,
        figures=tuple(evidence.figures()) if evidence else (),
        limits=_limits(verdict, evidence),
        missing=lineage.missing,
        maker=f"tallystick {__version__}",
        at_ms=max(model.at_ms, verdict.at_ms if verdict else 0),
        properties={"tallystick:run": model.origin.run, **judged},
    )
    return bill_of(model, await house.artifacts.members(model.digest), parts)


async def _evidence(house: House, verdict: Verdict | None) -> Evidence | None:
    """What cannot be read any more gives no figures: the verdict's key says where they would be."""
    if verdict is None:
        return None
    try:
        return await evidence_of(house.artifacts, verdict)
    except TallyError:
        return None


def _limits(verdict: Verdict | None, evidence: Evidence | None) -> tuple[str, ...]:
    """What a user must know: rules that did not hold, and what was not tried, with the reason."""
    if verdict is None:
        return (UNJUDGED,)
    said = [f.text for f in verdict.findings if not f.holds]
    if verdict.state is VerdictState.REFUSED:
        said.insert(0, f"Policy {verdict.policy} refused it.")
    untried = [p for p in evidence.probes if not p.done] if evidence else []
    return tuple(
        [*said, *(f"{p.name} was not carried out ({p.state}): {p.why}" for p in untried)][:LIMITS_MAX]
    )
