"""What the console sees: the ledger's facts read back as nouns, and the ports that it reads beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from tallystick.core.data import Snapshot
from tallystick.core.endpoint import Endpoint
from tallystick.core.errors import BadInput, Damaged, NotFound, TallyError
from tallystick.core.facts import Fact, from_json
from tallystick.core.model import ModelVersion
from tallystick.core.names import DEFAULT_TENANT
from tallystick.core.pipeline.spec import Pipeline
from tallystick.core.remedy import Remedy
from tallystick.core.run.events import Run, Step
from tallystick.core.run.record import read_step
from tallystick.core.signal import Signal
from tallystick.core.study import Study
from tallystick.core.values import Environment
from tallystick.core.verdict import Verdict
from tallystick.hub.house.whole import ended_with
from tallystick.ports.artifacts import Artifacts
from tallystick.ports.clock import Clock
from tallystick.ports.ledger import Ledger
from tallystick.ports.runs.journal import Journal
from tallystick.ports.traffic import Traffic
from tallystick.routines.differ import Difference
from tallystick.routines.recurring import Cron, Schedule

__all__ = ["KEYS_MAX", "NOUN_OF", "Listing", "View"]

T = TypeVar("T")

KEYS_MAX = 200
"""Keys of one noun that a page reads; what is older is left out, and the page says so."""

READ_MAX = 4000
"""Facts kept as nouns, so that a page does not read the same fact twice. Facts never change."""

RUNS_KEPT = 3
"""Runs whose steps are kept as nouns, and pipelines, since live pages ask for them again and again."""

NOUN_OF: Mapping[type, str] = {
    Snapshot: "data", Run: "run", ModelVersion: "model", Verdict: "verdict",
    Endpoint: "endpoint", Signal: "signal", Remedy: "remedy",
    Environment: "environment", Schedule: "schedule", Study: "study",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """The newest of a noun: values most recently changed first, and the keys that could not be read."""

    values: tuple[T, ...]
    unreadable: tuple[str, ...] = ()
    total: int = 0

    @property
    def left_out(self) -> int:
        """Keys that exist and were not read, being older."""
        return max(0, self.total - len(self.values) - len(self.unreadable))


@dataclass(frozen=True, slots=True)
class View:
    """Everything that the console may look at; it changes nothing.

    ``strength`` says in words what the sandbox can and cannot do. ``pipelines`` gives the pipeline of a
    run's ``spec_digest``, or None where it cannot be read any more; ``compare`` says what differs between two
    runs, ``following`` when a cron expression is due next, and ``expired`` why a verdict counts no more.
    """

    ledger: Ledger
    journal: Journal
    traffic: Traffic
    artifacts: Artifacts
    clock: Clock
    strength: str
    pipelines: Callable[[str], Awaitable[Pipeline | None]]
    tenant: str = DEFAULT_TENANT
    compare: Callable[[str, str], Awaitable[Difference]] | None = None
    following: Cron | None = None
    expired: Callable[[Verdict], Awaitable[str]] | None = None
    _read: dict[int, Any] = field(default_factory=dict)
    _steps: dict[str, dict[int, Step]] = field(default_factory=dict)
    _pipelines: dict[str, Pipeline] = field(default_factory=dict)

    def read(self, fact: Fact, kind: type[T]) -> T:
        """The noun that a fact left behind; Damaged when its state is not one."""
        found = self._read.get(fact.seq)
        if isinstance(found, kind):
            return found
        try:
            value = from_json(kind, fact.state)
        except BadInput as wrong:
            what = f"this record of {fact.noun} {fact.key!r} cannot be read: {wrong.what}"
            hint = "it may have been written by a newer version; the log still shows it as it stands"
            raise Damaged(what, where=wrong.where, hint=hint) from wrong
        if len(self._read) >= READ_MAX:
            self._read.clear()
        self._read[fact.seq] = value
        return value

    async def find(self, kind: type[T], key: str) -> T | None:
        """The noun of a key, or None."""
        fact = await self.ledger.latest(self.tenant, NOUN_OF[kind], key) if key else None
        return self.read(fact, kind) if fact else None

    async def one(self, kind: type[T], key: str) -> T:
        """The noun of a key; NotFound names some that do exist."""
        found = await self.find(kind, key)
        if found is None:
            noun = NOUN_OF[kind]
            known = [f.key for f in await self.ledger.listing(self.tenant, noun, 5)]
            hint = f"there is {', '.join(known)}" if known else f"there is no {noun} yet"
            raise NotFound(f"there is no {noun} {key!r}", where=noun, hint=hint)
        return found

    async def whole(self, run: Run) -> Run:
        """The run with its steps. Of one that is looked at again and again only what changed is read anew."""
        if run.steps:
            return run
        texts = await self.journal.steps(run.tenant, run.key)
        known = self._steps.pop(run.key, {})
        steps = await asyncio.to_thread(_read_steps, texts, known)
        while len(self._steps) >= RUNS_KEPT:
            self._steps.pop(next(iter(self._steps)))
        self._steps[run.key] = steps
        return replace(run, steps=tuple(ended_with(run, step) for step in steps.values()))

    async def pipeline(self, spec_digest: str) -> Pipeline | None:
        """The pipeline of a digest, or None; those looked at last are kept, since reading them takes long."""
        if spec_digest in self._pipelines:
            return self._pipelines[spec_digest]
        try:
            found = await self.pipelines(spec_digest)
        except TallyError:  # gone or damaged: the run's own record is still there to be shown
            return None
        if found:
            while len(self._pipelines) >= RUNS_KEPT:
                self._pipelines.pop(next(iter(self._pipelines)))
            self._pipelines[spec_digest] = found
        return found

    async def newest(self, kind: type[T], limit: int = KEYS_MAX) -> Listing[T]:
        """The most recently changed keys of a noun; one that cannot be read hides no other."""
        noun, values, unreadable = NOUN_OF[kind], [], []
        facts = await self.ledger.listing(self.tenant, noun, limit)
        for fact in facts:
            try:
                values.append(self.read(fact, kind))
            except Damaged:
                unreadable.append(fact.key)
        total = len(facts) if len(facts) < limit else (await self.ledger.counts(self.tenant)).get(noun, 0)
        return Listing(tuple(values), tuple(unreadable), total)

    async def history(self, kind: type, key: str, limit: int = 50) -> tuple[Fact, ...]:
        """What happened to one key, newest first."""
        noun = NOUN_OF[kind]
        return tuple(await self.ledger.history(self.tenant, noun=noun, key=key, limit=limit))


def _read_steps(texts: Sequence[str], known: Mapping[int, Step]) -> dict[int, Step]:
    """Steps by the hash of their text, in order."""
    return {hash(text): known.get(hash(text)) or read_step(text) for text in texts}
