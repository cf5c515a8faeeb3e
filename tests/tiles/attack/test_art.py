"""ART at the tile's edge: its attacks through our victim, and its faults, worked around or left out."""

from __future__ import annotations

import inspect
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tallystick.core.errors import BadInput, Failed, NotSupported
from tallystick.evidence.domain import Budget
from tallystick.ports.tile import Place
from tallystick.tiles.attack import library
from tallystick.tiles.attack.art import ArtAttack, open_tile
from tests.tiles.attack.toys import Linear, case_of

ART = [o.name for o in ArtAttack().offers() if not o.usual]
BUDGET = Budget(eps=(0.05, 0.1, 0.2, 0.4), samples_max=30, steps_max=15)


def given(**kw: Any) -> Any:
    draw = np.random.default_rng(3)
    model = Linear(draw.normal(size=(4, 9)), np.zeros(4), gradients=True)
    x = draw.uniform(0, 1, (50, 9)).astype(np.float32)
    return case_of(model, x, model.scores(x).argmax(axis=1), budget=BUDGET)


@pytest.mark.parametrize("name", ART)
def test_arts_attacks_turn_rows_and_never_nearer_than_what_is_exact(name: str) -> None:
    """The toy refuses whatever is not float32: ART sends float64 to models more often than not."""
    case = given()
    found = open_tile(Place(Path())).run(name, case, lambda share, text: None)
    hit = (found.distance > 0) & np.isfinite(found.distance)
    assert hit.sum() >= 10
    x, y = case.x[case.attacked][hit], case.y[case.attacked][hit]
    assert (found.distance[hit] >= case.victim.nearest(x, y) - 1e-5).all()
    assert (case.victim.scores(found.adversarial[hit]).argmax(axis=1) != y).all()
    assert found.probe.library.startswith("adversarial-robustness-toolbox ")
    assert found.probe.gradients > 0


def test_arts_attacks_run_only_where_a_policy_names_them() -> None:
    assert len(ART) == 3
    assert all(o.needs.gradients for o in ArtAttack().offers() if not o.usual)


@pytest.mark.parametrize("labels", ["numbers", "column", "one-hot", "float one-hot"])
def test_labels_are_read_whatever_they_look_like(labels: str) -> None:
    """AutoConjugateGradient with its own cross-entropy wants float one-hot rows, others want numbers."""
    case = given()
    art = library.estimator(case.victim, (9,), 0, 1)
    y = case.y[:5]
    one_hot = np.eye(4, dtype=np.int64)[y]
    shown = {"numbers": y, "column": y[:, None], "one-hot": one_hot, "float one-hot": one_hot.astype(float)}
    z = case.victim.pull(case.x[:5], np.zeros_like)[0].astype(np.float64)
    odds = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    slopes = (odds - np.eye(4)[y]) @ case.victim.weights
    np.testing.assert_allclose(art.loss_gradient(case.x[:5], shown[labels]), slopes, atol=1e-5)
    loss = -np.log(odds[np.arange(5), y])
    np.testing.assert_allclose(art.compute_loss(case.x[:5], shown[labels]), loss, atol=1e-5)
    assert art.compute_loss(case.x[:5], shown[labels], reduction="mean") == pytest.approx(
        loss.mean(), abs=1e-5
    )


@pytest.mark.parametrize("label", [None, 2, "each"])
def test_gradients_of_classes(label: Any) -> None:
    case = given()
    art = library.estimator(case.victim, (9,), 0, 1)
    x = case.x[:4].astype(np.float64)
    wanted = {None: np.broadcast_to(case.victim.weights, (4, 4, 9)), 2: case.victim.weights[[2] * 4][:, None],
              "each": case.victim.weights[[3, 0, 1, 2]][:, None]}[label]  # fmt: skip
    said = art.class_gradient(x, np.array([3, 0, 1, 2]) if label == "each" else label)
    np.testing.assert_allclose(said, wanted, atol=1e-6)
    assert art.pulled == (16 if label is None else 4)


def test_what_is_left_out_is_still_at_fault() -> None:
    """The day one of these is mended in ART, this says so."""
    attacks = library.evasion()
    source = {name: inspect.getsource(getattr(attacks, name)) for name in ("GeoDA", "AutoAttack")}
    assert "np.mat(" in source["GeoDA"]
    assert not hasattr(np, "mat")
    assert "import multiprocess" in source["AutoAttack"]
    assert find_spec("multiprocess") is None
    assert not hasattr(attacks, "BrendelBethgeAttack")
    assert set(library.LEFT_OUT) == {*source, "BrendelBethgeAttack", "NewtonFool", "Wasserstein"}


def test_as_it_is_imported_it_writes_nothing_into_the_users_home() -> None:
    before = os.environ.get("HOME")
    library.evasion()
    assert os.environ.get("HOME") == before


def test_numpys_own_lots_are_put_back() -> None:
    state = np.random.get_state()[1].copy()
    with library.seeded(5):
        first = np.random.random()
    with library.seeded(5):
        assert np.random.random() == first
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_what_art_raises_is_said_in_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kw: Any) -> None:
        raise ZeroDivisionError("of its own")

    monkeypatch.setattr(library.evasion().DeepFool, "generate", broken)
    with pytest.raises(Failed, match="DeepFool broke off: ZeroDivisionError: of its own"):
        ArtAttack().run("art_deep_fool", given(), lambda share, text: None)


def test_without_gradients_it_does_not_begin() -> None:
    case = given()
    case.victim.gradients = False
    with pytest.raises(NotSupported):
        ArtAttack().run("art_deep_fool", case, lambda share, text: None)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(BadInput, match="hop_skip_jump"):
        ArtAttack().run("deep_thought", given(), lambda share, text: None)
