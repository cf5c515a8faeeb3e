"""A fragile model is hardened in two ways, by commands as a user types them; one of them passes."""

from __future__ import annotations

import csv
import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.fakes.mlflow.schema import WithRecord
from tests.journeys.conftest import RunningHub, start_hub

pytestmark = pytest.mark.journey

POLICY = """
name = "small"
probes = ["smoothing_certificate"]
[budget]
eps = [0.05, 0.15]
samples_max = 40
queries_max = 300
steps_max = 10
[[rule]]
name = "robust"
measure = "robust_accuracy"
eps = 0.15
bound = "value"
at_least = 0.5
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, with_record: WithRecord) -> Iterator[RunningHub]:
    """A hub with the digits as a table, and a linear model of theirs that the stock client registered."""
    mlflow, linear = pytest.importorskip("mlflow"), pytest.importorskip("sklearn.linear_model")
    pytest.importorskip("art")
    import numpy as np
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("harden")
    (folder / "policy.toml").write_text(POLICY)
    running = start_hub(with_record(folder / "home"), "--policy", str(folder / "policy.toml"))
    digits = load_digits()
    x, y = (digits.data / 16).astype("f4"), digits.target
    with (folder / "digits.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([*(f"p{i:02d}" for i in range(64)), "label"])
        rows.writerows([*map(float, image), int(label)] for image, label in zip(x, y, strict=True))
    running.tally("ingest", "digits", str(folder / "digits.csv"))
    mlflow.set_tracking_uri(running.url)
    fitted = linear.LogisticRegression(C=30, max_iter=1000).fit(x[:900], y[:900])
    kinds = [("pixels", FloatTensorType([None, 64]))]
    graph = to_onnx(fitted, initial_types=kinds, options={id(fitted): {"zipmap": False}})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own
        with mlflow.start_run():
            how = {"input_example": {"pixels": np.zeros((2, 64), "f4")}}
            mlflow.onnx.log_model(onnx_model=graph, name="m", registered_model_name="digits", **how)
    yield running
    running.end()


def test_adversarial_training_takes_a_fragile_model_to_a_verdict_that_passes(hub: RunningHub) -> None:
    found = hub.json("harden", "digits", "--how", "adversarial", "--data", "digits", "--set", "epochs=40")
    assert [found["verdicts"][role]["state"] for role in ("original", "hardened")] == ["refused", "passed"]
    assert (found["original"], found["hardened"], found["eps"]) == ("digits@1", "digits@2", 0.15)
    (robust,) = [f for f in found["figures"] if (f["measure"], f["eps"]) == ("robust_accuracy", 0.15)]
    before, after = (robust[role]["value"] for role in ("original", "hardened"))
    assert before + 0.1 < after
    assert found["rows"] == {"train": 1438, "left_out": 359, "test": 359, "found": 359}
    assert found["next"] == ["tally deploy digits@2 --name digits"]
    held_out = {v["dataset"] for v in found["verdicts"].values()}
    assert held_out == {f"{found['run']}/test"}, "both by the same rows"
    model = hub.get("/api/tally/nouns/model/digits@2").json()
    assert model["params"]["how"] == "adversarial"
    assert model["origin"]["snapshots"], "its table is on record"
    assert [i["name"] for i in model["inputs"]] == ["pixels"], "it stands in for the original"


def test_squeezing_keeps_the_model_behind_it(hub: RunningHub, tmp_path: Path) -> None:
    words = ("--how", "preprocess", "--data", "digits", "--output-name", "squeezed", "--json")
    done = hub.tally("harden", "digits@1", *words, status=3)
    assert '"hardened": "squeezed@1"' in done.stdout
    hub.tally("download", "squeezed@1", str(tmp_path / "out"))
    said = yaml.safe_load((tmp_path / "out" / "model" / "MLmodel").read_text())
    plain = {"how": "preprocess", "of": "digits@1", "eps": 0.15, "seed": 7}
    assert said["metadata"] == {**plain, "kind": "squeeze", "bits": 2}


def test_a_smoothed_model_is_certified_with_its_own_sigma(hub: RunningHub) -> None:
    """The policy names the certificate; what the tile certifies with stands in the model's own file."""
    words = ("--how", "smooth", "--data", "digits", "--output-name", "calm", "--set", "sigma=0.05")
    done = hub.tally("harden", "digits@1", *words, "--set", "epochs=10", "--json", status=3)
    found = json.loads(done.stdout)
    key = found["verdicts"]["hardened"]["key"]
    probes = hub.get(f"/api/tally/verdicts/{key}").json()["evidence"]["probes"]
    settings = next(p["settings"] for p in probes if p["name"] == "smoothing_certificate")
    assert (settings["sigma"], settings["sigma_is"]) == (0.05, "its own")
    certified = [f for f in found["figures"] if f["measure"] == "certified_accuracy" and f.get("group")]
    assert [f["eps"] for f in certified] == [0.05, 0.15]
    # The last of ten that take less than a second may have been overtaken by the end.
    assert re.search(r"epoch \d+ of 10\b", done.stderr), done.stderr


def test_what_does_not_apply_is_refused_before_anything_runs(hub: RunningHub) -> None:
    before = len(hub.get("/api/tally/nouns/run").json())
    done = hub.tally("harden", "digits@1", "--how", "distill", status=2)
    assert "say which rows to train on" in done.stderr
    assert "tally harden digits@1 --data TABLE" in done.stderr
    done = hub.tally(
        "harden", "digits@1", "--how", "smooth", "--data", "digits", "--set", "draws=0", status=2
    )
    assert "draws is a whole number from 1 to 1000" in done.stderr
    assert len(hub.get("/api/tally/nouns/run").json()) == before
