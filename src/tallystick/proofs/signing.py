"""What every signing tile must do. Subclass :class:`SigningProof`."""

from __future__ import annotations

import abc
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tallystick.core.errors import BadInput, Conflict, NotFound, Refused, TooLarge
from tallystick.core.names import check_digest
from tallystick.evidence.papers.envelope import pae, parse_envelope
from tallystick.ports.models.signing import Key, Signing

__all__ = ["SigningProof"]

KIND = "application/vnd.test+json"
PAYLOAD = b'{"said": "na\xc3\xafve \xf0\x9f\x90\xa2"}'
STRANGE: list[Any] = [
    None, 7, "", "[]", b"\xff", [], {}, {"payload": "", "payloadType": "", "signatures": []},
    {"payload": "YQ==", "payloadType": "t", "signatures": []},
    {"payload": "YQ==", "payloadType": "t", "signatures": [7]},
    {"payload": "YQ==", "payloadType": "t", "signatures": [{"sig": ""}]},
    {"payload": "YQ==", "payloadType": "t", "signatures": [{"sig": "YQ==", "keyid": 7}]},
    {"payload": "YQ==", "payloadType": "t", "signatures": [{"sig": "YQ=="}] * 1000},
    {"payload": "YR==", "payloadType": "t", "signatures": [{"sig": "YQ=="}]},  # bits that are thrown away
    {"payload": "Y Q==", "payloadType": "t", "signatures": [{"sig": "YQ=="}]},
    {"payload": "YQ", "payloadType": "t", "signatures": [{"sig": "YQ=="}]},
    {"payload": "YQ==", "payloadType": "é", "signatures": [{"sig": "YQ=="}]},
    {"payload": "YQ==", "payloadType": ["t"], "signatures": [{"sig": "YQ=="}]},
    '{"payload": "YQ==", "payload": "Yg==", "payloadType": "t", "signatures": [{"sig": "YQ=="}]}',
    "[" * 100_000,
]  # fmt: skip


class SigningProof(abc.ABC):
    """Own keys, trusted ones, envelopes, and what must be refused."""

    @abc.abstractmethod
    def open(self, home: Path) -> Signing:
        """Open the tile of ``home``, where it may have been before."""

    @pytest.fixture
    def signing(self, tmp_path: Path) -> Signing:
        return self.open(tmp_path / "home")

    @pytest.fixture
    def other(self, tmp_path: Path) -> Signing:
        """Somebody else's."""
        return self.open(tmp_path / "other")

    def own(self, signing: Signing) -> Key:
        return signing.keys()[0]

    def test_the_own_keys_come_first_and_stay(self, signing: Signing, tmp_path: Path) -> None:
        keys = signing.keys()
        assert [key.own for key in keys] == [True, True]
        assert keys[0].id != keys[1].id
        for key in keys:
            assert check_digest(key.id)
            assert "PUBLIC KEY" in key.pem
            assert "PRIVATE" not in key.pem
        assert signing.keys() == keys
        assert self.open(tmp_path / "home").keys() == keys

    def test_what_was_signed_is_read_back(self, signing: Signing) -> None:
        envelope = signing.sign(KIND, PAYLOAD)
        found = signing.verify(envelope)
        assert (found.payload_type, found.payload) == (KIND, PAYLOAD)
        assert found.key == self.own(signing)
        assert signing.verify(json.dumps(envelope)).payload == PAYLOAD
        assert signing.verify(json.dumps(envelope).encode()).payload == PAYLOAD

    def test_it_is_the_encoding_of_dsse_that_is_signed(self, signing: Signing) -> None:
        """The example of protocol.md."""
        assert pae("http://example.com/HelloWorld", b"hello world") == (
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        )
        envelope = signing.sign(KIND, PAYLOAD)
        assert set(envelope) == {"payload", "payloadType", "signatures"}
        assert base64.b64decode(envelope["payload"], validate=True) == PAYLOAD
        assert parse_envelope(envelope).to_wire() == envelope

    def test_a_model_is_signed_by_the_other_key(self, signing: Signing) -> None:
        bundle = signing.sign_model(PAYLOAD)
        assert bundle["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
        found = signing.verify(bundle["dsseEnvelope"])
        assert (found.payload_type, found.payload) == ("application/vnd.in-toto+json", PAYLOAD)
        assert found.key == signing.keys()[1]

    @pytest.mark.parametrize("part", ["payload", "payloadType", "sig"])
    def test_no_bit_may_be_another(self, signing: Signing, part: str) -> None:
        envelope = parse_envelope(signing.sign(KIND, PAYLOAD))
        raw = {
            "payload": envelope.payload,
            "payloadType": envelope.payload_type.encode(),
            "sig": envelope.signatures[0].value,
        }[part]
        for index in range(len(raw)):
            for bit in (1, 64):
                wire = envelope.to_wire()
                turned = raw[:index] + bytes([raw[index] ^ bit]) + raw[index + 1 :]
                if part == "sig":
                    wire["signatures"][0]["sig"] = base64.b64encode(turned).decode()
                elif part == "payload":
                    wire["payload"] = base64.b64encode(turned).decode()
                else:
                    wire["payloadType"] = turned.decode("ascii")
                with pytest.raises(Refused, match="no trusted key"):
                    signing.verify(wire)

    def test_bytes_between_type_and_payload_cannot_move(self, signing: Signing) -> None:
        wire = signing.sign("a", b"b 1 c")
        for kind, payload in (("a 5 b", b"1 c"), ("a 5", b"b 1 c"), ("", b"a 5 b 1 c")):
            moved = {**wire, "payloadType": kind, "payload": base64.b64encode(payload).decode()}
            with pytest.raises((Refused, BadInput)):
                signing.verify(moved)

    def test_anothers_signature_counts_only_while_it_is_trusted(
        self, signing: Signing, other: Signing
    ) -> None:
        envelope = other.sign(KIND, PAYLOAD)
        with pytest.raises(Refused, match="no trusted key"):
            signing.verify(envelope)
        key = signing.trust("other", self.own(other).pem, 5)
        assert (key.id, key.name, key.own, key.trusted_ms) == (self.own(other).id, "other", False, 5)
        assert signing.verify(envelope).key == key
        assert signing.keys()[2:] == (key,)
        signing.distrust("other")
        assert len(signing.keys()) == 2
        with pytest.raises(Refused, match="no trusted key"):
            signing.verify(envelope)

    def test_a_key_id_proves_nothing(self, signing: Signing, other: Signing) -> None:
        wire = other.sign(KIND, PAYLOAD)
        wire["signatures"][0]["keyid"] = self.own(signing).id
        with pytest.raises(Refused):
            signing.verify(wire)
        mine = signing.sign(KIND, PAYLOAD)
        mine["signatures"][0]["keyid"] = "whatever"
        assert signing.verify(mine).key == self.own(signing)
        del mine["signatures"][0]["keyid"]
        assert signing.verify(mine).key == self.own(signing)

    def test_one_right_signature_of_several_is_enough(self, signing: Signing, other: Signing) -> None:
        mine, theirs = signing.sign(KIND, PAYLOAD), other.sign(KIND, PAYLOAD)
        wire = {**mine, "signatures": [*theirs["signatures"], {"sig": "YWJj"}, *mine["signatures"]]}
        assert signing.verify(wire).key == self.own(signing)
        with pytest.raises(Refused):
            signing.verify({**wire, "signatures": wire["signatures"][:2]})

    def test_url_safe_base64_is_the_same(self, signing: Signing) -> None:
        wire = signing.sign(KIND, b"\xfb\xff\xfe")
        safe = {**wire, "payload": wire["payload"].replace("+", "-").replace("/", "_")}
        assert safe["payload"] != wire["payload"]
        assert signing.verify(safe).payload == b"\xfb\xff\xfe"
        with pytest.raises(BadInput):
            signing.verify({**wire, "payload": "+_8="})

    @pytest.mark.parametrize("wire", STRANGE, ids=range(len(STRANGE)))
    def test_what_is_no_envelope_is_refused(self, signing: Signing, wire: Any) -> None:
        signing.keys()
        with pytest.raises(BadInput):
            signing.verify(wire)

    def test_there_is_a_limit(self, signing: Signing) -> None:
        wire = {"payloadType": "t", "payload": "A" * (45 * 2**20), "signatures": [{"sig": "YQ=="}]}
        with pytest.raises(TooLarge):
            signing.verify(wire)

    def test_names_and_keys_are_each_others(self, signing: Signing, other: Signing) -> None:
        pem, more = (key.pem for key in (*other.keys(),))
        assert signing.trust("other", pem, 1) == signing.trust("other", pem, 2)
        with pytest.raises(Conflict):
            signing.trust("another", pem, 3)
        with pytest.raises(Conflict):
            signing.trust("other", more, 3)
        with pytest.raises(Conflict):
            signing.trust("mine", self.own(signing).pem, 3)
        with pytest.raises(NotFound):
            signing.distrust("nobody")
        with pytest.raises(Conflict):
            signing.distrust(self.own(signing).name)
        assert [key.name for key in signing.keys()[2:]] == ["other"]

    @pytest.mark.parametrize("name", ["", "../x", "a/b", ".x", "x" * 200, "a\nb", "a b"])
    def test_a_name_is_plain(self, signing: Signing, other: Signing, name: str) -> None:
        with pytest.raises(BadInput):
            signing.trust(name, self.own(other).pem, 1)

    @pytest.mark.parametrize(
        "pem",
        ["", "hello", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "\x00" * 100, "é"],
    )
    def test_what_is_no_public_key_is_refused(self, signing: Signing, pem: str) -> None:
        with pytest.raises(BadInput):
            signing.trust("x", pem, 1)
        assert len(signing.keys()) == 2

    def test_two_keys_in_one_text_are_refused(self, signing: Signing, other: Signing) -> None:
        with pytest.raises(BadInput):
            signing.trust("x", "".join(key.pem for key in (*other.keys(),)), 1)
