"""ART's attacks: the proof, real models of the digits, and what ART does behind our back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tallystick.core.errors import BadInput, NotSupported
from tallystick.core.verdict import Budget
from tallystick.ports.tile import Place
from tallystick.proofs.attack import AttackProof, LinearModel, toy_rows
from tallystick.tiles.attack.art import ArtAttack, open_tile
from tests.fakes.attack import FakeAttack


class TestFakeAttack(AttackProof):
    def open(self, home: Path) -> FakeAttack:
        return FakeAttack()


class TestArtAttack(AttackProof):
    def open(self, home: Path) -> ArtAttack:
        return open_tile(Place(home))


def digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return (x / 16).astype(np.float32), y.astype(np.int64)


@pytest.fixture(scope="module")
def linear() -> tuple[LinearModel, np.ndarray, np.ndarray]:
    """A linear model of the digits, and the rows that it did not see."""
    from sklearn.linear_model import LogisticRegression

    x, y = digits()
    fitted = LogisticRegression(max_iter=1000).fit(x[:1200], y[:1200])
    return LinearModel(fitted.coef_, fitted.intercept_), x[1200:], y[1200:]


def test_on_images_it_comes_close_to_what_is_exact_and_never_below(linear) -> None:
    model, x, y = linear
    budget = Budget(eps=(0.05, 0.1, 0.15, 0.2), samples_max=60, queries_max=3000, seed=7)
    found = ArtAttack().run(model, x, y, budget, lambda share, text: None)
    for point in found.curve:
        exact = int(model.withstands(x[found.attacked], y[found.attacked], point.eps, 0.0, 1.0).sum())
        # Never below, and close: the fitted model, and so the walk, may differ between machines.
        assert exact <= point.robust.right <= exact + 5
    assert found.curve[0].noise.value > 0.8
    square = found.records[1]
    assert square.settings["layout"] == "64 features as 8 x 8, with a blind border"
    assert square.settings["queries_most"] <= 3000


@pytest.mark.parametrize("features", [1, 2, 3, 4, 5, 9, 10, 15, 16, 17, 35])
def test_any_number_of_features(features: int) -> None:
    draw = np.random.default_rng(features)
    model = LinearModel(draw.normal(size=(3, features)) * 5, np.zeros(3))
    x = draw.uniform(0, 1, (30, features)).astype(np.float32)
    y = model(x).argmax(axis=1).astype(np.int64)
    budget = Budget(eps=(0.02, 0.1), samples_max=20, queries_max=1000)
    found = ArtAttack().run(model, x, y, budget, lambda share, text: None)
    for point in found.curve:
        exact = int(model.withstands(x[found.attacked], y[found.attacked], point.eps, 0.0, 1.0).sum())
        assert exact <= point.robust.right <= exact + 3
    one_class = len(set(model(x).argmax(axis=1))) == 1
    assert [bool(r.skipped) for r in found.records] == [one_class, False]  # then HopSkipJump has no start


def test_scores_that_are_no_probabilities() -> None:
    model, x, y = toy_rows()

    def logits(rows: np.ndarray) -> np.ndarray:
        return (rows @ model.weights.T + model.bias).astype(np.float32)

    budget = Budget(eps=(0.05, 0.1), samples_max=40, queries_max=1500)
    plain = ArtAttack().run(model, x, y, budget, lambda share, text: None)
    found = ArtAttack().run(logits, x, y, budget, lambda share, text: None)
    for one, other in zip(plain.curve, found.curve, strict=True):
        assert abs(one.robust.right - other.robust.right) <= 2


def test_a_radius_that_float32_cannot_tell_is_refused() -> None:
    model, x, y = toy_rows(low=100_000.0, high=100_001.0)
    budget = Budget(eps=(0.05,), low=100_000.0, high=100_001.0)
    with pytest.raises(BadInput, match="lost in float32"):
        ArtAttack().run(model, x, y, budget, lambda share, text: None)


@pytest.mark.parametrize(("eps", "least"), [((0.05,), 5), ((0.05, 0.1, 0.15, 0.2), 20)])
def test_the_hint_names_the_least_budget_with_which_an_attack_begins(eps: tuple, least: int) -> None:
    model, x, y = toy_rows()
    budget = Budget(eps=eps, samples_max=5, queries_max=least - 1)
    with pytest.raises(BadInput, match=f"{least - 1} queries a row are too few for any attack") as refused:
        ArtAttack().run(model, x, y, budget, lambda share, text: None)
    assert model.asked == 0
    assert f"at least {least} let one begin" in refused.value.hint
    found = ArtAttack().run(
        model, x, y, Budget(eps=eps, samples_max=5, queries_max=least), lambda share, text: None
    )
    assert sum(r.queries for r in found.records) > 0


def test_no_start_for_one_attack_and_no_queries_for_the_other_is_no_curve() -> None:
    """A model that always says the same, right about some rows: what nobody attacked withstands nothing."""
    _, x, y = toy_rows()
    stubborn = LinearModel(np.zeros((3, 2)), np.array([1.0, 0.0, 0.0]))
    eps = tuple(i / 100 for i in range(1, 41))
    with pytest.raises(
        NotSupported, match=r"no attack could be carried out: HopSkipJump: .*Square: "
    ) as wrong:
        ArtAttack().run(
            stubborn, x, y, Budget(eps=eps, samples_max=20, queries_max=100), lambda share, text: None
        )
    assert wrong.value.where == "attack"


PROGRAM = """
import hashlib, sys
import numpy as np
from tallystick.core.verdict import Budget
from tallystick.proofs.attack import toy_rows
from tallystick.tiles.attack.art import ArtAttack

model, x, y = toy_rows()
print("printed by", __name__)
found = ArtAttack().run(model, x, y, Budget(samples_max=20, queries_max=1000), lambda share, text: None)
parts = (found.attacked, found.adversarial, found.distance, found.noisy)
print(hashlib.sha256(b"".join(p.tobytes() for p in parts)).hexdigest())
print([m for m in ("torch", "tensorflow", "matplotlib") if m in sys.modules])
"""


def test_two_processes_find_the_same_in_silence_and_leave_the_home_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    env = {**os.environ, "HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
    said = []
    for seed in ("1", "2"):
        argv = [sys.executable, "-c", PROGRAM]
        ended = subprocess.run(
            argv, env={**env, "PYTHONHASHSEED": seed}, capture_output=True, text=True, timeout=120, check=True
        )
        assert ended.stderr == ""
        said.append(ended.stdout)
    assert said[0] == said[1]
    assert len(said[0].splitlines()) == 3
    assert said[0].splitlines()[2] == "[]"
    assert list(home.iterdir()) == []


def test_the_tile_is_cheap_to_import() -> None:
    code = "import sys; import tallystick.tiles.attack.art; print('art' in sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == "False\n"
