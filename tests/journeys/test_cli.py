"""The command line as its user types it: the hub that is meant, and runs that are left, stopped and read."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.conftest import RunningHub, WithRecord, start_hub, tally, wait_until

pytestmark = pytest.mark.journey

PERHAPS = Path(__file__).parent / "pipelines" / "perhaps.yaml"
PIPELINE = Path(__file__).resolve().parents[2] / "examples" / "digits" / "pipeline.yaml"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, with_record: WithRecord) -> Iterator[RunningHub]:
    running = start_hub(with_record(tmp_path_factory.mktemp("cli") / "home"))
    yield running
    running.end()


def _typed(*words: str, **variables: str) -> subprocess.Popen[str]:
    """A command that goes on, with its own group so that Ctrl-C reaches only it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TALLY_")}
    return subprocess.Popen(
        [sys.executable, "-m", "tallystick", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment, **variables},
        start_new_session=True,
    )


# ---------------------------------------------------------------------- which hub


def test_a_home_without_a_hub_is_never_anothers(hub: RunningHub, tmp_path: Path) -> None:
    assert hub.get("/").status_code == 200
    done = tally("--home", str(tmp_path / "other"), "status", status=4)
    assert f"no hub runs on {tmp_path / 'other'}" in done.stderr
    assert f"tally --home {tmp_path / 'other'} up" in done.stderr
    assert not (tmp_path / "other").exists()


def test_the_homes_hub_is_found(hub: RunningHub) -> None:
    found = json.loads(tally("--home", str(hub.home), "status", "--json").stdout)
    assert found["executors"]["local"].startswith("each step is ")
    assert next(iter(found["executors"])) == "local", "that which runs have who name none"
    assert (found["url"], found["home"]) == (hub.url, str(hub.home))
    assert found["policy_digest"].startswith("sha256:")


def test_the_demo_stays_out_of_another_homes_hub(hub: RunningHub, tmp_path: Path) -> None:
    before = hub.json("log")
    done = tally("--url", hub.url, "--home", str(tmp_path / "fresh"), "demo", "--stop", status=2)
    assert f"the hub there keeps {hub.home}, not {tmp_path / 'fresh'}" in done.stderr
    assert hub.json("log") == before


def test_a_hub_that_was_killed_is_not_asked(tmp_path: Path) -> None:
    running = start_hub(tmp_path / "home")
    running.kill()
    assert (tmp_path / "home" / "hub.json").exists()
    assert "no hub runs on" in tally("--home", str(tmp_path / "home"), "status", status=4).stderr


# ---------------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def digits(hub: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A table that the example's pipeline can train on."""
    pytest.importorskip("sklearn")
    from tallystick.tour.digits import load_digits, write_csv

    file = write_csv(tmp_path_factory.mktemp("data") / "digits.csv", load_digits().first)
    hub.tally("ingest", "digits", str(file))
    return "data=tally://tables/digits"


def _log_steps(hub: RunningHub, key: str) -> list[str]:
    return [str(s["step"]) for s in _rows(hub.tally("logs", key).stdout)]


def _rows(text: str) -> list[dict[str, str]]:
    heads, *lines = text.splitlines()
    return [dict(zip(heads.split(), line.split(maxsplit=2), strict=False)) for line in lines]


def test_ctrl_c_leaves_a_run_that_can_be_followed_and_cancelled(hub: RunningHub, digits: str) -> None:
    known = {r["key"] for r in hub.get("/api/tally/nouns/run").json()}
    process = _typed("--url", hub.url, "run", str(PIPELINE), "-p", digits)

    def begun() -> bool:
        new = [r["key"] for r in hub.get("/api/tally/nouns/run").json() if r["key"] not in known]
        return any(hub.get(f"/api/tally/nouns/run/{key}").json()["steps"] for key in new)

    assert wait_until(begun)
    assert process.stderr
    assert "importer" in process.stderr.readline()  # by now it follows the run, and is not only starting
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    key = hub.get("/api/tally/nouns/run").json()[0]["key"]
    assert process.returncode == 130, err
    assert out == ""
    assert f"{key} goes on; follow it with `tally status`, stop it with `tally cancel {key}`" in err
    assert "Traceback" not in err
    assert key in hub.tally("status").stdout
    assert hub.tally("cancel", key).stdout == f"{key} cancelled\n"
    assert hub.json("show", "run", key)["state"] == "cancelled"
    assert hub.tally("cancel", key).stdout == f"{key} had ended before: cancelled\n"
    assert key not in hub.tally("status").stdout


def test_what_a_step_printed(hub: RunningHub, digits: str, tmp_path: Path) -> None:
    """Too few rows to hold some out: the first step fails, and its log says where."""
    file = tmp_path / "few.csv"
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow([*(f"p{i:02d}" for i in range(64)), "label"])
        writer.writerows([[0.5] * 64 + [n % 10] for n in range(20)])
    hub.tally("ingest", "few", str(file))
    done = hub.tally("run", str(PIPELINE), "-p", "data=tally://tables/few", status=1)
    key = hub.get("/api/tally/nouns/run").json()[0]["key"]
    assert f"tally logs {key}" in done.stderr
    assert _log_steps(hub, key) == ["split"]
    assert "Traceback" in hub.tally("logs", key, "split").stdout
    assert "ValueError: " in hub.json("logs", key, "split")["log"].splitlines()[-1]


def test_artifacts_are_given_to_a_pipeline_or_not(hub: RunningHub, tmp_path: Path) -> None:
    """A file, then the same by its digest alone, then what a step of that run made; and nothing at all."""

    def given(*words: str) -> dict[str, Any]:
        run = hub.json("run", str(PERHAPS), *words)
        return dict(hub.json("show", "run", run["key"]))

    bare = given()
    assert bare["outputs"]["params"] == {"Output": "nothing"}
    (tmp_path / "rows").write_text("some")
    by_file = given("--input", f"data={tmp_path / 'rows'}")
    digest = hub.json("artifact", "put", str(tmp_path / "rows"))["digest"]
    by_digest = given("-p", f"data=tally://artifacts/{digest}")
    by_step = given("--input", f"data={by_file['key']}/copy/made")
    for run in (by_file, by_digest, by_step):
        assert run["outputs"]["params"] == {"Output": "some"}
        steps = {step["path"]: step for step in run["steps"]}
        (ref,) = steps["input-data"]["outputs"]["artifacts"]["artifact"]
        assert (ref["digest"], ref["uri"]) == (digest, run["params"]["data"])
    states = [{s["path"]: s["state"] for s in run["steps"]}["copy"] for run in (by_file, by_digest, by_step)]
    assert states == ["succeeded", "cached", "cached"], "what counts is what is in it"
    hub.tally("artifact", "get", digest, str(tmp_path / "out"))
    hub.tally("artifact", "get", f"{by_file['key']}/copy/made", str(tmp_path / "made"))
    assert (tmp_path / "out").read_text() == (tmp_path / "made").read_text() == "some"
    lost = "tally://artifacts/sha256:" + "0" * 64
    assert (
        "no artifact has this digest" in hub.tally("run", str(PERHAPS), "-p", f"data={lost}", status=2).stderr
    )
    hub.tally("reproduce", by_file["key"])


# ---------------------------------------------------------------------- looking


def test_environments_that_are_kept(hub: RunningHub) -> None:
    """None of the pipelines here asks for packages; what is done with those that do, the tile's tests say."""
    assert hub.json("env", "list") == {"environments": [], "size_bytes": 0, "bytes_max": 10 * 2**30}
    assert hub.json("env", "prune", "--gib", "0")["removed"] == []
    assert "no environment was built yet" in hub.tally("env", "list").stdout


def test_the_newest_fact_is_one_that_matters(hub: RunningHub, digits: str) -> None:
    assert digits
    hub.tally("run", str(PIPELINE), "-p", "data=tally://tables/few", status=1)
    for count in (1, 2, 3):
        facts = hub.json("log", "-n", str(count))
        assert len(facts) == count
        assert "step" not in {f["noun"] for f in facts}


def test_show(hub: RunningHub, digits: str) -> None:
    assert digits
    key = hub.json("tables")[-1]
    name = f"{key['table']}@{key['snapshot_id']}"
    assert json.loads(hub.tally("show", "data", name).stdout)["digest"] == key["digest"]
    assert "no data 'digits@1'" in hub.tally("show", "data", "digits@1", status=2).stderr
    assert "one of data, pipeline" in hub.tally("show", "cake", "x", status=2).stderr
