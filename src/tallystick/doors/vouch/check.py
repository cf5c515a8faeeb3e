"""Check a download against its papers, with trusted keys and nothing else: no hub, no network, no home."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tallystick.core.errors import NotFound, Refused, TallyError
from tallystick.core.names import digest_of
from tallystick.doors.vouch.files import members_in, names_in, read_paper
from tallystick.evidence.papers.bom import read_bill
from tallystick.evidence.papers.envelope import ENVELOPE_BYTES_MAX, parse_envelope, strict_json
from tallystick.evidence.papers.oms import SIGNATURE, SIGNATURE_FILE, bundle_envelope, check_signature
from tallystick.evidence.papers.provenance import Dependency, Provenance
from tallystick.evidence.papers.statement import (
    PROVENANCE,
    VERDICT,
    VOUCHED,
    Statement,
    check_subjects,
    check_verdict,
    statement_of,
)
from tallystick.evidence.papers.tree import Member, check_same, tree_digest
from tallystick.evidence.supply import Inspected, Standing
from tallystick.ports.models.signing import Key, Signing

__all__ = [
    "BOM", "MODEL", "PROVENANCE_FILE", "SIGSTORE_FILE", "VERDICT_FILE", "Check", "Checked", "Identified",
    "Others", "check_download",
]  # fmt: skip

MODEL = "model"
PROVENANCE_FILE = "provenance.json"
BOM = "bom.json"
VERDICT_FILE = "verdict.json"
SIGSTORE_FILE = "model.sigstore.json"
"""A second ``model.sig``, signed by an identity: the provenance names the digest of the first."""
KNOWN = (MODEL, SIGNATURE_FILE, PROVENANCE_FILE, BOM, VERDICT_FILE, SIGSTORE_FILE)
NAMED_MAX = 3
MIB = 2**20

Inspect = Callable[[Path], Inspected]
Stock = Callable[[Path, Path, Key], str]
"""What OpenSSF's own library says: its version where it agrees."""


Identified = Callable[[Path], tuple[str, str, bytes]]
"""Who signed a bundle of Sigstore's, in words; the type of what is in it, and that itself."""


@dataclass(frozen=True, slots=True)
class Others:
    """Other people's readers, in processes of their own.

    ``stock`` has OpenSSF's own library say what it makes of ``model.sig``. ``identified`` looks at what an
    identity signed with Sigstore, which must be there then; without, one that is there is said to be unseen.
    """

    stock: Stock | None = None
    identified: Identified | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what came of it, in words. ``ok`` None: it could not be looked at."""

    name: str
    ok: bool | None
    text: str


@dataclass(slots=True)
class Checked:
    """What was found out. A check that could not be made is not one that passed."""

    model: str = ""
    tree: str = ""
    run: str = ""
    checks: list[Check] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything was looked at, and is right."""
        return bool(self.checks) and all(check.ok for check in self.checks)

    @property
    def why(self) -> str:
        """The first reason against it; empty where there is none."""
        return next((f"{c.name}: {c.text}" for c in self.checks if not c.ok), "")

    def to_wire(self) -> dict[str, Any]:
        """As JSON."""
        checks = [{"name": c.name, "ok": c.ok, "text": c.text} for c in self.checks]
        return {"ok": self.ok, "model": self.model, "tree": self.tree, "run": self.run, "why": self.why,
                "checks": checks}  # fmt: skip


def check_download(
    folder: Path,
    signing: Signing,
    at_ms: int,
    *,
    inspect: Inspect | None = None,
    verdict: bool = True,
    others: Others | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Checked:
    """Look at everything in ``folder`` as `tally download` lays it out, in order; what fails stays said.

    ``inspect`` looks at the files as they are, with nothing loaded. ``verdict`` False does without one, for a
    model that was never judged. ``others`` say what they make of the signatures. ``at_ms`` is the time by
    which a verdict expires. Nothing is written.
    """
    return _Checking(folder, signing, at_ms, progress).all(inspect, verdict, others or Others())


class _Checking:
    def __init__(self, folder: Path, signing: Signing, at_ms: int, progress: Callable[[int], None]) -> None:
        self.folder, self.signing, self.at_ms, self.progress = folder, signing, at_ms, progress
        self.found = Checked()
        self.members: tuple[Member, ...] = ()
        self.signer: Key | None = None
        self.named: Mapping[str, str] = {}

    def all(self, inspect: Inspect | None, verdict: bool, others: Others) -> Checked:
        stock, see = others.stock, others.identified
        self._step("files", self._files)
        sure = self.found.ok and self._step("provenance", self._provenance)
        for name, look in (("signature", self._signature), ("bom", self._bom)):
            self._step(name, look) if sure else self._unseen(name)
        if stock:
            self._step("stock", lambda: self._stock(stock)) if sure else self._unseen("stock")
        if see:
            self._step("sigstore", lambda: self._sigstore(see)) if self.members else self._unseen("sigstore")
        elif (self.folder / SIGSTORE_FILE).exists():
            text = "nobody's identity is trusted here: --identity WHO --issuer URL, or tally trust identity"
            self.found.checks.append(Check("sigstore", None, text))
        if verdict:
            self._step("verdict", self._verdict) if self.members else self._unseen("verdict")
        if inspect and self.members:
            self._step("inspection", lambda: self._inspection(inspect))
        return self.found

    def _step(self, name: str, look: Callable[[], str]) -> bool:
        try:
            self.found.checks.append(Check(name, True, _sayable(look())))
        except TallyError as wrong:
            where = f"{wrong.where}: " if wrong.where and wrong.where not in wrong.what else ""
            self.found.checks.append(Check(name, False, _sayable(where + wrong.what)))
        except OSError as wrong:
            self.found.checks.append(Check(name, False, f"it cannot be read: {wrong.strerror}"))
        return bool(self.found.checks[-1].ok)

    def _unseen(self, name: str) -> None:
        self.found.checks.append(Check(name, None, "not looked at, as something before it is wrong"))

    def _files(self) -> str:
        strange = [name for name in names_in(self.folder) if name not in KNOWN]
        if strange:
            named = ", ".join(ascii(name)[1:-1][:100] for name in strange[:NAMED_MAX])
            raise Refused(f"there is more than belongs to a model: {named}", where=str(self.folder))
        self.members = members_in(self.folder / MODEL, self.progress)
        self.found.tree = tree_digest(self.members)
        return f"{len(self.members)} files, {sum(m.size_bytes for m in self.members) / MIB:.1f} MiB"

    def _read(self, name: str, kinds: tuple[str, ...]) -> tuple[Statement, Key]:
        """A signed statement of the download, and the trusted key that signed it."""
        raw = read_paper(self.folder, name, ENVELOPE_BYTES_MAX)
        envelope = bundle_envelope(raw) if name == SIGNATURE_FILE else raw
        try:
            signed = self.signing.verify(envelope)
        except TallyError as wrong:  # of the paper it says what is wrong, and here is known which that is
            raise type(wrong)(wrong.what, where=name, hint=wrong.hint) from None
        return statement_of(signed.payload, signed.payload_type, kinds, name), signed.key

    def _provenance(self) -> str:
        statement, key = self._read(PROVENANCE_FILE, (PROVENANCE, VOUCHED))
        check_subjects(statement, self.members, PROVENANCE_FILE)
        self.signer = key
        if statement.predicate_type == VOUCHED:
            self.found.model = _sayable(str(statement.predicate.get("model", "")))
            parsed = [Dependency.parse(p, PROVENANCE_FILE) for p in _list(statement.predicate, "byproducts")]
            self.named = {paper.name: paper.digest for paper in parsed}
            return f"{key.name} vouches for the files; how they were made is not on record"
        made = Provenance.parse(statement.predicate, PROVENANCE_FILE)
        self.found.model = _sayable(str(made.external.get("model", "")))
        self.found.run = _sayable(made.invocation)
        self.named = {paper.name: paper.digest for paper in made.byproducts}
        missing = _list(made.internal, "missing")
        return (
            f"signed by {key.name}; made by {_last(made.invocation)} of {made.external.get('pipeline')}"
            + (f"; not on record: {', '.join(map(str, missing))}" if missing else "; its lineage is complete")
        )

    def _signature(self) -> str:
        """``model.sig`` by a trusted key, or the one that the provenance names, which then signs it too."""
        named = self.named.get(SIGNATURE_FILE, "")
        try:
            raw = read_paper(self.folder, SIGNATURE_FILE, ENVELOPE_BYTES_MAX)
        except NotFound:
            if named:
                raise
            return "none, and none is claimed; the provenance signs each file"
        if named and digest_of(raw) != named:
            raise Refused("it is not the one that the provenance names", where=SIGNATURE_FILE)
        statement, by = self._signed_models(raw, bool(named))
        check_signature(statement, self.members)
        return f"OpenSSF model signing, {by}"

    def _signed_models(self, raw: bytes, named: bool) -> tuple[Statement, str]:
        try:
            statement, key = self._read(SIGNATURE_FILE, (SIGNATURE,))
            return statement, f"signed by {key.name}"
        except Refused:
            if not named:
                raise
        envelope = parse_envelope(bundle_envelope(raw))
        statement = statement_of(envelope.payload, envelope.payload_type, (SIGNATURE,), SIGNATURE_FILE)
        return statement, "as the provenance names it"

    def _stock(self, stock: Stock) -> str:
        _, key = self._read(SIGNATURE_FILE, (SIGNATURE,))
        return f"model_signing {stock(self.folder / MODEL, self.folder / SIGNATURE_FILE, key)} agrees"

    def _sigstore(self, identified: Identified) -> str:
        """The other signature: as the first, its statement is about each file, by content."""
        raw = read_paper(self.folder, SIGSTORE_FILE, ENVELOPE_BYTES_MAX)
        with tempfile.TemporaryDirectory(prefix="tally-verify-") as temp:
            copy = Path(temp) / SIGSTORE_FILE  # what was read once is what is looked at
            copy.write_bytes(raw)
            words, kind, payload = identified(copy)
        statement = statement_of(payload, kind, (SIGNATURE,), SIGSTORE_FILE)
        check_signature(statement, self.members, where=SIGSTORE_FILE)
        return words

    def _bom(self) -> str:
        raw = read_paper(self.folder, BOM, ENVELOPE_BYTES_MAX)
        if digest_of(raw) != self.named.get(BOM, ""):
            raise Refused("it is not the one that the provenance names", where=BOM)
        wire = strict_json(raw, ENVELOPE_BYTES_MAX, BOM)
        tree, files = read_bill(wire)
        check_same(files, self.members, BOM)
        if tree != self.found.tree:
            raise Refused("it is about another model", where=BOM)
        kinds = [str(c.get("type")) for c in _list(wire, "components") if isinstance(c, Mapping)]
        return f"{len(files)} files, {kinds.count('data')} tables, {kinds.count('library')} packages"

    def _verdict(self) -> str:
        try:
            statement, key = self._read(VERDICT_FILE, (VERDICT,))
        except NotFound as wrong:
            text = f"there is no {VERDICT_FILE}: it was not judged, or that paper was taken away"
            raise NotFound(text, hint="tally judge MODEL") from wrong
        model = check_verdict(statement, self.found.tree, self.at_ms, VERDICT_FILE)
        if self.found.model and model != self.found.model:
            raise Refused(f"it is about {model[:100]}, not {self.found.model[:100]}", where=VERDICT_FILE)
        self.found.model = _sayable(model)
        policy = statement.predicate.get("policy")
        name = policy.get("name", "") if isinstance(policy, Mapping) else ""
        reached = str(statement.predicate.get("reachedOn", ""))[:10]
        return f"passed under policy {name} on {reached}, signed by {key.name}"

    def _inspection(self, inspect: Inspect) -> str:
        seen = inspect(self.folder / MODEL)
        if seen.standing is Standing.REFUSED:
            raise Refused(f"never load it: {seen.worst[0].why}", where=seen.worst[0].path)
        if seen.standing is Standing.DATA:
            return "nothing in its files can run"
        if self.signer is None:
            raise Refused(f"it runs code as it is loaded: {seen.worst[0].why}", where=seen.worst[0].path)
        return f"it runs code as it is loaded, which {self.signer.name} vouches for: load it behind a wall"


def _list(wire: Mapping[str, Any], name: str) -> list[Any]:
    found = wire.get(name)
    return found if isinstance(found, list) else []


def _sayable(text: str) -> str:
    """One line that can be written out, whatever a stranger put in it: a new line could say "ok"."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _last(address: str) -> str:
    return address.rpartition("/")[2]
