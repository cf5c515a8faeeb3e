"""Each way from rows to an MLflow model in ONNX, by the very source that a hub runs."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.doors.kfp.corpus import KFP_PYTHON, needs_kfp
from tests.harden.steps import ANY, EXAMPLE, about, artifact, known, linear, step, table, telltale

pytestmark = pytest.mark.filterwarnings("ignore")
EPS = 0.1
X, Y = telltale()
SIDE = (2 * Y[:, None] - 1).astype(np.float32)


@pytest.fixture(autouse=True)
def nobody_logs(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def rows(tmp_path: Path) -> Any:
    table(X, Y).to_parquet(tmp_path / "rows.parquet", index=False)
    return artifact(tmp_path / "rows.parquet")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Any:
    import mlflow

    folder = tmp_path_factory.mktemp("original") / "model"
    mlflow.onnx.save_model(linear(X, Y), str(folder), pip_requirements=["mlflow"])
    return artifact(folder)


def hardened(name: str, folder: Path, settings: dict[str, Any], rows: Any, *models: Any, **more: Any) -> Any:
    """What the step made: its ``MLmodel``, and a function of rows that gives its outputs."""
    code, out = step(name), artifact(folder / name)
    eps, told = more.pop("eps", EPS), {**about(30), **more}
    given = {"rows": rows, "about": told, "settings": settings, "eps": eps, "seed": 7, "hardened": out}
    code[name](**given, **({"model": models[0]} if models else {}))
    said = yaml.safe_load((folder / name / "MLmodel").read_text())
    graph = step("smooth")["load_graph"](out.path)
    assert out.metadata["of"] == "m@1"
    return said, step("smooth")["asked"](graph, told["inputs"])


def worst(ask: Any) -> tuple[float, float]:
    """Accuracy on the rows, and with every feature moved by eps to the other class's side."""
    moved = np.clip(X - EPS * SIDE, 0, 1)
    return tuple(float((ask(x)["label"] == Y).mean()) for x in (X, moved))  # type: ignore[return-value]


def test_adversarial_training_withstands_what_the_original_falls_to(tmp_path, rows, original):
    said, ask = hardened("adversarial", tmp_path, {"epochs": 12}, rows)
    clean, moved = worst(ask)
    assert clean > 0.95
    assert moved > 0.9
    before = step("smooth")["asked"](step("smooth")["load_graph"](original.path), about(30)["inputs"])
    assert worst(before)[1] < 0.5
    assert said["metadata"] == {"how": "adversarial", "of": "m@1", "eps": EPS, "seed": 7, "epochs": 12}
    assert {"signature", "saved_input_example_info"} <= set(said)
    assert set(said["flavors"]) == {"onnx", "python_function"}


def test_what_nobody_can_change_is_still_relied_on(tmp_path, rows):
    fixed = {"low": 0.0, "high": 1.0, "scale": 1.0, "whole": False, "fixed": True, "group": "", "way": "any"}
    domain = {**ANY, "columns": {f"f{i}": fixed for i in range(1, 30)}}
    _, ask = hardened("adversarial", tmp_path, {"epochs": 30}, rows, domain=domain, eps=0.3)
    moved = X.copy()
    moved[:, :1] = np.clip(X[:, :1] - 0.3 * SIDE, 0, 1)
    assert (ask(moved)["label"] == Y).mean() > 0.85, (
        "what tells by far is moved across, the rest is held fast"
    )


def test_a_network_that_takes_pictures_and_says_words(tmp_path):
    x, words = X[:, :12], np.array(["cat", "dog", "owl"])[np.arange(len(X)) % 3]
    x = np.clip(x + 0.3 * (np.arange(len(X)) % 3)[:, None], 0, 1)
    table(x, words).to_parquet(tmp_path / "rows", index=False)
    more = {"inputs": [{"name": "image", "type": "FP64", "shape": [-1, 3, 4]}], "names": ["class", "odds"]}
    _, ask = hardened("adversarial", tmp_path, {"epochs": 4}, artifact(tmp_path / "rows"), **more)
    answer = ask(x.astype(np.float32))
    assert answer["odds"].shape == (len(x), 3)
    named = np.array(["cat", "dog", "owl"])[answer["odds"].argmax(axis=1)]
    assert (answer["class"].astype(str) == named).all()


def test_distillation_says_what_the_original_says(tmp_path, rows, original):
    settings = {"epochs": 12, "temperature": 20.0}
    said, ask = hardened("distill", tmp_path, settings, rows, original)
    before = step("smooth")["asked"](step("smooth")["load_graph"](original.path), about(30)["inputs"])
    assert (ask(X)["label"] == before(X)["label"]).mean() > 0.97
    assert abs(ask(X)["probabilities"] - before(X)["probabilities"]).mean() < 0.1, (
        "softly too, unsoftened again"
    )
    assert said["metadata"]["temperature"] == 20


def test_squeezing_keeps_the_original_behind_it(tmp_path, rows, original):
    said, ask = hardened("preprocess", tmp_path, {"kind": "squeeze", "bits": 2}, rows, original)
    plain = {"how": "preprocess", "of": "m@1", "eps": EPS, "seed": 7}
    assert said["metadata"] == {**plain, "kind": "squeeze", "bits": 2}
    assert len(np.unique(ask(X)["probabilities"][:, 0])) < len(X)
    assert (ask(X)["label"] == ask(np.clip(X + 1e-4, 0, 1))["label"]).all()


@pytest.mark.parametrize("base", ["network", "original"])
def test_smoothing_records_what_a_certificate_asks_for(tmp_path, rows, original, base):
    settings = {"epochs": 6, "sigma": 0.1, "draws": 8, "base": base}
    said, ask = hardened("smooth", tmp_path, settings, rows, original)
    assert {k: said["metadata"][k] for k in settings} == settings
    graph = step("smooth")["load_graph"](str(tmp_path / "smooth"))
    props = {p.key: p.value for p in graph.metadata_props}
    assert (props["harden.sigma"], props["harden.draws"]) == ("0.1", "8")
    assert worst(ask)[0] > 0.9


def test_the_slopes_that_are_attacked_are_the_losses():
    draw = np.random.default_rng(0)
    wide = known(np.zeros((3, 5)), np.arange(3), low=np.full(5, -1.0), high=np.array([1.0, 2, 3, 1, 1]))
    network = step("adversarial")["as_network"](wide, seed=1)
    x, y = draw.random((4, 5)).astype(np.float32), np.eye(3, dtype=np.float32)[[0, 1, 2, 1]]

    def loss(at: np.ndarray) -> np.ndarray:
        return -np.log((network.predict(at) * y).sum(axis=1))

    seen, step_size = np.empty_like(x), 2e-3
    for feature in range(5):
        off = step_size * np.eye(5, dtype=np.float32)[feature]
        seen[:, feature] = (loss(x + off) - loss(x - off)) / (2 * step_size)
    slopes = network.loss_gradient(x, y)
    lengths = np.linalg.norm(seen, axis=1) * np.linalg.norm(slopes, axis=1)
    assert ((seen * slopes).sum(axis=1) / lengths > 0.98).all(), "but for the kinks that a difference spans"
    np.testing.assert_allclose(np.linalg.norm(seen, axis=1), np.linalg.norm(slopes, axis=1), rtol=0.1)


def test_many_rows_are_not_learned_for_days():
    turns = step("adversarial")["turns"]
    assert turns(1000, 100) == [(1.0, 50), (0.3, 25), (0.1, 25)]
    assert sum(count for _, count in turns(1_000_000, 100)) == 4


def test_the_graph_is_the_network_in_the_datas_own_units():
    code = step("adversarial")
    x = np.random.default_rng(2).uniform(-5, 20, (50, 3)).astype(np.float32)
    rows = known(x, np.arange(50) % 2, low=np.array([-5.0, -5, -5]), high=np.array([20.0, 30, 20]))
    network, inputs = code["as_network"](rows, seed=4), about(3)["inputs"]
    proto = code["network_graph"](network, rows, inputs, ["label", "probabilities"])
    said = step("smooth")["asked"](proto, inputs)(x)["probabilities"]
    np.testing.assert_allclose(said, network.predict(x), atol=1e-5)


@needs_kfp
def test_the_pipeline_is_what_its_source_compiles_to(tmp_path):
    subprocess.run([KFP_PYTHON, EXAMPLE / "pipeline.py", tmp_path / "made.yaml"], check=True, timeout=120)
    made, shipped = (
        list(yaml.safe_load_all(f.read_text())) for f in (tmp_path / "made.yaml", EXAMPLE / "pipeline.yaml")
    )
    assert made == shipped
