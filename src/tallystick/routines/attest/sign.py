"""Attest and vouch: sign what is known of a model, store it, and tell.

Whoever holds the hub's key says two different things with it. A model that a pipeline run of this hub put out
is attested by the hub as its builder, by itself. A model that came without a run is not: somebody has to say
``tally sign``, and then only the files are vouched for, with nothing said about how they were made.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace
from typing import Any

from tallystick.core.attestation import Attestation
from tallystick.core.errors import BadInput, MissingTile, Refused, TallyError
from tallystick.core.model import ModelVersion
from tallystick.core.names import canonical_json, digest_of
from tallystick.evidence.papers.oms import SIGNATURE, bundle_envelope, check_signature, model_statement
from tallystick.evidence.papers.provenance import Dependency
from tallystick.evidence.papers.statement import (
    PAYLOAD_TYPE,
    PROVENANCE,
    VOUCHED,
    Statement,
    check_subjects,
    rfc3339,
    statement_of,
    subjects_of,
)
from tallystick.evidence.papers.tree import Member
from tallystick.hub.house import House
from tallystick.hub.house.specs import keep_spec
from tallystick.hub.house.specs import spec_of as bytes_of
from tallystick.ports.models.signing import Signing
from tallystick.routines.attest.lineage import Lineage, lineage_of
from tallystick.routines.attest.papers import bill, current

__all__ = ["Draft", "attest", "draft", "refresh", "take_signed", "vouch"]


@dataclass(frozen=True, slots=True)
class Draft:
    """What somebody signs with a key of their own: two payloads, both in-toto statements."""

    model: str
    statement: bytes
    signature: bytes
    bom: str
    lineage: Lineage


async def attest(house: House, model: ModelVersion) -> Attestation | None:
    """The attestation of a model that a run of this hub put out; None for any other, or without a key.

    One that is there, about the same files and with the same bill of materials, is given as it is.
    """
    if house.signing is None or not model.origin.run:
        return await current(house, model)
    lineage = await lineage_of(house, model)
    return await _sign(house, model, lineage) if lineage.provenance else await current(house, model)


async def vouch(house: House, model: ModelVersion) -> Attestation:
    """Somebody says so: the hub's key vouches for the files, whatever is known of how they were made."""
    return await _sign(house, model, await lineage_of(house, model))


async def refresh(house: House, model: ModelVersion) -> Attestation | None:
    """The attestation as it is handed out: with the newest verdict in its bill, where it is the hub's."""
    known = await current(house, model)
    if known is None or house.signing is None:
        return await attest(house, model)
    own = {key.id for key in await asyncio.to_thread(house.signing.keys) if key.own}
    return await _sign(house, model, await lineage_of(house, model)) if known.signer in own else known


async def draft(house: House, model: ModelVersion) -> Draft:
    """What is to be signed by somebody else's key."""
    lineage, members = await lineage_of(house, model), await house.artifacts.members(model.digest)
    bom = await _keep(house, await bill(house, model, lineage))
    statement = _statement(house, model, members, lineage, {"bom.json": bom})
    return Draft(
        model.key, statement.to_bytes(), model_statement(model.key, members).to_bytes(), bom, lineage
    )


async def take_signed(
    house: House, model: ModelVersion, envelope: Any, bundle: Any | None, bom: str
) -> Attestation:
    """Take what somebody signed; Refused unless a trusted key signed it, and it is about these very files."""
    signing, members = _signing(house), await house.artifacts.members(model.digest)
    signed = await asyncio.to_thread(signing.verify, envelope)
    statement = statement_of(signed.payload, signed.payload_type, (PROVENANCE, VOUCHED), "statement")
    check_subjects(statement, members, "statement")
    expected = await draft(house, model)
    if statement.predicate_type == PROVENANCE:
        wanted = statement_of(expected.statement, PAYLOAD_TYPE, (PROVENANCE, VOUCHED), "draft")
        if statement.to_bytes() != wanted.to_bytes():
            hint = f"tally sign {model.key} --key FILE signs what this hub knows of it"
            raise Refused("the provenance is not what is on record here", where=model.key, hint=hint)
    if bom != expected.bom:
        raise Refused("the bill of materials is another one by now", where=model.key, hint="sign it again")
    signature = await _bundle(house, bundle, members) if bundle is not None else ""
    return await _tell(
        house,
        model,
        expected.lineage,
        await _keep(house, envelope),
        signer=signed.key.id,
        signature=signature,
        bom=bom,
    )


async def _bundle(house: House, bundle: Any, members: tuple[Member, ...]) -> str:
    raw = canonical_json(bundle).encode("utf-8")
    signed = await asyncio.to_thread(_signing(house).verify, bundle_envelope(raw))
    check_signature(statement_of(signed.payload, signed.payload_type, (SIGNATURE,), "model.sig"), members)
    return await keep_spec(house, raw)


async def _sign(house: House, model: ModelVersion, lineage: Lineage) -> Attestation:
    signing, members = _signing(house), await house.artifacts.members(model.digest)
    async with house.lock("attestation", model.key):
        bom = canonical_json(await bill(house, model, lineage)).encode("utf-8")
        known, keys = await current(house, model), await asyncio.to_thread(signing.keys)
        if known and known.signer == keys[0].id and known.bom == digest_of(bom):
            return known
        signature = await _signature(house, model, members, known)
        kept = {"model.sig": signature, "bom.json": await keep_spec(house, bom)}
        statement = _statement(house, model, members, lineage, kept)
        envelope = await asyncio.to_thread(signing.sign, PAYLOAD_TYPE, statement.to_bytes())
        return await _tell(
            house,
            model,
            lineage,
            await _keep(house, envelope),
            signer=keys[0].id,
            signature=signature,
            bom=kept["bom.json"],
        )


async def _signature(
    house: House, model: ModelVersion, members: tuple[Member, ...], known: Attestation | None
) -> str:
    """``model.sig`` among the artifacts: the one that is there already, where the own key made it."""
    signing = _signing(house)
    if known and known.signature:
        with contextlib.suppress(TallyError):  # gone, damaged, or by a key that there was before
            raw = await bytes_of(house, known.signature)
            if (await asyncio.to_thread(signing.verify, bundle_envelope(raw))).key.own:
                return known.signature
    payload = model_statement(model.key, members).to_bytes()
    return await _keep(house, await asyncio.to_thread(signing.sign_model, payload))


def _statement(
    house: House, model: ModelVersion, members: tuple[Member, ...], lineage: Lineage, beside: dict[str, str]
) -> Statement:
    """Provenance where a run is known, else nobody's word but the signer's, which says what is missing."""
    papers = tuple(Dependency(name, digest) for name, digest in beside.items())
    subjects = subjects_of(members)
    if lineage.provenance:
        made = replace(lineage.provenance, byproducts=(*lineage.provenance.byproducts, *papers))
        return Statement(subjects, PROVENANCE, made.to_wire())
    predicate = {
        "model": model.key,
        "record": model.origin.record_id,
        "registeredOn": rfc3339(model.at_ms),
        "missing": list(lineage.missing),
        "byproducts": [paper.to_wire() for paper in papers],
    }
    return Statement(subjects, VOUCHED, predicate)


async def _tell(
    house: House, model: ModelVersion, lineage: Lineage, statement: str, **more: str
) -> Attestation:
    found = Attestation(
        model.key,
        model.digest,
        statement,
        run=model.origin.run if lineage.provenance else "",
        known=lineage.known,
        missing=lineage.missing,
        at_ms=house.clock.now_ms(),
        tenant=house.tenant,
        **more,
    )
    note = f"missing: {', '.join(found.missing)}" if found.missing else "its lineage is complete"
    await house.tell("attestation", model.key, "signed", found, note)
    return found


async def _keep(house: House, value: Any) -> str:
    try:
        return await keep_spec(house, canonical_json(value).encode("utf-8"))
    except (TypeError, ValueError, RecursionError):
        raise BadInput("it is not JSON", where="statement") from None


def _signing(house: House) -> Signing:
    if house.signing is None:
        raise MissingTile(
            "nothing can be signed here", where="signing", hint="pip install 'tallystick[supply]'"
        )
    return house.signing
