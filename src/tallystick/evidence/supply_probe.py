"""The probe of the supply chain: what was found out about a model's files, their signer and their origin."""

from __future__ import annotations

from collections.abc import Mapping

from tallystick.core.attestation import Attestation
from tallystick.core.names import digest_of
from tallystick.evidence.figures import Figure
from tallystick.evidence.probe import Probe, Threat
from tallystick.evidence.supply import Inspected, Standing

__all__ = ["SUPPLY", "supply_probe"]

SUPPLY = "supply chain"
VERSION = 1
NAMED_MAX = 10


def supply_probe(
    model_digest: str,
    inspected: Inspected | None,
    attestation: Attestation | None,
    signer: str,
    consents: Mapping[str, str],
    versions: Mapping[str, str] | None = None,
) -> Probe:
    """Figures ``files_safe``, ``signature_valid``, ``lineage_complete`` and ``data_consented``.

    ``signer`` names the trusted key by which the signature over these very files is right, as it is now;
    empty where there is none. ``consents`` says for each snapshot (``table@id``) that the model was made
    from who allows training on it, empty for those where nobody said so. Files that nobody looked at, and
    data that nobody knows, have no figure: a rule about it does not hold. Pure; nothing is taken for
    granted.
    """
    settings = {
        "files": str(inspected.standing) if inspected else "",
        "signer": signer,
        "run": attestation.run if attestation else "",
        "missing": list(attestation.missing) if attestation else [],
        "consents": dict(consents),
        "versions": dict(versions or {}),
    }
    return Probe(
        SUPPLY,
        Threat.SUPPLY,
        library="tallystick",
        settings=settings,
        figures=tuple(_figures(inspected, attestation, signer, consents)),
        notes=_notes(inspected, attestation, signer, consents),
        key=digest_of({"probe": SUPPLY, "version": VERSION, "model": model_digest, **settings}),
    )


def _figures(
    inspected: Inspected | None, attestation: Attestation | None, signer: str, consents: Mapping[str, str]
) -> list[Figure]:
    found = [_share("signature_valid", float(bool(signer)))]
    found.append(_share("lineage_complete", attestation.lineage if attestation else 0.0))
    if inspected is not None:
        standing = inspected.standing
        safe = standing is Standing.DATA or (standing is Standing.CODE and bool(signer))
        found.append(_share("files_safe", float(safe)))
    if consents:
        given = sum(bool(owner) for owner in consents.values())
        found.append(_share("data_consented", given / len(consents)))
    return found


def _share(measure: str, value: float) -> Figure:
    """A share of what there is: nothing was sampled, so that it is exact."""
    return Figure(measure, value, value, value)


def _notes(
    inspected: Inspected | None, attestation: Attestation | None, signer: str, consents: Mapping[str, str]
) -> tuple[str, ...]:
    """What stands behind each figure, for a person to read."""
    notes = [f"signed by {signer}" if signer else "no trusted key signed these files"]
    if inspected is None:
        notes.append("its files were not looked at")
    else:
        notes += [f"{f.path}: {f.why or f.kind}"[:300] for f in inspected.worst[:NAMED_MAX]]
    missing = attestation.missing if attestation else ()
    if attestation is None:
        notes.append("nothing is attested about how it was made")
    elif missing:
        notes.append(f"not on record of how it was made: {', '.join(missing)}")
    without = [key for key, owner in consents.items() if not owner]
    if without:
        notes.append(f"no consent to training on record for {', '.join(without[:NAMED_MAX])}"[:500])
    if not consents:
        notes.append("no data snapshot is on record, so that nobody's consent can be")
    return tuple(notes)
