"""Bring and take: a hub on a database that MLflow made long ago, on PostgreSQL, and stock MLflow again."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.machine.bucket import bucket_at, moto_server
from tests.fakes.mlflow.postgres import PostgresServer, postgres
from tests.fakes.old.database import make_old_mlflow
from tests.journeys.conftest import RunningHub, start_hub, tally, wait_until

__all__ = ["postgres"]

pytestmark = [pytest.mark.journey, pytest.mark.slow]
pytest.importorskip("mlflow")

API = "/api/2.0/mlflow"
OLD_RUN = f"{7:032x}"
STOCK = """
import sys, warnings
warnings.simplefilter("ignore")
import mlflow
mlflow.set_tracking_uri(sys.argv[1])
client = mlflow.MlflowClient()
runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
print(sorted(r.info.run_name for r in runs), client.get_metric_history(sys.argv[2], "loss")[-1].value)
"""


def _make_run(hub: RunningHub, experiment_id: str, name: str, **kwargs: Any) -> str:
    body = {"experiment_id": experiment_id, "run_name": name, "start_time": 1}
    answer = httpx.post(f"{hub.url}{API}/runs/create", json=body, timeout=60, **kwargs)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["run"]["info"]["run_id"])


def _run(hub: RunningHub, run_id: str, **kwargs: Any) -> httpx.Response:
    return hub.get(f"{API}/runs/get", params={"run_id": run_id}, **kwargs)


@contextlib.contextmanager
def _at_a_terminal(typed: str, *words: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A command at a terminal of its own, where something has been typed already for when it asks."""
    ours, theirs = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TALLY_")}
    command = [sys.executable, "-m", "tallystick", *words]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    os.write(ours, typed.encode())
    try:
        yield process, ours
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)
        os.close(ours)


def _said(terminal: int) -> str:
    """All that is said there until its other side is closed."""
    said = b""
    with contextlib.suppress(OSError):
        while chunk := os.read(terminal, 65536):
            said += chunk
    return said.decode()


def test_an_old_database_is_migrated_when_its_owner_says_yes_and_stock_mlflow_opens_it(
    tmp_path: Path,
) -> None:
    old, home = tmp_path / "old.db", tmp_path / "home"
    make_old_mlflow(f"sqlite:///{old}")
    words = ("--home", str(home), "up", "--port", "0", "--database", f"sqlite:///{old}")
    # Nobody is there to be asked.
    refused = tally(*words, status=2)
    assert "--upgrade-database" in refused.stderr
    assert "Traceback" not in refused.stderr + refused.stdout
    # Somebody is, and says no.
    with _at_a_terminal("n\n", *words) as (process, terminal):
        said = _said(terminal)
        assert process.wait(60) == 2
    assert "Migrate it now? [y/N]" in said
    assert "no longer opens it" in said
    assert "nothing was changed" in said
    # And yes.
    with _at_a_terminal("y\n", *words) as (process, terminal):
        assert wait_until((home / "hub.json").exists, 120)
        hub = RunningHub(home, process, json.loads((home / "hub.json").read_text())["url"])  # type: ignore[arg-type]  # it reads no output
        assert _run(hub, OLD_RUN).json()["run"]["info"]["run_name"] == "run 7"
        _make_run(hub, "1", "of the hub")
        status = json.loads(tally("--home", str(home), "status", "--json").stdout)
        assert (status["database"], status["native_tracking"]) == (str(old), "on")
        second = tally(
            "--home", str(tmp_path / "other"), "up", "--port", "0", "--database", f"sqlite:///{old}", status=2
        )
        assert f"another hub uses this database, that of {home}" in second.stderr
        process.terminate()
        said = _said(terminal)
        assert process.wait(60) == 0
    assert "backed up, and the copy is whole" in said
    assert "mlflow.set_tracking_uri('tally://127.0.0.1:" in said
    assert not list(tmp_path.glob("old.db.tally-lock"))
    done = subprocess.run(
        [sys.executable, "-c", STOCK, f"sqlite:///{old}", OLD_RUN],
        capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert "'of the hub'" in done.stdout, done.stderr
    assert "'run 19'" in done.stdout


def test_two_hubs_on_one_postgresql(tmp_path: Path, postgres: PostgresServer) -> None:
    postgres.create("shared")
    url = postgres.url_of("shared", "").replace("postgres@", "postgres:very-secret@")
    first = start_hub(tmp_path / "first", "--database", url)
    second = None
    try:
        run_id = _make_run(first, "0", "of the first")
        second = start_hub(tmp_path / "second", "--database", url)
        assert _run(second, run_id).json()["run"]["info"]["run_name"] == "of the first"
        point = {"run_id": run_id, "key": "a", "value": 1.5, "timestamp": 1, "step": 0}
        assert httpx.post(f"{second.url}{API}/runs/log-metric", json=point, timeout=60).status_code == 200
        assert _run(first, run_id).json()["run"]["data"]["metrics"][0]["value"] == 1.5
        for hub in (first, second):
            status = hub.json("status")
            assert status["native_tracking"] == "on"
            assert "postgres:***@" in status["database"]
            assert "very-secret" not in json.dumps(status) + hub.tally("status").stdout
    finally:
        for hub in filter(None, (first, second)):
            assert "very-secret" not in hub.end()[1]
        postgres.drop("shared")


def test_workspaces_are_apart(tmp_path: Path) -> None:
    hub = start_hub(tmp_path / "home", "--workspaces")
    try:
        team = {"X-MLFLOW-WORKSPACE": "team"}
        made = httpx.post(f"{hub.url}/api/3.0/mlflow/workspaces", json={"name": "team"}, timeout=60)
        assert made.is_success, made.text
        made = httpx.post(f"{hub.url}{API}/experiments/create", json={"name": "e"}, headers=team, timeout=60)
        run_id = _make_run(hub, made.json()["experiment_id"], "of the team", headers=team)
        assert _run(hub, run_id, headers=team).status_code == 200
        assert _run(hub, run_id).status_code == 404
        assert hub.json("status")["workspaces"] is True
    finally:
        hub.end()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of boto3's on moto's server, whose variables a hub gets too."""
    pytest.importorskip("obstore")
    with moto_server() as url, bucket_at(url, monkeypatch, region_in="AWS_DEFAULT_REGION") as client:
        yield client


def test_artifacts_in_an_object_store(tmp_path: Path, bucket: Any) -> None:
    hub = start_hub(tmp_path / "home", "--artifact-store", "s3://bucket/some/where")
    try:
        run_id = _make_run(hub, "0", "with files")
        place = f"0/{run_id}/artifacts/a.txt"
        put = httpx.put(f"{hub.url}/api/2.0/mlflow-artifacts/artifacts/{place}", content=b"hello", timeout=60)
        assert put.status_code == 200, put.text
        assert bucket.get_object(Bucket="bucket", Key=f"some/where/{place}")["Body"].read() == b"hello"
        # MLflow's pages read through MLflow's own server, behind a wall that lets these variables in.
        seen = hub.get("/get-artifact", params={"run_uuid": run_id, "path": "a.txt"})
        assert (seen.status_code, seen.text) == (200, "hello")
        assert hub.json("status")["artifact_store"] == "s3://bucket/some/where"
    finally:
        hub.end()


def test_mlflows_server_rests_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tallystick.toml").write_text("mlflow_idle_s = 1\n")
    monkeypatch.chdir(tmp_path)
    hub = start_hub(tmp_path / "home")
    try:

        def state() -> str:
            return str(hub.get("/api/tally/status").json()["mlflow_server"])

        assert state() == "rests"
        for _ in range(2):
            assert hub.get("/version").status_code == 200
            assert wait_until(lambda: state() == "rests", 60)
        run_id = _make_run(hub, "0", "while it rests")
        assert _run(hub, run_id).status_code == 200
        assert state() == "rests", "what is native needs no server"
    finally:
        hub.end()
