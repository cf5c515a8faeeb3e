"""What becomes of the record, and of who writes, when the database does not do as it should."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tallystick.core.errors import BadInput, Unavailable
from tallystick.ports.database import Fault
from tallystick.ports.tile import Place
from tallystick.ports.tracking import DEFAULT_WORKSPACE as W
from tallystick.proofs.tracking.record import begin, points, run_id
from tallystick.record.asks import (
    GetRun,
    History,
    LogBatch,
    LogColumns,
    LogMetric,
    LogParam,
    MoveExperiment,
    MoveRun,
    NotPlain,
    SetTag,
    Write,
)
from tallystick.tiles.database import postgresql, sqlite
from tallystick.tiles.tracking import writer
from tallystick.tiles.tracking.record import Record
from tests.fakes.mlflow.postgres import postgres
from tests.fakes.mlflow.record import open_record
from tests.fakes.mlflow.schema import postgres_schema

__all__ = ["postgres", "postgres_schema"]

R = run_id(1)
METRIC = LogMetric(R, "a", 1.0, 1, 1)


def place(path: Path) -> Place:
    return Place(path.parent, {"database": f"sqlite:///{path}"})


@pytest.fixture
def path(tmp_path: Path, sqlite_schema: Path) -> Path:
    return Path(shutil.copy(sqlite_schema, tmp_path / "mlflow.db"))


@pytest.fixture
async def record(path: Path) -> AsyncIterator[Record]:
    record = open_record(place(path))
    await begin(record)
    yield record
    await record.close()


def beside(path: Path) -> Any:
    """What another program in the same file is."""
    return closing(sqlite3.connect(path, isolation_level=None, timeout=60))


async def keys(record: Record) -> set[str]:
    return {point.key for point in (await record.read(GetRun(R), W)).metrics}


@pytest.mark.parametrize("url", ["", "sqlite://", "sqlite:///:memory:", "mysql:///a", "sqlite:////a?mode=ro"])
def test_what_is_no_url_of_a_file_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(BadInput):
        sqlite.open_tile(Place(tmp_path, {"database": url}))


@pytest.mark.parametrize("url", ["", "sqlite:////a", "mysql://a/b", "postgresql://a/b?no_such=1"])
def test_what_is_no_url_of_a_server_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(BadInput) as refused:
        postgresql.open_tile(Place(tmp_path, {"database": url}))
    assert refused.value.where == "database"


def test_where_a_database_is_has_no_password_in_it() -> None:
    source = postgresql.PostgresqlSource(
        "postgresql+psycopg2://ann:s3cret@db.local:5433/mlflow?sslmode=prefer"
    )
    assert source.where == "postgresql://db.local/mlflow"


async def test_it_is_ready_once_mlflow_has_made_its_tables(tmp_path: Path, sqlite_schema: Path) -> None:
    path = tmp_path / "a b%20#é.db"
    record = open_record(place(path))
    for content in (None, b"", b"this is no database" * 99):
        if content is not None:
            path.write_bytes(content)
        assert not await record.ready()
        with pytest.raises(NotPlain):
            await record.write(METRIC, W)
    shutil.copy(sqlite_schema, path)
    assert await record.ready()
    await begin(record)
    await record.close()


async def test_another_schema_is_left_alone(path: Path) -> None:
    with beside(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'later'")
    record = open_record(place(path))
    assert not await record.ready()
    await record.close()
    with beside(path) as connection:
        assert not connection.execute("SELECT 1 FROM sqlite_schema WHERE name LIKE 'tally%'").fetchall()


async def test_a_locked_database_is_unavailable(record: Record, path: Path, monkeypatch: Any) -> None:
    await record.close()
    monkeypatch.setattr(sqlite, "BOTH", ("PRAGMA busy_timeout = 1", *sqlite.BOTH[1:]))
    again = open_record(place(path))
    assert await again.ready()
    with beside(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        answers = await asyncio.gather(*(again.write(METRIC, W) for _ in range(9)), return_exceptions=True)
        assert {str(answer) for answer in answers} == {
            f"{path}: the database is locked by another program (end it, or wait, and try again)"
        }
        connection.execute("ROLLBACK")
    assert await keys(again) == set()
    await again.write(METRIC, W)
    await again.close()


@pytest.mark.parametrize(
    ("pragma", "said"),
    [("query_only = ON", "the database cannot be written"), ("max_page_count = 1", "the disk is full")],
)
async def test_a_database_that_cannot_be_written(record: Record, path: Path, pragma: str, said: str) -> None:
    session = record._writers[0]._session
    assert session is not None
    session.run(f"PRAGMA {pragma}")
    big = LogBatch(R, points(*(("x" * 250 + str(n), 1.0, n, n) for n in range(1000))))
    answers = await asyncio.gather(*(record.write(a, W) for a in (METRIC, big)), return_exceptions=True)
    assert [getattr(answer, "what", None) for answer in answers] == [said] * 2
    assert await keys(record) == set()  # and with a new session, which has no such limit, it is as it was
    await record.write(METRIC, W)
    assert await keys(record) == {"a"}


async def test_more_than_memory_should_hold_is_refused(record: Record, path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(writer, "WAITING_POINTS_MAX", 100)
    batch = LogBatch(R, points(*(("a", 1.0, n, n) for n in range(90))))
    with beside(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        tasks = [asyncio.ensure_future(record.write(ask, W)) for ask in (METRIC, batch, batch)]
        await asyncio.sleep(0)
        connection.execute("ROLLBACK")
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [getattr(answer, "hint", None) for answer in answers] == [None, None, "try again in a moment"]
    await record.write(batch, W)


async def test_batches_are_forgotten_after_a_day(record: Record, path: Path) -> None:
    await record.write(LogColumns("new", ()), W)
    await record.close()
    with beside(path) as connection:
        connection.execute("INSERT INTO tally_batches VALUES ('old', 0)")
    again = open_record(place(path))
    await again.write(METRIC, W)
    with beside(path) as connection:
        assert connection.execute("SELECT batch_id FROM tally_batches").fetchall() == [("new",)]
    await again.close()


async def test_a_run_that_assessments_may_refer_to_is_for_mlflow_to_delete(
    record: Record, path: Path
) -> None:
    with beside(path) as connection:
        connection.execute(
            """INSERT INTO assessments (assessment_id, trace_id, name, assessment_type, value, valid,
            created_timestamp, last_updated_timestamp, source_type)
            VALUES ('a', 't', 'n', 'feedback', '1', 1, 1, 1, 'HUMAN')"""
        )
    for ask in (MoveRun(R, "deleted", 5), MoveExperiment(0, "deleted", 5)):
        with pytest.raises(NotPlain):
            await record.write(ask, W)
    await record.write(MoveRun(R, "active", 5), W)


async def test_another_program_gets_its_turn(record: Record, path: Path) -> None:
    """One that asks for the lock now and then, as SQLite does, while eight tasks write at once."""
    record.yield_to(1)
    done = asyncio.Event()

    async def write(n: int) -> None:
        k = 0
        while not done.is_set():
            k += 1
            await record.write(LogMetric(R, f"k{n}", 1.0, k, k), W)

    def take_turns() -> None:
        with beside(path) as connection:
            for n in range(10):
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("INSERT INTO tags VALUES (?, '', ?)", (f"t{n}", R))
                connection.execute("COMMIT")

    tasks = [asyncio.create_task(write(n)) for n in range(8)]
    await asyncio.to_thread(take_turns)
    done.set()
    await asyncio.gather(*tasks)
    assert len((await record.read(GetRun(R), W)).tags) == 11


class Trouble(Exception):
    """A driver's error of the given kind."""


@pytest.fixture
def trouble(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Where, and of which kind, the next errors are: ``run``, ``commit`` or ``committed``."""
    planned: list[tuple[str, str]] = []

    def strike(where: str) -> None:
        if planned and planned[0][0] == where:
            raise Trouble(planned.pop(0)[1])

    class Session(sqlite.SqliteSession):
        def put(self, table: str, *told: Any) -> None:
            super().put(table, *told)
            strike("put")

        def end(self, *, keep: bool) -> None:
            if keep:
                strike("commit")
            super().end(keep=keep)
            if keep:
                strike("committed")

    def meaning(source: sqlite.SqliteSource, wrong: Exception) -> Fault:
        if isinstance(wrong, Trouble):
            return Fault(str(wrong), Unavailable("trouble", where=source.where))
        return known(source, wrong)

    known: Callable[[sqlite.SqliteSource, Exception], Fault] = sqlite.SqliteSource.meaning
    monkeypatch.setattr(sqlite, "SqliteSession", Session)
    monkeypatch.setattr(sqlite.SqliteSource, "meaning", meaning)
    return planned


EACH: list[Write[Any]] = [
    METRIC,
    LogBatch(R, points(("b", 1.0, 1, 1)), (("p", "1"),)),
    LogColumns("batch", ((R, points(("c", 1.0, 1, 1))),)),
    LogParam(R, "q", "1"),
    SetTag(R, "t", "1"),
    LogBatch(R, points(("d", 1.0, 1, 1)), (), (("u", "1"),)),
]


@pytest.mark.parametrize(
    "planned", [[("put", "again")] * 3, [("put", "lost")] * 3, [("commit", "again")] * 2]
)
async def test_what_is_known_not_to_be_durable_is_carried_out_again(
    record: Record, path: Path, trouble: list[tuple[str, str]], planned: list[tuple[str, str]]
) -> None:
    again = open_record(place(path))
    assert await again.ready()
    trouble += planned
    assert await asyncio.gather(*(again.write(ask, W) for ask in EACH)) == [None] * 6
    assert not trouble
    assert await keys(record) == {"a", "b", "c", "d"}
    await again.close()


@pytest.mark.parametrize("where", ["commit", "committed"])
async def test_what_may_be_durable_is_carried_out_again_only_if_that_changes_nothing(
    record: Record, path: Path, trouble: list[tuple[str, str]], where: str
) -> None:
    again = open_record(place(path))
    assert await again.ready()
    trouble.append((where, "lost"))
    answers = await asyncio.gather(*(again.write(ask, W) for ask in EACH), return_exceptions=True)
    assert [type(answer) for answer in answers] == [type(None)] * 4 + [Unavailable] * 2
    assert "not known" in str(answers[4])
    assert await keys(record) == {"a", "b", "c"} | ({"d"} if where == "committed" else set())
    assert len((await record.read(History(R, "c"), W)).items) == 1
    await again.close()


async def test_patience_has_an_end(
    path: Path, record: Record, trouble: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PATIENCE_S", 0.0)
    again = open_record(place(path))
    assert await again.ready()
    for planned in [("put", "lost")], [("put", "again")] * writer.TRIES_MAX, [("put", "down")]:
        trouble += planned
        with pytest.raises(Unavailable, match="trouble"):
            await again.write(METRIC, W)
        assert not trouble
    await again.write(METRIC, W)
    await again.close()
