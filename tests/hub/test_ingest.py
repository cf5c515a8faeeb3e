from __future__ import annotations

import asyncio

import pytest

from tallystick.core.data import Snapshot
from tallystick.core.errors import BadInput, MissingTile, Unavailable
from tallystick.hub.house.removal import remove
from tallystick.hub.ingest import ingest, reconcile
from tallystick.routines.recover import recover
from tests.fakes.house import events

ROWS = "a,label\n1,0\n2,1\n"


async def no_runs(spec_digest):
    raise AssertionError("no run is there to be taken up")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "upload"
    path.write_text(ROWS)
    return path


async def test_a_file_becomes_a_snapshot_and_a_fact(house, file):
    house.tenant = "acme"
    snapshot = await ingest(house, "digits", file, "d.csv")
    told = await house.get("data", snapshot.key, Snapshot)
    assert (told.rows, told.tenant, told.source.name) == (2, "acme", "d.csv")
    assert told.digest == snapshot.digest
    assert house.ledger.facts[0].note == "2 rows with d.csv"
    assert list(house.scratch.iterdir()) == []


@pytest.mark.parametrize(("table", "filename"), [("../x", "d.csv"), ("digits", "d.exe")])
async def test_what_cannot_be_ingested_changes_nothing(house, file, table, filename):
    with pytest.raises(BadInput):
        await ingest(house, table, file, filename)
    assert house.ledger.facts == []
    assert await house.catalogue.tables() == []
    assert list(house.scratch.iterdir()) == []


async def test_nan_only_where_it_is_allowed(house, file):
    file.write_text("a,label\n1.5,0\nnan,1\n")
    with pytest.raises(BadInput, match="nan"):
        await ingest(house, "digits", file, "d.csv")
    assert (await ingest(house, "digits", file, "d.csv", allow_nan=True)).rows == 2


async def test_ingests_into_one_table_go_one_after_the_other(house, file):
    made = await asyncio.gather(*(ingest(house, "digits", file, "d.csv") for _ in range(5)))
    assert sorted(s.rows for s in made) == [2, 4, 6, 8, 10]
    assert [f.state["rows"] for f in house.ledger.facts] == [2, 4, 6, 8, 10]


async def test_a_snapshot_whose_fact_was_not_written_is_told_after_a_restart(house, file):
    house.ledger.broken = Unavailable("the disk is full")
    with pytest.raises(Unavailable):
        await ingest(house, "digits", file, "d.csv")
    house.ledger.broken = None
    assert events(house, "data") == []
    marks, _ = await recover(house, no_runs)
    assert marks == list(house.scratch.iterdir())
    assert len(marks) == 1
    assert await reconcile(house) == 1
    assert (await house.all("data", Snapshot))[0].rows == 2
    assert await reconcile(house) == 0
    assert await remove(marks[0])
    assert not (await recover(house, no_runs))[0]


@pytest.mark.parametrize("wrong", [Unavailable("the worker died"), asyncio.CancelledError()])
async def test_an_ingest_that_was_cut_off_is_remembered(house, file, monkeypatch, wrong):
    append = house.catalogue.append

    async def committed_then_lost(*args, **more):
        await append(*args, **more)
        raise wrong

    monkeypatch.setattr(house.catalogue, "append", committed_then_lost)
    with pytest.raises(type(wrong)):
        await ingest(house, "digits", file, "d.csv")
    assert (await recover(house, no_runs))[0]
    assert await reconcile(house) == 1


async def test_without_a_catalogue_nothing_is_left_to_reconcile(house, file, monkeypatch):
    async def missing(*args, **more):
        raise MissingTile("no pyiceberg")

    monkeypatch.setattr(house.catalogue, "append", missing)
    with pytest.raises(MissingTile):
        await ingest(house, "digits", file, "d.csv")
    assert not (await recover(house, no_runs))[0]


async def test_reconciling_tells_only_what_is_missing(house, file):
    first = await ingest(house, "digits", file, "d.csv")
    second = await house.catalogue.append("digits", file, "d.csv")
    await house.catalogue.append("other", file, "d.csv")
    assert await reconcile(house) == 2
    assert {f.key for f in house.ledger.facts} >= {first.key, second.key}
    assert events(house, "data", first.key) == ["ingested"]
