"""What every journal must do: subclass :class:`JournalProof`, or :class:`DurableJournalProof` on a disk."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tallystick.core.errors import BadInput, TooLarge
from tallystick.ports.runs.journal import ENTRY_BYTES_MAX, Entry, Journal

__all__ = ["DurableJournalProof", "JournalProof"]

T, RUN = "default", "run-1"


class JournalProof(abc.ABC):
    """Adding, reading, and what must be refused."""

    @abc.abstractmethod
    async def open(self, home: Path) -> Journal:
        """Open the journal of ``home``, an empty folder at first."""

    @abc.abstractmethod
    async def close(self, journal: Journal) -> None:
        """Let go of it."""

    @pytest.fixture
    async def journal(self, tmp_path: Path) -> AsyncIterator[Journal]:
        """A new journal."""
        journal = await self.open(tmp_path)
        yield journal
        await self.close(journal)

    async def test_events_come_back_in_order(self, journal: Journal) -> None:
        await journal.record(T, RUN, [Entry('{"n":1}'), Entry('{"n":2}')])
        await journal.record(T, RUN, [])
        await journal.record(T, RUN, [Entry('{"text":"żółw \\u0000 🐢"}')])
        assert await journal.events(T, RUN) == ['{"n":1}', '{"n":2}', '{"text":"żółw \\u0000 🐢"}']
        assert await journal.steps(T, RUN) == []

    async def test_steps_are_as_they_now_stand_in_the_order_in_which_they_came(
        self, journal: Journal
    ) -> None:
        await journal.record(T, RUN, [Entry("1", [("b", "b1"), ("a", "a1")]), Entry("2", [("b", "b2")])])
        await journal.record(T, RUN, [Entry("3", [("c[1]/d", "c1"), ("a", "a2")])])
        assert await journal.steps(T, RUN) == ["b2", "a2", "c1"]
        assert await journal.steps(T, RUN, "c[1]/d") == ["c1"]
        assert await journal.steps(T, RUN, "c[1]") == []

    async def test_runs_and_tenants_are_apart(self, journal: Journal) -> None:
        await journal.record(T, RUN, [Entry("mine", [("a", "mine")])])
        await journal.record("other", RUN, [Entry("theirs", [("a", "theirs")])])
        assert await journal.events(T, "run-2") == []
        assert await journal.events(T, RUN) == ["mine"]
        assert await journal.steps("other", RUN) == ["theirs"]

    async def test_what_is_too_large_or_no_text_adds_nothing(self, journal: Journal) -> None:
        with pytest.raises(TooLarge):
            await journal.record(T, RUN, [Entry("fine"), Entry("x" * (ENTRY_BYTES_MAX + 1))])
        with pytest.raises(BadInput):
            await journal.record(T, RUN, [Entry("fine"), Entry("fine", [("a", "\ud800")])])
        assert await journal.events(T, RUN) == []

    async def test_many_runs_at_once(self, journal: Journal) -> None:
        async def one(run: str) -> None:
            for n in range(20):
                await journal.record(T, run, [Entry(str(n), [(f"s{n % 3}", str(n))])])

        await asyncio.gather(*(one(f"run-{n}") for n in range(8)))
        for n in range(8):
            assert await journal.events(T, f"run-{n}") == [str(i) for i in range(20)]
            assert await journal.steps(T, f"run-{n}") == ["18", "19", "17"]


class DurableJournalProof(JournalProof):
    """And it is there when it is opened again."""

    async def test_it_outlives_its_process(self, tmp_path: Path) -> None:
        journal = await self.open(tmp_path)
        await journal.record(T, RUN, [Entry("1", [("a", "a1")])])
        await self.close(journal)
        again = await self.open(tmp_path)
        await again.record(T, RUN, [Entry("2", [("b", "b1")])])
        assert await again.events(T, RUN) == ["1", "2"]
        assert await again.steps(T, RUN) == ["a1", "b1"]
        await self.close(again)
