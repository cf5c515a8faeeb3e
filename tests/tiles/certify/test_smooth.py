"""Randomized smoothing against what is exact: of a linear model of two classes the vote is the model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tallystick.core.errors import NotSupported
from tallystick.evidence.domain import Budget
from tallystick.ports.models.attack import Case
from tallystick.tiles.attack.black import run_black
from tallystick.tiles.certify.smooth import Smoothed
from tallystick.tiles.certify.tile import CertifyTile
from tests.tiles.attack.toys import Linear, case_of

BUDGET = Budget(eps=(0.5, 1.0, 2.0), samples_max=40, queries_max=1100, low=-100, high=100)


def linear() -> Case:
    """Rows far from the ends of the range, so that cutting off does nothing."""
    draw = np.random.default_rng(4)
    way = draw.normal(size=6)
    victim = Linear([way, -way], [0.1, -0.1], "labels")
    x = draw.normal(0, 4, (80, 6)).astype(np.float32)
    return case_of(victim, x, victim.scores(x).argmax(axis=1).astype(np.int64), budget=BUDGET)


def exact(case: Case) -> np.ndarray:
    """The L2 distance of each attacked row to the other class."""
    victim = case.victim
    assert isinstance(victim, Linear)
    way, bias = victim.weights[0] - victim.weights[1], victim.bias[0] - victim.bias[1]
    return np.abs(case.x[case.attacked] @ way + bias) / np.linalg.norm(way)


def test_no_certificate_is_wider_than_the_truth_and_most_come_near() -> None:
    case = linear()
    smoothed = Smoothed(case)
    radius, voted = smoothed.radii(lambda share: None)
    truth = exact(case)
    given = radius > 0
    assert (voted[given] == case.y[case.attacked[given]]).all()
    assert (radius > truth).sum() <= 1  # each is wrong once in a thousand
    inside = given & (truth < 1.5 * smoothed.sigma)
    assert inside.sum() > 5
    assert np.median(radius[inside] / truth[inside]) > 0.75
    assert smoothed.queries == 40 * 1100
    assert smoothed.sigma == pytest.approx(0.5 * np.sqrt(6))


def test_no_attack_beats_the_vote() -> None:
    """The nearest mistakes that attacks on the (equal) model find lie beyond the certified radius."""
    case = linear()
    probe = CertifyTile().run("smoothing_certificate", case, lambda share, text: None).probe
    far = run_black("hop_skip_jump", case, lambda share, text: None).distance
    assert far is not None
    for figure in probe.figures:
        assert figure.eps is not None
        assert figure.group == "smoothed"
        assert figure.value * 40 <= (far > figure.eps).sum()
    assert probe.figures[0].value > 0.3
    assert [c.x_name for c in probe.curves] == ["L2", "eps"]
    assert probe.curves[0].x[2] == probe.settings["sigma"] == 0.5 * np.sqrt(6)
    assert probe.settings["sigma_is"] == "the first eps in every feature"
    assert "not about the model as it answers now" in probe.notes[0]
    assert probe.queries == 40 * 1100


def test_the_same_seed_gives_the_same_votes() -> None:
    first, again = (Smoothed(linear()).radii(lambda share: None)[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    case = linear()
    other = replace(case, budget=replace(case.budget, seed=8))
    assert (Smoothed(other).radii(lambda share: None)[0] != first).any()


def test_too_few_queries_are_an_answer() -> None:
    case = linear()
    with pytest.raises(NotSupported, match="at least 200"):
        Smoothed(replace(case, budget=replace(case.budget, queries_max=150)))
