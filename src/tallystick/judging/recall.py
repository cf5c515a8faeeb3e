"""Recall: probes that were carried out before, by the digest of all that their results depend on.

A probe is a fact of noun ``probe`` under its key; what it found lies among the artifacts. Done is done; what
did not apply is tried again once something else is installed, and what failed always is.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from importlib.metadata import entry_points
from pathlib import Path

from tallystick.core.errors import Damaged, TallyError
from tallystick.core.facts import from_json
from tallystick.evidence.domain import Domain
from tallystick.evidence.figures import Rate
from tallystick.evidence.probe import Probe, ProbeState, Threat
from tallystick.evidence.threats import Listed, ThreatList, probe_key
from tallystick.hub.house import House

__all__ = ["Base", "Kept", "Record", "fingerprint", "keep_threats", "recall", "recall_threats", "record_of"]

NOUN = "probe"
GROUP = "tallystick.attack"
FILES_MAX = 1000
INFO = (".dist-info", ".egg-info")


@dataclass(frozen=True, slots=True)
class Kept:
    """The state of a ``probe``: what it is, and the artifacts with what it found.

    ``record`` is its JSON (:class:`Record`), ``arrays`` of an evasion probe the distances and adversarials
    after it, and ``robust`` how many of the attacked rows withstand at each eps after it. ``installed`` is
    what was installed then. A list of threats is kept in the same way, in ``threats``.
    """

    name: str
    threat: str = ""
    state: str = ""
    model: str = ""
    record: str = ""
    arrays: str = ""
    robust: tuple[int, ...] = ()
    installed: str = ""
    threats: ThreatList | None = None


@dataclass(frozen=True, slots=True)
class Base:
    """What comes before all probes: see :class:`tallystick.crew.judging.base.Base`."""

    clean: Rate
    right: Rate
    noise: tuple[Rate, ...]
    classes: tuple[str, ...] = ()
    domain: Domain = field(default_factory=Domain)
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Record:
    """What a probe found, whole; ``base`` of the engine's own."""

    probe: Probe
    base: Base | None = None


def fingerprint() -> str:
    """A digest of what is installed: Python, every package with its version, the attack tiles' own files.

    A few milliseconds, and nothing is imported. So a tile under development counts as another one as soon as
    it is saved.
    """
    said = hashlib.sha256(sys.version.encode())
    for folder in dict.fromkeys(sys.path):
        try:
            names = sorted(p.name for p in Path(folder or ".").iterdir() if p.suffix in INFO)
        except OSError:  # a zip file, or gone
            continue
        said.update("\n".join(names).encode())
    for entry in sorted(entry_points(group=GROUP), key=lambda e: (e.name, e.value)):
        said.update(f"\n{entry.name}={entry.value}".encode())
        for path in sorted(_sources(entry.value.partition(":")[0])):
            stat = path.stat()
            said.update(f"\n{path} {stat.st_size} {stat.st_mtime_ns}".encode())
    return f"sha256:{said.hexdigest()}"


def _sources(module: str) -> Iterator[Path]:
    """The Python files in the folder of a module, and below; found without importing anything."""
    first, *rest = module.split(".")
    spec = PathFinder.find_spec(first)
    for root in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(root, *rest[:-1]) if rest else Path(root)
        for count, path in enumerate(folder.rglob("*.py") if folder.is_dir() else ()):
            if count >= FILES_MAX:
                return
            yield path


async def recall_threats(house: House, installed: str) -> ThreatList | None:
    """The list of threats, as it was told while the very same things were installed."""
    kept = await house.find(NOUN, installed, Kept)
    return kept.threats if kept else None


async def keep_threats(house: House, installed: str, threats: ThreatList) -> None:
    """So that it need not be asked for again."""
    kept = Kept("threats", installed=installed, threats=threats)
    await house.tell(NOUN, installed, "listed", kept, f"{len(threats.probes)} probes")


async def recall(
    house: House, base: str, probes: Sequence[Listed], train: str, installed: str
) -> Mapping[str, Kept]:
    """Those of ``probes``, and what comes before them, that need not be carried out: by key, in order."""
    found: dict[str, Kept] = {}
    first = await _usable(house, base, installed)
    if first is None:
        return found
    found[base] = first
    before: list[str] = []
    for listed in probes:
        key = probe_key(base, listed, before, train)
        kept = await _usable(house, key, installed)
        if kept is None:
            continue
        found[key] = kept
        if kept.state == ProbeState.DONE and listed.threat is Threat.EVASION:
            before.append(key)
    return found


async def _usable(house: House, key: str, installed: str) -> Kept | None:
    """What is kept under a key, where it still counts and its artifacts are there."""
    kept = await house.find(NOUN, key, Kept)
    if kept is None or kept.state not in (ProbeState.DONE, ProbeState.NOT_APPLICABLE):
        return None
    if kept.state == ProbeState.NOT_APPLICABLE and kept.installed != installed:
        return None
    there = [await house.artifacts.has(digest) for digest in (kept.record, kept.arrays) if digest]
    return kept if all(there) else None


async def record_of(house: House, kept: Kept) -> Record:
    """What a probe found; Damaged where the artifact is not what it was."""
    path = await house.artifacts.path_of(kept.record)
    try:
        return await asyncio.to_thread(lambda: from_json(Record, json.loads(path.read_bytes()), kept.name))
    except (ValueError, TallyError) as wrong:
        raise Damaged(f"the record of probe {kept.name} cannot be read: {wrong}", where="probe") from None
