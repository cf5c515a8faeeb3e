"""Signing: the hub's own keys, the keys that are trusted, and envelopes in between (DSSE v1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

__all__ = ["Key", "Signed", "Signing"]


@dataclass(frozen=True, slots=True)
class Key:
    """A public key. ``id`` is the digest of its DER (``sha256:...``); ``own`` ones are the signer's.

    ``kind`` is ``ed25519``, or the curve of an ECDSA key: ``p256``, ``p384`` or ``p521``.
    """

    id: str
    name: str
    pem: str
    own: bool = False
    trusted_ms: int = 0
    kind: str = "ed25519"


@dataclass(frozen=True, slots=True)
class Signed:
    """What an envelope held, and who signed it."""

    payload_type: str
    payload: bytes
    key: Key


@runtime_checkable
class Signing(Protocol):
    """Keys stay in the home, readable by their owner alone; nothing is ever sent anywhere."""

    def keys(self) -> tuple[Key, ...]:
        """The own keys first (for envelopes, then for models), then those that are trusted, by name."""
        ...

    def trust(self, name: str, pem: str, at_ms: int) -> Key:
        """Trust a public key (PEM) under a name; Conflict where the name or key is there with another."""
        ...

    def distrust(self, name: str) -> None:
        """Trust it no longer; NotFound where there is none of that name, Conflict for an own key."""
        ...

    def sign(self, payload_type: str, payload: bytes) -> dict[str, Any]:
        """A DSSE envelope as JSON, signed with the own key."""
        ...

    def sign_model(self, payload: bytes) -> dict[str, Any]:
        """A Sigstore bundle (v0.3) around an envelope of an in-toto statement, as ``model_signing`` reads it.

        Signed with the own elliptic-curve key: OpenSSF's model signing knows no Ed25519.
        """
        ...

    def verify(self, envelope: Any) -> Signed:
        """What a DSSE envelope holds; Refused, saying why, where no trusted key signed it as it is."""
        ...
