"""A pipeline is handed to a Kubeflow, another hub here, and its record follows how it fares there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.conftest import RunningHub, WithRecord, start_hub, tally

BOWL = (str(Path(__file__).parent / "pipelines" / "bowl.yaml"), "-p", "x=1", "-p", "n=2")
ENDED = ("succeeded", "failed", "cancelled")
PATIENCE_S = 60


@pytest.fixture
def far(tmp_path: Path, with_record: WithRecord) -> Iterator[RunningHub]:
    """What answers Kubeflow's API."""
    hub = start_hub(with_record(tmp_path / "far"))
    yield hub
    hub.end()


@pytest.fixture
def near(tmp_path: Path, with_record: WithRecord) -> Iterator[RunningHub]:
    hub = start_hub(with_record(tmp_path / "near"))
    yield hub
    if hub.process.poll() is None:
        hub.end()


def until(found: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE_S
    while not (value := found()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return value


def ended(hub: RunningHub, key: str) -> Any:
    def look() -> Any:
        run = hub.get(f"/api/tally/nouns/run/{key}").json()
        return run if run["state"] in ENDED else None

    return until(look)


def test_a_run_elsewhere_is_followed_step_by_step(near: RunningHub, far: RunningHub) -> None:
    said = near.json("run", *BOWL, "--on", "kubeflow", "--host", far.url, "--experiment", "far away")
    assert said["state"] == "succeeded"
    here = near.get(f"/api/tally/nouns/run/{said['key']}").json()
    (there,) = far.get("/api/tally/nouns/run").json()
    assert here["away"]
    assert here["options"]["host"] == far.url
    theirs = far.get(f"/api/tally/nouns/run/{there['key']}").json()
    assert {s["path"]: s["state"] for s in here["steps"]} == {s["path"]: s["state"] for s in theirs["steps"]}
    assert here["steps"]
    assert theirs["options"]["experiment"] == "far away"
    listed = far.get("/api/2.0/mlflow/experiments/get-by-name", params={"experiment_name": "far away"})
    assert listed.status_code == 200


def test_a_hub_that_was_killed_finds_its_run_again(near: RunningHub, far: RunningHub, tmp_path: Path) -> None:
    begun = near.json("run", *BOWL, "-p", "seconds=2", "--on", "kubeflow", "--host", far.url, "--no-wait")
    until(lambda: far.get("/api/tally/nouns/run").json())
    near.kill()
    again = start_hub(tmp_path / "near")
    try:
        assert ended(again, begun["key"])["state"] == "succeeded"
        assert len(far.get("/api/tally/nouns/run").json()) == 1
    finally:
        again.end()


def test_a_schedule_hands_its_runs_over_as_well(near: RunningHub, far: RunningHub) -> None:
    made = near.json("schedule", "add", *BOWL, "--every", "1s", "--on", "kubeflow", "--host", far.url)
    last = until(lambda: near.get(f"/api/tally/schedules/{made['key']}").json()["last_run"])
    near.json("schedule", "remove", made["key"])
    run = ended(near, last)
    assert (run["state"], run["options"]["host"], bool(run["away"])) == ("succeeded", far.url, True)
    assert far.get("/api/tally/nouns/run").json()


def test_one_that_was_cancelled_is_submitted_there_again(near: RunningHub, far: RunningHub) -> None:
    where = ("--on", "kubeflow", "--host", far.url)
    first = near.json("run", *BOWL, "-p", "seconds=5", *where, "--no-wait")["key"]
    until(lambda: far.get("/api/tally/nouns/run").json())
    near.json("cancel", first)
    assert ended(near, first)["state"] in ("cancelled", "failed")
    done = tally("--url", near.url, "reproduce", first, status=2)
    assert f"tally retry {first}" in done.stderr
    again = near.json("retry", first)
    assert again["state"] == "succeeded"
    assert len(far.get("/api/tally/nouns/run").json()) == 2


SPACE = '[x]\ntype = "float"\nlow = 0\nhigh = 6\nstep = 3\n'


def test_a_study_s_trials_are_done_there_and_their_metric_is_read_back(
    near: RunningHub, far: RunningHub, tmp_path: Path
) -> None:
    pytest.importorskip("optuna")
    (tmp_path / "space.toml").write_text(SPACE)
    words = ("tune", BOWL[0], "-p", "n=7", "--space", str(tmp_path / "space.toml"), "--sampler", "grid")
    where = ("--on", "kubeflow", "--host", far.url)
    study = near.json(*words, "--objective", "loss", "--parallel", "2", *where)
    assert study["state"] == "succeeded"
    found = {trial["params"]["x"]: trial["value"] for trial in study["trials"]}
    assert found == {0.0: 9.0, 3.0: 0.0, 6.0: 9.0}, [trial["why"] for trial in study["trials"]]
    assert study["best"]["params"] == {"x": 3.0}
    theirs = far.get("/api/tally/nouns/run").json()
    assert {run["options"]["experiment"] for run in theirs} == {"bowl"}
    assert len(theirs) == 3
    mine = [near.get(f"/api/tally/nouns/run/{trial['run']}").json() for trial in study["trials"]]
    assert all(run["away"] and run["options"]["host"] == far.url for run in mine)
    done = near.tally(*words, "--objective", "gain", "--trials", "1", "--failures-max", "0", *where, status=1)
    assert "it has no metric 'gain'" in done.stderr
    done = near.tally(*words, "--objective", "loss", "--pruner", "median", *where, status=2)
    assert "a pruner reads what steps log to MLflow here" in done.stderr


def test_what_cannot_be_handed_over(near: RunningHub) -> None:
    done = tally("--url", near.url, "run", *BOWL, "--on", "kubeflow", status=2)
    assert "--on kubeflow --host URL" in done.stderr
    words = ("run", *BOWL, "--on", "kubeflow", "--host", "https://kubeflow.example")
    done = tally("--url", near.url, *words, status=3)
    assert "kubeflow_hosts" in done.stderr
    done = tally("--url", near.url, "run", *BOWL, "--on", "nowhere", status=2)
    assert "there is no executor 'nowhere'" in done.stderr
