"""Studies on a real hub: searching, a hub that is killed in the middle, pruning, stopping, and bad input."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.journeys.conftest import RunningHub, start_hub, wait_until

pytest.importorskip("optuna")
pytestmark = pytest.mark.journey

HERE = Path(__file__).parent / "pipelines"
BOWL, CURVE = str(HERE / "bowl.yaml"), str(HERE / "curve.yaml")
SPACE = '[x]\ntype = "float"\nlow = -10\nhigh = 9\n\n[n]\ntype = "int"\nlow = 0\nhigh = 20\n'


@pytest.fixture
def space(tmp_path: Path) -> str:
    (tmp_path / "space.toml").write_text(SPACE)
    return str(tmp_path / "space.toml")


def study_of(hub: RunningHub, key: str) -> Any:
    return hub.get(f"/api/tally/studies/{key}").json()


def children(hub: RunningHub, study: Any) -> list[Any]:
    """The MLflow runs directly below a study's."""
    experiment = hub.get(f"/api/2.0/mlflow/runs/get?run_id={study['record_id']}").json()["run"]["info"]
    found = httpx.post(
        hub.url + "/api/2.0/mlflow/runs/search",
        json={
            "experiment_ids": [experiment["experiment_id"]],
            "filter": f"tags.`mlflow.parentRunId` = '{study['record_id']}'",
        },
    )
    return list(found.json().get("runs", ()))


@pytest.mark.slow
def test_a_search_comes_closer_and_is_repeated_by_its_seed(hub: RunningHub, space: str) -> None:
    words = ("tune", BOWL, "--objective", "loss", "--space", space, "--trials", "30", "--seed", "11")
    said = hub.tally(*words, "--name", "first")
    assert said.stderr.count("  trial ") == 30
    assert "best" in said.stdout.splitlines()[-1]
    key = said.stdout.splitlines()[-1].split()[0]
    study = study_of(hub, key)
    losses = [trial["value"] for trial in study["trials"]]
    assert sum(losses[20:]) < sum(losses[:10]) / 2, "the first ten are random"
    assert study["best"]["value"] == min(losses)
    assert len({trial["run"] for trial in study["trials"]}) == 30
    again = hub.json(*words[:-4], "--trials", "12", "--seed", "11", "--sampler", "tpe")
    assert [t["params"] for t in again["trials"]] == [t["params"] for t in study["trials"][:12]]
    runs = children(hub, study)
    assert len(runs) == 30, "each trial is a child run in MLflow"
    tags = {tag["key"]: tag["value"] for run in runs for tag in run["data"]["tags"]}
    assert "tally.run" in tags
    assert "study" in hub.tally("status").stdout
    assert key in hub.tally("log", "--noun", "study").stdout


@pytest.mark.slow
def test_a_study_outlives_its_hub(hub: RunningHub, space: str) -> None:
    words = ("tune", BOWL, "--objective", "bowl.loss", "--space", space, "--trials", "8", "--seed", "5")
    key = hub.json(*words, "--parallel", "2", "-p", "seconds=0.5", "--no-wait")["key"]
    assert wait_until(lambda: sum(t["state"] == "succeeded" for t in study_of(hub, key)["trials"]) >= 3)
    before = study_of(hub, key)
    hub.kill()
    again = start_hub(hub.home)
    try:
        again.tally("tune", "--resume", key)
        study = study_of(again, key)
        assert study["state"] == "succeeded"
        assert [t["number"] for t in study["trials"]] == list(range(8)), "none lost, none counted twice"
        assert {t["state"] for t in study["trials"]} == {"succeeded"}
        was = {t["number"]: t for t in before["trials"]}
        for trial in study["trials"]:
            if trial["number"] in was and was[trial["number"]]["state"] == "succeeded":
                assert trial == was[trial["number"]]
            elif trial["number"] in was:
                assert trial["run"] == was[trial["number"]]["run"], "its run was taken up, not begun again"
        runs = again.get("/api/tally/nouns/run?limit=100").json()
        assert Counter(r["key"] for r in runs).keys() == {t["run"] for t in study["trials"]}
        more = again.json("tune", "--resume", key, "--trials", "10", "--parallel", "1")
        assert len(more["trials"]) == 10
    finally:
        again.end()


@pytest.mark.slow
def test_hyperband_prunes_what_is_bad(hub: RunningHub, tmp_path: Path) -> None:
    space = tmp_path / "space.toml"
    space.write_text('[x]\ntype = "choice"\nvalues = [0.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0, 99.0]\n')
    words = ("tune", CURVE, "--objective", "loss", "--space", str(space), "--sampler", "grid")
    study = hub.json(*words, "--pruner", "hyperband", "--parallel", "2", "-p", "seconds=0.5")
    states = {trial["params"]["x"]: trial["state"] for trial in study["trials"]}
    assert states[0.0] == "succeeded"
    pruned = [trial for trial in study["trials"] if trial["state"] == "pruned"]
    assert pruned, states
    assert all(0 < len(trial["steps"]) < 9 for trial in pruned)
    assert study["best"]["params"] == {"x": 0.0}
    runs = {r["key"]: r["state"] for r in hub.get("/api/tally/nouns/run?limit=100").json()}
    assert all(runs[trial["run"]] == "cancelled" for trial in pruned)


@pytest.mark.slow
def test_a_study_is_stopped_and_bad_trials_say_why(hub: RunningHub, space: str, tmp_path: Path) -> None:
    words = ("tune", BOWL, "--objective", "loss", "--space", space)
    key = hub.json(*words, "-p", "seconds=60", "--parallel", "2", "--no-wait")["key"]
    assert wait_until(lambda: len(study_of(hub, key)["trials"]) == 2)
    assert "stopped" in hub.tally("tune", "--stop", key).stdout
    assert {t["state"] for t in study_of(hub, key)["trials"]} == {"stopped"}
    high = tmp_path / "high.toml"
    high.write_text('[x]\ntype = "choice"\nvalues = [9.5, 9.75, 3.0]\n')
    study = hub.json(
        "tune", BOWL, "--objective", "loss", "--space", str(high), "--sampler", "grid", "-p", "n=7"
    )
    assert [t["state"] for t in study["trials"]] == ["failed", "failed", "succeeded"]
    assert "x is too large" in study["trials"][0]["why"]
    said = hub.tally(*words[:3], "lost", *words[4:], "--trials", "1", status=1)
    assert "no metric 'lost'" in said.stderr
    high.write_text('[y]\ntype = "float"\nlow = 0\nhigh = 1\n')
    said = hub.tally("tune", BOWL, "--objective", "loss", "--space", str(high), status=2)
    assert "high.toml: [y]" in said.stderr
