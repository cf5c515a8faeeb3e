"""Databases as MLflow makes them, to copy: on a new one a hub has to start MLflow's own server."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.mlflow.postgres import PostgresServer, postgres
from tests.fakes.mlflow.schema import make_schema

__all__ = ["postgres"]  # fixtures


@pytest.fixture
def database(sqlite_schema: Path, tmp_path: Path) -> Path:
    """A database of the test's own."""
    return Path(shutil.copy(sqlite_schema, tmp_path / "mlflow.db"))


@pytest.fixture(scope="session")
def made_on_postgres(postgres: PostgresServer) -> str:
    """The name of a PostgreSQL database with MLflow's tables."""
    make_schema(postgres.create("made"))
    return "made"


@pytest.fixture
def new_on_postgres(postgres: PostgresServer, made_on_postgres: str) -> Callable[[str], str]:
    """Makes a PostgreSQL database of the test's own, by name; its URL."""
    return lambda name: postgres.create(name, made_on_postgres)
