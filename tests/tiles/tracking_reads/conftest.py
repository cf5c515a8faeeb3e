"""The same odd record on SQLite and on PostgreSQL, made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as RegistryStore
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from tallystick.ports.database import Source
from tallystick.tiles.database.postgresql import PostgresqlSource
from tallystick.tiles.database.sqlite import SqliteSource
from tallystick.tiles.tracking import sql
from tests.fakes.mlflow.postgres import postgres
from tests.tiles.tracking_reads.both import Both
from tests.tiles.tracking_reads.parts import fill

__all__ = ["postgres"]


def _both(url: str, source: Source, folder: Path) -> Iterator[Both]:
    store = SqlAlchemyStore(url, str(folder))
    runs = fill(store)
    with store.engine.begin() as connection:
        for index in sql.INDEXES:
            connection.exec_driver_sql(index)
    session = source.connect(reading=True)
    yield Both(store, RegistryStore(url), session, runs)
    session.close()
    store._dispose_engine()


@pytest.fixture(scope="session")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("sqlite")
    yield from _both(f"sqlite:///{folder}/mlflow.db", SqliteSource(folder / "mlflow.db"), folder)


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Both]:
    server = request.getfixturevalue("postgres")
    url = server.create("reads")  # gone with the server
    yield from _both(url, PostgresqlSource(url), tmp_path_factory.mktemp("postgresql"))


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def both(request: pytest.FixtureRequest) -> Both:
    found: Both = request.getfixturevalue(request.param)
    return found
