"""Signing with keys of the home: DSSE envelopes, and bundles that ``model_signing`` verifies.

Options: ``trusted`` (pairs of name and PEM text) and ``private`` (PEM text) take the home's place: what was
handed over is all there is, and nothing is read, made or written. So a download is verified on a machine that
has no home, and a person signs with a key that no hub has.

The home has two keys of its own. Envelopes are signed with Ed25519. OpenSSF's model signing (1.1.1) takes
ECDSA keys on NIST curves alone, so ``model.sig`` is signed with a P-256 key; the provenance, under Ed25519,
names the digest of that ``model.sig``, so that whoever trusts the one needs not be handed the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tallystick.core.errors import BadInput, Conflict, NotSupported, Refused
from tallystick.core.names import check_name
from tallystick.evidence.papers.envelope import Envelope, Signature, pae, parse_envelope
from tallystick.ports.models.signing import Key, Signed
from tallystick.ports.tile import Place
from tallystick.tiles.signing.keys import (
    ED25519,
    P256,
    describe,
    kind_of,
    read_public,
    signed_with,
    verifies,
)
from tallystick.tiles.signing.ring import FolderRing, HandedRing, Ring

if TYPE_CHECKING:
    from tallystick.tiles.signing.keys import Public

__all__ = ["DsseSigning", "open_tile"]

OWN = "this hub"
OWN_MODELS = "this hub, models"
BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
STATEMENT_TYPE = "application/vnd.in-toto+json"


def open_tile(place: Place) -> DsseSigning:
    """The home's keys, or those of the options. Nothing is made before it is needed."""
    import cryptography  # noqa: F401  a missing extra is said now, and not at the first signature

    trusted, private = place.options.get("trusted"), place.options.get("private", "")
    if trusted is not None or private:
        return DsseSigning(HandedRing(tuple(trusted or ()), str(private)))
    return DsseSigning(FolderRing(place.home / "keys"))


class DsseSigning:
    """See the module; the methods are those of :class:`tallystick.ports.models.signing.Signing`."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring

    def keys(self) -> tuple[Key, ...]:
        """The own keys, made now where there are none, then those that are trusted, by name."""
        try:
            own = [key for _, key in self._own(make=True)]
        except NotSupported:  # a ring without a place for keys has none of its own
            own = []
        return (*own, *(key for _, key in self._trusted()))

    def trust(self, name: str, pem: str, at_ms: int) -> Key:
        """Trust a public key under a name; the very same once more is the one that is there."""
        check_name("key", name)
        key = describe(read_public(pem, name), name, trusted_ms=at_ms)
        for known in (k for _, k in (*self._own(make=False), *self._trusted())):
            if known.id == key.id and known.name == name:
                return known
            if known.id == key.id or known.name == name:
                what = (
                    f"it is trusted as {known.name!r}" if known.id == key.id else "the name has another key"
                )
                raise Conflict(what, where=name, hint="tally trust list")
        self._ring.keep(name, key.pem, at_ms)
        return key

    def distrust(self, name: str) -> None:
        """Trust it no longer, from now on: what it signed before is refused as well."""
        if name in (OWN, OWN_MODELS):
            raise Conflict("a hub cannot distrust itself", where=name)
        self._ring.drop(name)

    def sign(self, payload_type: str, payload: bytes) -> dict[str, Any]:
        """A DSSE envelope with one signature of the own key, Ed25519 in a home."""
        return self._signed(ED25519, payload_type, payload).to_wire()

    def sign_model(self, payload: bytes) -> dict[str, Any]:
        """As OpenSSF's model signing writes it with a key: a Sigstore bundle with a hint of the key.

        NotSupported for a handed-over key that it could not verify.
        """
        private = self._ring.own(P256, make=True)
        if private is None or kind_of(private.public_key()) == ED25519:
            hint = "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out mine.pem"
            raise NotSupported("model signing knows no Ed25519 keys", where="key", hint=hint)
        envelope = self._signed(P256, STATEMENT_TYPE, payload)
        pem = describe(private.public_key(), OWN_MODELS).pem
        hint = hashlib.sha256(pem.encode()).hexdigest()
        return {
            "mediaType": BUNDLE_TYPE,
            "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
            "dsseEnvelope": Envelope(
                STATEMENT_TYPE, payload, tuple(Signature(s.value) for s in envelope.signatures)
            ).to_wire(),
        }

    def verify(self, envelope: Any) -> Signed:
        """What it holds, and the first own or trusted key that one of its signatures is right by.

        Signatures of keys that are not known, or that are wrong, are passed over: one that is right is
        enough, and none is Refused. ``keyid`` only decides what is tried first. BadInput for no envelope.
        """
        read = parse_envelope(envelope)
        message = pae(read.payload_type, read.payload)
        known = (*self._own(make=False), *self._trusted())
        for signature in read.signatures:
            for public, key in sorted(known, key=lambda pair: pair[1].id != signature.key_id):
                if verifies(public, signature.value, message):
                    return Signed(read.payload_type, read.payload, key)
        raise _refused(read, [key for _, key in known])

    def _signed(self, kind: str, payload_type: str, payload: bytes) -> Envelope:
        private = self._ring.own(kind, make=True)
        if private is None:
            raise NotSupported("there is no key to sign with here", where="key")
        value = signed_with(private, pae(payload_type, payload))
        envelope = Envelope(
            payload_type, payload, (Signature(value, describe(private.public_key(), OWN).id),)
        )
        return parse_envelope(envelope.to_wire())  # what would not be read back is not handed out

    def _own(self, *, make: bool) -> Iterator[tuple[Public, Key]]:
        seen = set[str]()
        for kind, name in ((ED25519, OWN), (P256, OWN_MODELS)):
            if private := self._ring.own(kind, make=make):
                public = private.public_key()
                key = describe(public, name, own=True)
                if key.id not in seen:
                    seen.add(key.id)
                    yield public, key

    def _trusted(self) -> Iterator[tuple[Public, Key]]:
        """One that cannot be read is no key: it is passed over, as it could vouch for nothing anyway."""
        for name, text, at_ms in self._ring.trusted():
            try:
                public = read_public(text, name)
            except BadInput:
                continue
            yield public, describe(public, name, trusted_ms=at_ms)


def _refused(read: Envelope, known: list[Key]) -> Refused:
    """Whether it was changed or is a stranger's; what it names as its key is only its own word."""
    said = {s.key_id for s in read.signatures if s.key_id}
    if named := [key.name for key in known if key.id in said]:
        why = f"it names {named[0]!r}, so it was changed since, or somebody else wrote that name on it"
        return Refused(f"no trusted key signed it as it is: {why}", where="signature")
    strange = ", ".join(ascii(name)[1:-1][:80] for name in sorted(said)) or "nobody"
    return Refused(
        f"no trusted key signed it as it is: it names {strange}, and {len(known)} other keys are trusted",
        where="signature",
        hint="tally trust add NAME FILE, once you know whose key it is",
    )
