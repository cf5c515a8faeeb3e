"""Workspaces apart from one another, runs that are not plain, and threads that answer side by side."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from mlflow.entities import ViewType
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.store.tracking.sqlalchemy_workspace_store import WorkspaceAwareSqlAlchemyStore
from mlflow.utils.workspace_context import WorkspaceContext
from sqlalchemy import String, create_engine, text

from tallystick.core.errors import Unavailable
from tallystick.ports.database import Session
from tallystick.record.asks import (
    GetRun,
    History,
    HistoryBulk,
    HistoryInterval,
    NotPlain,
    SearchExperiments,
    SearchRuns,
)
from tallystick.record.model_asks import GetModelVersion, GetRegisteredModel, SearchLoggedModels
from tallystick.record.search import read_orders
from tallystick.tiles.database.sqlite import SqliteSource
from tallystick.tiles.tracking import sql
from tallystick.tiles.tracking.indexes import make_indexes
from tallystick.tiles.tracking.readers import Reads, answer
from tests.tiles.tracking_reads.parts import fill, told_experiment, told_model, told_run


def test_a_workspace_sees_its_own_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_WORKSPACES", "true")
    url = f"sqlite:///{tmp_path}/mlflow.db"
    plain = SqlAlchemyStore(url, str(tmp_path))
    fill(plain, runs=12)
    with plain.ManagedSessionMaker(read_only=False) as session:
        session.execute(text("UPDATE experiments SET workspace = 'team' WHERE experiment_id > 1"))
        session.execute(text("INSERT INTO workspaces (name) VALUES ('team'), ('empty')"))
    store = WorkspaceAwareSqlAlchemyStore(url, str(tmp_path))
    session = SqliteSource(tmp_path / "mlflow.db").connect(reading=True)
    for workspace in ("default", "team", "empty"):
        with WorkspaceContext(workspace):
            _same_in_workspace(store, session, workspace)
    with pytest.raises(NotPlain):
        answer(session, SearchExperiments(), "nobody")
    session.close()
    store._dispose_engine()


def _same_in_workspace(store: SqlAlchemyStore, session: Session, workspace: str) -> None:
    theirs, _ = store._search_runs(["1", "2", "3"], "", ViewType.ALL, 100, ["metrics.loss"], None)
    order = read_orders(("metrics.loss",), "run")
    assert order is not None
    ours = answer(session, SearchRuns((1, 2, 3), (), ("active", "deleted"), order, 100), workspace)
    assert [told_run(run) for run in ours.items] == [told_run(run) for run in theirs]
    found = answer(session, SearchExperiments(stages=("active", "deleted")), workspace)
    assert [told_experiment(one) for one in found.items] == [
        told_experiment(one) for one in store.search_experiments(ViewType.ALL)
    ]
    models = answer(session, SearchLoggedModels((1, 2, 3)), workspace)
    assert [told_model(one) for one in models.items] == [
        told_model(one) for one in store.search_logged_models(["1", "2", "3"])
    ]
    everyone = [row[0] for row in session.rows("SELECT run_uuid FROM runs ORDER BY run_uuid")]
    mine = {run.info.run_id for run in theirs}
    bulk = answer(session, HistoryBulk(tuple(everyone), "loss", 1000), workspace)
    assert {one.run_id for one in bulk} <= mine
    assert len(bulk) == len(store.get_metric_history_bulk(everyone, "loss", 1000))
    for run_id in set(everyone) - mine:
        for ask in (GetRun(run_id), History(run_id, "loss"), HistoryInterval((run_id,), "loss", 5)):
            with pytest.raises(NotPlain):
                answer(session, ask, workspace)
    for ask in (GetRegisteredModel("forecaster"), GetModelVersion("forecaster", 1)):
        if workspace != "default":
            with pytest.raises(NotPlain):
                answer(session, ask, workspace)


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, list[str]]:
    store = SqlAlchemyStore(f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path))
    runs = fill(store, runs=12)
    store._dispose_engine()
    return tmp_path / "mlflow.db", runs


@pytest.mark.parametrize("measured", [True, False])
def test_new_indexes_are_measured_where_the_others_are(small: tuple[Path, list[str]], measured: bool) -> None:
    with sqlite3.connect(small[0]) as connection:
        connection.execute("ANALYZE" if measured else "SELECT 1")
    connection.close()
    session = SqliteSource(small[0]).connect(reading=False)
    for _ in range(2):
        session.begin()
        make_indexes(session)
        session.end(keep=True)
    known = session.rows("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_stat1'")
    assert bool(known) == measured
    if measured:
        found = session.rows("SELECT idx FROM sqlite_stat1 WHERE idx LIKE 'tally_ix_%'")
        assert sorted(found) == [("tally_ix_latest_metrics",), ("tally_ix_runs",)]
    session.close()


@pytest.mark.filterwarnings(
    "ignore:Unnamed CHECK constraint:UserWarning"
)  # one of MLflow's own tables has one
def test_a_migration_that_copies_a_table_takes_the_indexes_along(small: tuple[Path, list[str]]) -> None:
    engine = create_engine(f"sqlite:///{small[0]}")
    with engine.begin() as connection:
        for index in sql.INDEXES:
            connection.exec_driver_sql(index)
        operations = Operations(MigrationContext.configure(connection))
        for table in ("runs", "latest_metrics"):
            with operations.batch_alter_table(table, recreate="always") as batch:
                batch.alter_column("run_uuid", existing_type=String(32), nullable=False)
        found = connection.exec_driver_sql(
            "SELECT name FROM sqlite_master WHERE name LIKE 'tally_ix_%'"
        ).all()
    engine.dispose()
    assert sorted(found) == [("tally_ix_latest_metrics",), ("tally_ix_runs",)]


@pytest.mark.parametrize("column", ["user_id", "status", "start_time"])
def test_a_run_that_mlflow_fails_at_is_left_to_it(small: tuple[Path, list[str]], column: str) -> None:
    path, runs = small
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE runs SET {column} = NULL WHERE run_uuid = ?", [runs[0]])  # noqa: S608 - ours
    connection.close()
    session = SqliteSource(path).connect(reading=True)
    with pytest.raises(NotPlain):
        answer(session, GetRun(runs[0]), "default")
    session.close()


async def test_threads_answer_side_by_side(small: tuple[Path, list[str]]) -> None:
    path, runs = small
    reads = Reads(SqliteSource(path), threads=3)
    try:
        asks = [reads.read(GetRun(run_id), "default") for run_id in runs * 10]
        assert [run.run_id for run in await asyncio.gather(*asks)] == runs * 10
        with pytest.raises(NotPlain):
            await reads.read(GetRun("none"), "default")
    finally:
        await asyncio.to_thread(reads.close)
        await asyncio.to_thread(reads.close)
    with pytest.raises(Unavailable):
        await reads.read(GetRun(runs[0]), "default")


async def test_a_reader_that_gave_up_leaves_the_others_alone(small: tuple[Path, list[str]]) -> None:
    path, runs = small
    reads = Reads(SqliteSource(path), threads=1)
    try:
        gone = asyncio.ensure_future(reads.read(GetRun(runs[0]), "default"))
        await asyncio.sleep(0)
        gone.cancel()
        assert (await reads.read(GetRun(runs[1]), "default")).run_id == runs[1]
    finally:
        await asyncio.to_thread(reads.close)


async def test_no_database_is_unavailable_and_may_come_yet(small: tuple[Path, list[str]]) -> None:
    path, runs = small
    away = path.with_name("away.db")
    path.rename(away)
    reads = Reads(SqliteSource(path), threads=1)
    try:
        with pytest.raises(Unavailable):
            await reads.read(GetRun(runs[0]), "default")
        away.rename(path)
        assert (await reads.read(GetRun(runs[0]), "default")).run_id == runs[0]
    finally:
        await asyncio.to_thread(reads.close)
