"""MLflow's server as the hub's child: starting, breaking, ending."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tallystick.core.errors import (
    BadInput,
    Conflict,
    Failed,
    MissingTile,
    Unavailable,
)
from tallystick.crew import mlflow_child
from tallystick.tiles.registry.child import MlflowChild
from tallystick.tiles.registry.mlflow import MlflowRegistry
from tests.tiles.registry_parts import Counting, mlflow_registry


async def test_first_requests_at_once_start_one_server_and_a_killed_one_is_replaced(tmp_path: Path) -> None:
    sandbox = Counting()
    child = MlflowChild(tmp_path, sandbox)
    try:
        registry = MlflowRegistry(child)
        assert child.pid == 0, "nothing is started before it is needed"
        await asyncio.gather(*(registry.versions() for _ in range(10)))
        first = child.pid
        assert sandbox.spawned == 1
        os.kill(first, signal.SIGKILL)
        await asyncio.gather(*(registry.versions() for _ in range(10)))
        assert sandbox.spawned == 2
        assert child.pid not in (0, first)
    finally:
        await child.close()
        await child.close()
    assert not child.socket.exists()
    with pytest.raises(Unavailable):
        await child.client()


async def test_closing_ends_a_start_under_way(tmp_path: Path) -> None:
    sandbox = Counting()
    child = MlflowChild(tmp_path, sandbox)
    asking = asyncio.create_task(child.client())
    await sandbox.spawning.wait()
    await child.close()
    with pytest.raises((asyncio.CancelledError, Unavailable)):
        await asking
    assert child.pid == 0


async def test_an_older_schema_is_said_and_never_upgraded(tmp_path: Path) -> None:
    registry = mlflow_registry(tmp_path)
    await registry.versions()
    await registry.close()
    with sqlite3.connect(tmp_path / "tally.db") as db:
        db.execute("update alembic_version set version_num = '451aebb31d03'")
    db.close()
    sandbox = Counting()
    child = MlflowChild(tmp_path, sandbox)
    for _ in range(2):
        with pytest.raises(Conflict, match="mlflow db upgrade sqlite:///"):
            await child.client()
    assert sandbox.spawned == 1, "what has just failed is not tried again at once"
    await child.close()
    with sqlite3.connect(tmp_path / "tally.db") as db:
        assert db.execute("select version_num from alembic_version").fetchone() == ("451aebb31d03",)
    db.close()


async def test_a_database_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "tally.db").write_bytes(b"no database at all" * 100)
    child = MlflowChild(tmp_path, Counting())
    with pytest.raises(Failed, match="not a database"):
        await child.client()
    await child.close()


@pytest.mark.parametrize("words", ["import sys; sys.exit('it broke')", "import os; os.kill(os.getpid(), 9)"])
async def test_a_server_that_does_not_start_is_held_back(tmp_path: Path, words: str) -> None:
    sandbox = Counting([sys.executable, "-c", words])
    child = MlflowChild(tmp_path, sandbox)
    for _ in range(3):
        with pytest.raises(Unavailable, match=r"ended with status 1: it broke|signal 9"):
            await child.client()
    assert sandbox.spawned == 1
    await child.close()


async def test_without_mlflow_the_command_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    registry = mlflow_registry(tmp_path)
    with pytest.raises(MissingTile, match=r"pip install 'tallystick\[mlflow\]'"):
        await registry.versions()
    await registry.close()


@pytest.mark.parametrize("name", ["a?b", "a#b", "a%20b", "x" * 120])
async def test_a_home_that_cannot_be_said_is_refused(tmp_path: Path, name: str) -> None:
    child = MlflowChild(tmp_path / name, Counting())
    with pytest.raises(BadInput):
        await child.client()
    await child.close()


@pytest.mark.parametrize("roots", ["s3://bucket", [1]])
def test_roots_are_a_list_of_uris(tmp_path: Path, roots: Any) -> None:
    with pytest.raises(BadInput):
        mlflow_registry(tmp_path, artifact_roots=roots)


def test_unfinished_uploads_are_swept_but_for_new_ones(tmp_path: Path) -> None:
    old, new, kept = (tmp_path / "1" / n for n in (".artifact.uploading.a", ".artifact.uploading.b", "model"))
    old.parent.mkdir()
    for path in (old, new, kept):
        path.touch()
    os.utime(old, (1000, 1000))
    os.utime(kept, (1000, 1000))
    assert mlflow_child.sweep(tmp_path, 2000) == 1
    assert sorted(p.name for p in old.parent.iterdir()) == [new.name, "model"]


def test_the_hubs_own_process_stays_light() -> None:
    code = (
        "import sys, tallystick.tiles.registry.mlflow, tallystick.doors.mlflow.proxy;"
        "print([m for m in ('mlflow', 'numpy', 'flask', 'sqlalchemy', 'pandas') if m in sys.modules])"
    )
    said = subprocess.check_output([sys.executable, "-c", code], text=True, timeout=60)
    assert said.strip() == "[]"


async def test_further_roots_can_be_opened_and_their_neighbours_cannot(tmp_path: Path) -> None:
    """Who brings an old database along says where its artifacts are."""
    home, old, beside = tmp_path / "home", tmp_path / "old", tmp_path / "old-but-not"
    for folder in (home, old, beside):
        folder.mkdir()
    registry = mlflow_registry(home, artifact_roots=[old.as_uri()])
    try:
        client = await registry.child.client()
        statuses = []
        for place in (old.as_uri(), str(old / "deeper"), beside.as_uri(), f"{old.as_uri()}/../old-but-not"):
            body = {"name": place, "artifact_location": place}
            made = (await client.post("/api/2.0/mlflow/experiments/create", json=body)).json()
            if "experiment_id" not in made:
                statuses.append(403)  # MLflow itself refuses a way up
                continue
            _, run_id = await registry.begin_run(place, "run", {})
            listed = await client.get("/api/2.0/mlflow/artifacts/list", params={"run_id": run_id})
            statuses.append(listed.status_code)
        assert statuses == [200, 200, 403, 403]
    finally:
        await registry.close()
