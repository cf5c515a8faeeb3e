"""Keys as `cryptography` has them: read strictly from PEM, signed with, verified with.

Ed25519 (RFC 8032) for envelopes: one way to make a signature, no randomness to get wrong. ECDSA on the NIST
curves (FIPS 186-5) beside it, because OpenSSF's model signing knows no other keys.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from tallystick.core.errors import BadInput, NotSupported
from tallystick.ports.models.signing import Key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

    Private = Ed25519PrivateKey | EllipticCurvePrivateKey
    Public = Ed25519PublicKey | EllipticCurvePublicKey

__all__ = [
    "ED25519",
    "P256",
    "describe",
    "kind_of",
    "made",
    "private_pem",
    "public_pem",
    "read_private",
    "read_public",
    "signed_with",
    "verifies",
]

PEM_BYTES_MAX = 16 * 1024
ED25519 = "ed25519"
P256 = "p256"
_CURVES = {"secp256r1": P256, "secp384r1": "p384", "secp521r1": "p521"}
_HINT = "an Ed25519 or NIST curve key, for example: openssl genpkey -algorithm ed25519 -out mine.pem"


def made(kind: str) -> Private:
    """A new private key of that kind, from the system's randomness."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    return (
        ed25519.Ed25519PrivateKey.generate() if kind == ED25519 else ec.generate_private_key(ec.SECP256R1())
    )


def read_public(pem: str, where: str = "key") -> Public:
    """The one public key in a PEM text; BadInput for anything else, a private key above all.

    Text around the key is allowed, as RFC 7468 has it; two keys in one text are not.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if "PRIVATE KEY" in pem:
        hint = "hand out the public key alone: openssl pkey -in FILE -pubout"
        raise BadInput("it is a private key", where=where, hint=hint)
    if len(pem) > PEM_BYTES_MAX or pem.count("-----BEGIN ") != 1:
        raise BadInput("expected one public key as PEM", where=where, hint=_HINT)
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, TypeError, UnicodeError) as wrong:
        text = f"no public key can be read: {str(wrong)[:100]}"
        raise BadInput(text, where=where, hint=_HINT) from None
    except Exception as wrong:  # noqa: BLE001  reason: UnsupportedAlgorithm is no ValueError, and not alone
        raise _unsupported(type(wrong).__name__, where) from None
    return _supported(key, where)


def read_private(pem: str, where: str = "key") -> Private:
    """The private key in a PEM text without a password; BadInput otherwise, and it quotes nothing of it."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem.encode(), None)
    except TypeError:
        hint = "take the password off first: openssl pkey -in FILE -out PLAIN"
        raise NotSupported("the private key has a password", where=where, hint=hint) from None
    except Exception:  # noqa: BLE001  reason: whatever it is, its words could quote the key
        raise BadInput("no private key can be read", where=where, hint=_HINT) from None
    _supported(key.public_key(), where)
    return key  # type: ignore[return-value]  # its public half has just been checked


def _supported(key: object, where: str) -> Public:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return key
    raise _unsupported(type(key).__name__, where)


def _unsupported(what: str, where: str) -> NotSupported:
    return NotSupported(f"a key of this kind ({what[:60]}) is not known here", where=where, hint=_HINT)


def kind_of(key: Public) -> str:
    """``ed25519``, ``p256``, ``p384`` or ``p521``."""
    curve = getattr(key, "curve", None)
    return _CURVES[curve.name] if curve else ED25519


def public_pem(key: Public) -> str:
    """As PEM (SubjectPublicKeyInfo)."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")


def private_pem(key: Private) -> bytes:
    """As PEM (PKCS 8), with no password: the file's mode and the home's are what keeps it."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def describe(key: Public, name: str, *, own: bool = False, trusted_ms: int = 0) -> Key:
    """A public key as the port has it, whatever text it was read from."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = "sha256:" + hashlib.sha256(der).hexdigest()
    return Key(digest, name, public_pem(key), own, trusted_ms, kind_of(key))


def signed_with(key: Private, message: bytes) -> bytes:
    """The signature: 64 bytes of Ed25519, or an ECDSA one in DER with the hash that the curve goes with."""
    from cryptography.hazmat.primitives.asymmetric import ec

    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(message, ec.ECDSA(_hash(key.curve.name)))
    return key.sign(message)


def verifies(key: Public, signature: bytes, message: bytes) -> bool:
    """Whether ``key`` made ``signature`` over ``message``; compared by the library."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, message, ec.ECDSA(_hash(key.curve.name)))
        else:
            key.verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _hash(curve: str) -> HashAlgorithm:
    """Sigstore's choice for each curve, and FIPS 186-5's: as long as the curve is wide."""
    from cryptography.hazmat.primitives import hashes

    return {"secp256r1": hashes.SHA256(), "secp384r1": hashes.SHA384(), "secp521r1": hashes.SHA512()}[curve]
