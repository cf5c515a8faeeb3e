"""An empty record as MLflow's own migrations make it: made once a session, and copied for each test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.machine.once import once
from tests.fakes.mlflow.postgres import PostgresServer

__all__ = ["SCHEMA", "make_schema", "postgres_schema", "sqlite_schema"]

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


@pytest.fixture(scope="module")
def postgres_schema(postgres: PostgresServer) -> PostgresServer:
    """A server with a database that has the schema, to copy: ``create(name, SCHEMA)``."""
    make_schema(postgres.create(SCHEMA))
    return postgres
