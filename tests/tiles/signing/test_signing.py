"""The tile ``dsse``, its keys in a home, and the fake; what others' tools make of its signatures."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.fakes.signing import MemorySigning

from tallystick.core.errors import BadInput, Damaged, NotSupported, Refused, Unavailable
from tallystick.evidence.papers.envelope import pae, parse_envelope
from tallystick.ports.models.signing import Signing
from tallystick.ports.tile import Place
from tallystick.proofs.signing import SigningProof
from tallystick.tiles.signing.dsse import DsseSigning, open_tile

OPENED: dict[Path, MemorySigning] = {}


class TestDsse(SigningProof):
    def open(self, home: Path) -> Signing:
        return open_tile(Place(home))


class TestMemory(SigningProof):
    def open(self, home: Path) -> Signing:
        return OPENED.setdefault(home, MemorySigning())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def signing(home: Path) -> DsseSigning:
    return open_tile(Place(home))


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_keys_are_their_owners_alone_and_made_when_first_needed(home: Path, signing: DsseSigning) -> None:
    with pytest.raises(Refused):
        signing.verify({"payloadType": "t", "payload": "YQ==", "signatures": [{"sig": "YQ=="}]})
    assert not home.exists()  # who only verifies needs no key
    umask = os.umask(0)
    try:
        signing.keys()
    finally:
        os.umask(umask)
    assert mode(home / "keys") == 0o700
    assert {p.name: mode(p) for p in (home / "keys").iterdir()} == {"own.pem": 0o600, "own-model.pem": 0o600}


def test_keys_are_ed25519_for_envelopes_and_p256_for_models(signing: DsseSigning) -> None:
    assert [(key.name, key.kind) for key in (*signing.keys(),)] == [
        ("this hub", "ed25519"),
        ("this hub, models", "p256"),
    ]


def test_a_key_that_others_can_read_is_refused(home: Path, signing: DsseSigning) -> None:
    signing.keys()
    (home / "keys" / "own.pem").chmod(0o640)
    with pytest.raises(Refused, match="others may read"):
        open_tile(Place(home)).sign("t", b"")


def test_a_link_in_the_keys_place_is_not_followed(home: Path, signing: DsseSigning, tmp_path: Path) -> None:
    signing.keys()
    (home / "keys" / "own.pem").rename(tmp_path / "elsewhere")
    (home / "keys" / "own.pem").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Unavailable):
        open_tile(Place(home)).sign("t", b"")


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PRIVATE KEY-----\n", b"\xff\x00" * 100])
def test_a_damaged_key_is_never_replaced(home: Path, signing: DsseSigning, content: bytes) -> None:
    signing.keys()
    (home / "keys" / "own.pem").write_bytes(content)
    with pytest.raises(Damaged) as caught:
        open_tile(Place(home)).sign("t", b"")
    assert (home / "keys" / "own.pem").read_bytes() == content
    assert "PRIVATE" not in str(caught.value)


def test_hubs_that_begin_at_once_end_with_one_key(home: Path) -> None:
    """Eight processes wait for one another, then each makes the keys of the same home."""
    code = (
        "import sys; from pathlib import Path; from tallystick.ports.tile import Place;"
        "from tallystick.tiles.signing.dsse import open_tile; tile = open_tile(Place(Path(sys.argv[1])));"
        "print('ready', flush=True); sys.stdin.readline(); print(' '.join(k.id for k in tile.keys()))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(8)
    ]
    assert [p.stdout.readline() for p in processes if p.stdout] == ["ready\n"] * 8
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    said = {process.communicate(timeout=60)[0] for process in processes}
    assert len(said) == 1
    assert len(said.pop().split()) == 2
    assert sorted(p.name for p in (home / "keys").iterdir()) == ["own-model.pem", "own.pem"]


def test_a_disk_that_takes_nothing_says_so(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file is in the way")
    with pytest.raises(Unavailable):
        open_tile(Place(tmp_path / "home")).keys()


def test_a_key_put_into_the_folder_by_hand_is_trusted(
    home: Path, signing: DsseSigning, tmp_path: Path
) -> None:
    other = open_tile(Place(tmp_path / "other"))
    signing.trust("kept", other.keys()[0].pem, 7)
    (home / "keys" / "trusted" / "by-hand.pem").write_text(other.keys()[1].pem)
    (home / "keys" / "trusted" / "broken.pem").write_text("nothing")
    (home / "keys" / "trusted" / "notes.txt").write_text("nothing")
    assert [(k.name, k.trusted_ms) for k in signing.keys()[2:]] == [("by-hand", 0), ("kept", 7)]
    assert signing.verify(other.sign_model(b"x")["dsseEnvelope"]).key.name == "by-hand"


def test_a_private_key_is_never_taken_for_trusted(home: Path, signing: DsseSigning) -> None:
    signing.keys()
    with pytest.raises(BadInput, match="private key"):
        signing.trust("oops", (home / "keys" / "own.pem").read_text(), 1)


def test_a_handed_over_key_is_all_there_is(home: Path, signing: DsseSigning, tmp_path: Path) -> None:
    pem = signing.keys()[0].pem
    clean = open_tile(Place(tmp_path / "none", {"trusted": [("hub", pem)]}))
    assert clean.verify(signing.sign("t", b"x")).key.name == "hub"
    assert [key.name for key in (*clean.keys(),)] == ["hub"]
    with pytest.raises(Refused):
        clean.verify(signing.sign_model(b"x")["dsseEnvelope"])
    for attempt in (lambda: clean.sign("t", b""), lambda: clean.trust("x", signing.keys()[1].pem, 1)):
        with pytest.raises(NotSupported):
            attempt()
    assert not (tmp_path / "none").exists()


def openssl(*words: str, **more: object) -> bytes:
    return subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=60, **more).stdout


needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="there is no openssl here")


@needs_openssl
def test_openssl_verifies_an_envelope(signing: DsseSigning, tmp_path: Path) -> None:
    envelope = parse_envelope(signing.sign("application/x", b"payload"))
    (tmp_path / "pem").write_text(signing.keys()[0].pem)
    (tmp_path / "sig").write_bytes(envelope.signatures[0].value)
    (tmp_path / "pae").write_bytes(pae(envelope.payload_type, envelope.payload))
    given = ("-pubin", "-inkey", "pem", "-rawin", "-in", "pae", "-sigfile", "sig")
    assert b"Success" in openssl("pkeyutl", "-verify", *given, cwd=tmp_path)


@needs_openssl
@pytest.mark.parametrize("curve", ["P-256", "P-384", "P-521"])
def test_a_person_signs_with_a_key_of_openssls(signing: DsseSigning, curve: str) -> None:
    text = openssl("genpkey", "-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{curve}").decode()
    person = open_tile(Place(Path("/nowhere"), {"private": text}))
    (key,) = person.keys()
    assert (key.own, key.kind) == (True, curve.lower().replace("-", ""))
    signing.trust("ada", key.pem, 1)
    assert signing.verify(person.sign("t", b"x")).key.name == "ada"
    assert signing.verify(person.sign_model(b"x")["dsseEnvelope"]).key.name == "ada"


@needs_openssl
def test_keys_that_cannot_be_used_are_named(signing: DsseSigning) -> None:
    rsa = openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048").decode()
    public = openssl("pkey", "-pubout", input=rsa.encode()).decode()
    with pytest.raises(NotSupported, match="RSA"):
        signing.trust("rsa", public, 1)
    locked = openssl("pkey", "-aes256", "-passout", "pass:secret", input=rsa.encode()).decode()
    with pytest.raises(NotSupported, match="password"):
        open_tile(Place(Path("/nowhere"), {"private": locked})).sign("t", b"")
    koblitz = openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1").decode()
    with pytest.raises((NotSupported, BadInput)):
        open_tile(Place(Path("/nowhere"), {"private": koblitz})).sign("t", b"")
    ed25519 = openssl("genpkey", "-algorithm", "ed25519").decode()
    person = open_tile(Place(Path("/nowhere"), {"private": ed25519}))
    assert json.dumps(person.sign("t", b""))
    with pytest.raises(NotSupported, match="no Ed25519"):
        person.sign_model(b"")
