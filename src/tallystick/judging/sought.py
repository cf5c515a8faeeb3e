"""Sought: the probes that one judgement wants, with what is known of each, and how what is told is kept."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tallystick.core.errors import Failed
from tallystick.core.facts import from_json, to_json
from tallystick.core.model import ModelVersion
from tallystick.core.names import check_name
from tallystick.evidence.domain import Budget, Domain
from tallystick.evidence.policy import Policy
from tallystick.evidence.probe import Example, Probe, ProbeState, Threat
from tallystick.evidence.threats import BASE, Listed, base_key, probe_key
from tallystick.hub.house import House
from tallystick.hub.house.rows import Rows
from tallystick.judging.recall import Kept, Record, record_of

__all__ = ["Sought", "Subject", "failed"]

PART_BYTES_MAX = 16 * 2**20
UNPROVEN = "as its run calls them"
PICTURES = ("original", "noise", "magnified", "adversarial")


@dataclass(frozen=True, slots=True)
class Subject:
    """What is judged: how evidence calls it, and what its results depend on.

    A ``model`` of this hub, or whatever answers at ``address``.
    """

    name: str
    digest: str
    depends: Mapping[str, Any]
    model: ModelVersion | None = None
    address: str = ""


@dataclass
class Sought:
    """The ``probes`` of one judgement, in order, and by key those ``known``.

    ``trained_on`` says whether the record shows that the model was made from the rows ``train``.
    ``given_up`` are those that failed in it, by name, and ``records`` what is known, whole. ``threats`` is
    the digest of the list of threats, ``engine`` are versions that all results depend on.
    """

    house: House
    key: str
    subject: Subject
    rows: Rows
    policy: Policy
    label: str
    train: Rows | None
    probes: Sequence[Listed]
    engine: Mapping[str, str]
    threats: str
    installed: str
    trained_on: bool = False
    known: dict[str, Kept] = field(default_factory=dict)
    given_up: dict[str, Probe] = field(default_factory=dict)
    records: dict[str, Record] = field(default_factory=dict)

    @property
    def domain(self) -> Domain:
        """What a row is, as the policy says."""
        return self.policy.domain(self.subject.name.partition("@")[0])

    @property
    def budget(self) -> Budget:
        """What the attacker may do to such a row."""
        return self.policy.budget.of(self.domain.kind)

    @property
    def base(self) -> str:
        """The key of the engine's own probe. The stated precision changes no result, only what is said."""
        budget = {k: v for k, v in to_json(self.budget).items() if k != "precision"}
        what = {"budget": budget, "domain": to_json(self.domain)}
        depends = {**self.subject.depends, "rows": self.rows.digest, "label": self.label, **what}
        return base_key(depends, self.engine)

    @property
    def train_digest(self) -> str:
        """Of the rows that the model was trained on, and whether the record shows it; empty without any."""
        if self.train is None:
            return ""
        return self.train.digest if self.trained_on else f"{self.train.digest} {UNPROVEN}"

    def keyed(self) -> list[tuple[Listed, str]]:
        """Every probe with its key, as far as what was carried out before it is known."""
        before: list[str] = []
        made = []
        base = self.base
        for listed in self.probes:
            key = probe_key(base, listed, before, self.train_digest)
            made.append((listed, key))
            if self.chained(listed, key):
                before.append(key)
        return made

    def chained(self, listed: Listed, key: str) -> bool:
        """Whether it is an evasion probe that was carried out: those after it start from what it found."""
        kept = self.known.get(key)
        return kept is not None and kept.state == ProbeState.DONE and listed.threat is Threat.EVASION

    @property
    def begun(self) -> bool:
        """Whether it is known what comes before all probes."""
        return self.base in self.known or BASE in self.given_up

    def left(self) -> list[Listed]:
        """The probes that are still to be carried out."""
        return [p for p, key in self.keyed() if key not in self.known and p.name not in self.given_up]

    def give_up(self, listed: Listed, why: str) -> None:
        """It is not tried again in this judgement, and failed for this reason."""
        self.given_up[listed.name] = failed(listed, why)

    async def record(self, key: str, name: str) -> Record:
        """What is known under a key; Failed where nothing is."""
        if key not in self.records:
            if key not in self.known:
                raise Failed(f"probe {name} is not there", where=self.subject.name)
            self.records[key] = await record_of(self.house, self.known[key])
        return self.records[key]

    async def keep(self, out: Path, file: str) -> None:
        """Store a part of the result, told by the worker as ``file`` in ``out``: what it refers to, then its
        record, then the fact. Failed for a part that is none, or of a probe that nobody asked for.
        """
        said, record = await asyncio.to_thread(_understood, out / check_name("part", file))
        probe = record.probe
        expected = {p.name: key for p, key in self.keyed()} | {BASE: self.base}
        if probe.key != expected.get(probe.name) or (probe.name == BASE) != (record.base is not None):
            raise Failed(f"it tells of a probe {probe.name!r:.100} that nobody asked for", where="judge")
        robust = from_json(tuple[int, ...], said.get("robust", ()), "robust")
        if probe.threat is Threat.EVASION and probe.done:
            await self._check_curve(robust, bool(said.get("arrays")))
        shown = [await self._shown(out, example) for example in probe.examples]
        record = replace(record, probe=replace(probe, examples=tuple(shown)))
        kept = Kept(
            name=probe.name,
            threat=probe.threat,
            state=probe.state,
            model=self.subject.name,
            record=await self._stored(record, out.parent / "record.json"),
            arrays=await self._file(out, str(said["arrays"])) if said.get("arrays") else "",
            robust=robust,
            installed=self.installed,
        )
        await self.house.tell("probe", probe.key, probe.state, kept, probe.why or f"of {kept.model}")
        self.records[probe.key] = record
        if probe.state in (ProbeState.DONE, ProbeState.NOT_APPLICABLE):
            self.known[probe.key] = kept
        else:
            self.given_up[probe.name] = record.probe

    async def _check_curve(self, robust: tuple[int, ...], arrays: bool) -> None:
        """Failed unless it falls, from no more than were right, at each eps, and there are arrays of it."""
        base = (await self.record(self.base, BASE)).base
        most = base.right.right if base else 0
        falls = list(robust) == sorted(robust, reverse=True) and all(0 <= n <= most for n in robust)
        if len(robust) != len(self.budget.eps) or not falls or not arrays:
            raise Failed("what was found does not go with the budget", where="judge")

    async def _stored(self, record: Record, path: Path) -> str:
        """As an artifact, by way of ``path``, which lies where no worker can put a link."""
        await asyncio.to_thread(lambda: path.write_text(json.dumps(to_json(record))))
        return (await self.house.artifacts.put_file(path)).digest

    async def _shown(self, out: Path, example: Example) -> Example:
        """The example with its pictures as artifacts."""
        files = {kind: str(getattr(example, kind)) for kind in PICTURES}
        digests: dict[str, Any] = {kind: await self._file(out, file) for kind, file in files.items() if file}
        return replace(example, **digests)

    async def _file(self, out: Path, name: str) -> str:
        """A file of the worker's as an artifact; it names files, never paths."""
        return (await self.house.artifacts.put_file(out / check_name("file", name))).digest


def failed(listed: Listed, why: str) -> Probe:
    """A probe without a result."""
    return Probe(listed.name, listed.threat, ProbeState.FAILED, why or "it gave no reason", listed.tile)


def _understood(path: Path) -> tuple[Mapping[str, Any], Record]:
    """A part of the result, and the record in it: of 16 MiB that is seconds of work, for a thread."""
    said = _read_part(path)
    return said, from_json(Record, said, "part")


def _read_part(path: Path) -> Mapping[str, Any]:
    """A part of the result; Failed where it is none, or too large.

    The worker may still write in that folder: what was opened is what is looked at, and no link is followed.
    """
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as wrong:
        raise Failed(f"its part {path.name} cannot be read: {wrong.strerror}", where="judge") from None
    with os.fdopen(opened, "rb") as file:
        content = file.read(PART_BYTES_MAX + 1) if stat.S_ISREG(os.fstat(opened).st_mode) else b""
    if len(content) > PART_BYTES_MAX:
        raise Failed(f"its part {path.name} is over {PART_BYTES_MAX} bytes", where="judge")
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise Failed(f"its part {path.name} is not JSON", where="judge")
    return said
