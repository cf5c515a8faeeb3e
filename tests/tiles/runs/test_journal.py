"""The journal on SQLite, and the one in memory."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from tallystick.core.facts import Fact
from tallystick.ports.runs.journal import Entry, Journal
from tallystick.ports.tile import Place
from tallystick.proofs.runs.journal import DurableJournalProof, JournalProof
from tallystick.tiles.ledger import sql
from tallystick.tiles.ledger.sqlite import FILE_NAME, SqliteLedger, open_tile
from tests.fakes.runs.journal import MemoryJournal


class TestSqliteJournal(DurableJournalProof):
    async def open(self, home: Path) -> Journal:
        return open_tile(Place(home))

    async def close(self, journal: Journal) -> None:
        assert isinstance(journal, SqliteLedger)
        await journal.close()


class TestMemoryJournal(JournalProof):
    async def open(self, home: Path) -> Journal:
        return MemoryJournal()

    async def close(self, journal: Journal) -> None:
        pass


async def test_a_home_from_before_gets_a_journal_and_keeps_its_facts(tmp_path: Path) -> None:
    old = open_tile(Place(tmp_path))
    await old.append([Fact("run", "run-1", "planned")])
    await old.close()
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute("DROP TABLE tally_journal")
        connection.execute("DROP TABLE tally_steps")
        connection.execute(sql.META_SET, ("schema", "1"))
    connection.close()
    new = open_tile(Place(tmp_path))
    await new.record("default", "run-1", [Entry("1", [("a", "a1")])])
    found = await new.latest("default", "run", "run-1")
    assert found is not None
    assert found.event == "planned"
    assert await new.steps("default", "run-1") == ["a1"]
    await new.close()
