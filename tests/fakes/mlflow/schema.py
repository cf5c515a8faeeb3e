"""An empty record as MLflow's own migrations make it: made once a session, and copied for each test."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tallystick.wiring.home import open_home
from tests.fakes.machine.once import once

if TYPE_CHECKING:  # most tests need no PostgreSQL
    from tests.fakes.mlflow.postgres import PostgresServer

__all__ = ["SCHEMA", "WithRecord", "make_schema", "postgres_schema", "sqlite_schema", "with_record"]

WithRecord = Callable[[Path], Path]

SCHEMA = "schema"
"""The database to copy, in the server of ``postgres_schema``."""

MAKE = """
import sys
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
SqlAlchemyStore(sys.argv[1], "mlflow-artifacts:/")
"""


def make_schema(url: str) -> None:
    """Have stock MLflow make its tables, and experiment 0, in the database at ``url``: 3 s."""
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MAKE, url], check=True, capture_output=True, timeout=120
    )


@pytest.fixture(scope="session")
def sqlite_schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the schema, to copy."""
    folder = once(tmp_path_factory, "schema", lambda made: make_schema(f"sqlite:///{made}/mlflow.db"))
    return folder / "mlflow.db"


@pytest.fixture(scope="session")
def with_record(sqlite_schema: Path) -> WithRecord:
    """Makes a home there as a hub leaves it once MLflow has made its tables, and says where it is.

    A hub on it does not start MLflow's server for those alone. Journeys that are about an empty home begin
    with one: those of ``test_demo``, ``test_up`` and ``test_import`` for example.
    """

    def make(home: Path) -> Path:
        open_home(home).close()
        shutil.copyfile(sqlite_schema, home / "mlflow.db")
        (home / "mlflow.db").chmod(0o600)
        return home

    return make


@pytest.fixture(scope="module")
def postgres_schema(postgres: PostgresServer) -> PostgresServer:
    """A server with a database that has the schema, to copy: ``create(name, SCHEMA)``."""
    make_schema(postgres.create(SCHEMA))
    return postgres
