"""OpenSSF model signing: what ``model.sig`` says of a folder, as its 1.0 format has it.

Source: github.com/sigstore/model-transparency, model_signing 1.1.1 (``_signing/signing.py``): a Sigstore
bundle around a DSSE envelope around an in-toto statement, whose one subject has the SHA-256 over all files'
digests, and whose predicate lists these. Written here from digests that are known, with no byte of the
model read again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from tallystick.core.errors import BadInput, NotSupported, Refused
from tallystick.core.names import check_digest
from tallystick.evidence.papers.envelope import ENVELOPE_BYTES_MAX, strict_json
from tallystick.evidence.papers.statement import Statement, Subject
from tallystick.evidence.papers.tree import FILES_MAX, Member, check_same

__all__ = ["SIGNATURE", "SIGNATURE_FILE", "bundle_envelope", "check_signature", "model_statement"]

SIGNATURE = "https://model_signing/signature/v1.0"
SIGNATURE_FILE = "model.sig"
GIT = (".git", ".gitattributes", ".github", ".gitignore")
"""What ``model_signing`` leaves out of any model, wherever it verifies."""
BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle"


def model_statement(name: str, members: Sequence[Member]) -> Statement:
    """What is signed as ``model.sig``, about a folder of that name; BadInput where there is no file."""
    resources = [
        {"name": m.path, "algorithm": "sha256", "digest": m.digest.removeprefix("sha256:")}
        for m in sorted(_signed(members, GIT), key=lambda m: PurePosixPath(m.path))
    ]
    if not resources:
        raise BadInput("there is no file to sign", where=name)
    serialization = {
        "method": "files",
        "hash_type": "sha256",
        "allow_symlinks": False,
        "ignore_paths": list(GIT),
    }
    predicate = {"serialization": serialization, "resources": resources}
    return Statement((Subject(name, _root(resources)),), SIGNATURE, predicate)


def bundle_envelope(raw: bytes, where: str = SIGNATURE_FILE) -> Any:
    """The envelope in a bundle; NotSupported for one that was signed with a certificate (Sigstore)."""
    bundle = strict_json(raw, ENVELOPE_BYTES_MAX, where)
    if not isinstance(bundle, Mapping) or not str(bundle.get("mediaType", "")).startswith(BUNDLE_TYPE):
        raise BadInput("it is no Sigstore bundle", where=where)
    material = bundle.get("verificationMaterial")
    if not isinstance(material, Mapping) or "publicKey" not in material:
        hint = "model_signing verify sigstore DIR --signature FILE --identity WHO --identity_provider URL"
        what = "it was signed with a certificate, which only its maker's services can check"
        raise NotSupported(what, where=where, hint=hint)
    return bundle.get("dsseEnvelope")


def check_signature(
    statement: Statement, members: Sequence[Member], beside: Collection[str] = (), where: str = SIGNATURE_FILE
) -> None:
    """Refused, naming files, unless the statement lists just these files.

    It may leave out what ``model_signing`` always does, and the files named in ``beside``; a signature that
    leaves out more says nothing of what was left out, and is refused.
    """
    how = statement.predicate.get("serialization")
    if not isinstance(how, Mapping) or (how.get("method"), how.get("hash_type")) != ("files", "sha256"):
        hint = "model_signing verify key DIR --signature model.sig --public_key PEM"
        raise NotSupported("only files under SHA-256 are verified here", where=where, hint=hint)
    if how.get("allow_symlinks"):
        raise Refused("it allows links, which could lead out of the folder", where=where)
    left_out = how.get("ignore_paths", [])
    known = {*GIT, *beside}
    if not isinstance(left_out, list) or not all(str(p).rstrip("/") in known for p in left_out):
        raise Refused(f"it leaves files out: {str(left_out)[:200]}", where=where)
    resources = _resources(statement.predicate.get("resources"), where)
    if len(statement.subjects) != 1 or statement.subjects[0].digest != _root(resources):
        raise Refused("its subject is not the sum of its files", where=where)
    listed = {r["name"]: "sha256:" + r["digest"] for r in resources}
    check_same(listed, _signed(members, [str(p).rstrip("/") for p in left_out]), where)


def _resources(wire: Any, where: str) -> list[dict[str, str]]:
    if not isinstance(wire, list) or len(wire) > FILES_MAX:
        raise BadInput(f"resources is a list of at most {FILES_MAX:,}", where=where)
    found = list[dict[str, str]]()
    for one in wire:
        if not isinstance(one, Mapping) or not isinstance(one.get("name"), str):
            raise BadInput("a resource has a name", where=where)
        if one.get("algorithm") != "sha256":
            raise NotSupported("only SHA-256 is verified here", where=where)
        digest = check_digest(f"sha256:{one.get('digest')}").removeprefix("sha256:")
        found.append({"name": one["name"], "digest": digest})
    if len({r["name"] for r in found}) < len(found):
        raise BadInput("two resources of one name", where=where)
    return found


def _signed(members: Sequence[Member], left_out: Collection[str]) -> list[Member]:
    return [m for m in members if not any(m.path == p or m.path.startswith(f"{p}/") for p in left_out)]


def _root(resources: Sequence[Mapping[str, str]]) -> str:
    over = hashlib.sha256()
    for resource in resources:
        over.update(bytes.fromhex(resource["digest"]))
    return "sha256:" + over.hexdigest()
