"""Rows in and out: types, limits, stock tools, and the digest that is that of the rows."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest

from tallystick.core.data import TableRef
from tallystick.core.errors import (
    BadInput,
    NotFound,
    NotSupported,
    TooLarge,
)
from tallystick.tiles.catalogue.iceberg import IcebergCatalogue
from tests.tiles.catalogue.files import csv_file, files_of, parquet_file, stock_catalogue

Open = Callable[..., IcebergCatalogue]


async def test_anybodys_pyiceberg_reads_and_writes_the_same_tables(opened: Open, tmp_path: Path) -> None:
    ours = opened()
    await ours.append("a.b", csv_file(tmp_path / "f", "1,x", "2,"), "f.csv")
    stock = stock_catalogue(tmp_path / "home")
    assert stock.list_tables("default") == [("default", "a.b")]
    table = stock.load_table(("default", "a.b"))
    assert table.scan().to_arrow().to_pylist() == [{"a": 1, "b": "x"}, {"a": 2, "b": None}]

    table.append(pa.table({"a": [3], "b": ["y"]}))
    theirs = (await ours.snapshots("a.b"))[-1]
    assert (theirs.rows, theirs.source) == (3, None)
    whole = await ours.append("whole", csv_file(tmp_path / "f", "1,x", "2,", "3,y"), "f.csv")
    assert theirs.digest == whole.digest
    after = await ours.append("a.b", csv_file(tmp_path / "f", "4,z"), "f.csv")
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
    stock = stock_catalogue(tmp_path / "home")
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
            await ours.append(name, csv_file(tmp_path / "f", "1", header="a"), "f.csv")
    stock.close()


async def test_columns_that_were_renamed_elsewhere_are_read_by_their_new_name(
    opened: Open, tmp_path: Path
) -> None:
    ours = opened()
    old = await ours.append("t", csv_file(tmp_path / "f", "1,x"), "f.csv")
    stock = stock_catalogue(tmp_path / "home")
    with stock.load_table(("default", "t")).update_schema() as update:
        update.rename_column("b", "c")
    new = await ours.append("t", csv_file(tmp_path / "f", "2,y", header="a,c"), "f.csv")
    whole = await ours.append("w", csv_file(tmp_path / "f", "1,x", "2,y", header="a,c"), "f.csv")
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
    made = await ours.append("t", parquet_file(tmp_path / "f", **columns), "f.parquet")
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
        "no-x", parquet_file(tmp_path / "f", **{k: v for k, v in columns.items() if k != "x"}), "f.parquet"
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
            await ours.append("t", parquet_file(tmp_path / "f", good=[1], bad=bad), "f.parquet")
    assert list(await ours.tables()) == []
    assert files_of(tmp_path / "home") == set()
    await ours.append("t", parquet_file(tmp_path / "f", bad=[1]), "f.parquet")
    for other in (pa.array([1.0]), pa.array([1], pa.int32()), pa.array(["1"])):
        with pytest.raises(BadInput, match="the table has int64"):
            await ours.append("t", parquet_file(tmp_path / "f", bad=other), "f.parquet")
    assert (await ours.append("t", parquet_file(tmp_path / "f", bad=pa.nulls(2)), "f.parquet")).rows == 3


async def test_a_column_without_any_value_fits_an_existing_table(opened: Open, tmp_path: Path) -> None:
    ours = opened()
    await ours.append("t", csv_file(tmp_path / "f", "1,x"), "f.csv")
    await ours.append("t", csv_file(tmp_path / "f", ",", ","), "f.csv")
    (tmp_path / "f").write_text('{"a":null,"b":null}\n')
    assert (await ours.append("t", tmp_path / "f", "f.jsonl")).rows == 4


async def test_large_files_are_one_snapshot_and_the_same_digest_in_any_parts(
    opened: Open, tmp_path: Path
) -> None:
    rng = random.Random(7)  # noqa: S311 - a seeded draw is what a test wants
    numbers = [rng.random() if rng.random() > 0.1 else None for _ in range(250_000)]
    words = [f"w{rng.randrange(1000)}" for _ in numbers]
    ours = opened()
    parquet_file(tmp_path / "whole", n=numbers, w=words)
    whole = await ours.append("whole", tmp_path / "whole", "f.parquet")
    pcsv.write_csv(pa.table({"n": numbers, "w": words}), tmp_path / "whole.csv")
    assert (await ours.append("csv", tmp_path / "whole.csv", "f.csv")).digest == whole.digest
    last = None
    for start, end in ((0, 1), (1, 8192), (8192, 16385), (16385, 200_000), (200_000, 250_000)):
        parquet_file(tmp_path / "part", n=numbers[start:end], w=words[start:end])
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
        await ours.append("t", csv_file(tmp_path / "f", *["1,2"] * 1000), "f.csv")
    with pytest.raises(TooLarge, match="10 rows"):
        await ours.append("t", csv_file(tmp_path / "f", *["1,2"] * 11), "f.csv")
    with pytest.raises(TooLarge, match="the limit is 3"):
        await ours.append("t", csv_file(tmp_path / "f", "1,2,3,4", header="a,b,c,d"), "f.csv")
    with pytest.raises(TooLarge, match="the limit is 3"):
        await opened(columns_max=3).append(
            "t", parquet_file(tmp_path / "f", a=[1], b=[1], c=[1], d=[1]), "f.parquet"
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
    await spaced.append("t", csv_file(tmp_path / "f", "1,x"), "f.csv")
    assert list(await spaced.tables()) == ["t"]


async def test_two_homes_and_two_lives_agree(opened: Open, tmp_path: Path) -> None:
    first = opened()
    made = await first.append("t", csv_file(tmp_path / "f", "1,x"), "f.csv")
    await first.close()
    assert list(await opened().snapshots("t")) == [made]
    other = await opened(tmp_path / "other").append("u", tmp_path / "f", "g.csv")
    assert other.digest == made.digest
