from __future__ import annotations

import asyncio
import importlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest
import pytest_asyncio
from pyiceberg.catalog.sql import SqlCatalog

from tallystick.core.data import Column, Snapshot, TableRef
from tallystick.core.errors import (
    BadInput,
    Conflict,
    Damaged,
    Failed,
    NotFound,
    NotSupported,
    TooLarge,
    Unavailable,
)
from tallystick.ports.catalogue import Catalogue
from tallystick.ports.sandbox import Sandbox
from tallystick.ports.tile import Place
from tallystick.proofs.catalogue import CatalogueProof
from tallystick.tiles.catalogue.iceberg import IcebergCatalogue, open_tile
from tests.fakes.catalogue import FakeCatalogue
from tests.fakes.plain_sandbox import PlainSandbox

Open = Callable[..., IcebergCatalogue]


class TestFakeCatalogue(CatalogueProof):
    async def open(self, home: Path) -> Catalogue:
        return FakeCatalogue()


class TestIcebergCatalogue(CatalogueProof):
    async def open(self, home: Path) -> Catalogue:
        return open_tile(Place(home, parts={"sandbox": PlainSandbox()}))


def _bubblewrap(folder: Path) -> Sandbox:
    found: Any = importlib.import_module("tallystick.tiles.sandbox.bubblewrap")
    sandbox: Sandbox = found.open_tile(Place(folder))
    return sandbox


class TestIcebergCatalogueBehindAWall(CatalogueProof):
    @pytest_asyncio.fixture(autouse=True)
    async def sandbox(self, tmp_path: Path) -> AsyncIterator[Sandbox]:
        (tmp_path / "sandboxes").mkdir()
        try:
            self._sandbox = _bubblewrap(tmp_path / "sandboxes")
        except Unavailable as wrong:
            pytest.skip(str(wrong))
        yield self._sandbox
        await self._sandbox.close()

    async def open(self, home: Path) -> Catalogue:
        return open_tile(Place(home, parts={"sandbox": self._sandbox}))


@pytest_asyncio.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens catalogues, on one home unless told otherwise, and closes them."""
    made: list[IcebergCatalogue] = []

    def open_(home: Path = tmp_path / "home", **options: Any) -> IcebergCatalogue:
        home.mkdir(exist_ok=True)
        made.append(open_tile(Place(home, options, {"sandbox": PlainSandbox()})))
        return made[-1]

    yield open_
    for catalogue in made:
        await catalogue.close()


def _csv(path: Path, *rows: str, header: str = "a,b") -> Path:
    path.write_text("\n".join((header, *rows)) + "\n")
    return path


def _parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def _stock(home: Path) -> SqlCatalog:
    database, warehouse = home / "catalogue" / "catalogue.db", home / "warehouse"
    return SqlCatalog("tallystick", uri=f"sqlite:///{database}", warehouse=str(warehouse))


def _files(home: Path) -> set[Path]:
    return {p for p in (home / "warehouse").rglob("*") if p.is_file()}


def _until(is_so: Callable[[], bool]) -> asyncio.Task[None]:
    async def wait() -> None:
        async with asyncio.timeout(20):
            while not is_so():  # noqa: ASYNC110 - neither a folder nor a timer tells us
                await asyncio.sleep(0.01)

    return asyncio.create_task(wait())


async def test_anybodys_pyiceberg_reads_and_writes_the_same_tables(opened: Open, tmp_path: Path) -> None:
    ours = opened()
    await ours.append("a.b", _csv(tmp_path / "f", "1,x", "2,"), "f.csv")
    stock = _stock(tmp_path / "home")
    assert stock.list_tables("default") == [("default", "a.b")]
    table = stock.load_table(("default", "a.b"))
    assert table.scan().to_arrow().to_pylist() == [{"a": 1, "b": "x"}, {"a": 2, "b": None}]

    table.append(pa.table({"a": [3], "b": ["y"]}))
    theirs = (await ours.snapshots("a.b"))[-1]
    assert (theirs.rows, theirs.source) == (3, None)
    whole = await ours.append("whole", _csv(tmp_path / "f", "1,x", "2,", "3,y"), "f.csv")
    assert theirs.digest == whole.digest
    after = await ours.append("a.b", _csv(tmp_path / "f", "4,z"), "f.csv")
    assert after.digest == (await ours.append("whole", tmp_path / "f", "f.csv")).digest

    table.refresh().delete("a = 3")
    gone = (await ours.snapshots("a.b"))[-1]
    await ours.export(TableRef("a.b"), tmp_path / "out")
    assert gone.rows == 3
    assert sorted(pq.read_table(tmp_path / "out")["a"].to_pylist()) == [1, 2, 4]
    stock.close()


async def test_a_table_that_another_tool_made_in_its_own_way_is_left_to_it(
    opened: Open, tmp_path: Path
) -> None:
    ours = opened()
    await ours.tables()
    stock = _stock(tmp_path / "home")
    nested = pa.schema([pa.field("a", pa.list_(pa.int64()))])
    strict = pa.schema([pa.field("a", pa.int64(), nullable=False)])
    stock.create_table(("default", "nested"), nested)
    stock.create_table(("default", "strict"), strict)
    stock.create_table(("default", "not one of our names"), strict)
    assert list(await ours.tables()) == ["nested", "strict"]
    assert list(await ours.snapshots("nested")) == []
    with pytest.raises(NotFound, match="no snapshot"):
        await ours.export(TableRef("nested"), tmp_path / "out")
    for name in ("nested", "strict"):
        with pytest.raises(NotSupported):
            await ours.append(name, _csv(tmp_path / "f", "1", header="a"), "f.csv")
    stock.close()


async def test_columns_that_were_renamed_elsewhere_are_read_by_their_new_name(
    opened: Open, tmp_path: Path
) -> None:
    ours = opened()
    old = await ours.append("t", _csv(tmp_path / "f", "1,x"), "f.csv")
    stock = _stock(tmp_path / "home")
    with stock.load_table(("default", "t")).update_schema() as update:
        update.rename_column("b", "c")
    new = await ours.append("t", _csv(tmp_path / "f", "2,y", header="a,c"), "f.csv")
    whole = await ours.append("w", _csv(tmp_path / "f", "1,x", "2,y", header="a,c"), "f.csv")
    assert new.digest == whole.digest
    assert await ours.export(TableRef("t", old.snapshot_id), tmp_path / "out") == old
    stock.close()


async def test_every_type_comes_back_and_the_digest_is_that_of_the_rows(opened: Open, tmp_path: Path) -> None:
    from datetime import UTC, date, datetime, time
    from decimal import Decimal

    columns = {
        "b": pa.array([True, None, False]),
        "i": pa.array([1, None, -3], pa.int16()),
        "u": pa.array([1, None, 2**32 - 1], pa.uint32()),
        "f": pa.array([1.5, None, -0.0], pa.float32()),
        "d": pa.array([date(2024, 2, 29), None, date(1, 1, 1)]),
        "t": pa.array([time(1, 2, 3), None, time(23, 59, 59, 999999)]),
        "s": pa.array([1704067200123, None, -1], pa.timestamp("ms")),
        "z": pa.array([datetime(2024, 1, 1, tzinfo=UTC)] * 3, pa.timestamp("s", tz="Europe/Berlin")),
        "n": pa.array([Decimal("1.50"), None, Decimal("-0.01")]),
        "x": pa.array([b"\x00\xff", None, b""]),
        "w": pa.array(["ä", None, "w"]).dictionary_encode(),
        "odd name.ö'": pa.array(["", None, "x" * 100], pa.large_string()),
    }
    ours = opened()
    made = await ours.append("t", _parquet(tmp_path / "f", **columns), "f.parquet")
    assert [c.type for c in made.columns] == [
        "bool", "int32", "int64", "float", "date32[day]", "time64[us]", "timestamp[us]",
        "timestamp[us, tz=UTC]", "decimal128(3, 2)", "binary", "string", "string",
    ]  # fmt: skip
    await ours.export(TableRef("t"), tmp_path / "out")
    assert pq.read_table(tmp_path / "out").to_pylist() == pa.table(columns).to_pylist()
    again = await ours.append("again", tmp_path / "out", "f.parquet")
    assert again.digest == made.digest

    rows = [{k: _as_text(v) for k, v in row.items() if k != "x"} for row in pa.table(columns).to_pylist()]
    (tmp_path / "j").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(BadInput, match="'x' is missing"):
        await ours.append("t", tmp_path / "j", "j.jsonl")
    await ours.append(
        "no-x", _parquet(tmp_path / "f", **{k: v for k, v in columns.items() if k != "x"}), "f.parquet"
    )
    second = await ours.append("no-x", tmp_path / "j", "j.jsonl")
    assert second.rows == 6


def _as_text(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


async def test_what_a_table_cannot_hold_is_refused_by_name(opened: Open, tmp_path: Path) -> None:
    ours = opened()
    for bad in (
        pa.array([[1]]),
        pa.array([{"x": 1}]),
        pa.array([1], pa.uint64()),
        pa.array([b"12"], pa.binary(2)),
        pa.array([1], pa.duration("s")),
        pa.array([1], pa.timestamp("ns")),
        pa.array([b"\xff"], pa.binary()).view(pa.string()),
        pa.array([None]),
    ):
        with pytest.raises(BadInput, match="'bad'"):
            await ours.append("t", _parquet(tmp_path / "f", good=[1], bad=bad), "f.parquet")
    assert list(await ours.tables()) == []
    assert _files(tmp_path / "home") == set()
    await ours.append("t", _parquet(tmp_path / "f", bad=[1]), "f.parquet")
    for other in (pa.array([1.0]), pa.array([1], pa.int32()), pa.array(["1"])):
        with pytest.raises(BadInput, match="the table has int64"):
            await ours.append("t", _parquet(tmp_path / "f", bad=other), "f.parquet")
    assert (await ours.append("t", _parquet(tmp_path / "f", bad=pa.nulls(2)), "f.parquet")).rows == 3


async def test_a_column_without_any_value_fits_an_existing_table(opened: Open, tmp_path: Path) -> None:
    ours = opened()
    await ours.append("t", _csv(tmp_path / "f", "1,x"), "f.csv")
    await ours.append("t", _csv(tmp_path / "f", ",", ","), "f.csv")
    (tmp_path / "f").write_text('{"a":null,"b":null}\n')
    assert (await ours.append("t", tmp_path / "f", "f.jsonl")).rows == 4


async def test_large_files_are_one_snapshot_and_the_same_digest_in_any_parts(
    opened: Open, tmp_path: Path
) -> None:
    rng = random.Random(7)  # noqa: S311 - a seeded draw is what a test wants
    numbers = [rng.random() if rng.random() > 0.1 else None for _ in range(250_000)]
    words = [f"w{rng.randrange(1000)}" for _ in numbers]
    ours = opened()
    _parquet(tmp_path / "whole", n=numbers, w=words)
    whole = await ours.append("whole", tmp_path / "whole", "f.parquet")
    pcsv.write_csv(pa.table({"n": numbers, "w": words}), tmp_path / "whole.csv")
    assert (await ours.append("csv", tmp_path / "whole.csv", "f.csv")).digest == whole.digest
    last = None
    for start, end in ((0, 1), (1, 8192), (8192, 16385), (16385, 200_000), (200_000, 250_000)):
        _parquet(tmp_path / "part", n=numbers[start:end], w=words[start:end])
        last = await ours.append("parts", tmp_path / "part", "f.parquet")
    assert last is not None
    assert (last.digest, last.rows) == (whole.digest, 250_000)
    assert len(await ours.snapshots("whole")) == 1
    for name in ("whole", "parts"):
        await ours.export(TableRef(name), tmp_path / f"{name}.out")
    assert (tmp_path / "whole.out").read_bytes() == (tmp_path / "parts.out").read_bytes()
    assert pq.read_table(tmp_path / "parts.out").equals(pa.table({"n": numbers, "w": words}))


async def test_over_a_limit_is_too_large_and_says_the_limit(opened: Open, tmp_path: Path) -> None:
    ours = opened(file_bytes_max=1000, rows_max=10, columns_max=3)
    with pytest.raises(TooLarge, match="1000 bytes"):
        await ours.append("t", _csv(tmp_path / "f", *["1,2"] * 1000), "f.csv")
    with pytest.raises(TooLarge, match="10 rows"):
        await ours.append("t", _csv(tmp_path / "f", *["1,2"] * 11), "f.csv")
    with pytest.raises(TooLarge, match="the limit is 3"):
        await ours.append("t", _csv(tmp_path / "f", "1,2,3,4", header="a,b,c,d"), "f.csv")
    with pytest.raises(TooLarge, match="the limit is 3"):
        await opened(columns_max=3).append(
            "t", _parquet(tmp_path / "f", a=[1], b=[1], c=[1], d=[1]), "f.parquet"
        )
    with pytest.raises(TooLarge, match="1000 characters"):
        await ours.append("t", tmp_path / "f", "x" * 1000 + ".csv")
    assert list(await ours.tables()) == []


async def test_a_pipe_is_refused_and_not_waited_for(opened: Open, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadInput, match="not a regular file"):
        await opened().append("t", tmp_path / "pipe", "f.csv")


async def test_a_home_that_iceberg_would_misread_is_refused(opened: Open, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="misreads"):
        opened(tmp_path / "100%")
    spaced = opened(tmp_path / "a home with spaces")
    await spaced.append("t", _csv(tmp_path / "f", "1,x"), "f.csv")
    assert list(await spaced.tables()) == ["t"]


async def test_two_homes_and_two_lives_agree(opened: Open, tmp_path: Path) -> None:
    first = opened()
    made = await first.append("t", _csv(tmp_path / "f", "1,x"), "f.csv")
    await first.close()
    assert list(await opened().snapshots("t")) == [made]
    other = await opened(tmp_path / "other").append("u", tmp_path / "f", "g.csv")
    assert other.digest == made.digest


async def test_two_hubs_on_one_home_lose_nothing(opened: Open, tmp_path: Path) -> None:
    ones = [opened(), opened()]
    await ones[0].append("t", _csv(tmp_path / "f", "0,x"), "f.csv")
    await ones[1].tables()
    files = [_csv(tmp_path / f"f{n}", f"{n},x") for n in range(12)]
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
        file = _csv(tmp_path / "f", "1,x")
        answers = await asyncio.gather(
            *(one.append(f"t{n}", file, "f.csv") for one in ones), return_exceptions=True
        )
        assert all(isinstance(a, Snapshot | Conflict) for a in answers), answers
        assert len(await ones[0].snapshots(f"t{n}")) == sum(isinstance(a, Snapshot) for a in answers) >= 1


async def test_a_worker_that_died_is_one_error_and_then_another_worker(opened: Open, tmp_path: Path) -> None:
    ours = opened()
    await ours.append("t", _csv(tmp_path / "f", "1,x"), "f.csv")
    pid = ours.worker_pid
    assert pid
    os.kill(pid, signal.SIGSTOP)
    asked = asyncio.create_task(ours.append("t", tmp_path / "f", "f.csv"))
    staging = tmp_path / "home" / "catalogue" / "staging"
    await _until(lambda: any(staging.iterdir()))
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


async def test_a_worker_that_does_not_answer_in_time_is_ended(opened: Open, tmp_path: Path) -> None:
    ours = opened(call_s_max=0.3)
    await ours.tables()
    assert ours.worker_pid
    os.kill(ours.worker_pid, signal.SIGSTOP)
    with pytest.raises(Failed, match=r"within 0\.3 s"):
        await ours.tables()
    assert ours.worker_pid is None


async def test_a_caller_that_goes_away_leaves_no_answer_for_the_next(opened: Open, tmp_path: Path) -> None:
    ours = opened()
    await ours.append("t", _csv(tmp_path / "f", "1,x"), "f.csv")
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
    await _until(lambda: ours.worker_pid is None)
    assert list(await ours.tables()) == []


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
    data = _csv(tmp_path / "f", *(f"{n},x{n}" for n in range(20_000)))
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
    await ours.append("t", _csv(tmp_path / "f", "1,x"), "f.csv")
    before = _files(tmp_path / "home")
    await ours.close()
    write = "6f0c8a52-5d4f-4a5e-8c6e-0d8f0f2f7a11"
    (tmp_path / f"home/catalogue/intents/{write}.json").write_text('{"table": "t"}')
    for left in (f"data/00000-0-{write}.parquet", f"metadata/{write}-m0.avro"):
        (tmp_path / "home/warehouse/default/t" / left).write_bytes(b"half")
    assert list(await opened().tables()) == ["t"]
    assert _files(tmp_path / "home") == before


async def test_rows_that_changed_on_the_disk_are_damaged(opened: Open, tmp_path: Path) -> None:
    ours = opened()
    await ours.append("t", _csv(tmp_path / "f", "1,x"), "f.csv")
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
    file = _csv(tmp_path / "f", "1,x")
    await ours.append("t", file, "f.csv")
    assert file.stat().st_nlink == 1


def test_the_hubs_half_imports_nothing_heavy() -> None:
    said = "import sys, tallystick.tiles.catalogue.iceberg; print([m for m in sys.modules if m in {!r}])"
    heavy = ("pyarrow", "pyiceberg", "numpy", "pandas", "sqlalchemy")
    done = subprocess.run([sys.executable, "-c", said.format(heavy)], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"


async def test_columns_are_said_in_our_words(opened: Open, tmp_path: Path) -> None:
    made = await opened().append("t", _csv(tmp_path / "f", "2024-01-31,true"), "f.csv")
    assert made.columns == (Column("a", "date32[day]"), Column("b", "bool"))
