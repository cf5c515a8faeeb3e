"""What every attack must do. Subclass :class:`AttackProof` and say how the tile opens.

The toy model is linear, so that what it truly withstands is known to the last sample: the attack must
never claim that it fell to less, and must come close to it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tallystick.core.errors import BadInput, Failed
from tallystick.core.facts import to_json
from tallystick.core.verdict import Budget
from tallystick.ports.attack import Attack, AttackResult, Target

__all__ = ["AttackProof", "LinearModel", "toy_rows"]


class LinearModel:
    """A classifier whose scores are the softmax of ``weights`` (classes, features) x + ``bias``.

    It counts the rows that it was asked about, in ``asked``.
    """

    def __init__(self, weights: np.ndarray, bias: np.ndarray) -> None:
        self.weights, self.bias = weights.astype(np.float64), bias.astype(np.float64)
        self.asked = 0

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """float32 rows to float32 probabilities."""
        assert rows.dtype == np.float32
        assert rows.ndim == 2
        self.asked += len(rows)
        z = rows @ self.weights.T + self.bias
        odds = np.exp(z - z.max(axis=1, keepdims=True))
        chances: np.ndarray = odds / odds.sum(axis=1, keepdims=True)
        return chances.astype(np.float32)

    def withstands(self, x: np.ndarray, y: np.ndarray, eps: float, low: float, high: float) -> np.ndarray:
        """Which rows no change within ``eps`` and the range can turn: exact, as each margin is linear."""
        holds = np.ones(len(x), bool)
        for other in range(len(self.weights)):
            towards = self.weights[other] - self.weights[y]
            worst = np.clip(x + eps * np.sign(towards), low, high)
            margin = -(worst * towards).sum(axis=1) + self.bias[y] - self.bias[other]
            holds &= (margin > 0) | (y == other)
        return holds


def toy_rows(
    rows: int = 60, low: float = 0.0, high: float = 1.0
) -> tuple[LinearModel, np.ndarray, np.ndarray]:
    """A model of two features and three classes, with rows in its range; a few labels are wrong."""
    draw = np.random.default_rng(11)
    weights = np.array([[9.0, 1.0], [-7.0, 6.0], [-1.0, -8.0]]) / (high - low)
    model = LinearModel(weights, np.array([-4.0, 0.5, 3.0]) - weights @ np.array([low, low]))
    x = draw.uniform(low, high, (rows, 2)).astype(np.float32)
    y = model(x).argmax(axis=1).astype(np.int64)
    y[::20] = (y[::20] + 1) % 3
    model.asked = 0
    return model, x, y


class AttackProof:
    """The conformance suite of :class:`tallystick.ports.attack.Attack`."""

    slack = 0.05
    """How far, as a share of the samples, an attack may stay from what is exact."""

    budget = Budget(eps=(0.05, 0.1, 0.2), samples_max=40, queries_max=1500, seed=3)

    def open(self, home: Path) -> Attack:
        """Open the tile."""
        raise NotImplementedError

    @pytest.fixture
    def attack(self, tmp_path: Path) -> Attack:
        """The attack, opened."""
        return self.open(tmp_path)

    def attacked(
        self, attack: Attack, target: Target, x: np.ndarray, y: np.ndarray, budget: Budget | None = None
    ) -> AttackResult:
        """The result of one run."""
        return attack.run(target, x, y, budget or self.budget, lambda share, text: None)

    def test_it_is_an_attack(self, attack: Attack) -> None:
        """It has the port's methods, and says what it depends on."""
        assert isinstance(attack, Attack)
        assert attack.versions()
        assert all(attack.versions().values())

    @pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-5.0, 20.0), (100.0, 101.0)])
    def test_it_comes_close_to_what_is_exact_and_never_below(
        self, attack: Attack, low: float, high: float
    ) -> None:
        """In any range of the features; radii are in the data's own unit."""
        model, x, y = toy_rows(low=low, high=high)
        eps = tuple(e * (high - low) for e in self.budget.eps)
        found = self.attacked(attack, model, x, y, replace(self.budget, eps=eps, low=low, high=high))
        for point in found.curve:
            holds = model.withstands(x[found.attacked], y[found.attacked], point.eps, low, high)
            exact = int(holds.sum())
            assert exact <= point.robust.right <= exact + self.slack * len(found.attacked)

    def test_clean_is_of_all_rows_and_the_curve_of_those_attacked(self, attack: Attack) -> None:
        """Each row is attacked at most once, and the radii are those of the budget."""
        model, x, y = toy_rows()
        found = self.attacked(attack, model, x, y)
        assert (found.clean.right, found.clean.total) == (57, 60)
        assert len(set(found.attacked.tolist())) == len(found.attacked) == self.budget.samples_max
        assert {p.robust.total for p in found.curve} == {len(found.attacked)}
        assert {p.noise.total for p in found.curve} == {len(found.attacked)}
        assert tuple(p.eps for p in found.curve) == self.budget.eps

    def test_fewer_rows_than_samples(self, attack: Attack) -> None:
        """All are attacked."""
        model, x, y = toy_rows(rows=5)
        assert sorted(self.attacked(attack, model, x, y).attacked.tolist()) == [0, 1, 2, 3, 4]

    def test_the_curve_falls(self, attack: Attack) -> None:
        """Whoever has more room fools no fewer; clean accuracy of the same samples is never exceeded."""
        model, x, y = toy_rows()
        found = self.attacked(attack, model, x, y)
        right = int((model(x[found.attacked]).argmax(axis=1) == y[found.attacked]).sum())
        robust = [p.robust.right for p in found.curve]
        assert robust == sorted(robust, reverse=True)
        assert max(robust) <= right

    def test_adversarials_are_what_they_are_said_to_be(self, attack: Attack) -> None:
        """In range, as far as said, and answered wrongly; the curve follows from their distances."""
        model, x, y = toy_rows()
        found = self.attacked(attack, model, x, y)
        x, y = x[found.attacked], y[found.attacked]
        wrong = model(x).argmax(axis=1) != y
        assert (found.distance[wrong] == 0).all()
        assert np.isnan(found.adversarial[wrong]).all()
        assert np.isnan(found.adversarial[np.isinf(found.distance)]).all()
        fooled = (found.distance > 0) & np.isfinite(found.distance)
        made = found.adversarial[fooled]
        assert made.dtype == np.float32
        assert len(made)
        assert ((made >= 0) & (made <= 1)).all()
        assert (model(made).argmax(axis=1) != y[fooled]).all()
        far = np.abs(made.astype(np.float64) - x[fooled]).max(axis=1)
        np.testing.assert_allclose(far, found.distance[fooled], atol=1e-6)
        for point in found.curve:
            assert point.robust.right == (found.distance > point.eps + 1e-6).sum()

    def test_noise_is_no_attack(self, attack: Attack) -> None:
        """Rows under noise stay in range and within the largest radius."""
        model, x, y = toy_rows()
        found = self.attacked(attack, model, x, y)
        assert found.noisy.shape == (len(found.attacked), 2)
        assert ((found.noisy >= 0) & (found.noisy <= 1)).all()
        moved = np.abs(found.noisy - x[found.attacked]).max()
        assert 0 < moved <= self.budget.eps[-1] + 1e-6
        assert found.curve[-1].noise.right >= found.curve[-1].robust.right

    def test_the_same_seed_gives_the_same_bit_for_bit(self, tmp_path: Path) -> None:
        """Whatever was drawn from numpy's global numbers in between; another seed attacks other rows."""
        _, x, y = toy_rows()
        found = [self.attacked(self.open(tmp_path), toy_rows()[0], x, y)]
        np.random.default_rng().random()
        found.append(self.attacked(self.open(tmp_path), toy_rows()[0], x, y))
        first, again = found
        for part in ("attacked", "adversarial", "distance", "noisy"):
            assert getattr(first, part).tobytes() == getattr(again, part).tobytes()
        assert (first.clean, first.curve) == (again.clean, again.curve)
        plain = [[replace(r, seconds=0.0) for r in f.records] for f in found]
        assert plain[0] == plain[1]
        other = self.attacked(self.open(tmp_path), toy_rows()[0], x, y, replace(self.budget, seed=4))
        assert other.attacked.tolist() != first.attacked.tolist()

    def test_no_sample_costs_more_than_its_queries(self, attack: Attack) -> None:
        """What is recorded is no less than what the model was asked beside the clean pass and the noise."""
        model, x, y = toy_rows()
        for queries_max in (100, 1000):
            model.asked = 0
            found = self.attacked(attack, model, x, y, replace(self.budget, queries_max=queries_max))
            recorded = sum(r.queries for r in found.records)
            assert recorded <= queries_max * len(found.attacked)
            others = len(x) + len(found.attacked) * (1 + len(self.budget.eps))
            assert model.asked <= recorded + others

    def test_a_budget_of_one_query_is_refused(self, attack: Attack) -> None:
        """Before the model is asked: without an attack, a curve would say that all withstood."""
        model, x, y = toy_rows()
        with pytest.raises(BadInput, match="too few"):
            self.attacked(attack, model, x, y, replace(self.budget, queries_max=1))

    @pytest.mark.parametrize("queries_max", [*range(2, 30), 40, 80, 160])
    def test_a_curve_is_of_an_attack_or_there_is_none(self, attack: Attack, queries_max: int) -> None:
        """However small the budget: a result tells of at least one attack that asked the model something."""
        model, x, y = toy_rows()
        budget = replace(self.budget, queries_max=queries_max, samples_max=5)
        try:
            found = self.attacked(attack, model, x, y, budget)
        except BadInput:
            return
        assert any(not r.skipped and r.queries > 0 for r in found.records)

    def test_records_say_what_was_done(self, attack: Attack) -> None:
        """Each has a name and a library; one that was carried out has settings, and all of it is JSON."""
        model, x, y = toy_rows()
        records = self.attacked(attack, model, x, y).records
        assert records
        assert any(not r.skipped for r in records)
        for record in records:
            assert record.name
            assert record.library
            assert record.skipped or (record.queries > 0 and record.settings)
        json.dumps(to_json(records), allow_nan=False)

    def test_progress_rises_and_speaks(self, attack: Attack) -> None:
        """From 0 to 1, in words."""
        model, x, y = toy_rows()
        said: list[tuple[float, str]] = []
        attack.run(model, x, y, self.budget, lambda share, text: said.append((share, text)))
        shares = [share for share, _ in said]
        assert shares == sorted(shares)
        assert shares[0] >= 0
        assert shares[-1] == 1
        assert all(text for _, text in said)

    def test_what_is_handed_over_is_left_alone(self, attack: Attack) -> None:
        """The caller's arrays, and numpy's global random state."""
        model, x, y = toy_rows()
        x_before, y_before = x.copy(), y.copy()
        state = np.random.get_state(legacy=False)["state"]["key"].copy()
        self.attacked(attack, model, x, y)
        np.testing.assert_array_equal(x, x_before)
        np.testing.assert_array_equal(y, y_before)
        np.testing.assert_array_equal(np.random.get_state(legacy=False)["state"]["key"], state)

    def test_a_model_that_always_says_the_same(self, attack: Attack) -> None:
        """There is nothing to find: right stays right, wrong stays wrong."""
        _, x, y = toy_rows()
        stubborn = LinearModel(np.zeros((3, 2)), np.array([1.0, 0.0, 0.0]))
        found = self.attacked(attack, stubborn, x, y)
        assert found.clean.right == (y == 0).sum()
        assert {p.robust.right for p in found.curve} == {(y[found.attacked] == 0).sum()}

    def test_a_model_that_is_always_wrong(self, attack: Attack) -> None:
        """Nothing withstands, and nothing needs to be attacked."""
        model, x, y = toy_rows()
        y = (model(x).argmax(axis=1).astype(np.int64) + 1) % 3
        found = self.attacked(attack, model, x, y)
        assert found.clean.right == 0
        assert {p.robust.right for p in found.curve} == {0}
        assert (found.distance == 0).all()

    @pytest.mark.parametrize(
        "wrong", ["nan", "below", "above", "no score", "negative", "shape", "empty", "float64", "lengths"]
    )
    def test_rows_that_do_not_fit_are_refused(self, attack: Attack, wrong: str) -> None:
        """Before anything is attacked."""
        model, x, y = toy_rows()
        if wrong in ("nan", "below", "above"):
            x[7, 1] = {"nan": np.nan, "below": -0.1, "above": 1.1}[wrong]
        elif wrong in ("no score", "negative"):
            y[7] = 3 if wrong == "no score" else -1
        elif wrong == "float64":
            x = x.astype(np.float64)
        elif wrong == "lengths":
            y = y[:-1]
        else:
            x = x.reshape(-1) if wrong == "shape" else x[:0]
        with pytest.raises(BadInput):
            self.attacked(attack, model, x, y)

    def test_a_model_that_breaks_is_failed(self, attack: Attack) -> None:
        """Its own error comes through, and a score that is no number is one."""
        _, x, y = toy_rows()

        def raises(rows: np.ndarray) -> np.ndarray:
            raise Failed("it raised", where="model")

        def no_number(rows: np.ndarray) -> np.ndarray:
            return np.full((len(rows), 3), np.nan, np.float32)

        for model in (raises, no_number):
            with pytest.raises(Failed):
                self.attacked(attack, model, x, y)
