"""Who vouches for files, asked before anything loads them, and what is known of where they are from.

A key must be trusted at that very moment: what it signed before it was distrusted counts no more.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from tallystick.core.attestation import Attestation
from tallystick.core.data import Snapshot
from tallystick.core.errors import TallyError
from tallystick.core.model import ModelVersion
from tallystick.evidence.papers.oms import SIGNATURE, SIGNATURE_FILE, bundle_envelope, check_signature
from tallystick.evidence.papers.statement import PROVENANCE, TREE, VOUCHED, statement_of
from tallystick.evidence.papers.tree import Member, tree_digest
from tallystick.evidence.probe import Probe
from tallystick.evidence.supply import Inspected
from tallystick.evidence.supply_probe import supply_probe
from tallystick.hub.house import House
from tallystick.ports.models.signing import Key, Signing

__all__ = ["supply_of", "vouched_by"]


async def supply_of(house: House, model: ModelVersion, inspected: Inspected | None) -> Probe:
    """What is known of a model's supply chain now, as a probe; it asks the ledger and the artifacts alone."""
    attestation = await house.find("attestation", model.key, Attestation)
    if attestation and attestation.model_digest != model.digest:
        attestation = None
    key = await vouched_by(house, model.digest)
    consents = dict[str, str]()
    for snapshot_key in model.origin.snapshots:
        snapshot = await house.find("data", snapshot_key, Snapshot)
        consent = snapshot.consent() if snapshot else None
        consents[snapshot_key] = consent.owner if consent else ""
    return supply_probe(model.digest, inspected, attestation, key.name if key else "", consents)


async def vouched_by(house: House, digest: str) -> Key | None:
    """The trusted key that signed the folder ``digest`` (stored among the artifacts), or None.

    Either somebody attested these very files here, whatever the model was called, or the folder has a
    ``model.sig`` of OpenSSF's model signing in it. What is damaged, or signed by nobody trusted, counts as
    none.
    """
    signing = house.signing
    if signing is None:
        return None
    for attestation in await house.all("attestation", Attestation):
        if attestation.model_digest == digest:
            with contextlib.suppress(TallyError):
                path = await house.artifacts.path_of(attestation.statement)
                return await asyncio.to_thread(_attested, signing, path, digest)
    with contextlib.suppress(TallyError):
        members = await house.artifacts.members(digest)
        own = next((m for m in members if m.path == SIGNATURE_FILE), None)
        if own and tree_digest(members) == digest:
            return await asyncio.to_thread(
                _signed, signing, await house.artifacts.path_of(own.digest), members
            )
    return None


def _attested(signing: Signing, path: Path, digest: str) -> Key:
    signed = signing.verify(path.read_bytes())
    statement = statement_of(signed.payload, signed.payload_type, (PROVENANCE, VOUCHED), "attestation")
    if statement.about(TREE) != digest:
        raise TallyError("it is about other files", where="attestation")
    return signed.key


def _signed(signing: Signing, path: Path, members: tuple[Member, ...]) -> Key:
    signed = signing.verify(bundle_envelope(path.read_bytes()))
    statement = statement_of(signed.payload, signed.payload_type, (SIGNATURE,), SIGNATURE_FILE)
    others = [m for m in members if m.path != SIGNATURE_FILE]
    check_signature(statement, others, (SIGNATURE_FILE,))
    return signed.key
