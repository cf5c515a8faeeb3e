"""MLflow's server as the hub's child: starting, breaking, ending."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tallystick.core.errors import (
    BadInput,
    Conflict,
    Failed,
    MissingTile,
    Unavailable,
)
from tallystick.crew.mlflow import child
from tallystick.tiles.registry.child import MlflowChild, Store, passed_on
from tallystick.tiles.registry.mlflow import MlflowRegistry
from tallystick.tiles.registry.rest import Rest
from tests.tiles.registry_parts import Counting, mlflow_registry

STAND_IN = """
import json, os, sys
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingMixIn, UnixStreamServer

class Keeps(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *said):
        pass
    def do_POST(self):
        asked = self.rfile.read(int(self.headers["content-length"]))
        with open(sys.argv[1], "ab", buffering=0) as kept:
            kept.write(asked + b"\\n")
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

class Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True

place = json.loads(sys.stdin.readline())["socket"]
if os.path.exists(place):
    os.unlink(place)
with Server(place, Keeps) as server:
    print(json.dumps({"ready": {}}), flush=True)
    server.serve_forever()
"""
"""In place of MLflow's server, where only its coming and going counts: it keeps each request, a line, in the
file that it is told. It starts at once, and ends without finishing anything."""


@pytest.fixture
def home(tmp_path: Path, sqlite_schema: Path) -> Path:
    """A folder where MLflow has made its tables."""
    folder = tmp_path / "home"
    folder.mkdir()
    shutil.copy(sqlite_schema, folder / "mlflow.db")
    return folder


@pytest.fixture
async def opened() -> AsyncIterator[Callable[..., MlflowChild]]:
    """Makes keepers of a server, and closes them however the test ends."""
    async with contextlib.AsyncExitStack() as stack:

        def open_(home: Path, sandbox: Counting | None = None, **options: Any) -> MlflowChild:
            made = MlflowChild(home, sandbox or Counting(), **options)
            stack.push_async_callback(made.close)
            return made

        yield open_


async def test_first_requests_at_once_start_one_server_and_a_killed_one_is_replaced(
    opened: Callable[..., MlflowChild], tmp_path: Path
) -> None:
    sandbox = Counting()
    child = opened(tmp_path, sandbox)
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


async def test_closing_ends_a_start_under_way(opened: Callable[..., MlflowChild], tmp_path: Path) -> None:
    sandbox = Counting()
    child = opened(tmp_path, sandbox)
    asking = asyncio.create_task(child.client())
    await sandbox.spawning.wait()
    await child.close()
    with pytest.raises((asyncio.CancelledError, Unavailable)):
        await asking
    assert child.pid == 0


async def test_an_older_schema_is_said_and_never_upgraded(
    opened: Callable[..., MlflowChild], home: Path
) -> None:
    with sqlite3.connect(home / "mlflow.db") as db:
        db.execute("update alembic_version set version_num = '451aebb31d03'")
    db.close()
    sandbox = Counting()
    child = opened(home, sandbox)
    for _ in range(2):
        with pytest.raises(Conflict, match="mlflow db upgrade"):
            await child.client()
    assert sandbox.spawned == 1, "what has just failed is not tried again at once"
    await child.close()
    with sqlite3.connect(home / "mlflow.db") as db:
        assert db.execute("select version_num from alembic_version").fetchone() == ("451aebb31d03",)
    db.close()


async def test_a_database_that_is_none_is_said(opened: Callable[..., MlflowChild], tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database at all" * 100)
    child = opened(tmp_path)
    with pytest.raises(Failed, match="not a database"):
        await child.client()


@pytest.mark.parametrize("words", ["import sys; sys.exit('it broke')", "import os; os.kill(os.getpid(), 9)"])
async def test_a_server_that_does_not_start_is_held_back(
    opened: Callable[..., MlflowChild], tmp_path: Path, words: str
) -> None:
    sandbox = Counting([sys.executable, "-c", words])
    child = opened(tmp_path, sandbox)
    for _ in range(3):
        with pytest.raises(Unavailable, match=r"ended with status 1: it broke|signal 9"):
            await child.client()
    assert sandbox.spawned == 1


async def test_without_mlflow_the_command_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    registry = mlflow_registry(tmp_path)
    with pytest.raises(MissingTile, match=r"pip install 'tallystick\[mlflow\]'"):
        await registry.versions()
    await registry.close()


@pytest.mark.parametrize("name", ["a?b", "a#b", "a%20b", "x" * 120])
async def test_a_home_that_cannot_be_said_is_refused(
    opened: Callable[..., MlflowChild], tmp_path: Path, name: str
) -> None:
    child = opened(tmp_path / name)
    with pytest.raises(BadInput):
        await child.client()


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
    assert child.sweep(tmp_path, 2000) == 1
    assert sorted(p.name for p in old.parent.iterdir()) == [new.name, "model"]


def test_the_hubs_own_process_stays_light() -> None:
    code = (
        "import sys, tallystick.tiles.registry.mlflow, tallystick.doors.mlflow.proxy;"
        "print([m for m in ('mlflow', 'numpy', 'flask', 'sqlalchemy', 'pandas') if m in sys.modules])"
    )
    said = subprocess.check_output([sys.executable, "-c", code], text=True, timeout=60)
    assert said.strip() == "[]"


async def test_further_roots_can_be_opened_and_their_neighbours_cannot(tmp_path: Path, home: Path) -> None:
    """Who brings an old database along says where its artifacts are."""
    old, beside = tmp_path / "old", tmp_path / "old-but-not"
    for folder in (old, beside):
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


# ---------------------------------------------------------------------- resting


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def _ended(pid: int) -> None:
    """Wait for a process that is going to end."""
    async with asyncio.timeout(60):
        while _lives(pid):  # noqa: ASYNC110  reason: nobody tells of the end of a process
            await asyncio.sleep(0.02)


async def test_unasked_it_rests_and_is_started_when_it_is_needed(
    opened: Callable[..., MlflowChild], home: Path
) -> None:
    sandbox = Counting()
    child = opened(home, sandbox, idle_s=0.2)
    registry = MlflowRegistry(child)
    try:
        assert child.state == "rests"
        old = await child.client()
        assert child.state == "runs"
        await _ended(child.pid)
        assert (child.pid, child.state) == (0, "rests")
        # Who still has the old client is told before a byte is sent, and gets another.
        with pytest.raises(httpx.ConnectError):
            await old.post("/api/2.0/mlflow/experiments/create", json={"name": "a"})
        assert await registry.versions() == []
        assert sandbox.spawned == 2, "resting is no failure: the next start is not held back"
    finally:
        await child.close()


async def test_what_is_under_way_keeps_it_awake(opened: Callable[..., MlflowChild], home: Path) -> None:
    child = opened(home, idle_s=0.2)
    try:
        client = await child.client()
        pid = child.pid
        async with client.stream("GET", "/version") as answer:
            await asyncio.sleep(1)  # five times as long as it may be idle
            assert child.pid == pid
            assert await answer.aread()
        await _ended(pid)
    finally:
        await child.close()


async def test_requests_at_the_moment_of_resting_are_all_answered(
    opened: Callable[..., MlflowChild], tmp_path: Path
) -> None:
    """An idle time as short as a request: it rests and is started again and again, and nobody notices."""
    sandbox = Counting([sys.executable, "-I", "-c", STAND_IN, str(tmp_path / "kept")])
    child = opened(tmp_path, sandbox, idle_s=0.01)
    rest = Rest(child)
    try:
        for n in range(24):
            await rest.post("any", n=n)
            await asyncio.sleep(0.01 * (n % 3))
    finally:
        await child.close()
    kept = [json.loads(line)["n"] for line in (tmp_path / "kept").read_text().splitlines()]
    assert kept == [*range(24)], "each once, and none twice"
    assert sandbox.spawned > 4


async def test_closing_does_not_wait_for_it_to_rest(
    opened: Callable[..., MlflowChild], tmp_path: Path
) -> None:
    sandbox = Counting([sys.executable, "-I", "-c", STAND_IN, str(tmp_path / "kept")])
    child = opened(tmp_path, sandbox, idle_s=100_000)
    await child.client()
    async with asyncio.timeout(60):
        await child.close()


# ---------------------------------------------------------------------- what it works on


@pytest.mark.parametrize(
    ("database", "text", "shown"),
    [
        ("postgresql+psycopg://ada:p%40ss@host/name", "bad p@ss, or p%40ss", "bad ***, or ***"),
        (
            "postgresql+psycopg://host/n?password=SEC",
            "bad SEC in x?password=SEC",
            "bad *** in x?password=***",
        ),
        ("postgresql+psycopg://u:p@h/n", "postgresql://u:p@h/n: p", "postgresql://u:***@h/n: ***"),
        ("sqlite:////m.db", "sqlite:////m.db: locked", "sqlite:////m.db: locked"),
    ],
)
def test_a_password_is_in_no_message_of_its(database: str, text: str, shown: str) -> None:
    assert Store(database=database).without_password(text) == shown


async def test_a_database_elsewhere_and_workspaces(tmp_path: Path) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    other.mkdir()
    options = {
        "database": f"sqlite:///{other}/m.db",
        "artifact_store": str(other / "files"),
        "workspaces": True,
    }
    registry = mlflow_registry(home, **options)
    try:
        client = await registry.child.client()
        made = await client.post("/api/3.0/mlflow/workspaces", json={"name": "team"})
        assert made.status_code < 300, made.text
        body = {"name": "e"}
        of_team = {"X-MLFLOW-WORKSPACE": "team"}
        for headers in ({}, of_team):
            answer = await client.post("/api/2.0/mlflow/experiments/create", json=body, headers=headers)
            assert answer.status_code == 200, answer.text
        put = await client.put("/api/2.0/mlflow-artifacts/artifacts/a.txt", content=b"a", headers=of_team)
        assert put.status_code == 200, put.text
    finally:
        await registry.close()
    assert (other / "m.db").exists()
    assert not (home / "mlflow.db").exists()
    assert [p.read_bytes() for p in (other / "files").rglob("a.txt")] == [b"a"]


def test_only_an_object_store_or_a_server_gets_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "MLFLOW_S3_ENDPOINT_URL", "OTHER_SECRET"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("HOME", "/nowhere")

    def names(**store: Any) -> set[str]:
        return set(passed_on(Store(**store)))

    assert names() == set()
    assert names(database="postgresql+psycopg://h/n") == {n for n in os.environ if n.startswith("PG")}
    found = names(artifacts="s3://bucket/prefix")
    assert {"AWS_SECRET_ACCESS_KEY", "MLFLOW_S3_ENDPOINT_URL"} <= found
    assert not found & {"PGPASSWORD", "OTHER_SECRET"}


async def test_a_relative_place_is_below_the_hubs_own_folder(home: Path) -> None:
    registry = mlflow_registry(home)
    try:
        client = await registry.child.client()
        body = {"name": "e", "artifact_location": "my_files"}
        made = await client.post("/api/2.0/mlflow/experiments/create", json=body)
        asked = await client.get("/api/2.0/mlflow/experiments/get", params=made.json())
        assert asked.json()["experiment"]["artifact_location"] == str(Path.cwd() / "my_files")
    finally:
        await registry.close()
