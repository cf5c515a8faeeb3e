"""`tally up`: it starts, says what is wrong in one line, ends cleanly, and leaves nothing behind."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.fakes.machine.disk import mounted
from tests.journeys.conftest import RunningHub, processes_of, start_hub, tally, wait_until

ROWS = "a,b,label\n1.5,2,0\n2.5,3,1\n"


def _said(done: subprocess.CompletedProcess[str]) -> str:
    """What it said: an error line and, below it, the next step."""
    lines = done.stderr.strip().splitlines()
    assert 1 <= len(lines) <= 2, done.stderr
    assert lines[0].startswith("error: ")
    assert "Traceback" not in done.stderr
    return done.stderr


def test_it_answers_and_ends_cleanly_on_sigterm(hub: RunningHub) -> None:
    assert hub.get("/").status_code == 200
    assert hub.get("/api/tally/status").json()["home"] == str(hub.home)
    status, said = hub.end()
    assert status == 0
    assert "answers at" in said
    assert "Traceback" not in said
    assert wait_until(lambda: not processes_of(hub.home)), processes_of(hub.home)


def test_the_hub_itself_stays_light(hub: RunningHub) -> None:
    hub.get("/")
    hub.get("/models")
    maps = Path(f"/proc/{hub.process.pid}/maps").read_text()
    for heavy in ("numpy", "pyarrow", "onnxruntime", "scipy", "pandas", "sklearn"):
        assert heavy not in maps, f"{heavy} is loaded in the hub's own process"


def test_a_second_hub_on_the_same_home(hub: RunningHub) -> None:
    said = _said(tally("up", "--home", str(hub.home), "--port", "0", status=2))
    assert f"another hub runs on this home at {hub.url}" in said


def test_a_busy_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = _said(tally("up", "--home", str(tmp_path / "home"), "--port", str(port), status=2))
    assert f"port {port} is in use" in said
    assert f"tally up --port {port + 1}" in said


def test_a_home_that_a_newer_version_made(tmp_path: Path) -> None:
    start_hub(tmp_path / "home").end()
    made = tmp_path / "home" / "home.json"
    made.write_text(json.dumps({"format": 99, "made_by": "9.0"}))
    said = _said(tally("up", "--home", str(tmp_path / "home"), "--port", "0", status=2))
    assert "newer tallystick (9.0)" in said


def test_a_home_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    said = _said(tally("up", "--home", str(tmp_path / "file" / "home"), "--port", "0", status=4))
    assert "choose another --home" in said


@pytest.fixture(params=["full", "read-only"])
def bad_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A file system of 64 KiB, or one that is read-only; it needs leave to mount."""
    with mounted(tmp_path / "disk", "size=64k" if request.param == "full" else "ro") as place:
        yield request.param, place


def test_a_full_or_read_only_disk(bad_disk: tuple[str, Path]) -> None:
    kind, place = bad_disk
    said = _said(tally("up", "--home", str(place / "home"), "--port", "0", status=4))
    assert ("read-only" if kind == "read-only" else "full") in said.lower() or "space" in said


def test_listening_beyond_loopback_is_refused(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.168.1.1"):  # noqa: S104  reason: it is what must be refused
        said = _said(tally("up", "--home", str(tmp_path / "home"), "--host", host, "--port", "0", status=3))
        assert "without authentication is refused" in said
    assert not (tmp_path / "home").exists()


def test_a_setting_that_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tallystick.toml").write_text("prot = 1\n")
    monkeypatch.chdir(tmp_path)
    assert "did you mean port?" in _said(tally("up", status=2))


def test_a_policy_that_cannot_be_used(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[[rule]]\nname = "x"\nmeasure = "luck"\nat_least = 0.5\n')
    said = _said(
        tally("up", "--home", str(tmp_path / "home"), "--policy", str(policy), "--port", "0", status=2)
    )
    assert "unknown measure 'luck'" in said


def test_a_web_page_cannot_drive_it(hub: RunningHub) -> None:
    name = {"table": "t", "filename": "t.csv"}
    evil = {"Origin": "http://evil.example"}
    assert (
        httpx.post(hub.url + "/api/tally/ingest", params=name, content=ROWS, headers=evil).status_code == 403
    )
    assert hub.get("/", headers={"Host": "evil.example"}).status_code == 403
    assert hub.get("/mlflow/", headers={"Host": "evil.example"}).status_code == 403
    form = {"Content-Type": "text/plain"}
    answer = httpx.post(hub.url + "/api/tally/runs", content='{"spec": "x"}', headers=form)
    assert answer.status_code == 400
    assert hub.json("tables") == []


def test_without_a_hub_every_command_says_how_to_start_one(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text(ROWS)
    commands = (
        ["status"], ["log"], ["models"], ["tables"], ["ingest", "t", str(file)], ["judge", "m"],
        ["deploy", "m", "--name", "e"], ["predict", "e", str(file)], ["run", str(file)], ["observe", "e"],
        ["heal", "r"],
    )  # fmt: skip
    for words in commands:
        done = tally("--url", "http://127.0.0.1:9", *words, status=4)
        assert "start one: tally up" in _said(done), words
        as_json = tally("--url", "http://127.0.0.1:9", *words, "--json", status=4)
        assert json.loads(as_json.stderr)["error"] == "Unavailable", words


def test_kill_9_leaves_no_orphan_and_loses_nothing(tmp_path: Path) -> None:
    hub = start_hub(tmp_path / "home")
    file = tmp_path / "rows.csv"
    file.write_text(ROWS)
    first = hub.json("ingest", "t", str(file))
    assert hub.get("/version").status_code == 200  # MLflow's server runs now, and the catalogue's worker
    assert len(processes_of(hub.home)) >= 3
    second = hub.json("ingest", "t", str(file))
    hub.kill()
    assert wait_until(lambda: not processes_of(hub.home)), processes_of(hub.home)
    again = start_hub(tmp_path / "home")
    try:
        kept = {s["snapshot_id"]: s["digest"] for s in again.json("tables")}
        assert kept == {s["snapshot_id"]: s["digest"] for s in (first, second)}
        assert again.json("ingest", "t", str(file))["rows"] == 6
    finally:
        again.end()
