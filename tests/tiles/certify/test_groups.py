"""One-hot groups and whole numbers: a certificate says what every single row that the domain allows says."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tallystick.evidence.domain import Budget, Column, Domain, DomainKind
from tallystick.ports.models.attack import Case
from tallystick.tiles.attack.art import ArtAttack
from tallystick.tiles.certify.box import Box
from tallystick.tiles.certify.tile import CertifyTile
from tests.tiles.attack.toys import Onnx, case_of, to_onnx

NAMES = ("share", "count", "red", "green", "blue", "north", "south")
EPS = (0.1, 0.3, 0.55, 1.0)


def columns(**changed: dict[str, Any]) -> tuple[Column, ...]:
    """A share of 0 to 1, a count of 0 to 6, and two one-hot groups; of the second a change is half as far."""
    plain: dict[str, dict[str, Any]] = {
        "share": {}, "count": {"high": 6.0, "integer": True},
        **{name: {"one_hot": "colour"} for name in NAMES[2:5]},
        **{name: {"one_hot": "side", "scale": 2.0} for name in NAMES[5:]},
    }  # fmt: skip
    return tuple(Column(name, **{**plain[name], **changed.get(name, {})}) for name in NAMES)


def table(rows: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(11)
    colour, side = draw.integers(0, 3, rows), draw.integers(0, 2, rows)
    x = np.concatenate(
        [draw.uniform(0, 1, (rows, 1)), draw.integers(0, 7, (rows, 1)), np.eye(3)[colour], np.eye(2)[side]],
        axis=1,
    ).astype(np.float32)
    odd = 2 * x[:, 0] + x[:, 1] / 3 + np.array([0, 0.8, -0.9])[colour] - 0.7 * side
    return x, ((odd > 1.6) ^ (draw.uniform(0, 1, rows) < 0.05)).astype(np.int64)


def models(name: str) -> Any:
    from sklearn import ensemble, linear_model, pipeline, preprocessing

    forest = ensemble.RandomForestClassifier(9, max_depth=5, random_state=0)
    return {
        "forest": lambda: forest,
        "boosted": lambda: ensemble.GradientBoostingClassifier(n_estimators=12, random_state=0),
        "scaled forest": lambda: pipeline.make_pipeline(preprocessing.StandardScaler(), forest),
        "logistic": linear_model.LogisticRegression,
    }[name]()


def case_for(name: str, folder: Path, domain: Domain, rows: int = 20) -> Case:
    x, y = table(300)
    model = models(name).fit(x[:220], y[:220])
    victim = Onnx(to_onnx(model, len(NAMES), folder))
    budget = Budget(eps=EPS, samples_max=rows, queries_max=3000)
    return case_of(victim, x[220:], y[220:], domain, budget, NAMES)


def allowed(case: Case, at: int, eps: float) -> np.ndarray:
    """Rows that the domain allows within ``eps`` of a sample: all choices and counts, and of shares one on
    either side of each threshold, as trees put those between two that they were fitted to.
    """
    here = case.x[case.attacked[at]]
    ends = np.clip(np.array([here[0] - eps, here[0], here[0] + eps], np.float32), 0, 1)
    fitted = table(300)[0][:220, 0]
    shares = np.unique([*ends, *fitted[(fitted > ends[0]) & (fitted < ends[2])]])
    counts = [n for n in range(7) if abs(n - here[1]) <= 6 * eps + 1e-6]
    colours = np.eye(3) if eps >= 1 else here[None, 2:5]
    sides = np.eye(2) if eps >= 0.5 else here[None, 5:]
    made = itertools.product(shares, counts, range(len(colours)), range(len(sides)))
    return np.array([[s, n, *colours[c], *sides[d]] for s, n, c, d in made], np.float32)


@pytest.mark.parametrize("name", ["forest", "boosted", "scaled forest", "logistic"])
def test_it_is_what_every_row_that_is_allowed_says(name: str, tmp_path: Path) -> None:
    case = case_for(name, tmp_path, Domain(DomainKind.TABULAR, columns=columns()))
    probe = CertifyTile().run("exact_certificate", case, lambda share, text: None).probe
    for step, eps in enumerate(EPS):
        truth = 0
        for at in np.flatnonzero(case.distance > 0):
            rows = allowed(case, at, eps)
            truth += bool((case.victim.scores(rows).argmax(axis=1) == case.y[case.attacked[at]]).all())
        sure, maybe = probe.curves[0].y[step].right, probe.curves[1].y[step].right
        assert sure <= truth <= maybe
        if name == "scaled forest":  # whole numbers that the model scales are counted as if in between too
            assert truth - sure <= 6
        else:
            assert maybe - sure <= 2  # but for ties within float32
    assert any("2 one-hot groups counted as wholes" in note for note in probe.notes)


@pytest.mark.parametrize("name", ["tree", "linear"])
def test_two_columns_of_a_group_are_never_1_at_once(name: str, tmp_path: Path) -> None:
    """Only a row of two colours is turned: column by column nothing is certified, by wholes everything."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.tree import DecisionTreeClassifier

    colours = np.array(list(itertools.product((0, 1), repeat=3)) * 10, np.float32)
    both = (colours[:, 1] == 1) & (colours[:, 2] == 1)
    model: Any = DecisionTreeClassifier() if name == "tree" else LogisticRegression(C=1e4, max_iter=2000)
    victim = Onnx(to_onnx(model.fit(colours, both), 3, tmp_path))
    x = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    found = []
    for whole in (True, False):
        named = [Column(n, one_hot="colour" if whole else "", integer=not whole) for n in NAMES[2:5]]
        domain = Domain(DomainKind.TABULAR, columns=tuple(named))
        case = case_of(victim, x, np.zeros(12, np.int64), domain, Budget(eps=(0.5, 1.0)), NAMES[2:5])
        probe = CertifyTile().run("exact_certificate", case, lambda share, text: None).probe
        found.append([rate.right for rate in probe.curves[0].y])
    assert found == [[12, 12], [12, 0]]


def test_no_edit_of_a_table_beats_it(tmp_path: Path) -> None:
    case = case_for("forest", tmp_path, Domain(DomainKind.TABULAR, columns=columns()))
    probe = CertifyTile().run("exact_certificate", case, lambda share, text: None).probe
    for name in ("square", "hop_skip_jump"):
        found = ArtAttack().run(name, case, lambda share, text: None)
        for eps, rate in zip(EPS, probe.curves[0].y, strict=True):
            assert (found.distance > eps + 1e-6).sum() >= rate.right


def test_who_is_no_one_hot_row_now_may_stay_so(tmp_path: Path) -> None:
    """Rows of two colours, or of half a count, are bounded as they are, and by every allowed change."""
    case = case_for("forest", tmp_path, Domain(DomainKind.TABULAR, columns=columns()))
    box = Box(case.domain, len(NAMES))
    row = np.array([[0.4, 2.5, 1, 1, 0, 0, 1]], np.float32)
    low, high = box.around(row, 0.3)
    colour, side = box.choices(row[0], low[0], high[0])
    np.testing.assert_array_equal(colour.rows, [[1, 1, 0]])
    np.testing.assert_array_equal(side.rows, [[0, 1]])
    assert not box.is_whole(row).any()
    low, high = box.around(row, 1.0)
    colour, side = box.choices(row[0], low[0], high[0])
    np.testing.assert_array_equal(colour.rows, [[0, 0, 1], [0, 1, 0], [1, 0, 0], [1, 1, 0]])
    assert len(side.rows) == 2


def test_what_may_only_move_one_way_or_not_at_all_is_no_choice(tmp_path: Path) -> None:
    fixed = columns(
        red={"one_hot": "colour", "immutable": True}, green={"one_hot": "colour", "direction": "down"}
    )
    box = Box(Domain(DomainKind.TABULAR, columns=fixed), len(NAMES))
    row = np.array([[0.4, 2, 0, 0, 1, 0, 1]], np.float32)
    low, high = box.around(row, 1.0)
    colour, _ = box.choices(row[0], low[0], high[0])
    np.testing.assert_array_equal(colour.rows, [[0, 0, 1]])  # neither red nor green can be chosen now
