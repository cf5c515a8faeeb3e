"""The cheapest edits: against a mixed-integer program's optimum, and against every row that there is."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tallystick.core.errors import NotSupported
from tallystick.crew.judging.measuring import allowed, prices
from tallystick.evidence.domain import Budget, Column, Domain, DomainKind
from tallystick.ports.models.attack import Case
from tallystick.tiles.attack.black import run_black
from tallystick.tiles.attack.hunt import Hunt
from tallystick.tiles.attack.tables.told import Told, median_interval
from tests.tiles.attack.test_black import quiet, table
from tests.tiles.attack.toys import Linear, Onnx, case_of, to_onnx


def optimum(victim: Linear, x: np.ndarray, y: int, columns: tuple[Column, ...]) -> float:
    """The cost of the cheapest edit that turns a linear model, exactly; infinity where there is none."""
    return min(_towards(victim.weights[o] - victim.weights[y], victim.bias[o] - victim.bias[y], x, columns)
               for o in range(victim.classes) if o != y)  # fmt: skip


def _towards(way: np.ndarray, offset: float, x: np.ndarray, columns: tuple[Column, ...]) -> float:
    from scipy.optimize import Bounds, LinearConstraint, milp

    cost, most, whole, gain, groups = [], [], [], [], []
    for at, column in enumerate(columns):
        if column.one_hot:
            hot = next(j for j, c in enumerate(columns) if c.one_hot == column.one_hot and x[j] == 1)
            if at != hot:
                moved = (column.cost, 1.0, 1, way[at] - way[hot])
                cost, most, whole, gain = (
                    [*a, b] for a, b in zip((cost, most, whole, gain), moved, strict=True)
                )
                groups.append(column.one_hot)
            continue
        for sign, room, barred in ((1, column.high - x[at], "down"), (-1, x[at] - column.low, "up")):
            able = 0.0 if column.immutable or column.direction == barred else max(0.0, float(room))
            moved = (column.cost / column.span, able, int(column.integer), sign * way[at])
            cost, most, whole, gain = ([*a, b] for a, b in zip((cost, most, whole, gain), moved, strict=True))
            groups.append("")
    rules = [LinearConstraint(np.array(gain), -float(way @ x + offset) + 1e-7, np.inf)]
    rules += [
        LinearConstraint(np.array([float(g == name) for g in groups]), -np.inf, 1)
        for name in set(groups) - {""}
    ]
    found = milp(cost, constraints=rules, integrality=whole, bounds=Bounds(0, most))
    return float(found.fun) if found.status == 0 else np.inf


@pytest.mark.parametrize(
    ("gives", "gradients", "median", "missed"),
    [("logits", False, 1.1, 0), ("logits", True, 1.02, 0), ("labels", False, 1.35, 5)],
)
def test_edits_are_never_cheaper_than_the_optimum_and_come_close(
    gives: str, gradients: bool, median: float, missed: int
) -> None:
    case = table(gives, gradients)
    victim: Any = case.victim
    hunt = Hunt(case, 1500)
    Told(hunt).search(quiet)
    exact = np.array(
        [
            optimum(victim, x.astype(float), int(y), case.domain.columns)
            for x, y in zip(hunt.x, hunt.y, strict=True)
        ]
    )
    able = np.isfinite(exact)
    assert able.sum() > 20
    assert np.isinf(hunt.price[~able]).all()
    assert (hunt.price[able] >= exact[able] - 1e-4).all()
    assert np.isinf(hunt.price[able]).sum() <= missed
    both = able & np.isfinite(hunt.price)
    assert np.median(hunt.price[both] / exact[both]) < median
    assert hunt.used.max() <= 1500


def test_on_a_small_table_it_finds_the_cheapest_of_all_rows_there_are(tmp_path: Path) -> None:
    """Every allowed row of two whole numbers and a category is asked about, of a tree."""
    from sklearn.tree import DecisionTreeClassifier

    columns = (
        Column("a", 0, 12, integer=True, cost=2, scale=1),
        Column("b", 0, 12, integer=True, scale=1, direction="down"),
        *(Column(f"c={k}", one_hot="c", cost=4) for k in "xyz"),
    )
    every = np.array(
        [[a, b, *np.eye(3)[c]] for a, b, c in itertools.product(range(13), range(13), range(3))], np.float32
    )
    draw = np.random.default_rng(2)
    labels = ((every[:, 0] - 6) ** 2 + every[:, 1] * (1 + every[:, 3]) > 14 + 6 * every[:, 2]).astype(
        np.int64
    )
    tree = DecisionTreeClassifier(max_depth=7, random_state=0).fit(every, labels)
    victim = Onnx(to_onnx(tree, 5, tmp_path))
    x = every[draw.permutation(len(every))[:120]]
    y = victim.scores(x).argmax(axis=1).astype(np.int64)
    domain = Domain(kind=DomainKind.TABULAR, columns=columns)
    case = case_of(victim, x, y, domain, Budget(samples_max=60, queries_max=4000), [c.name for c in columns])
    hunt = Hunt(case, 1500)
    Told(hunt).search(quiet)
    said = victim.scores(every).argmax(axis=1)
    exact = []
    for row, label in zip(hunt.x, hunt.y, strict=True):
        origin = np.repeat(row[None], len(every), axis=0)
        turned = allowed(domain, origin, every) & (said != label)
        exact.append(hunt.space.price(every, origin)[turned].min(initial=np.inf))
    assert (hunt.price >= np.array(exact) - 1e-6).all()
    assert np.mean(hunt.price == np.array(exact)) > 0.9


def test_the_probe_says_its_median_and_edits_in_words() -> None:
    case = table("logits", True)
    victim: Any = case.victim
    victim.asked = 0
    found = run_black("table_edits", case, quiet)
    (figure,) = found.probe.figures
    assert (figure.measure, figure.samples) == ("flip_cost_median", int((case.distance > 0).sum()))
    assert 0 < figure.low <= figure.value <= figure.high
    assert not figure.beyond
    assert victim.asked == found.probe.queries
    assert victim.pulled == found.probe.gradients > 0
    assert found.show is not None
    shown = np.isfinite(found.show).all(axis=1)
    assert shown.any()
    origin = case.x[case.attacked[shown]]
    assert allowed(case.domain, origin, found.show[shown]).all()
    assert (victim.scores(found.show[shown]).argmax(axis=1) != case.y[case.attacked[shown]]).all()
    price = prices(case.domain, origin, found.show[shown])
    np.testing.assert_allclose(price, Hunt(case, 1).space.price(found.show[shown], origin), rtol=1e-6)
    assert (price >= 0).all()


def test_edits_that_a_twin_takes_and_the_model_itself_denies_do_not_count() -> None:
    """The largest edit counts instead, or what is known to turn the model from before."""
    case = table("logits")
    twin: Any = case.victim
    free = run_black("table_edits", case, quiet)

    agreed = run_black("table_edits", replace(case, itself=twin), quiet)
    assert (agreed.probe.figures, agreed.probe.notes) == (free.probe.figures, free.probe.notes)
    stiff = Linear(twin.weights * 0, twin.bias * 0 + 1)
    stiff.scores = lambda rows: case.scores[_origins(case, rows)]  # type: ignore[method-assign]  # reason: a model that says of each row what it said of the row that it was made of
    denied = run_black("table_edits", replace(case, itself=stiff), quiet)
    assert denied.probe.figures[0].value > 2 * free.probe.figures[0].value
    assert "edits found on the model's twin did not turn the model itself" in denied.probe.notes[0]
    known = replace(case, itself=stiff, adversarial=free.show, distance=np.minimum(case.distance, 9.0))
    assert run_black("table_edits", known, quiet).probe.figures[0].value == free.probe.figures[0].value


def _origins(case: Case, rows: np.ndarray) -> np.ndarray:
    """Of edited rows the places of the rows that they were made of: those that are cheapest to edit so."""
    space = Hunt(case, 1).space
    costs = [space.price(np.repeat(row[None], len(case.x), axis=0), case.x) for row in rows]
    return np.array([int(cost.argmin()) for cost in costs])


def test_rows_that_nothing_turns_count_with_the_largest_edit_allowed() -> None:
    case = table()
    case.victim = Linear(np.zeros((3, 8)), [1.0, 0.0, 0.0])
    case = replace(case, y=np.zeros(len(case.x), np.int64), scores=case.victim.scores(case.x))
    case = replace(case, distance=np.full(len(case.attacked), np.inf))
    found = run_black("table_edits", case, quiet)
    assert found.probe.notes == (
        "40 of 40 rows were turned by no edit that was tried; "
        "they count with the cost of the largest edit that the domain allows",
    )
    x = case.x[case.attacked].astype(np.float64)
    most = (
        (90 - x[:, 0]) / 72 + 2 * np.maximum(x[:, 1], 1e5 - x[:, 1]) / 1e5 + x[:, 6] / 1e4
        + np.maximum(x[:, 7], 9 - x[:, 7]) / 9 + np.where(x[:, 3] == 1, 1, 3)
    )  # fmt: skip
    assert found.probe.figures[0].value == pytest.approx(float(np.median(most)), rel=1e-5)
    assert found.probe.figures[0].beyond
    assert found.show is not None
    assert np.isnan(found.show).all()


def test_it_does_not_apply_where_nothing_may_change_or_nothing_is_right() -> None:
    case = table()
    fixed = tuple(replace(c, immutable=True) for c in case.domain.columns)
    with pytest.raises(NotSupported, match="lets an attacker change no column"):
        run_black("table_edits", replace(case, domain=replace(case.domain, columns=fixed)), quiet)
    with pytest.raises(NotSupported, match="right about none"):
        run_black("table_edits", replace(case, distance=np.zeros(len(case.attacked))), quiet)


def test_the_interval_is_seeded_and_holds_the_median_as_often_as_it_says() -> None:
    assert median_interval(np.arange(50.0), 7) == median_interval(np.arange(50.0), 7)
    draw, held = np.random.default_rng(0), 0
    for seed in range(100):
        _, low, high = median_interval(draw.exponential(1.0, 60), seed)
        held += low <= np.log(2) <= high
    assert held >= 86  # of 100 with 95 %: 95 on average, less than 86 once in ten thousand
