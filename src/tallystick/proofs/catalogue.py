"""What every catalogue must do, and refuse. Subclass it and say how one is opened."""

from __future__ import annotations

import asyncio
import math
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tallystick.core.data import Column, Snapshot, TableRef
from tallystick.core.errors import BadInput, Conflict, NotFound, Unavailable
from tallystick.core.names import check_digest, digest_of
from tallystick.ports.catalogue import Catalogue

__all__ = ["CatalogueProof"]

_CSV = b"id,height,name\n1,1.5,ann\n2,,bob\n3,2.0,\n"
_JSONL = b'{"id":1,"height":1.5,"name":"ann"}\n{"id":2,"height":null,"name":"bob"}\n{"id":3,"height":2}\n'
_COLUMNS = (Column("id", "int64"), Column("height", "double"), Column("name", "string"))

_REFUSED: Sequence[tuple[str, bytes, str]] = (
    ("x.csv", b"id,height,name\n1,2,x\n3,4\n", "line 3"),
    ("x.csv", b'id,height,name\n1,2,"x\ny"\n\n3,4,z,5\n', "line 5"),
    ("x.csv", b"id,height\n1,2\n", "'name'"),
    ("x.csv", b"id,height,name,more\n1,2,x,y\n", "'more'"),
    ("x.csv", b"id,height,name,id\n1,2,x,1\n", "'id'"),
    ("x.csv", b"id,height,name\n1,2,x\n1.5,2,y\n", "line 3"),
    ("x.csv", b"id,height,name\n1,tall,x\n", "'height'"),
    ("x.csv", b"id,height,name\n1,nan,x\n", "'height'"),
    ("x.csv", b"id,height,name\n1,2,x\n1,-inf,x\n", "row 2"),
    ("x.csv", b"id,height,name\n1,2,\xff\n", "line 2"),
    ("x.csv", b"id,height,name\n", "no rows"),
    ("x.csv", b"", "empty"),
    ("x.csv", b"PAR1\x00\x01\x02", ""),
    ("x.jsonl", b'{"id":1,"height":1,"name":"x"}\nnot json\n', "line 2"),
    ("x.jsonl", b'{"id":1,"height":1,"name":"x"}\n[1]\n', "line 2"),
    ("x.jsonl", b'{"id":1,"height":1,"name":"x"}\n{"id":"one"}\n', "line 2"),
    ("x.jsonl", b'{"id":1.5,"height":1,"name":"x"}\n', "'id'"),
    ("x.jsonl", b'{"id":1,"height":1}\n', "'name'"),
    ("x.jsonl", b'{"id":1,"height":1,"name":"x","more":1}\n', "'more'"),
    ("x.jsonl", b'{"id":1,"height":NaN,"name":"x"}\n', "'height'"),
    ("x.ndjson", b"", "no rows"),
    ("x.parquet", b"", ""),
    ("x.parquet", _CSV, ""),
    ("x.txt", _CSV, ".csv"),
    ("csv", _CSV, ".csv"),
)

_REFUSED_NEW: Sequence[tuple[str, bytes, str]] = (
    ("x.csv", b"a,a\n1,2\n", "'a'"),
    ("x.csv", b"a,\n1,2\n", "column name"),
    ("x.csv", b"a,b\n1,2\n3\n", "line 3"),
    ("x.csv", b"a,b\n1,\n2,\n", "'b'"),
    ("x.jsonl", b'{"a":[1]}\n', "'a'"),
    ("x.jsonl", b'{"a":{"b":1}}\n', "'a'"),
)


class CatalogueProof:
    """Cases for one implementation; :meth:`open` gives a catalogue on an empty or earlier home."""

    async def open(self, home: Path) -> Catalogue:
        """A catalogue that keeps its tables in ``home``."""
        raise NotImplementedError

    @pytest_asyncio.fixture
    async def catalogue(self, tmp_path: Path) -> AsyncIterator[Catalogue]:
        """A new, empty one, closed in the end."""
        home = tmp_path / "home"
        home.mkdir()
        catalogue = await self.open(home)
        yield catalogue
        await catalogue.close()

    @staticmethod
    async def append(
        catalogue: Catalogue, table: str, data: bytes, name: str = "x.csv", **kw: bool
    ) -> Snapshot:
        """Append ``data`` as the file ``name``; the file itself has no ending."""
        with tempfile.NamedTemporaryFile(prefix="tally-proof-") as file:
            file.write(data)
            file.flush()
            return await catalogue.append(table, Path(file.name), name, **kw)

    async def test_a_file_becomes_a_table_with_one_snapshot(self, catalogue: Catalogue) -> None:
        snapshot = await self.append(catalogue, "people", _CSV, "people.csv")
        assert (snapshot.table, snapshot.rows, snapshot.parent) == ("people", 3, None)
        assert snapshot.columns == _COLUMNS
        assert snapshot.at_ms > 0
        check_digest(snapshot.digest)
        assert snapshot.source is not None
        assert (snapshot.source.name, snapshot.source.size_bytes) == ("people.csv", len(_CSV))
        assert snapshot.source.digest == digest_of(_CSV)
        assert list(await catalogue.snapshots("people")) == [snapshot]
        assert list(await catalogue.tables()) == ["people"]

    async def test_appends_are_a_chain_and_count_the_whole_table(self, catalogue: Catalogue) -> None:
        made = [await self.append(catalogue, "t", _CSV, f"{n}.csv") for n in range(3)]
        assert [s.rows for s in made] == [3, 6, 9]
        assert [s.parent for s in made] == [None, made[0].snapshot_id, made[1].snapshot_id]
        assert len({s.snapshot_id for s in made} | {s.digest for s in made}) == 6
        assert list(await catalogue.snapshots("t")) == made

    async def test_equal_rows_have_equal_digests_however_they_came(self, catalogue: Catalogue) -> None:
        whole = await self.append(catalogue, "whole", _CSV)
        lines = _CSV.splitlines(keepends=True)
        first = await self.append(catalogue, "parts", lines[0] + lines[1])
        second = await self.append(catalogue, "parts", lines[0] + lines[2] + lines[3])
        turned = await self.append(catalogue, "turned", lines[0] + lines[2] + lines[1] + lines[3])
        json = await self.append(catalogue, "json", _JSONL, "x.NDJSON")
        assert second.digest == whole.digest == json.digest
        assert len({whole.digest, first.digest, turned.digest}) == 3

    async def test_names_types_and_missing_values_count_and_signs_of_zero_do_not(
        self, catalogue: Catalogue
    ) -> None:
        files = (b"a\n1\n", b"b\n1\n", b"a\n1.0\n", b"a\n-0.0\n", b"a\n0.0\n", b"a\nx\n", b'a,b\n,x\n1,""\n')
        digests = [(await self.append(catalogue, f"t{i}", f)).digest for i, f in enumerate(files)]
        assert digests[3] == digests[4]
        assert len(set(digests)) == len(files) - 1

    async def test_columns_may_come_in_another_order(self, catalogue: Catalogue) -> None:
        made = await self.append(catalogue, "t", _CSV)
        await self.append(catalogue, "u", _CSV)
        turned = await self.append(catalogue, "t", b"name,id,height\nzoe,4,1.25\n")
        straight = await self.append(catalogue, "u", b"id,height,name\n4,1.25,zoe\n")
        assert turned.columns == made.columns
        assert turned.digest == straight.digest

    async def test_text_without_a_point_fits_a_number_with_one(self, catalogue: Catalogue) -> None:
        await self.append(catalogue, "t", b"a\n1.5\n")
        await self.append(catalogue, "t", b"a\n2\n")
        newest = await self.append(catalogue, "t", b'{"a":3}\n', "x.jsonl")
        assert (newest.rows, newest.columns) == (3, (Column("a", "double"),))

    async def test_an_export_has_all_rows_in_order(self, catalogue: Catalogue, tmp_path: Path) -> None:
        await self.append(catalogue, "t", _CSV)
        newest = await self.append(catalogue, "t", _JSONL, "x.jsonl")
        assert await catalogue.export(TableRef("t"), tmp_path / "out.parquet") == newest
        once = [(1, 1.5, "ann"), (2, None, "bob"), (3, 2.0, None)]
        assert _read_parquet(tmp_path / "out.parquet") == once * 2

    async def test_any_snapshot_is_read_again_bit_for_bit(self, catalogue: Catalogue, tmp_path: Path) -> None:
        old = await self.append(catalogue, "t", _CSV)
        await catalogue.export(TableRef("t"), tmp_path / "before")
        await self.append(catalogue, "t", b"id,height,name\n9,9,zed\n")
        ref = TableRef("t", old.snapshot_id)
        assert await catalogue.export(ref, tmp_path / "after") == old
        assert (tmp_path / "before").read_bytes() == (tmp_path / "after").read_bytes()

    async def test_an_export_can_be_ingested_and_is_the_same_table(
        self, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        made = await self.append(catalogue, "t", _CSV)
        await catalogue.export(TableRef("t"), tmp_path / "out")
        again = await catalogue.append("again", tmp_path / "out", "t.PARQUET")
        assert (again.digest, again.columns) == (made.digest, made.columns)

    async def test_what_does_not_fit_is_refused_and_changes_nothing(self, catalogue: Catalogue) -> None:
        made = await self.append(catalogue, "t", _CSV)
        for name, data, said in _REFUSED:
            with pytest.raises(BadInput) as refused:
                await self.append(catalogue, "t", data, name)
            assert said in str(refused.value), (name, data)
        for name, data, said in _REFUSED_NEW:
            with pytest.raises(BadInput) as refused:
                await self.append(catalogue, "new", data, name)
            assert said in str(refused.value), (name, data)
        assert list(await catalogue.tables()) == ["t"]
        assert list(await catalogue.snapshots("t")) == [made]

    async def test_not_a_number_is_kept_where_it_is_allowed(
        self, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        made = await self.append(catalogue, "t", b"a\n1.5\nnan\ninf\n", allow_nan=True)
        await catalogue.export(TableRef("t"), tmp_path / "out")
        rows = [row[0] for row in _read_parquet(tmp_path / "out")]
        assert made.rows == 3
        assert math.isnan(rows[1])
        assert rows[2] == math.inf

    async def test_names_that_could_leave_the_home_are_refused(
        self, catalogue: Catalogue, tmp_path: Path
    ) -> None:
        for name in ("", ".", "..", "../x", "a/b", "/etc/x", "a..b", "a b", "ä", "x" * 101, "a\n", "-x"):
            with pytest.raises(BadInput):
                await self.append(catalogue, name, _CSV)
            with pytest.raises(BadInput):
                await catalogue.snapshots(name)
            with pytest.raises(BadInput):
                await catalogue.export(TableRef(name), tmp_path / "out")
        assert list(await catalogue.tables()) == []
        assert not (tmp_path / "out").exists()

    async def test_names_with_points_and_of_either_case_are_tables_of_their_own(
        self, catalogue: Catalogue
    ) -> None:
        for name in ("b.c", "a", "A", "0", "a_b-c.d"):
            await self.append(catalogue, name, _CSV)
        assert list(await catalogue.tables()) == ["0", "A", "a", "a_b-c.d", "b.c"]

    async def test_what_is_not_there_is_not_found(self, catalogue: Catalogue, tmp_path: Path) -> None:
        await self.append(catalogue, "t", _CSV)
        with pytest.raises(NotFound):
            await catalogue.snapshots("other")
        for ref in (TableRef("other"), TableRef("t", "1"), TableRef("t", "newest")):
            with pytest.raises(NotFound):
                await catalogue.export(ref, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    async def test_only_a_regular_file_is_read(self, catalogue: Catalogue, tmp_path: Path) -> None:
        for path in (tmp_path, tmp_path / "gone.csv"):
            with pytest.raises(BadInput):
                await catalogue.append("t", path, "x.csv")

    async def test_of_appends_at_once_each_lands_or_says_conflict(self, catalogue: Catalogue) -> None:
        await self.append(catalogue, "t", b"a\n0\n")
        answers = await asyncio.gather(
            *(self.append(catalogue, "t", b"a\n%d\n" % n) for n in range(1, 7)), return_exceptions=True
        )
        landed = [a for a in answers if isinstance(a, Snapshot)]
        assert all(isinstance(a, Snapshot | Conflict) for a in answers)
        history = await catalogue.snapshots("t")
        assert {s.snapshot_id for s in landed} == {s.snapshot_id for s in history[1:]}
        assert [s.rows for s in history] == list(range(1, len(landed) + 2))

    async def test_once_closed_it_is_unavailable(self, catalogue: Catalogue) -> None:
        await self.append(catalogue, "t", _CSV)
        await catalogue.close()
        await catalogue.close()
        for call in (catalogue.tables(), catalogue.snapshots("t"), self.append(catalogue, "t", _CSV)):
            with pytest.raises(Unavailable):
                await call


def _read_parquet(path: Path) -> list[tuple[Any, ...]]:
    import pyarrow.parquet as pq

    return [tuple(row.values()) for row in pq.read_table(path).to_pylist()]
