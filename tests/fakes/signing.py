"""Signing in memory: what hub tests stand on. It passes the real tile's proof, and keeps nothing."""

from __future__ import annotations

from typing import Any

from tallystick.core.errors import Conflict, NotFound, Refused
from tallystick.core.names import check_name
from tallystick.evidence.papers.envelope import Envelope, Signature, pae, parse_envelope
from tallystick.ports.models.signing import Key, Signed
from tallystick.tiles.signing.keys import ED25519, P256, describe, made, read_public, signed_with, verifies

__all__ = ["MemorySigning"]


class MemorySigning:
    """Two keys of its own, and a dict of those that it trusts."""

    def __init__(self) -> None:
        self._own = {kind: made(kind) for kind in (ED25519, P256)}
        self._trusted: dict[str, Key] = {}

    def keys(self) -> tuple[Key, ...]:
        own = [describe(key.public_key(), f"own {kind}", own=True) for kind, key in self._own.items()]
        return (*own, *(self._trusted[name] for name in sorted(self._trusted)))

    def trust(self, name: str, pem: str, at_ms: int) -> Key:
        key = describe(read_public(pem), check_name("key", name), trusted_ms=at_ms)
        for known in self.keys():
            if (known.id, known.name) == (key.id, name):
                return known
            if known.id == key.id or known.name == name:
                raise Conflict("it is there with another", where=name)
        return self._trusted.setdefault(name, key)

    def distrust(self, name: str) -> None:
        if name.startswith("own "):
            raise Conflict("it is its own", where=name)
        if self._trusted.pop(name, None) is None:
            raise NotFound("no such key", where=name)

    def sign(self, payload_type: str, payload: bytes) -> dict[str, Any]:
        value = signed_with(self._own[ED25519], pae(payload_type, payload))
        return Envelope(payload_type, payload, (Signature(value, self.keys()[0].id),)).to_wire()

    def sign_model(self, payload: bytes) -> dict[str, Any]:
        kind = "application/vnd.in-toto+json"
        value = signed_with(self._own[P256], pae(kind, payload))
        return {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": ""}, "tlogEntries": []},
            "dsseEnvelope": Envelope(kind, payload, (Signature(value),)).to_wire(),
        }

    def verify(self, envelope: Any) -> Signed:
        read = parse_envelope(envelope)
        for signature in read.signatures:
            for key in self.keys():
                if verifies(read_public(key.pem), signature.value, pae(read.payload_type, read.payload)):
                    return Signed(read.payload_type, read.payload, key)
        raise Refused("no trusted key signed it", where="signature")
