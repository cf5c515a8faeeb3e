"""The worker behind the catalogue: two hubs, crashes, cancelled calls, damage."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tallystick.core.data import Column, Snapshot, TableRef
from tallystick.core.errors import (
    Conflict,
    Damaged,
    Failed,
)
from tallystick.tiles.catalogue.iceberg import IcebergCatalogue
from tests.fakes import plain_sandbox
from tests.tiles.catalogue.files import csv_file, files_of, until

Open = Callable[..., IcebergCatalogue]


async def test_two_hubs_on_one_home_lose_nothing(opened: Open, tmp_path: Path) -> None:
    ones = [opened(), opened()]
    await ones[0].append("t", csv_file(tmp_path / "f", "0,x"), "f.csv")
    await ones[1].tables()
    files = [csv_file(tmp_path / f"f{n}", f"{n},x") for n in range(12)]
    answers = await asyncio.gather(
        *(ones[n % 2].append("t", f, "f.csv") for n, f in enumerate(files)), return_exceptions=True
    )
    landed = [a for a in answers if isinstance(a, Snapshot)]
    assert all(isinstance(a, Snapshot | Conflict) for a in answers), answers
    assert landed
    history = await ones[0].snapshots("t")
    assert {s.snapshot_id for s in landed} == {s.snapshot_id for s in history[1:]}
    assert [s.rows for s in history] == list(range(1, len(landed) + 2))
    await ones[0].export(TableRef("t"), tmp_path / "out")  # checks the digest
    assert pq.read_metadata(tmp_path / "out").num_rows == len(landed) + 1
    assert len(list((tmp_path / "home/warehouse").rglob("*.parquet"))) == len(landed) + 1


async def test_two_hubs_making_one_table_are_one_winner(opened: Open, tmp_path: Path) -> None:
    ones = [opened(), opened()]
    await asyncio.gather(*(one.tables() for one in ones))
    for n in range(3):
        file = csv_file(tmp_path / "f", "1,x")
        answers = await asyncio.gather(
            *(one.append(f"t{n}", file, "f.csv") for one in ones), return_exceptions=True
        )
        assert all(isinstance(a, Snapshot | Conflict) for a in answers), answers
        assert len(await ones[0].snapshots(f"t{n}")) == sum(isinstance(a, Snapshot) for a in answers) >= 1


async def test_a_worker_that_died_is_one_error_and_then_another_worker(opened: Open, tmp_path: Path) -> None:
    ours = opened()
    await ours.append("t", csv_file(tmp_path / "f", "1,x"), "f.csv")
    pid = ours.worker_pid
    assert pid
    os.kill(pid, signal.SIGSTOP)
    asked = asyncio.create_task(ours.append("t", tmp_path / "f", "f.csv"))
    staging = tmp_path / "home" / "catalogue" / "staging"
    await until(lambda: any(staging.iterdir()))
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(Failed, match="signal 9"):
        await asked
    assert (await ours.append("t", tmp_path / "f", "f.csv")).rows in (2, 3)
    assert ours.worker_pid != pid
    assert list(staging.iterdir()) == []


async def test_a_worker_that_died_while_idle_is_replaced_too(opened: Open, tmp_path: Path) -> None:
    ours = opened()
    await ours.tables()
    assert ours.worker_pid
    os.kill(ours.worker_pid, signal.SIGKILL)
    with pytest.raises(Failed, match="try again"):
        await ours.tables()
    assert list(await ours.tables()) == []


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is stopped hears no SIGTERM: nothing is gained by waiting for it."""
    monkeypatch.setattr(plain_sandbox, "GRACE_S_MAX", 0.1)


@pytest.mark.usefixtures("impatient")
async def test_a_worker_that_does_not_answer_in_time_is_ended(opened: Open, tmp_path: Path) -> None:
    ours = opened(call_s_max=0.3)
    await ours.tables()
    assert ours.worker_pid
    os.kill(ours.worker_pid, signal.SIGSTOP)
    with pytest.raises(Failed, match=r"within 0\.3 s"):
        await ours.tables()
    assert ours.worker_pid is None


@pytest.mark.usefixtures("impatient")
async def test_a_caller_that_goes_away_leaves_no_answer_for_the_next(opened: Open, tmp_path: Path) -> None:
    ours = opened()
    await ours.append("t", csv_file(tmp_path / "f", "1,x"), "f.csv")
    assert ours.worker_pid
    os.kill(ours.worker_pid, signal.SIGSTOP)
    asked = asyncio.create_task(ours.snapshots("t"))
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert list(await ours.tables()) == ["t"]


async def test_an_idle_worker_is_ended_and_comes_back(opened: Open) -> None:
    ours = opened(worker_idle_s=0.05)
    await ours.tables()
    await until(lambda: ours.worker_pid is None)
    assert list(await ours.tables()) == []


class _Behind:
    """A loop whose clock is behind its timers, as uvloop's is by a hair in one call out of eleven."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def time(self) -> float:
        return self._loop.time() - 3600.0


async def test_an_idle_worker_is_ended_though_the_clock_is_behind_its_timer(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = opened(worker_idle_s=0.05)
    loop = _Behind()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    await ours.tables()
    await until(lambda: ours.worker_pid is None)


async def test_closing_ends_the_worker(opened: Open) -> None:
    ours = opened()
    await ours.tables()
    pid = ours.worker_pid
    assert pid
    await ours.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.slow
async def test_a_worker_killed_at_any_moment_leaves_the_table_before_or_after(
    opened: Open, tmp_path: Path
) -> None:
    ours = opened()
    data = csv_file(tmp_path / "f", *(f"{n},x{n}" for n in range(20_000)))
    rng = random.Random(11)  # noqa: S311 - as above
    good = (await ours.append("t", data, "f.csv")).rows
    loop = asyncio.get_running_loop()
    start = loop.time()
    await ours.append("t", data, "f.csv")
    usual, landed, lost = loop.time() - start, 2, 0
    for _ in range(8):
        await ours.tables()
        pid = ours.worker_pid
        assert pid
        asked = asyncio.create_task(ours.append("t", data, "f.csv"))
        await asyncio.sleep(rng.uniform(0, 1.1 * usual))
        os.kill(pid, signal.SIGKILL)
        try:
            await asked
            landed += 1
        except Failed:
            lost += 1
            history = await ours.snapshots("t")
            assert len(history) - landed in (0, 1)
            landed = len(history)
        else:
            with pytest.raises(Failed):
                await ours.tables()
    assert lost
    history = await ours.snapshots("t")
    assert [s.rows for s in history] == [good * n for n in range(1, landed + 1)]
    await ours.export(TableRef("t"), tmp_path / "out")  # checks the digest
    assert len(list((tmp_path / "home/warehouse").rglob("*.parquet"))) == landed
    assert list((tmp_path / "home/catalogue/intents").glob("*.json")) == []


async def test_what_a_killed_append_left_is_removed_by_the_next_worker(opened: Open, tmp_path: Path) -> None:
    ours = opened()
    await ours.append("t", csv_file(tmp_path / "f", "1,x"), "f.csv")
    before = files_of(tmp_path / "home")
    await ours.close()
    write = "6f0c8a52-5d4f-4a5e-8c6e-0d8f0f2f7a11"
    (tmp_path / f"home/catalogue/intents/{write}.json").write_text('{"table": "t"}')
    for left in (f"data/00000-0-{write}.parquet", f"metadata/{write}-m0.avro"):
        (tmp_path / "home/warehouse/default/t" / left).write_bytes(b"half")
    assert list(await opened().tables()) == ["t"]
    assert files_of(tmp_path / "home") == before


async def test_rows_that_changed_on_the_disk_are_damaged(opened: Open, tmp_path: Path) -> None:
    ours = opened()
    await ours.append("t", csv_file(tmp_path / "f", "1,x"), "f.csv")
    (file,) = (tmp_path / "home/warehouse").rglob("*.parquet")
    table = pq.read_table(file)
    changed = table.set_column(0, table.schema.field(0), pa.array([2]))
    pq.write_table(changed, file)
    for name in ("out", "other"):
        with pytest.raises(Damaged):
            await ours.export(TableRef("t"), tmp_path / name)
        assert not (tmp_path / name).exists()
        file.unlink(missing_ok=True)


async def test_the_original_cannot_be_reached_through_the_staging_folder(
    opened: Open, tmp_path: Path
) -> None:
    ours = opened()
    file = csv_file(tmp_path / "f", "1,x")
    await ours.append("t", file, "f.csv")
    assert file.stat().st_nlink == 1


def test_the_hubs_half_imports_nothing_heavy() -> None:
    said = "import sys, tallystick.tiles.catalogue.iceberg; print([m for m in sys.modules if m in {!r}])"
    heavy = ("pyarrow", "pyiceberg", "numpy", "pandas", "sqlalchemy")
    done = subprocess.run([sys.executable, "-c", said.format(heavy)], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"


async def test_columns_are_said_in_our_words(opened: Open, tmp_path: Path) -> None:
    made = await opened().append("t", csv_file(tmp_path / "f", "2024-01-31,true"), "f.csv")
    assert made.columns == (Column("a", "date32[day]"), Column("b", "bool"))
