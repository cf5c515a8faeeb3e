"""Twins: made behind a wall by the model's own process, and believed only where they answer as it does."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from tallystick.core.errors import BadInput, Failed, NotSupported, Unavailable
from tallystick.core.wall import Wall
from tallystick.crew.judging import twins
from tallystick.crew.judging.twins import Equality, differing, open_twin, prove_equal
from tallystick.crew.twin import main
from tallystick.evidence.domain import Budget, Column, Domain, DomainKind
from tallystick.hub.house.errand import run_errand
from tallystick.ports.tile import Place
from tallystick.tiles.attack.black import run_black
from tallystick.wiring.tiles import open_tile
from tests.crew.at_desk import done, send
from tests.crew.pull.estimators import build
from tests.fakes.models import build as build_fakes
from tests.tiles.attack.toys import case_of

TABLE = Domain(kind=DomainKind.TABULAR)
CONVERTED = ["forest", "named forest", "boosted", "logistic", "svc", "columns", "xgboost", "xgboost two",
             "xgboost piped", "histogram", "histogram two", "lightgbm", "lightgbm piped"]  # fmt: skip


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    return build(tmp_path_factory)


@pytest.fixture
def x(models: Path) -> np.ndarray:
    return np.load(models / "rows.npz")["x"]


def made(folder: Path, home: Path, features: int = 4):
    """The twin of a model, made in this very process, opened as the judge does."""
    (home / "out").mkdir()
    (home / "twin").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of skl2onnx and MLflow
        found = done(main, {"folder": str(folder), "out": str(home / "out"), "features": features})
    return found, open_twin(home / "out" / found["file"], home / "twin", features)


def scores_of(folder: Path):
    """What the model itself says, by its own library."""
    import mlflow.lightgbm
    import mlflow.sklearn
    import mlflow.xgboost
    import pandas as pd

    flavors = {"xgboost": mlflow.xgboost, "xgboost two": mlflow.xgboost, "lightgbm": mlflow.lightgbm}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = flavors.get(folder.name, mlflow.sklearn).load_model(str(folder))

    def scores(rows: np.ndarray) -> np.ndarray:
        given = rows
        if folder.name == "columns":
            given = pd.DataFrame(rows, columns=model.feature_names_in_)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names that rows have not
            if hasattr(model, "predict_proba"):
                return model.predict_proba(given)
            margin = model.decision_function(given)
        return margin if margin.ndim == 2 else np.stack([-margin, margin], axis=1)

    return scores


def by(predictor):
    return lambda rows: predictor.predict({"X": rows})["probabilities"]


@pytest.mark.slow
@pytest.mark.parametrize("name", CONVERTED)
def test_the_twin_of_a_model_answers_as_it_does(
    tmp_path: Path, models: Path, x: np.ndarray, name: str
) -> None:
    pytest.importorskip("onnxmltools")
    found, twin = made(models / name, tmp_path)
    assert [spec.name for spec in twin.outputs] == ["label", "probabilities"]
    assert (twin.inputs[0].name, twin.inputs[0].shape) == ("X", (-1, 4))
    assert {"skl2onnx", "scikit-learn"} <= found["versions"].keys()
    same = prove_equal(by(twin), scores_of(models / name), x, domain=TABLE)
    assert same.equal, same.says
    assert same.rows == len(x)
    assert same.changed >= 4 * len(x)
    assert same.largest < 1e-4
    again = prove_equal(by(twin), scores_of(models / name), x, domain=TABLE)
    assert again == same


@pytest.mark.slow
@pytest.mark.parametrize("name", CONVERTED)
def test_what_attacks_find_on_an_honest_twin_is_never_taken_for_a_difference(
    tmp_path: Path, models: Path, x: np.ndarray, name: str
) -> None:
    """Although such rows lie on the very edge, where float32 and float64 part."""
    pytest.importorskip("onnxmltools")
    _, twin = made(models / name, tmp_path)
    victim = Asked(by(twin), by(twin)(x[:1]).shape[1])
    names = [f"f{at}" for at in range(4)]
    columns = tuple(
        Column(name, float(low), float(high))
        for name, low, high in zip(names, x.min(axis=0), x.max(axis=0), strict=True)
    )
    budget = Budget(eps=(0.02, 0.1), samples_max=40, queries_max=2000)
    y = victim.scores(x).argmax(axis=1)
    case = case_of(victim, x, y, Domain(DomainKind.TABULAR, columns=columns), budget, names)
    for probe in ("hop_skip_jump", "table_edits"):
        found = run_black(probe, case, lambda *_: None)
        parts = [part for part in (found.adversarial, found.show) if part is not None]
        rows = np.concatenate([part[np.isfinite(part).all(axis=1)] for part in parts])
        assert len(rows) >= 40
        assert not differing(victim.scores, scores_of(models / name), rows).any()
    honest = scores_of(models / name)
    assert differing(victim.scores, lambda asked: np.roll(honest(asked), 1, axis=1), x[:20]).all()


class Asked:
    """A victim that gives probabilities and nothing else."""

    gives, gradients, twin = "probabilities", False, None

    def __init__(self, says, classes: int) -> None:
        self.says, self.classes, self.asked = says, classes, 0

    def scores(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self.says(rows), np.float32)


@pytest.mark.parametrize("name", ["process", "bubblewrap"])
async def test_it_is_made_behind_each_wall(tmp_path: Path, models: Path, x: np.ndarray, name: str) -> None:
    try:
        sandbox = open_tile("sandbox", name, Place(tmp_path))
    except Unavailable:
        pytest.skip(f"there is no {name} here")
    out = tmp_path / "out"
    out.mkdir()
    order = {"folder": str(models / "forest"), "out": str(out), "features": 4}
    env = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "LANG": "C.UTF-8"}
    wall = Wall(str(out), readable=(str(models),), writable=(str(out),), env=env, processes=4096)
    try:
        found = await run_errand(sandbox, "twin", order, wall)
        with pytest.raises(NotSupported, match="no classifier that gives scores"):
            await run_errand(sandbox, "twin", {**order, "folder": str(models / "regression")}, wall)
    finally:
        await sandbox.close()
    (tmp_path / "twin").mkdir()
    twin = open_twin(out / found["file"], tmp_path / "twin", 4)
    assert prove_equal(by(twin), scores_of(models / "forest"), x, domain=TABLE).equal


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("own", NotSupported, "cannot be converted to ONNX"),
        ("regression", NotSupported, "no classifier that gives scores"),
        ("absent", BadInput, "no MLmodel can be read"),
    ],
)
def test_a_model_that_has_no_twin_says_why(
    tmp_path: Path, models: Path, name: str, kind: type, words: str
) -> None:
    with pytest.raises(kind, match=words) as wrong:
        made(models / name, tmp_path)
    assert "\n" not in wrong.value.what
    assert not list((tmp_path / "out").iterdir())


def test_models_of_other_flavors_and_orders_that_lack_something(
    tmp_path: Path, models: Path, tmp_path_factory
) -> None:
    with pytest.raises(NotSupported, match="no twin for a model of this kind"):
        made(build_fakes(tmp_path_factory) / "mixed", tmp_path)
    with pytest.raises(BadInput, match="the order lacks 'out'"):
        done(main, {"folder": str(models / "forest")})
    for features in (0, 100_001):
        with pytest.raises(BadInput, match="features"):
            done(main, {"folder": str(models / "forest"), "out": str(tmp_path), "features": features})
    damaged = shutil.copytree(models / "forest", tmp_path / "damaged")
    (damaged / "model.pkl").write_bytes(b"\x80\x05no pickle")
    (tmp_path / "2").mkdir()
    with pytest.raises(Failed, match="MLflow cannot load it"):
        made(damaged, tmp_path / "2")
    (damaged / "MLmodel").write_text("- 1")
    (tmp_path / "3").mkdir()
    with pytest.raises(BadInput, match="no MLmodel can be read"):
        made(damaged, tmp_path / "3")


def test_its_own_process_says_the_same(tmp_path: Path, models: Path) -> None:
    found = send("twin", {"folder": str(models / "logistic"), "out": str(tmp_path), "features": 4})
    assert (found["file"], found["flavor"]) == ("twin.onnx", "sklearn")
    assert (tmp_path / "twin.onnx").stat().st_size > 0


def graph(path: Path, shape=("n", 4), output: str = "probabilities") -> Path:
    x = helper.make_tensor_value_info("X", onnx.TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, shape)
    made_of = helper.make_graph([helper.make_node("Softmax", ["X"], [output])], "g", [x], [y])
    model = helper.make_model(made_of, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.save_model(model, path)
    return path


def test_what_is_handed_over_as_a_twin_is_opened_with_care(tmp_path: Path, monkeypatch) -> None:
    def opened(path: Path, features: int = 4):
        home = tmp_path / f"home {len(list(tmp_path.iterdir()))}"
        home.mkdir()
        return open_twin(path, home, features)

    good = graph(tmp_path / "good.onnx")
    assert opened(good).predict({"X": np.zeros((2, 4), np.float32)})["probabilities"].shape == (2, 4)
    (tmp_path / "link.onnx").symlink_to(good)
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "none.onnx").write_bytes(b"")
    (tmp_path / "noise.onnx").write_bytes(os.urandom(1000))
    for name in ("link", "pipe", "folder", "none", "noise", "absent"):
        with pytest.raises(BadInput):
            opened(tmp_path / f"{name}.onnx")
    with pytest.raises(BadInput, match="table of 5"):
        opened(good, 5)
    with pytest.raises(BadInput, match="no probabilities"):
        opened(graph(tmp_path / "other.onnx", output="scores"))
    with pytest.raises(BadInput, match="does not take"):
        opened(graph(tmp_path / "fixed.onnx", shape=(1, 4)))
    monkeypatch.setattr(twins, "TWIN_BYTES_MAX", 10)
    with pytest.raises(BadInput, match="over 10 bytes"):
        opened(good)


def line(weight: float, shift: float = 0.0):
    """A classifier of two columns: which is larger, but for a shift."""

    def scores(rows: np.ndarray) -> np.ndarray:
        margin = weight * (rows[:, 1].astype(np.float64) - rows[:, 0] + shift)
        return np.stack([1 / (1 + np.exp(margin)), 1 / (1 + np.exp(-margin))], axis=1)

    return scores


UNIT = Domain()
ROWS = np.random.default_rng(0).uniform(size=(200, 2)).astype(np.float32)


def only_labels(scores):
    return lambda rows: np.eye(3, dtype=np.float32)[scores(rows).argmax(axis=1)]


def test_an_equal_is_equal_and_says_so() -> None:
    same = prove_equal(line(5), line(5), ROWS, domain=UNIT)
    assert (same.equal, same.apart, same.largest) == (True, 0, 0)
    assert "label on" in same.says
    labels = prove_equal(line(5), only_labels(line(5)), ROWS, domain=UNIT, labels_only=True)
    assert (labels.equal, labels.largest) == (True, None)
    assert "labels alone" in labels.says


def test_another_slope_is_told_by_its_scores_and_not_by_its_labels() -> None:
    scores = prove_equal(line(5.1), line(5), ROWS, domain=UNIT)
    assert not scores.equal
    assert scores.apart == 0
    assert scores.largest > 1e-3
    assert prove_equal(line(5.1), only_labels(line(5)), ROWS, domain=UNIT, labels_only=True).equal


def test_a_boundary_that_is_moved_a_little_is_found() -> None:
    """No row as it is given shows it, as they keep away from the boundary; the changed ones do."""
    apart = ROWS[np.abs(ROWS[:, 1] - ROWS[:, 0]) > 0.2]
    moved = line(5, 0.02)
    assert (moved(apart).argmax(axis=1) == line(5)(apart).argmax(axis=1)).all()
    found = prove_equal(moved, only_labels(line(5)), apart, domain=UNIT, labels_only=True)
    assert not found.equal
    assert 0 < found.apart < found.changed


def test_a_threshold_that_is_rounded_is_an_edge_and_one_that_is_moved_is_not() -> None:
    def step(at: float):
        def scores(rows: np.ndarray) -> np.ndarray:
            over = rows[:, 0].astype(np.float64) > at
            return np.stack([~over, over], axis=1).astype(np.float64)

        return scores

    grid = (np.arange(40, dtype=np.float32) / 39)[:, None]
    rounded = float(np.nextafter(np.float32(0.5), np.float32(1)))
    found = prove_equal(
        step(rounded), step(0.5), np.concatenate([grid, [[rounded]]]).astype(np.float32), domain=UNIT
    )
    assert (found.equal, found.edges > 0) == (True, True)
    assert "edges of rounding" in found.says
    assert not prove_equal(step(0.52), step(0.5), grid, domain=UNIT).equal


def test_rows_stay_in_the_domain() -> None:
    columns = (Column("count", 0, 9, integer=True), Column("share", -1, 1))
    rows = np.stack([np.arange(10) % 10, np.linspace(-1, 1, 10)], axis=1).astype(np.float32)
    seen = []

    def watched(given: np.ndarray) -> np.ndarray:
        seen.append(given)
        return line(1)(given)

    assert prove_equal(line(1), watched, rows, domain=Domain(kind=DomainKind.TABULAR, columns=columns)).equal
    every = np.concatenate(seen)
    assert every.dtype == np.float32
    assert (every[:, 0] == np.round(every[:, 0])).all()
    assert (every.min(axis=0) >= [0, -1]).all()
    assert (every.max(axis=0) <= [9, 1]).all()
    seen.clear()
    prove_equal(line(1), watched, rows * 0.5, domain=Domain(kind=DomainKind.TABULAR))
    assert np.concatenate(seen).max() == np.float32(4.5)


def test_scores_of_another_shape_are_no_equal() -> None:
    with pytest.raises(NotSupported, match="scores of shape"):
        prove_equal(line(1), only_labels(line(1)), ROWS, domain=UNIT)
    with pytest.raises(NotSupported, match="scores of shape"):
        prove_equal(only_labels(line(1)), line(1), ROWS, domain=UNIT, labels_only=True)


def test_a_score_that_is_no_number_is_no_equal() -> None:
    def broken(rows: np.ndarray) -> np.ndarray:
        return np.where(rows[:, :1] > 0.9, np.nan, line(1)(rows))

    for one, other in ((broken, line(1)), (line(1), broken)):
        found = prove_equal(one, other, ROWS, domain=UNIT)
        assert not found.equal


def test_scores_that_are_hardly_ever_apart_excuse_nothing() -> None:
    """Each difference alone could be rounding: code that says 0.5004 of all rows would have any twin."""

    def tiny(frequency: float):
        def scores(rows: np.ndarray) -> np.ndarray:
            best = 0.0004 * np.sign(np.sin(frequency * rows[:, :1].astype(np.float64)))
            return np.concatenate([0.5 - best, 0.5 + best], axis=1)

        return scores

    found = prove_equal(tiny(3), tiny(40), ROWS, domain=UNIT)
    assert (found.equal, found.apart, found.edges > 200) == (False, 0, True)
    assert "more than rounding explains" in found.says
    assert prove_equal(tiny(3), tiny(3), ROWS, domain=UNIT).equal


def test_a_label_that_only_the_model_knows_is_no_rounding() -> None:
    def other(rows: np.ndarray) -> np.ndarray:
        return np.eye(3, dtype=np.float32)[np.where(rows[:, 0] > 0.9, 2, line(5)(rows).argmax(axis=1))]

    found = prove_equal(line(5), other, ROWS, domain=UNIT, labels_only=True)
    assert (found.equal, found.edges) == (False, 0)
    assert found.apart > 10


def test_what_equality_says() -> None:
    found = Equality(rows=10, changed=20, apart=3, edges=1, largest=0.5)
    assert not found.equal
    assert found.says == (
        "the ONNX twin gives the model's label on 27 of 30 rows (10 as given, 20 changed), "
        "1 edges of rounding aside, scores at most 0.5 apart"
    )
