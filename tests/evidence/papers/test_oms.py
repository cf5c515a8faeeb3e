"""``model.sig`` against OpenSSF's own library: each verifies what the other signed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tallystick.core.errors import BadInput, NotSupported, Refused, TallyError
from tallystick.core.names import digest_of
from tallystick.evidence.papers.oms import SIGNATURE, bundle_envelope, check_signature, model_statement
from tallystick.evidence.papers.statement import statement_of
from tallystick.evidence.papers.tree import Member
from tallystick.ports.tile import Place
from tallystick.tiles.signing.dsse import DsseSigning, open_tile
from tallystick.tiles.signing.keys import made, private_pem

FILES = {"MLmodel": b"flavors: {}\n", "data/model.bin": b"\0" * 100, "data-x": b"", "data/a b ü": b"odd"}
GIT = {".gitattributes": b"* lfs\n", ".git/config": b"x", ".github/w.yml": b"y"}


def folder_of(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def members_of(files: dict[str, bytes]) -> tuple[Member, ...]:
    return tuple(Member(name, digest_of(content), len(content)) for name, content in sorted(files.items()))


@pytest.fixture
def signing(tmp_path: Path) -> DsseSigning:
    return open_tile(Place(tmp_path / "home"))


@pytest.fixture
def key(signing: DsseSigning, tmp_path: Path) -> Path:
    (tmp_path / "key.pem").write_text(signing.keys()[1].pem)
    return tmp_path / "key.pem"


def stock_verifies(folder: Path, signature: Path, key: Path) -> None:
    verifying = pytest.importorskip("model_signing.verifying", reason="model-signing is not installed")
    verifying.Config().use_elliptic_key_verifier(public_key=key).verify(folder, signature)


def written(path: Path, bundle: Any) -> Path:
    path.write_text(json.dumps(bundle))
    return path


def check(signing: DsseSigning, raw: bytes, members: Sequence[Member], beside: Sequence[str] = ()) -> None:
    signed = signing.verify(bundle_envelope(raw))
    statement = statement_of(signed.payload, signed.payload_type, (SIGNATURE,), "model.sig")
    check_signature(statement, members, beside)


@pytest.mark.parametrize("files", [FILES, {**FILES, **GIT}, {"one": b""}])
def test_the_stock_library_verifies_what_is_signed_here(
    signing: DsseSigning, key: Path, tmp_path: Path, files: dict[str, bytes]
) -> None:
    folder = folder_of(tmp_path / "model", files)
    bundle = signing.sign_model(model_statement("model", members_of(files)).to_bytes())
    signature = written(tmp_path / "model.sig", bundle)
    stock_verifies(folder, signature, key)
    check(signing, signature.read_bytes(), members_of(files))
    (folder / next(iter(files))).write_bytes(b"changed")
    with pytest.raises(ValueError, match="Signature mismatch"):
        stock_verifies(folder, signature, key)


@pytest.mark.parametrize("inside", [True, False])
def test_what_the_stock_library_signed_is_verified_here(
    signing: DsseSigning, tmp_path: Path, inside: bool
) -> None:
    stock = pytest.importorskip("model_signing.signing", reason="model-signing is not installed")
    hashing = pytest.importorskip("model_signing.hashing")
    folder = folder_of(tmp_path / "model", {**FILES, **GIT})
    private = made("p256")
    (tmp_path / "private.pem").write_bytes(private_pem(private))
    signature = (folder if inside else tmp_path) / "model.sig"
    config = stock.Config().use_elliptic_key_signer(private_key=tmp_path / "private.pem")
    config.set_hashing_config(hashing.Config().set_ignored_paths(paths=["model.sig"] if inside else []))
    config.sign(folder, signature)
    members = members_of({**FILES, **GIT})
    beside = ("model.sig",) if inside else ()
    with pytest.raises(Refused, match="no trusted key"):
        check(signing, signature.read_bytes(), members, beside)
    person = open_tile(Place(tmp_path, {"private": private_pem(private).decode()}))
    signing.trust("ada", person.keys()[0].pem, 1)
    check(signing, signature.read_bytes(), members, beside)
    changed = [Member("MLmodel", digest_of("x"), 1) if m.path == "MLmodel" else m for m in members]
    with pytest.raises(Refused, match="changed"):
        check(signing, signature.read_bytes(), changed, beside)
    with pytest.raises(Refused, match="missing"):
        check(signing, signature.read_bytes(), [m for m in members if m.path != "MLmodel"], beside)
    with pytest.raises(Refused, match="not in it"):
        check(signing, signature.read_bytes(), [*members, Member("zz", digest_of("x"), 1)], beside)


def test_a_signature_that_leaves_out_more_is_refused(signing: DsseSigning) -> None:
    """Whoever signs and says ``ignore data`` has signed nothing about what is in data."""
    statement = model_statement("m", members_of(FILES))
    for left_out in (["data"], ["data/model.bin"], "data", [7], [""], ["../x"]):
        wire = json.loads(statement.to_bytes())
        wire["predicate"]["serialization"]["ignore_paths"] = left_out
        read = statement_of(json.dumps(wire).encode(), "application/vnd.in-toto+json", (SIGNATURE,), "it")
        with pytest.raises(Refused, match="leaves files out"):
            check_signature(read, members_of(FILES))


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("method", "shards", NotSupported),
        ("hash_type", "blake2", NotSupported),
        ("allow_symlinks", True, Refused),
        ("ignore_paths", None, Refused),
    ],
)
def test_another_way_to_list_files_is_not_taken_for_this(
    name: str, value: Any, kind: type[TallyError]
) -> None:
    wire = json.loads(model_statement("m", members_of(FILES)).to_bytes())
    wire["predicate"]["serialization"][name] = value
    read = statement_of(json.dumps(wire).encode(), "application/vnd.in-toto+json", (SIGNATURE,), "it")
    with pytest.raises(kind):
        check_signature(read, members_of(FILES))


@pytest.mark.parametrize(
    "resources",
    [None, [7], [{}], [{"name": "a", "algorithm": "blake3", "digest": "0" * 64}],
     [{"name": "a", "algorithm": "sha256", "digest": "0"}],
     [{"name": "a", "algorithm": "sha256", "digest": "0" * 64}] * 2],
)  # fmt: skip
def test_a_list_that_cannot_be_is_refused(resources: Any) -> None:
    wire = json.loads(model_statement("m", members_of(FILES)).to_bytes())
    wire["predicate"]["resources"] = resources
    read = statement_of(json.dumps(wire).encode(), "application/vnd.in-toto+json", (SIGNATURE,), "it")
    with pytest.raises(BadInput):
        check_signature(read, members_of(FILES))


def test_a_subject_that_is_not_the_sum_is_refused() -> None:
    wire = json.loads(model_statement("m", members_of(FILES)).to_bytes())
    wire["subject"][0]["digest"]["sha256"] = "0" * 64
    read = statement_of(json.dumps(wire).encode(), "application/vnd.in-toto+json", (SIGNATURE,), "it")
    with pytest.raises(Refused, match="sum"):
        check_signature(read, members_of(FILES))


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b'{"mediaType": "x"}', b"\xff"])
def test_what_is_no_bundle_is_bad_input(raw: bytes) -> None:
    with pytest.raises(BadInput):
        bundle_envelope(raw)


def test_a_certificate_is_not_verified_here() -> None:
    bundle = {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"certificate": {"rawBytes": ""}, "tlogEntries": []},
        "dsseEnvelope": {},
    }
    with pytest.raises(NotSupported, match="certificate"):
        bundle_envelope(json.dumps(bundle).encode())


def test_a_folder_with_nothing_to_sign_is_refused() -> None:
    with pytest.raises(BadInput):
        model_statement("m", members_of(GIT))
