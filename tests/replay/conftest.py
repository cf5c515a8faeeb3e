"""Databases as MLflow makes them, made once: on a new one a hub has to start MLflow's own server."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.fakes.mlflow.postgres import PostgresServer, postgres
from tests.journeys.conftest import RunningHub, start_hub
from tests.replay.writers import API

__all__ = ["postgres"]  # a fixture


def with_tables(hub: RunningHub) -> None:
    """See that MLflow's own server has made the tables."""
    answer = httpx.post(f"{hub.url}{API}/experiments/search", json={"max_results": 1}, timeout=180)
    assert answer.status_code == 200, answer.text


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with MLflow's tables and nothing in them."""
    home = tmp_path_factory.mktemp("made") / "home"
    hub = start_hub(home)
    with_tables(hub)
    hub.end()
    return home / "mlflow.db"


@pytest.fixture
def database(made: Path, tmp_path: Path) -> Path:
    """A database of the test's own."""
    return Path(shutil.copy(made, tmp_path / "mlflow.db"))


@pytest.fixture(scope="session")
def made_on_postgres(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a PostgreSQL database with MLflow's tables."""
    hub = start_hub(tmp_path_factory.mktemp("made pg") / "home", "--database", postgres.create("made"))
    with_tables(hub)
    hub.end()
    return "made"


@pytest.fixture
def new_on_postgres(postgres: PostgresServer, made_on_postgres: str) -> Callable[[str], str]:
    """Makes a PostgreSQL database of the test's own, by name; its URL."""
    return lambda name: postgres.create(name, made_on_postgres)
