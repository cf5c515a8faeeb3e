"""Weighed: what a verdict rests on, as it is kept, and the part of it that changes by itself.

Files, rows and attacks stay what they were. Who may be trusted, and what data may be used, does not: that is
looked up anew whenever evidence is weighed.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from tallystick.core.errors import Damaged
from tallystick.core.facts import from_json
from tallystick.core.model import ModelVersion
from tallystick.core.names import canonical_json
from tallystick.core.verdict import Verdict
from tallystick.evidence.evidence import Evidence
from tallystick.hub.house import House
from tallystick.hub.house.removal import remove
from tallystick.hub.loading import inspected_of
from tallystick.hub.vouched import supply_of
from tallystick.ports.artifacts import Artifacts

__all__ = ["evidence_of", "keep_json", "with_supply"]


async def with_supply(house: House, model: ModelVersion, evidence: Evidence) -> Evidence:
    """The evidence with what is known now of the model's files, their signer, origin and data."""
    probe = await supply_of(house, model, await inspected_of(house, model))
    others = [p for p in evidence.probes if p.name != probe.name]
    return replace(evidence, probes=(*others, probe))


async def evidence_of(artifacts: Artifacts, verdict: Verdict) -> Evidence | None:
    """What a verdict rests on; None where an earlier tallystick reached it, or nobody did.

    Damaged where the artifact is not what it was, NotFound where it is gone.
    """
    if not verdict.evidence_digest:
        return None
    path = await artifacts.path_of(verdict.evidence_digest)
    return await asyncio.to_thread(_read, path, verdict.key)  # it may be long


def _read(path: Path, key: str) -> Evidence:
    try:
        return from_json(Evidence, json.loads(path.read_text("utf-8")), "evidence")
    except ValueError:
        raise Damaged("the evidence is not JSON", where=key) from None


async def keep_json(house: House, value: Any) -> str:
    """Store a JSON value among the artifacts, in its canonical form; its digest."""
    folder = house.folder("keep")
    try:
        file = folder / "value.json"
        await asyncio.to_thread(file.write_text, canonical_json(value), "utf-8")
        return (await house.artifacts.put_file(file)).digest
    finally:
        await remove(folder)
