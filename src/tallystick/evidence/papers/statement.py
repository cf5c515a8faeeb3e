"""Statements: who says what about which files, as in-toto Statement v1 has it, read strictly.

Source: github.com/in-toto/attestation, spec/v1. What is said is a predicate, under a type of its own:
``PROVENANCE`` (:mod:`tallystick.evidence.papers.provenance`), ``VERDICT``, and ``VOUCHED`` for a model that
somebody vouches for without any record of how it was made.

A model's own subject has the digest of its tree (:func:`tallystick.evidence.papers.tree.tree_digest`), as
it is known by everywhere here. Beside it provenance names each file with the digest of its content, so that
anybody's in-toto tools can check them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tallystick.core.errors import BadInput, Refused
from tallystick.core.facts import to_json
from tallystick.core.names import canonical_json, check_digest
from tallystick.core.verdict import PRODUCTION, Verdict
from tallystick.evidence.papers.envelope import strict_json
from tallystick.evidence.papers.tree import FILES_MAX, Member, check_same, in_order, tree_digest

__all__ = [
    "PAYLOAD_TYPE",
    "PROVENANCE",
    "TREE",
    "VERDICT",
    "VOUCHED",
    "Statement",
    "Subject",
    "check_subjects",
    "check_verdict",
    "digest_set",
    "from_digest_set",
    "ms_of",
    "rfc3339",
    "statement_of",
    "subjects_of",
    "verdict_statement",
]

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
VERDICT = "tally://predicates/verdict/v1"
VOUCHED = "tally://predicates/vouched/v1"
STATEMENT_BYTES_MAX = 32 * 2**20
TEXT_CHARS_MAX = 4096
TREE = "."
"""The subject that stands for the whole folder; no file can have this path."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Subject:
    """What a statement is about: a name, and the SHA-256 of it (``sha256:...``)."""

    name: str
    digest: str

    def __post_init__(self) -> None:
        check_digest(self.digest)
        if not 0 < len(self.name) <= TEXT_CHARS_MAX:
            raise BadInput("a subject has a name", where="statement.subject")


@dataclass(frozen=True, slots=True)
class Statement:
    """``predicate``, of type ``predicate_type``, said about ``subjects``, each of another name."""

    subjects: tuple[Subject, ...]
    predicate_type: str
    predicate: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < len(self.subjects) <= FILES_MAX + 1:
            raise BadInput(f"a statement has 1 to {FILES_MAX + 1:,} subjects", where="statement")
        if len({s.name for s in self.subjects}) < len(self.subjects):
            raise BadInput("two subjects of one name", where="statement")

    def to_bytes(self) -> bytes:
        """Its canonical JSON: the payload that is signed."""
        wire = {
            "_type": STATEMENT,
            "subject": [{"name": s.name, "digest": digest_set(s.digest)} for s in self.subjects],
            "predicateType": self.predicate_type,
            "predicate": to_json(self.predicate),
        }
        return canonical_json(wire).encode("utf-8")

    def about(self, name: str) -> str:
        """The digest of the subject of that name; Refused where there is none."""
        found = next((s.digest for s in self.subjects if s.name == name), "")
        if not found:
            raise Refused(f"it says nothing about {name[:100]!r}", where="statement")
        return found


def statement_of(payload: bytes, payload_type: str, kinds: Collection[str], where: str) -> Statement:
    """A signed payload as a statement of one of ``kinds``; Refused for one of another, BadInput for none.

    What was signed as one thing is never read as another: an envelope with a verdict in it is refused where a
    provenance is expected, however right its signature is.
    """
    if payload_type != PAYLOAD_TYPE:
        raise Refused(f"it was signed as {payload_type[:100]!r}, not as an in-toto statement", where=where)
    wire = strict_json(payload, STATEMENT_BYTES_MAX, where)
    if not isinstance(wire, Mapping) or wire.get("_type") != STATEMENT:
        raise BadInput("it is no in-toto Statement v1", where=where)
    kind, predicate, subjects = wire.get("predicateType"), wire.get("predicate"), wire.get("subject")
    if not isinstance(kind, str) or kind not in kinds:
        raise Refused(f"it is a statement of another kind ({str(kind)[:100]!r})", where=where)
    if not isinstance(predicate, Mapping) or not isinstance(subjects, list):
        raise BadInput("it lacks a subject or a predicate", where=where)
    return Statement(tuple(_subject(s, where) for s in subjects), kind, predicate)


def _subject(wire: Any, where: str) -> Subject:
    if not isinstance(wire, Mapping) or not isinstance(wire.get("name"), str):
        raise BadInput("a subject is an object with a name", where=where)
    return Subject(wire["name"], from_digest_set(wire.get("digest"), where))


def digest_set(digest: str) -> dict[str, str]:
    """in-toto's way to write a digest: ``{"sha256": hex}``."""
    return {"sha256": digest.removeprefix("sha256:")}


def from_digest_set(wire: Any, where: str) -> str:
    """The SHA-256 of a digest set; BadInput where there is none. Other algorithms in it do not count."""
    if not isinstance(wire, Mapping) or not isinstance(wire.get("sha256"), str):
        raise BadInput("a digest needs a sha256", where=where)
    return check_digest("sha256:" + wire["sha256"])


def rfc3339(at_ms: int) -> str:
    """A time in UTC, to the millisecond, as provenance and BOM write it."""
    at = _EPOCH + timedelta(milliseconds=at_ms)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


def ms_of(text: Any, where: str) -> int:
    """Milliseconds since 1970 of an RFC 3339 time with its zone; BadInput otherwise."""
    try:
        at = datetime.fromisoformat(text)
        return (at - _EPOCH) // timedelta(milliseconds=1)
    except (TypeError, ValueError, OverflowError):
        raise BadInput(f"{str(text)[:60]!r} is no time with a zone", where=where) from None


def subjects_of(members: Iterable[Member]) -> tuple[Subject, ...]:
    """The tree, then each file by path."""
    found = in_order(members)
    return (Subject(TREE, tree_digest(found)), *(Subject(m.path, m.digest) for m in found))


def check_subjects(statement: Statement, members: Sequence[Member], what: str) -> str:
    """The tree's digest; Refused, naming files, where the subjects are not these files and their tree."""
    signed = {s.name: s.digest for s in statement.subjects if s.name != TREE}
    check_same(signed, members, what)
    tree = tree_digest(members)
    if statement.about(TREE) != tree:
        raise Refused("the tree's digest is not that of its files", where=what)
    return tree


def verdict_statement(verdict: Verdict) -> Statement:
    """A verdict that was reached, to be signed: about the model's tree, under the model's name."""
    if not verdict.reached:
        raise BadInput(f"verdict {verdict.key} says neither yes nor no", where=verdict.key)
    about = {
        "verdict": verdict.key,
        "model": verdict.model,
        "state": str(verdict.state),
        "stage": verdict.stage,
        "policy": {"name": verdict.policy, "digest": _set_or_none(verdict.policy_digest)},
        "evidence": _set_or_none(verdict.evidence_digest),
        "dataset": {"name": verdict.dataset, "digest": _set_or_none(verdict.dataset_digest)},
        "threats": _set_or_none(verdict.threats),
        "figures": dict(verdict.figures),
        "findings": [to_json(f) for f in verdict.findings],
        "reachedOn": rfc3339(verdict.at_ms),
        "expiresOn": rfc3339(verdict.expires_ms) if verdict.expires_ms else None,
    }
    return Statement((Subject(verdict.model, verdict.model_digest),), VERDICT, about)


def _set_or_none(digest: str) -> dict[str, str] | None:
    return digest_set(digest) if digest else None


def check_verdict(statement: Statement, tree: str, at_ms: int, where: str = "verdict") -> str:
    """The model's name as the verdict has it; Refused unless it is about ``tree``, passed, and counts.

    One that was reached for another stage than production, or on what an endpoint was asked, says less than
    who takes a download reads in it.
    """
    model, state = statement.predicate.get("model"), statement.predicate.get("state")
    if len(statement.subjects) != 1 or statement.subjects[0].name != model:
        raise BadInput("a verdict is about one model", where=where)
    if statement.subjects[0].digest != tree:
        raise Refused("it is about other files than these", where=where)
    if state != "passed":
        raise Refused(f"it says {str(state)[:20]!r}, not 'passed'", where=where)
    if (stage := statement.predicate.get("stage") or PRODUCTION) != PRODUCTION:
        text = f"it is for {str(stage)[:100]!r} alone, not for {PRODUCTION}"
        raise Refused(text, where=where, hint="tally judge MODEL")
    if (until := statement.predicate.get("expiresOn")) is not None and ms_of(until, where) <= at_ms:
        raise Refused(f"it expired on {str(until)[:10]}", where=where, hint="ask for a newer verdict")
    return str(model)
