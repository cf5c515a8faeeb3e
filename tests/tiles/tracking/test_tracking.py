"""The record on SQLite and on PostgreSQL, as every tracking tile must be."""

from __future__ import annotations

import shutil
import sqlite3
from itertools import count
from pathlib import Path

import psycopg
import pytest

from tallystick.ports.tile import Place
from tallystick.ports.tracking import Tracking
from tallystick.proofs.tracking.whole import TrackingProof
from tests.fakes.mlflow.postgres import PostgresServer, postgres
from tests.fakes.mlflow.record import open_record
from tests.fakes.mlflow.schema import SCHEMA, postgres_schema

__all__ = ["postgres", "postgres_schema"]

WORKSPACES = "INSERT INTO workspaces (name, default_artifact_root) VALUES ('blue', NULL), ('red', 's3://red')"
NUMBERS = count()


class TestSqlite(TrackingProof):
    @pytest.fixture(autouse=True)
    def schema(self, sqlite_schema: Path) -> None:
        self.made = sqlite_schema

    async def open(self, home: Path, *, workspaces: bool = False) -> Tracking:
        path = shutil.copy(self.made, home / "mlflow.db")
        if workspaces:
            with sqlite3.connect(path) as connection:
                connection.execute(WORKSPACES)
            connection.close()
        return open_record(Place(home, {"database": f"sqlite:///{path}", "workspaces": workspaces}))


class TestPostgresql(TrackingProof):
    @pytest.fixture(autouse=True)
    def schema(self, postgres_schema: PostgresServer) -> None:
        self.made = postgres_schema

    async def open(self, home: Path, *, workspaces: bool = False) -> Tracking:
        server = self.made
        name = f"copy{next(NUMBERS)}"
        url = server.create(name, SCHEMA)
        if workspaces:
            with psycopg.connect(server.url_of(name, "")) as connection:
                connection.execute(WORKSPACES)
        return open_record(Place(home, {"database": url, "workspaces": workspaces}))
