"""What becomes of what was acknowledged when the process is killed, or the server goes away."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tallystick.core.errors import Unavailable
from tallystick.ports.tile import Place
from tallystick.ports.tracking import DEFAULT_WORKSPACE as W
from tallystick.proofs.tracking.record import begin, points, run_id
from tallystick.record.asks import GetRun, LogBatch, LogColumns, LogMetric, LogParam, SetTag
from tallystick.tiles.tracking import writer
from tallystick.tiles.tracking.record import Record
from tests.fakes.mlflow.postgres import PostgresServer, postgres
from tests.fakes.mlflow.record import open_record
from tests.fakes.mlflow.schema import SCHEMA, postgres_schema

__all__ = ["postgres", "postgres_schema"]

R = run_id(1)
METRIC = LogMetric(R, "a", 1.0, 1, 1)


CHILD = """
import asyncio, sys
from pathlib import Path
from tallystick.record.asks import Columns, LogBatch, LogColumns, LogMetric
from tallystick.ports.tile import Place
from tallystick.proofs.tracking.record import begin, run_id
from importlib import import_module
from tallystick.tiles.tracking.record import open_tile

async def main(tile, database):
    place = Place(Path("."), {"database": database})
    database = import_module(f"tallystick.tiles.database.{tile}").open_tile(place)
    record = open_tile(Place(Path("."), {}, {"database": database}))
    await begin(record)

    async def write(task):
        for n in range(10**9):
            key, kind = f"{task}-{n}", n % 3
            columns = Columns([f"{key}-{k}" for k in range(20)], [1.0] * 20, [1] * 20, [n] * 20)
            if kind == 0:
                await record.write(LogMetric(run_id(1), key, 1.0, 1, n), "default")
            elif kind == 1:
                await record.write(LogBatch(run_id(1), columns, ((key, "v"),), ((key, "v"),)), "default")
            else:
                await record.write(LogColumns(key, ((run_id(1), columns),)), "default")
            sys.stdout.write(key + "\\n")
            sys.stdout.flush()

    await asyncio.gather(*(write(task) for task in range(16)))

asyncio.run(main(*sys.argv[1:]))
"""


async def killed_while_writing(tile: str, database: str, acknowledged: int) -> list[str]:
    """What a process had acknowledged when it was killed."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, tile, database, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert child.stdout is not None
    told = [(await child.stdout.readline()).decode() for _ in range(acknowledged)]
    child.kill()
    told += (await child.stdout.read()).decode().splitlines(keepends=True)
    await child.wait()
    return [line.strip() for line in told if line.endswith("\n")]


async def check_all_is_there(record: Record, acknowledged: list[str]) -> None:
    """Everything acknowledged, once; and of what was not, all or nothing."""
    found = await record.read(GetRun(R), W)
    there = [point.key for point in found.metrics]
    assert len(there) == len(set(there))
    batches: dict[str, int] = {}
    for key in there:
        if key.count("-") == 2:
            batch = key.rpartition("-")[0]
            batches[batch] = batches.get(batch, 0) + 1
    assert set(batches.values()) <= {20}
    params, tags = dict(found.params), dict(found.tags)
    assert set(acknowledged) <= {*batches, *there}
    for key in batches:
        if int(key.partition("-")[2]) % 3 == 1:
            assert (params[key], tags[key]) == ("v", "v")


@pytest.mark.parametrize("acknowledged", [1, 100, 600])
async def test_a_killed_process_loses_nothing_that_it_acknowledged(
    tmp_path: Path, sqlite_schema: Path, acknowledged: int
) -> None:
    path = shutil.copy(sqlite_schema, tmp_path / "mlflow.db")
    told = await killed_while_writing("sqlite", f"sqlite:///{path}", acknowledged)
    again = open_record(Place(tmp_path, {"database": f"sqlite:///{path}"}))
    await check_all_is_there(again, told)
    await again.write(METRIC, W)
    await again.close()


async def test_a_killed_process_loses_nothing_in_postgresql(
    postgres_schema: PostgresServer, tmp_path: Path
) -> None:
    url = postgres_schema.create("killed", SCHEMA)
    told = await killed_while_writing("postgresql", url, 300)
    again = open_record(Place(tmp_path, {"database": url}))
    await check_all_is_there(again, told)
    await again.close()


async def test_a_server_that_goes_away_and_comes_back(
    postgres_schema: PostgresServer, tmp_path: Path
) -> None:
    """What can be repeated gets through; the rest is told; nothing is there by halves."""
    url = postgres_schema.create("away", SCHEMA)
    record = open_record(Place(tmp_path, {"database": url}))
    await begin(record)
    acknowledged: list[str] = []
    wanted = asyncio.Semaphore(0)
    stop = asyncio.Event()

    async def write(task: int) -> None:
        n = 0
        while not stop.is_set():
            n += 1
            key = f"{task}-{n}"
            columns = points(*((f"{key}-{k}", 1.0, 1, n) for k in range(20)))
            await record.write(LogColumns(key, ((R, columns),)), W)
            acknowledged.append(key)
            wanted.release()

    tasks = [asyncio.create_task(write(task)) for task in range(8)]
    for _ in range(2):
        for _ in range(50):
            await wanted.acquire()
        await asyncio.to_thread(postgres_schema.kill)
        await asyncio.to_thread(postgres_schema.start)
    for _ in range(50):
        await wanted.acquire()
    stop.set()
    await asyncio.gather(*tasks)
    found = [point.key for point in (await record.read(GetRun(R), W)).metrics]
    assert len(found) == len(set(found)) == 20 * len(acknowledged)
    await record.close()


async def test_a_server_that_stays_away_is_unavailable(
    postgres_schema: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres_schema.create("gone", SCHEMA)
    record = open_record(Place(tmp_path, {"database": url}))
    await begin(record)
    monkeypatch.setattr(writer, "PATIENCE_S", 0.2)
    await asyncio.to_thread(postgres_schema.kill)
    try:
        for ask in (METRIC, SetTag(R, "t", "1")):
            with pytest.raises(Unavailable, match="does not answer"):
                await record.write(ask, W)
        with pytest.raises(Unavailable, match="does not answer"):
            await record.read(GetRun(R), W)
    finally:
        await asyncio.to_thread(postgres_schema.start)
    await record.write(METRIC, W)
    assert [point.key for point in (await record.read(GetRun(R), W)).metrics] == ["a"]
    await record.close()


async def test_two_hubs_share_a_server(postgres_schema: PostgresServer, tmp_path: Path) -> None:
    url = postgres_schema.create("shared", SCHEMA)
    hubs = [open_record(Place(tmp_path, {"database": url})) for _ in range(2)]
    await asyncio.gather(*(hub.ready() for hub in hubs))
    await begin(hubs[0])

    async def write(hub: Record, task: int) -> None:
        for n in range(40):
            columns = points(*((f"k{(k * 7 + task) % 20}", 1.0, n, n) for k in range(20)))
            tags = tuple((f"t{(k + task) % 9}", str(n)) for k in range(9))
            await hub.write(LogBatch(R, columns, (("p", "1"),), tags), W)
            await hub.write(LogParam(R, f"p{n}", "1"), W)

    await asyncio.gather(*(write(hub, task) for task in range(6) for hub in hubs))
    found = await hubs[1].read(GetRun(R), W)
    assert {point.step for point in found.metrics} == {39}
    assert len(found.metrics) == 20
    assert len(found.params) == 41
    for hub in hubs:
        await hub.close()
