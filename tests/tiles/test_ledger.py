"""The ledger on SQLite, and the one in memory."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tallystick.core.errors import BadInput, Conflict, Damaged, Unavailable
from tallystick.core.facts import Fact
from tallystick.ports.ledger import Ledger
from tallystick.ports.tile import Place
from tallystick.proofs.ledger import DurableLedgerProof, LedgerProof
from tallystick.tiles.ledger import sql
from tallystick.tiles.ledger import sqlite as tile
from tallystick.tiles.ledger.sqlite import FILE_NAME, SqliteLedger, open_tile
from tests.fakes.ledger import MemoryLedger
from tests.fakes.machine.process import killed_after

T = "default"


def fact(key: str, size: int = 1) -> Fact:
    return Fact("run", key, "began", {"x": "x" * size})


class TestSqliteLedger(DurableLedgerProof):
    async def open(self, home: Path) -> Ledger:
        return open_tile(Place(home))


class TestMemoryLedger(LedgerProof):
    async def open(self, home: Path) -> Ledger:
        return MemoryLedger()


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[SqliteLedger]:
    ledger = open_tile(Place(tmp_path))
    yield ledger
    await ledger.close()


@pytest.fixture
def beside(ledger: SqliteLedger, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """What another program in the same file is."""
    connection = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None, timeout=60)
    yield connection
    connection.close()


async def test_an_acknowledged_fact_is_on_disk(ledger: SqliteLedger) -> None:
    connection = ledger._writer._connection  # the setting is of this connection alone
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL: a sync for each commit


async def test_nothing_appended_is_nothing_written(ledger: SqliteLedger) -> None:
    assert await ledger.append([]) == 0


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tally_facts SET state = '{}'",
        "DELETE FROM tally_facts",
        "INSERT OR REPLACE INTO tally_facts VALUES (1, 'default', 'run', 'b', 'e', '{}', '', 0)",
    ],
)
async def test_no_statement_changes_a_fact(
    ledger: SqliteLedger, beside: sqlite3.Connection, statement: str
) -> None:
    await ledger.append([fact("a")])
    with pytest.raises(sqlite3.IntegrityError, match="facts are never"):
        beside.execute(statement)
    assert [(f.seq, f.key, f.state) for f in await ledger.history(T)] == [(1, "a", {"x": "x"})]


@pytest.mark.parametrize(
    "harm",
    [
        "DELETE FROM tally_nouns",
        "DELETE FROM tally_nouns WHERE key = 'b'",
        "UPDATE tally_nouns SET seq = 1 WHERE key = 'a'",
        "INSERT INTO tally_nouns VALUES ('default', 'run', 'never', 99)",
        "UPDATE tally_nouns SET noun = 'model' WHERE key = 'b'",
    ],
)
async def test_a_rebuilt_view_equals_the_one_that_was_kept(
    ledger: SqliteLedger, beside: sqlite3.Connection, harm: str
) -> None:
    await ledger.append([fact("a"), fact("b"), fact("a"), Fact("model", "m@1", "registered", tenant="u")])
    kept = beside.execute("SELECT * FROM tally_nouns ORDER BY 1, 2, 3").fetchall()
    assert not await ledger.rebuild()
    beside.execute(harm)
    assert await ledger.rebuild()
    assert beside.execute("SELECT * FROM tally_nouns ORDER BY 1, 2, 3").fetchall() == kept
    assert not await ledger.rebuild()


async def test_a_view_that_is_behind_is_mended_at_opening(tmp_path: Path) -> None:
    first = open_tile(Place(tmp_path))
    await first.append([fact("a"), fact("b")])
    await first.close()
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute("DELETE FROM tally_nouns WHERE key = 'b'")
    connection.close()
    again = open_tile(Place(tmp_path))
    found = await again.latest(T, "run", "b")
    await again.close()
    assert found is not None


async def test_reads_use_an_index(ledger: SqliteLedger, beside: sqlite3.Connection) -> None:
    for statement, values in [
        (sql.LATEST, ("t", "run", "k")),
        (sql.LISTING, ("t", "run", 9)),
        (sql.HISTORY, ("t", 9, 9)),
        (sql.HISTORY_BY_NOUN, ("t", "run", 9, 9)),
        (sql.HISTORY_BY_KEY, ("t", "k", "run", 9, 9)),
        (sql.COUNTS, ("t",)),
    ]:
        plan = [row[3] for row in beside.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
        assert not [step for step in plan if "SCAN" in step or "TEMP B-TREE" in step], (statement, plan)


CHILD = """
import asyncio, os, random, sys
from pathlib import Path
from tallystick.core.facts import Fact
from tallystick.ports.tile import Place
from tallystick.tiles.ledger.sqlite import open_tile

async def write(ledger, task, lots):
    for n in range(100_000):
        together = [Fact("run", f"{task}", f"{n}", {"x": "x" * lots.randrange(2000)})] * lots.randint(1, 3)
        seq = await ledger.append(together)
        os.write(1, f"{task} {n} {len(together)} {seq}\\n".encode())

async def main():
    ledger = open_tile(Place(Path(sys.argv[1])))
    await asyncio.gather(*(write(ledger, task, random.Random(f"{sys.argv[2]} {task}")) for task in range(8)))

asyncio.run(main())
"""


@pytest.mark.parametrize("seed", range(5))
async def test_killed_while_it_appends_it_keeps_all_that_it_acknowledged(tmp_path: Path, seed: int) -> None:
    said = killed_after(20 + 97 * seed, [sys.executable, "-c", CHILD, str(tmp_path), str(seed)])
    ledger = open_tile(Place(tmp_path))
    facts = list(reversed(await ledger.history(T, limit=100_000)))
    in_step = not await ledger.rebuild()
    await ledger.close()
    assert in_step
    assert [f.seq for f in facts] == list(range(1, len(facts) + 1))
    whole = [line.split() for line in said if line.endswith(b"\n")]
    assert len(whole) >= 20
    found: dict[tuple[str, str], list[int]] = {}
    for f in facts:
        found.setdefault((f.key, f.event), []).append(f.seq)
    for task, n, count, seq in ([field.decode() for field in line] for line in whole):
        last = int(seq)
        assert found[task, n] == list(range(last - int(count) + 1, last + 1))


BESIDE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
connection.execute("CREATE TABLE runs (id INTEGER PRIMARY KEY, name TEXT)")
for n in range(150):
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO runs (name) VALUES (?)", [(f"{n} {i}",) for i in range(50)])
    connection.execute("COMMIT")
print(connection.execute("SELECT count(*) FROM runs").fetchone()[0])
"""


async def test_another_program_writes_to_the_same_file(ledger: SqliteLedger, tmp_path: Path) -> None:
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", BESIDE, str(tmp_path / FILE_NAME), stdout=subprocess.PIPE
    )

    async def write(task: int) -> int:
        count = 0
        while other.returncode is None:
            await ledger.append([fact(f"{task} {count}")])
            count += 1
        return count

    writing = asyncio.gather(*(write(task) for task in range(4)))
    said, _ = await other.communicate()
    counts = await writing
    assert said.strip() == b"7500"
    assert (await ledger.counts(T))["run"] == sum(counts)


async def test_a_lock_that_lasts_is_unavailable_and_reads_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tile, "LOCK_WAIT_MS", 50)
    ledger = open_tile(Place(tmp_path))
    await ledger.append([fact("a")])
    beside = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    beside.execute("BEGIN IMMEDIATE")
    waiting = asyncio.gather(*(ledger.append([fact(f"{n}")]) for n in range(5)), return_exceptions=True)
    assert await ledger.latest(T, "run", "a")
    answers = await waiting
    assert [type(answer) for answer in answers] == [Unavailable] * 5
    assert "locked" in str(answers[0])
    beside.execute("ROLLBACK")
    beside.close()
    assert await ledger.append([fact("b")]) == 2
    await ledger.close()


async def test_a_full_disk_is_unavailable_and_harms_nobody_else(tmp_path: Path) -> None:
    ledger = open_tile(Place(tmp_path, options={"ledger_mib_max": 1}))
    await ledger.append([fact("a")])
    answers = await asyncio.gather(
        ledger.append([fact("b")]),
        ledger.append([fact("too much", 300_000), fact("too much", 900_000)]),
        ledger.append([fact("c")]),
        return_exceptions=True,
    )
    assert answers[0] == 2
    assert answers[2] == 3
    assert isinstance(answers[1], Unavailable)
    assert "full" in str(answers[1])
    assert answers[1].hint
    assert [f.key for f in await ledger.history(T)] == ["c", "b", "a"]
    more = [ledger.append([fact(f"{n}", 20_000)]) for n in range(100)]
    outcomes = await asyncio.gather(*more, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {int, Unavailable}
    kept = await ledger.history(T, limit=1000)
    await ledger.close()
    again = open_tile(Place(tmp_path))
    assert list(await again.history(T, limit=1000)) == list(kept)
    assert await again.append([fact("more", 300_000)])
    await again.close()


async def test_a_file_that_cannot_be_written_is_unavailable(ledger: SqliteLedger) -> None:
    connection = ledger._writer._connection  # even root is stopped by this
    connection.execute("PRAGMA query_only = ON")
    with pytest.raises(Unavailable, match="cannot be written") as refused:
        await ledger.append([fact("a")])
    assert refused.value.hint
    connection.execute("PRAGMA query_only = OFF")
    assert await ledger.append([fact("a")]) == 1


def test_a_home_that_cannot_be_one_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "home" / FILE_NAME).mkdir(parents=True)
    for home in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "home"):
        with pytest.raises(Unavailable):
            open_tile(Place(home))


def test_a_file_that_is_no_database_is_damaged(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"these are not the bytes of a database, " * 200)
    with pytest.raises(Damaged) as damaged:
        open_tile(Place(tmp_path))
    assert damaged.value.hint


async def test_a_damaged_database_says_so(tmp_path: Path) -> None:
    ledger = open_tile(Place(tmp_path))
    await ledger.append([fact(f"{n}", 500) for n in range(300)])
    await ledger.close()
    raw = bytearray((tmp_path / FILE_NAME).read_bytes())
    raw[4096:] = bytes(len(raw) - 4096)
    (tmp_path / FILE_NAME).write_bytes(raw)
    with pytest.raises(Damaged):
        open_tile(Place(tmp_path))


async def test_a_state_that_was_garbled_is_damaged(ledger: SqliteLedger, beside: sqlite3.Connection) -> None:
    beside.execute("INSERT INTO tally_facts VALUES (1, 'default', 'run', 'a', 'e', '{', '', 0)")
    with pytest.raises(Damaged):
        await ledger.latest(T, "run", "a")


async def test_a_newer_home_is_left_alone(tmp_path: Path) -> None:
    ledger = open_tile(Place(tmp_path))
    await ledger.append([fact("a")])
    await ledger.close()
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    connection.execute("UPDATE tally_meta SET value = '3' WHERE name = 'schema'")
    connection.execute("UPDATE tally_meta SET value = '7.8.9' WHERE name = 'made_by'")
    connection.commit()
    connection.close()
    before = (tmp_path / FILE_NAME).read_bytes()
    with pytest.raises(Conflict, match=r"7\.8\.9") as refused:
        open_tile(Place(tmp_path))
    assert "install tallystick 7.8.9 or newer" in refused.value.hint
    assert (tmp_path / FILE_NAME).read_bytes() == before


async def test_an_existing_mlflow_file_gains_our_tables(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    connection.execute("CREATE TABLE experiments (id INTEGER)")
    connection.execute("INSERT INTO experiments VALUES (7)")
    connection.commit()
    ledger = open_tile(Place(tmp_path))
    await ledger.append([fact("a")])
    assert connection.execute("SELECT id FROM experiments").fetchall() == [(7,)]
    connection.close()
    await ledger.close()


async def test_two_may_make_the_same_home(tmp_path: Path) -> None:
    opened: list[SqliteLedger] = []
    threads = [threading.Thread(target=lambda: opened.append(open_tile(Place(tmp_path)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 4
    answers = await asyncio.gather(*(each.append([fact("a")]) for each in opened for _ in range(5)))
    assert sorted(answers) == list(range(1, 21))
    for each in opened:
        await each.close()


@pytest.mark.parametrize("mib_max", [0, -1, "1", 1.5, True, 2**25])
def test_a_limit_that_is_none_is_refused(tmp_path: Path, mib_max: object) -> None:
    with pytest.raises(BadInput):
        open_tile(Place(tmp_path, options={"ledger_mib_max": mib_max}))
    assert list(tmp_path.iterdir()) == []


def test_the_quiet_tiles_import_nothing_heavy() -> None:
    code = (
        "import sys, tallystick.tiles.ledger.sqlite, tallystick.tiles.artifacts.local,"
        " tallystick.tiles.clock.system, tallystick.tiles.traffic.files;"
        "print([m for m in ('numpy', 'mlflow', 'pyarrow', 'sqlalchemy', 'httpx') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert said.stdout.strip() == b"[]"
