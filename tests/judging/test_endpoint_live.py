"""`tally judge --endpoint` from the command line to the verdict: an endpoint of another make."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes.machine.plain_oip import PlainEndpoint, plain_endpoint
from tests.fakes.mlflow.schema import WithRecord
from tests.journeys.conftest import RunningHub, start_hub

pytestmark = [pytest.mark.journey, pytest.mark.slow]

POLICY = """
name = "live"
[budget]
eps = [0.02, 0.05]
samples_max = 24
queries_max = 60
[[rule]]
name = "accurate"
measure = "clean_accuracy"
at_least = 0.6
bound = "value"
[[rule]]
name = "robust"
measure = "robust_accuracy"
eps = 0.02
at_least = 0.1
bound = "value"
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, with_record: WithRecord) -> Iterator[RunningHub]:
    import pandas as pd

    folder = tmp_path_factory.mktemp("live")
    (folder / "policy.toml").write_text(POLICY)
    found = start_hub(with_record(folder / "home"), "--policy", str(folder / "policy.toml"))
    rows = np.random.default_rng(5).uniform(0, 1, (60, 2)).astype("f4")
    table = pd.DataFrame({"a": rows[:, 0], "b": rows[:, 1], "label": (rows[:, 1] > rows[:, 0]).astype("i8")})
    table.to_parquet(folder / "points.parquet")
    found.tally("ingest", "points", str(folder / "points.parquet"))
    yield found
    found.end()


@pytest.fixture
def endpoint() -> Iterator[PlainEndpoint]:
    with plain_endpoint() as found:
        yield found


def judged(hub: RunningHub, address: str, status: int) -> Any:
    said = hub.tally("judge", "--endpoint", address, "--data", "points", "--json", status=status)
    return json.loads(said.stdout)


def evidence(hub: RunningHub, verdict: Any) -> Any:
    return hub.get(f"/api/tally/verdicts/{verdict['key']}").json()["evidence"]


def test_it_is_judged_to_the_end_though_it_limits_its_rate(hub: RunningHub, endpoint: PlainEndpoint) -> None:
    busy = lambda handler: handler.say({"error": "slow down"}, 429, retry_after="1")  # noqa: E731
    endpoint.moods = [None, None, busy, None, busy, None]
    verdict = judged(hub, endpoint.address, 0)
    assert (verdict["state"], verdict["model"], verdict["stage"]) == ("passed", endpoint.address, "endpoint")
    assert verdict["figures"]["clean_accuracy"] > 0.9
    notes = [note for probe in evidence(hub, verdict)["probes"] for note in probe["notes"]]
    assert any(f"asked over HTTP at {endpoint.address}" in note for note in notes)
    assert any("the endpoint limited its rate 2 times, 2 s in all" in note for note in notes)


def test_one_that_dies_halfway_is_refused_by_name_and_the_rest_is_said(
    hub: RunningHub, endpoint: PlainEndpoint
) -> None:
    endpoint.moods = [None] * 4 + [lambda handler: handler.say({"error": "out of memory"}, 500)]
    verdict = judged(hub, endpoint.address, 3)
    assert verdict["state"] == "refused"
    assert [f["rule"] for f in verdict["findings"] if not f["holds"]] == ["robust"]
    probes = {probe["name"]: probe for probe in evidence(hub, verdict)["probes"]}
    assert probes["clean"]["state"] == "done"
    failed = [probe for probe in probes.values() if probe["state"] == "failed"]
    assert failed
    assert all("it answered 500: out of memory" in probe["why"] for probe in failed)


@pytest.mark.parametrize(
    ("mood", "words"),
    [
        (
            lambda h: h.scores([[float("nan"), 1.0]] * 60),
            "its answer is none: the body is not JSON: NaN is not JSON",
        ),
        (lambda h: h.scores([[0.5, 0.5]]), "does not answer row by row"),
        (lambda h: h.say({"error": "come back later"}, 429, retry_after="9999"), "it asks for 9999 s more"),
        (lambda h: h.say(b"", 302, location="http://169.254.169.254/"), "a redirect, and none is followed"),
    ],
)
def test_one_that_never_answers_right_is_a_verdict_that_failed(
    hub: RunningHub, endpoint: PlainEndpoint, mood: Any, words: str
) -> None:
    endpoint.moods = [mood]
    said = hub.tally("judge", "--endpoint", endpoint.address, "--data", "points", status=1)
    assert words in (said.stderr + said.stdout).replace("\n", " ")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://169.254.169.254/v2/models/m", "169.254.169.254 is never asked"),
        ("http://127.0.0.1:99999/v2/models/m", "Port out of range"),
        ("http://me:secret@127.0.0.1/v2/models/m", "host, port and path alone"),
    ],
)
def test_an_address_that_is_never_asked_begins_nothing(hub: RunningHub, address: str, words: str) -> None:
    before = hub.get("/api/tally/status").json()["counts"]["verdict"]
    said = hub.tally("judge", "--endpoint", address, "--data", "points", status=2)
    assert words in said.stderr.replace("\n", " ")
    assert hub.get("/api/tally/status").json()["counts"]["verdict"] == before


def test_the_hub_s_own_endpoint_is_one_like_any_other(hub: RunningHub, tmp_path: Path) -> None:
    """Nothing is served there under this name: it says so, in the protocol's words."""
    said = hub.tally("judge", "--endpoint", f"{hub.url}/v2/models/nobody", "--data", "points", status=1)
    assert "it answered 404: " in (said.stderr + said.stdout)
