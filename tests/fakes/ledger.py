"""A ledger in memory: what hub tests stand on. It passes the same proof as the real ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tallystick.core.errors import BadInput, TooLarge, Unavailable
from tallystick.core.facts import NOUNS, Fact
from tallystick.core.names import canonical_json
from tallystick.ports.ledger import FACT_BYTES_MAX

__all__ = ["MemoryLedger"]


class MemoryLedger:
    """Facts in a list; ``facts`` may be read by tests. With ``broken`` set, appending raises that error."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self.broken: Exception | None = None
        self._newest: dict[tuple[str, str, str], Fact] = {}
        self._closed = False

    def know(self, fact: Fact) -> None:
        """A fact from before the test: it can be looked up, and is not among ``facts``."""
        self._newest[fact.tenant, fact.noun, fact.key] = _copy(fact)

    async def append(self, facts: Sequence[Fact]) -> int:
        self._check_open()
        if self.broken:
            raise self.broken
        kept = [_copy(fact) for fact in facts]
        for fact in kept:
            numbered = replace(fact, seq=len(self.facts) + 1)
            self.facts.append(numbered)
            place = (fact.tenant, fact.noun, fact.key)
            self._newest.pop(place, None)
            self._newest[place] = numbered
        return len(self.facts) if kept else 0

    async def latest(self, tenant: str, noun: str, key: str) -> Fact | None:
        self._check_open()
        return self._newest.get((tenant, noun, key))

    async def latest_of(self, tenant: str, noun: str, keys: Sequence[str]) -> Mapping[str, Fact]:
        self._check_open()
        found = {key: self._newest.get((tenant, noun, key)) for key in keys}
        return {key: fact for key, fact in found.items() if fact}

    async def listing(self, tenant: str, noun: str, limit: int = 100) -> Sequence[Fact]:
        self._check_open()
        found = [f for f in reversed(self._newest.values()) if (f.tenant, f.noun) == (tenant, noun)]
        return found[: max(0, limit)]

    async def history(
        self, tenant: str, *, noun: str = "", key: str = "", before: int = 0, limit: int = 100
    ) -> Sequence[Fact]:
        self._check_open()
        found = [
            f
            for f in reversed(self.facts)
            if f.tenant == tenant
            and noun in ("", f.noun)
            and key in ("", f.key)
            and (before <= 0 or f.seq < before)
        ]
        return found[: max(0, limit)]

    async def counts(self, tenant: str) -> Mapping[str, int]:
        self._check_open()
        nouns = [noun for whose, noun, _ in self._newest if whose == tenant]
        return {noun: nouns.count(noun) for noun in sorted(set(nouns))}

    async def close(self) -> None:
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("the ledger is closed", where="memory")


def _copy(fact: Fact) -> Fact:
    """The fact as it would come back from a disk, or the error that a disk's ledger would raise."""
    if fact.noun not in NOUNS or not fact.key or not fact.tenant or not 0 <= fact.at_ms < 2**63:
        raise BadInput("not a fact", where=f"{fact.noun} {fact.key!r}")
    try:
        text = canonical_json(dict(fact.state))
        sizes = [len(part.encode()) for part in (text, fact.key, fact.event, fact.note)]
    except (TypeError, ValueError, RecursionError) as wrong:
        raise BadInput(f"not JSON: {wrong}", where=f"{fact.noun} {fact.key!r}") from wrong
    if max(sizes) > FACT_BYTES_MAX:
        raise TooLarge("over FACT_BYTES_MAX", where=f"{fact.noun} {fact.key!r}")
    return replace(fact, state=json.loads(text))
