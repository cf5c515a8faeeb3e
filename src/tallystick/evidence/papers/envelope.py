"""Envelopes: a payload with signatures over it, as DSSE v1 has them; strict JSON to read them from.

Source: github.com/secure-systems-lab/dsse, protocol.md and envelope.md, version 1.0. Nothing here knows a
key: what is signed is :func:`pae` of type and payload, and whoever has keys says whether a signature is
right.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tallystick.core.errors import BadInput, TooLarge

__all__ = ["ENVELOPE_BYTES_MAX", "Envelope", "Signature", "pae", "parse_envelope", "strict_json"]

PAYLOAD_BYTES_MAX = 32 * 2**20
ENVELOPE_BYTES_MAX = 48 * 2**20
"""Of the JSON text: base64 makes four bytes of three."""

TYPE_CHARS_MAX = 200
SIGNATURES_MAX = 20
SIGNATURE_BYTES_MAX = 1024
KEY_ID_CHARS_MAX = 1000


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature; ``key_id`` is a hint of its maker's, and proves nothing."""

    value: bytes
    key_id: str = ""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is signed, under the type that says how it is to be read."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...] = ()

    def to_wire(self) -> dict[str, Any]:
        """The JSON of DSSE: payload and signatures in standard base64."""
        signatures = [
            {"keyid": s.key_id, "sig": base64.b64encode(s.value).decode("ascii")} for s in self.signatures
        ]
        payload = base64.b64encode(self.payload).decode("ascii")
        return {"payloadType": self.payload_type, "payload": payload, "signatures": signatures}


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: the bytes that a signature is over.

    ``DSSEv1 SP LEN(type) SP type SP LEN(payload) SP payload``, lengths in decimal bytes, so that no payload
    under one type can be read as another under another.
    """
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def parse_envelope(wire: Any) -> Envelope:
    """An envelope from its JSON value, or from the text of it; BadInput names what is not as DSSE has it.

    Fields that DSSE does not name are ignored, as it says. TooLarge past the limits of this module.
    """
    if isinstance(wire, bytes | str):
        wire = strict_json(wire, ENVELOPE_BYTES_MAX, "envelope")
    if not isinstance(wire, Mapping):
        raise BadInput("an envelope is a JSON object", where="envelope")
    kind, signatures = wire.get("payloadType"), wire.get("signatures")
    if not isinstance(kind, str) or not 0 < len(kind) <= TYPE_CHARS_MAX or not kind.isascii():
        raise BadInput("payloadType is a text of 1 to 200 ASCII characters", where="envelope")
    if not isinstance(signatures, list) or not 0 < len(signatures) <= SIGNATURES_MAX:
        raise BadInput(f"signatures is a list of 1 to {SIGNATURES_MAX}", where="envelope")
    payload = _decoded(wire.get("payload"), PAYLOAD_BYTES_MAX, "envelope.payload")
    return Envelope(kind, payload, tuple(_signature(s, i) for i, s in enumerate(signatures)))


def _signature(wire: Any, index: int) -> Signature:
    where = f"envelope.signatures[{index}]"
    if not isinstance(wire, Mapping):
        raise BadInput("a signature is a JSON object", where=where)
    key_id = wire.get("keyid") or ""
    if not isinstance(key_id, str) or len(key_id) > KEY_ID_CHARS_MAX:
        raise BadInput("keyid is a text", where=where)
    value = _decoded(wire.get("sig"), SIGNATURE_BYTES_MAX, where)
    if not value:
        raise BadInput("the signature is empty", where=where)
    return Signature(value, key_id)


def _decoded(value: Any, bytes_max: int, where: str) -> bytes:
    """Base64, standard or URL-safe as DSSE allows, and written in the one way in which these bytes are."""
    if not isinstance(value, str):
        raise BadInput("expected base64 text", where=where)
    if len(value) > 4 * (bytes_max // 3 + 1):
        raise TooLarge(f"it is over {bytes_max} bytes", where=where)
    standard = value.replace("-", "+").replace("_", "/") if not set(value) & set("+/") else value
    try:
        decoded = base64.b64decode(standard.encode("ascii"), validate=True)
    except (ValueError, binascii.Error):
        raise BadInput("it is not base64", where=where) from None
    if base64.b64encode(decoded).decode("ascii") != standard:
        raise BadInput("it is not base64 as it is to be written", where=where)
    return decoded


def strict_json(raw: bytes | str, bytes_max: int, where: str) -> Any:
    """JSON in UTF-8 in which every name stands once; BadInput otherwise, TooLarge over ``bytes_max``.

    Two readers may disagree about which of two equal names counts, and what is signed must mean one thing.
    """
    if len(raw) > bytes_max:
        raise TooLarge(f"it is over {bytes_max} bytes", where=where)
    try:
        text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as wrong:
        raise BadInput(f"it is not plain JSON: {str(wrong)[:200]}", where=where) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
