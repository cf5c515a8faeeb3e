"""Texts and windows from MLflow's client to their verdict: `tally judge` through a hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fakes.machine.maker import run_maker
from tests.fakes.mlflow.schema import WithRecord
from tests.journeys.conftest import RunningHub, start_hub
from tests.judging.kinds import windows
from tests.tiles.texts.reviews import reviews

pytest.importorskip("mlflow")
pytest.importorskip("sklearn")

pytestmark = [pytest.mark.journey, pytest.mark.slow]

POLICY = """
name = "kinds"
[budget]
eps = [0.2, 0.5, 1.0]
edits = [1, 2, 4]
samples_max = 60
queries_max = 300
steps_max = 10
[domain."reviews*"]
kind = "text"
immutable = ["plot"]
synonyms = [["film", "movie"]]
[domain."wear*"]
kind = "series"
shape = [20, 2]
[[rule]]
name = "accurate"
measure = "clean_accuracy"
at_least = 0.6
[[rule]]
name = "robust to one word"
models = ["reviews*"]
measure = "robust_accuracy"
eps = 1
at_least = 0.5
[[rule]]
name = "robust to four words"
models = ["reviews*"]
measure = "robust_accuracy"
eps = 4
at_least = 0.7
[[rule]]
name = "robust to a fifth of a spread"
models = ["wear*"]
measure = "robust_accuracy"
eps = 0.2
at_least = 0.5
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, with_record: WithRecord) -> Iterator[RunningHub]:
    import pyarrow as pa
    from pyarrow import parquet

    home = tmp_path_factory.mktemp("kinds")
    texts, praise = reviews(200, seed=99)
    x, rises = windows(200, seed=99)
    tables = {
        "reviews_held_out": {"text": texts.tolist(), "praise": praise},
        "wear_held_out": {**{f"v{n}": row for n, row in enumerate(x.reshape(len(x), -1).T)}, "rises": rises},
    }
    (home / "policy.toml").write_text(POLICY)
    running = start_hub(with_record(home / "home"), "--policy", str(home / "policy.toml"))
    try:
        for name, columns in tables.items():
            parquet.write_table(pa.table(columns), home / f"{name}.parquet")
            running.tally("ingest", name, str(home / f"{name}.parquet"))
        run_maker("-m", "tests.judging.kinds", running.url, seconds=240)
        yield running
    finally:
        running.end()


def _judged(hub: RunningHub, *words: str, status: int) -> tuple[dict[str, Any], dict[str, Any], str, str]:
    """The verdict, its evidence, the model card and the page."""
    said = json.loads(hub.tally("judge", *words, "--json", status=status).stdout)
    told = hub.json("verdict", said["key"])["evidence"]
    card = hub.tally("verdict", said["key"], "--markdown").stdout
    return said, told, card, hub.get(f"/verdicts/{said['key']}").text


def test_a_model_of_texts_is_judged_by_words(hub: RunningHub) -> None:
    words = ("reviews@1", "--data", "reviews_held_out", "--label", "praise")
    said, evidence, card, page = _judged(hub, *words, status=3)
    assert [f["rule"] for f in said["findings"] if not f["holds"]] == ["robust to four words"], said
    assert [point["eps"] for point in evidence["curve"]] == [1, 2, 4]
    robust = [point["robust"]["right"] for point in evidence["curve"]]
    noise = [point["noise"]["right"] for point in evidence["curve"]]
    assert robust[0] > robust[1] > robust[2]
    assert all(calm > hunted for calm, hunted in zip(noise, robust, strict=True))
    probes = {probe["name"]: probe for probe in evidence["probes"]}
    assert all(probes[name]["state"] == "done" for name in ("text_characters", "text_words", "text_random"))
    assert probes["pgd"]["state"] == "not applicable"
    shown = probes["text_characters"]["examples"][0]
    assert shown["label_before"] == shown["truth"] != shown["label_after"]
    assert any(piece["before"] != piece["after"] for piece in shown["passage"])
    assert all("plot" not in change["before"].casefold() for change in shown["changes"])
    for text in (card, page):
        assert shown["changes"][0]["before"] in text
        assert "words changed" in text
    again = json.loads(hub.tally("judge", *words, "--json", status=3).stdout)
    assert again["figures"] == said["figures"]


def test_a_model_of_windows_is_judged_in_spreads(hub: RunningHub) -> None:
    said, evidence, _, page = _judged(hub, "wear@1", "--data", "wear_held_out", "--label", "rises", status=0)
    assert said["state"] == "passed"
    columns = evidence["domain"]["columns"]
    assert [c["name"] for c in columns] == ["channel 1", "channel 2"]
    assert columns[1]["scale"] > 1000 * columns[0]["scale"] > 0
    probes = {probe["name"]: probe for probe in evidence["probes"]}
    for name in ("pgd", "square", "hop_skip_jump", "corruptions"):
        assert probes[name]["state"] == "done", probes[name]["why"]
    robust = [point["robust"]["right"] for point in evidence["curve"]]
    assert robust[0] > robust[-1]
    assert any(example["traces"] for probe in evidence["probes"] for example in probe["examples"])
    assert "standard deviations of its channel" in page
    assert 'class="picture chart trace"' in page
