"""A Sigstore of one's own, as far as a bundle goes: an authority, its log of certificates, Rekor's log.

What it makes is checked by the stock library with nothing left out: the chain, the certificate's timestamp in
its log (RFC 6962), the entry in the log with its proof, checkpoint and promise, the identity and its issuer.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import struct
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from tallystick.evidence.papers.envelope import pae

__all__ = ["OwnSigstore", "token_of"]

_ISSUER, _ISSUER_V2 = ObjectIdentifier("1.3.6.1.4.1.57264.1.1"), ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
_SCTS = ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_START = "2020-01-01T00:00:00Z"
KIND = "application/vnd.in-toto+json"


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def der(key: Any) -> bytes:
    found: bytes = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return found


def signed(key: Any, message: bytes) -> bytes:
    found: bytes = key.sign(message, ec.ECDSA(hashes.SHA256()))
    return found


def octets(raw: bytes) -> bytes:
    """An OCTET STRING in DER, of under 64 KiB."""
    size = len(raw)
    head = (
        bytes([size])
        if size < 128
        else b"\x81" + bytes([size])
        if size < 256
        else b"\x82" + struct.pack("!H", size)
    )
    return b"\x04" + head + raw


class OwnSigstore:
    """Keys of its services, made anew each time; ``address`` is where a signer would find them."""

    def __init__(self, address: str = "http://127.0.0.1:1") -> None:
        self.address = address
        self.ca, self.ct, self.rekor = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
        self.now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "own sigstore")])
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        self.root = (
            self._begun(name, name, self.ca.public_key(), datetime.timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.ca.public_key()), critical=False)
            .sign(self.ca, hashes.SHA256())
        )

    def _begun(self, subject: x509.Name, issuer: x509.Name, key: Any, lives: datetime.timedelta) -> Any:
        begins = self.now - datetime.timedelta(minutes=1)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(begins + lives)
        )

    def config(self) -> str:
        """Its client trust config, as ``--trust-config`` takes it."""

        def log(key: Any) -> dict[str, Any]:
            public = {
                "rawBytes": b64(der(key)),
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "validFor": {"start": _START},
            }
            about = {"baseUrl": self.address, "hashAlgorithm": "SHA2_256", "publicKey": public}
            return {**about, "logId": {"keyId": b64(hashlib.sha256(der(key)).digest())}}

        chain = {"certificates": [{"rawBytes": b64(self.root.public_bytes(Encoding.DER))}]}
        authority = {
            "subject": {"organization": "own", "commonName": "own"},
            "uri": self.address,
            "certChain": chain,
            "validFor": {"start": _START},
        }
        root = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(self.rekor)],
            "certificateAuthorities": [authority],
            "ctlogs": [log(self.ct)],
            "timestampAuthorities": [],
        }
        service = {
            "url": self.address,
            "majorApiVersion": 1,
            "validFor": {"start": _START},
            "operator": "own",
        }
        signing = {
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            **{name: [service] for name in ("caUrls", "oidcUrls", "rekorTlogUrls", "tsaUrls")},
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaConfig": {"selector": "ANY"},
        }
        kind = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
        return json.dumps({"mediaType": kind, "trustedRoot": root, "signingConfig": signing})

    def bundle(self, payload: bytes, who: str, issuer: str) -> dict[str, Any]:
        """``payload`` (an in-toto statement) signed by ``who`` as ``issuer`` knows them."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._certificate(key.public_key(), who, issuer)
        signature = signed(key, pae(KIND, payload))
        return {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "certificate": {"rawBytes": b64(certificate.public_bytes(Encoding.DER))},
                "tlogEntries": [self._entry(payload, signature, certificate)],
            },
            "dsseEnvelope": {
                "payload": b64(payload),
                "payloadType": KIND,
                "signatures": [{"sig": b64(signature)}],
            },
        }

    def _certificate(self, key: Any, who: str, issuer: str) -> x509.Certificate:
        """Of ten minutes, with the promise of the log of certificates in it, as Fulcio makes them."""
        san: x509.GeneralName = (
            x509.RFC822Name(who) if "://" not in who else x509.UniformResourceIdentifier(who)
        )
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=False,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )
        text = issuer.encode()
        builder = (
            self._begun(x509.Name([]), self.root.subject, key, datetime.timedelta(minutes=10))
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.ca.public_key()), critical=False
            )
            .add_extension(x509.SubjectAlternativeName([san]), critical=True)
            .add_extension(x509.UnrecognizedExtension(_ISSUER, text), critical=False)
            .add_extension(x509.UnrecognizedExtension(_ISSUER_V2, b"\x0c" + octets(text)[1:]), critical=False)
        )
        before = builder.sign(self.ca, hashes.SHA256()).tbs_certificate_bytes
        listed = x509.UnrecognizedExtension(_SCTS, octets(self._promised(before)))
        found: x509.Certificate = builder.add_extension(listed, critical=False).sign(self.ca, hashes.SHA256())
        return found

    def _promised(self, before: bytes) -> bytes:
        """A list of one signed certificate timestamp (RFC 6962, 3.2 and 3.3)."""
        at = int(self.now.timestamp() * 1000)
        entry = hashlib.sha256(der(self.ca)).digest() + len(before).to_bytes(3, "big") + before
        signature = signed(self.ct, struct.pack("!BBQH", 0, 0, at, 1) + entry + b"\0\0")
        log = hashlib.sha256(der(self.ct)).digest()
        sct = (
            b"\0"
            + log
            + struct.pack("!Q", at)
            + b"\0\0\x04\x03"
            + struct.pack("!H", len(signature))
            + signature
        )
        one = struct.pack("!H", len(sct)) + sct
        return struct.pack("!H", len(one)) + one

    def _entry(self, payload: bytes, signature: bytes, certificate: x509.Certificate) -> dict[str, Any]:
        """The first entry of a new log: with proof, checkpoint and promise."""
        pem = certificate.public_bytes(Encoding.PEM)
        hashed = {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()}
        spec = {
            "envelopeHash": hashed,
            "payloadHash": hashed,
            "signatures": [{"signature": b64(signature), "verifier": b64(pem)}],
        }
        body = json.dumps({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec}).encode()
        log, at = hashlib.sha256(der(self.rekor)).digest(), int(self.now.timestamp())
        root = hashlib.sha256(b"\0" + body).digest()
        note = f"own sigstore\n1\n{b64(root)}\n"
        mark = b64(log[:4] + signed(self.rekor, note.encode()))
        promise = {"body": b64(body), "integratedTime": at, "logID": log.hex(), "logIndex": 0}
        canonical = json.dumps(promise, sort_keys=True, separators=(",", ":")).encode()
        proof = {
            "logIndex": "0",
            "rootHash": b64(root),
            "treeSize": "1",
            "hashes": [],
            "checkpoint": {"envelope": f"{note}\n\u2014 own {mark}\n"},
        }
        return {
            "logIndex": "0",
            "logId": {"keyId": b64(log)},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(at),
            "canonicalizedBody": b64(body),
            "inclusionProof": proof,
            "inclusionPromise": {"signedEntryTimestamp": b64(signed(self.rekor, canonical))},
        }


def token_of(who: str, issuer: str, lives_s: int = 600) -> str:
    """An OIDC token as a signer reads it; its signature is for the authority to look at."""
    now = int(datetime.datetime.now(datetime.UTC).timestamp())
    said = {
        "iss": issuer,
        "sub": who,
        "email": who,
        "email_verified": True,
        "aud": "sigstore",
        "iat": now,
        "nbf": now,
        "exp": now + lives_s,
    }
    parts = [{"alg": "RS256", "typ": "JWT"}, said]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, base64.urlsafe_b64encode(b"signature").rstrip(b"=").decode()])
