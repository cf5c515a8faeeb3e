"""Attestations: where a model came from and who vouches for it, signed, so that others can check it."""

from __future__ import annotations

from dataclasses import dataclass

from tallystick.core.names import DEFAULT_TENANT, check_digest

__all__ = ["LINEAGE", "Attestation"]

LINEAGE = ("source", "run", "lock", "data")
"""The parts of a model's lineage: the code that made it, the run, its packages, the snapshots it read."""


@dataclass(frozen=True, slots=True)
class Attestation:
    """What was signed about one model version; kept under the model's key.

    ``statement`` is the artifact with the envelope (DSSE) of its provenance, or of somebody's word where
    there is none; ``signature`` the one with ``model.sig`` (OpenSSF model signing), ``bom`` the one with
    its bill of materials (CycloneDX). ``signer`` is the id of the key that signed the statement. ``known``
    and ``missing`` are parts of its lineage; ``run`` made it, where that is known.
    """

    model: str
    model_digest: str
    statement: str
    signer: str
    signature: str = ""
    bom: str = ""
    run: str = ""
    known: tuple[str, ...] = ()
    missing: tuple[str, ...] = LINEAGE
    at_ms: int = 0
    tenant: str = DEFAULT_TENANT

    def __post_init__(self) -> None:
        check_digest(self.model_digest)
        check_digest(self.statement)

    @property
    def lineage(self) -> float:
        """The share of its lineage that is on record, 0 to 1."""
        return len(self.known) / max(1, len(self.known) + len(self.missing))
