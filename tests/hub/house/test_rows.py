from __future__ import annotations

from dataclasses import replace

import pytest

from tallystick.core.data import TABLE_URI, TableRef
from tallystick.core.errors import BadInput, NotFound, NotSupported
from tallystick.core.values import Values
from tallystick.hub.house.rows import check_exists, export_table, rows_of, table_of
from tests.fakes.house import add_run, add_table


def test_a_uri_means_a_table_or_is_refused():
    assert table_of(f"{TABLE_URI}digits@7") == TableRef("digits", "7")
    for uri in ("digits", "file:///etc/passwd", "s3://b/x", ""):
        with pytest.raises(NotSupported, match="use tally://tables/NAME"):
            table_of(uri)
    for uri in (f"{TABLE_URI}../x", TABLE_URI, f"{TABLE_URI}a/b"):
        with pytest.raises(BadInput):
            table_of(uri)


async def test_the_newest_snapshot_is_meant_unless_one_is_named(house):
    one, two = await add_table(house), await add_table(house)
    await add_table(house, "other")
    assert await check_exists(house, TableRef("digits")) == two
    assert await check_exists(house, TableRef("digits", one.snapshot_id)) == one
    with pytest.raises(NotFound):
        await check_exists(house, TableRef("digits", "9"))
    with pytest.raises(NotFound, match="tally ingest none FILE"):
        await check_exists(house, TableRef("none"))


async def test_an_export_is_stored_once(house):
    snapshot = await add_table(house)
    first = await export_table(house, TableRef("digits"))
    stored = len(house.artifacts.blobs)
    assert await export_table(house, TableRef.parse(snapshot.key)) == first
    assert len(house.artifacts.blobs) == stored
    assert (first[1].name, first[1].digest) == (snapshot.key, snapshot.digest)
    assert list(house.scratch.glob("export-*")) == []


async def test_an_export_that_fails_leaves_nothing(house):
    with pytest.raises(NotFound):
        await export_table(house, TableRef("none"))
    assert list(house.scratch.iterdir()) == []


async def test_rows_by_each_of_their_names(house):
    run = await add_run(house)
    [snapshot] = await house.catalogue.snapshots("digits")
    for name in ("digits", snapshot.key, f"{TABLE_URI}digits", f"{TABLE_URI}{snapshot.key}"):
        assert (await rows_of(house, name)).digest == snapshot.digest
    held_out = await rows_of(house, f"{run.key}/test")
    assert held_out.artifact == held_out.digest == run.outputs.artifacts["test"][0].digest


async def test_an_output_that_is_none_or_many_is_refused(house):
    run = await add_run(house)
    with pytest.raises(BadInput, match="outputs: model, test"):
        await rows_of(house, f"{run.key}/other")
    refs = run.outputs.artifacts["test"] * 2
    many = replace(run, key="run-many", outputs=Values(artifacts={"test": refs}))
    await house.tell("run", many.key, "succeeded", many)
    with pytest.raises(BadInput, match="no single output 'test'"):
        await rows_of(house, "run-many/test")
    with pytest.raises(NotFound):
        await rows_of(house, "run-none/test")
