"""Envelopes: written and read back, and nothing strange ever breaks the reader."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallystick.core.errors import BadInput, TooLarge
from tallystick.evidence.papers.envelope import Envelope, Signature, pae, parse_envelope, strict_json

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
TYPES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30)
KEY_IDS = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
SIGNATURES = st.lists(
    st.builds(Signature, st.binary(min_size=1, max_size=80), KEY_IDS), min_size=1, max_size=5
).map(tuple)
ENVELOPES = st.builds(Envelope, TYPES, st.binary(max_size=200), SIGNATURES)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["payload", "payloadType", "signatures", "sig", "keyid"]), inner, max_size=4
        )
    ),
    max_leaves=6,
)


@UNHURRIED
@given(ENVELOPES)
def test_an_envelope_is_read_back_as_it_was(envelope: Envelope) -> None:
    assert parse_envelope(envelope.to_wire()) == envelope
    assert parse_envelope(json.dumps(envelope.to_wire())) == envelope


@UNHURRIED
@given(st.tuples(TYPES, st.binary(max_size=60)), st.tuples(TYPES, st.binary(max_size=60)))
def test_two_payloads_are_never_signed_alike(one: tuple[str, bytes], two: tuple[str, bytes]) -> None:
    assert (pae(*one) == pae(*two)) is (one == two)


@UNHURRIED
@given(JSON)
def test_a_strange_envelope_is_bad_input(wire: Any) -> None:
    try:
        read = parse_envelope(wire)
    except BadInput:
        return
    assert parse_envelope(read.to_wire()) == read  # what is read at all is read as what it says


@UNHURRIED
@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_the_bytes_are_they_are_an_envelope_or_bad_input(raw: bytes) -> None:
    with contextlib.suppress(BadInput):  # and nothing else comes out of it
        parse_envelope(raw)


@UNHURRIED
@given(st.binary(min_size=1, max_size=30))
def test_bytes_have_one_spelling(raw: bytes) -> None:
    """Bits that base64 throws away, padding that is missing or too much, and spaces are refused."""
    wire = Envelope("t", raw, (Signature(b"s"),)).to_wire()
    right = wire["payload"]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    bare = right.rstrip("=")
    wrong = [right + "=", right + "\n", " " + right, right + "!", bare[:-1] + "é" + right[len(bare) :]]
    if "=" in right:
        last = alphabet[alphabet.index(bare[-1]) ^ 1]
        wrong += [bare, bare[:-1] + last + right[len(bare) :]]
    for text in wrong:
        with pytest.raises(BadInput):
            parse_envelope({**wire, "payload": text})
    safe = base64.urlsafe_b64encode(raw).decode()
    assert parse_envelope({**wire, "payload": safe}).payload == raw


def test_limits_come_before_the_work() -> None:
    with pytest.raises(TooLarge):
        strict_json(b" " * 11, 10, "it")
    with pytest.raises(TooLarge):
        parse_envelope({"payloadType": "t", "payload": "", "signatures": [{"sig": "A" * 4000}]})
