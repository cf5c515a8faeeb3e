"""White-box attacks where the truth is known: never below it, and as near as promised."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.evidence.domain import Budget, Column, Domain, DomainKind
from tallystick.ports.tile import Place
from tallystick.tiles.white.aims import AIMS
from tallystick.tiles.white.carlini import carlini_wagner
from tallystick.tiles.white.climb import Climb, Way, checkpoints, climb
from tallystick.tiles.white.ground import Ground, below
from tallystick.tiles.white.nearest import least_radius
from tallystick.tiles.white.tile import open_tile
from tests.tiles.attack.toys import Linear, case_of


def run(name: str, case):
    return open_tile(Place(None)).run(name, case, lambda share, text: None)


def linear(classes: int, features: int = 12, seed: int = 3) -> tuple[Linear, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    model = Linear(draw.normal(size=(classes, features)), draw.normal(size=classes), gradients=True)
    x = draw.uniform(-1, 1, (80, features)).astype(np.float32)
    y = model.scores(x).argmax(axis=1)
    y[::20] = (y[::20] + 1) % classes
    return model, x, y


@pytest.mark.parametrize("name", ["fgsm", "pgd", "auto", "carlini_wagner"])
@pytest.mark.parametrize("classes", [2, 5])
def test_of_a_linear_model_the_exact_distance_is_never_beaten(name: str, classes: int) -> None:
    model, x, y = linear(classes)
    budget = Budget(eps=(0.05, 0.1, 0.2, 0.4, 0.8), low=-1000, high=1000, steps_max=20)
    case = case_of(model, x, y, budget=budget)
    found = run(name, case)
    x, y = x[case.attacked], y[case.attacked]
    right = found.distance > 0
    exact = model.nearest(x[right], y[right])
    assert (found.distance[right] >= exact - 1e-5).all()
    if name == "auto" or (classes == 2 and name in ("fgsm", "pgd")):
        within = (exact > 0.05) & (exact < 0.75)  # who falls within the least radius is left alone
        assert within.sum() > 20
        assert (found.distance[right][within] <= exact[within] * (1.001 if classes == 2 else 1.02)).all()


def holds(model: Linear, x: np.ndarray, y: np.ndarray, eps: float) -> np.ndarray:
    """Which rows of 0 to 1 no change within eps turns: exact, class by class."""
    kept = np.ones(len(x), bool)
    for other in range(model.classes):
        towards = model.weights[other] - model.weights[y]
        worst = np.clip(x + eps * np.sign(towards), 0, 1)
        gap = -(worst * towards).sum(axis=1) + model.bias[y] - model.bias[other]
        kept &= (gap > 1e-6) | (y == other)
    return kept


def test_within_a_range_the_whole_curve_is_exact() -> None:
    draw = np.random.default_rng(8)
    model = Linear(draw.normal(size=(4, 20)), np.zeros(4), gradients=True)
    x = draw.uniform(0, 1, (100, 20)).astype(np.float32)
    y = model.scores(x).argmax(axis=1)
    budget = Budget(eps=(0.02, 0.05, 0.1, 0.2), samples_max=100)
    case = case_of(model, x, y, budget=budget)
    found = run("auto", case)
    x, y = x[case.attacked], y[case.attacked]
    for eps in budget.eps:
        exact = holds(model, x, y, eps)
        assert (found.distance[~exact] <= eps).mean() > 0.98
        assert (found.distance[exact] > eps - 1e-6).all()


@given(st.integers(0, 2**32 - 1))
def test_the_least_radius_is_least(seed: int) -> None:
    draw = np.random.default_rng(seed)
    slopes, room = draw.normal(size=(6, 9)), draw.uniform(0, 1, (6, 9))
    span = draw.choice([0.0, 0.5, 2.0], 9)
    need = draw.uniform(-0.5, 4, 6)

    def gain(radius: np.ndarray) -> np.ndarray:
        reach = np.minimum(radius, 1e9)[:, None] * span
        return (np.abs(slopes) * np.minimum(reach, room)).sum(axis=1)

    radius = least_radius(slopes, need, room, span)
    assert (radius[need <= 0] == 0).all()
    reached = np.isfinite(radius)
    np.testing.assert_allclose(gain(radius)[reached & (need > 0)], need[reached & (need > 0)], atol=1e-9)
    assert (gain(np.full(6, 1e9))[~reached] < need[~reached] + 1e-9).all()


@pytest.mark.parametrize("name", AIMS)
@pytest.mark.parametrize("classes", [2, 3, 4, 10])
def test_weights_are_the_derivative_of_the_value(name: str, classes: int) -> None:
    draw = np.random.default_rng(classes)
    z, y = draw.normal(size=(30, classes)) * 3, draw.integers(0, classes, 30)
    target = (y + draw.integers(1, classes, 30)) % classes
    weights = AIMS[name](z, y, target)[1]
    step, slopes = 1e-6, np.empty_like(z)
    for at in range(classes):
        moved = z.copy()
        moved[:, at] += step
        slopes[:, at] = (AIMS[name](moved, y, target)[0] - AIMS[name](z, y, target)[0]) / step
    scale = np.abs(slopes).max(axis=1, keepdims=True) / np.abs(weights).max(axis=1, keepdims=True)
    np.testing.assert_allclose(weights * scale, slopes, atol=1e-4 * np.abs(slopes).max())


def test_saturated_cross_entropy_still_has_a_direction() -> None:
    z = np.array([[2e4, 0.0, 1.0]])
    value, weights = AIMS["cross-entropy"](z, np.array([0]), np.array([0]))
    assert value[0] == pytest.approx(1 - 2e4, abs=0.5)
    assert weights[0, 0] == -1
    assert weights[0, 1:].sum() == pytest.approx(1)


def test_below() -> None:
    far = np.array([0.0, 0.1, 0.10001, 0.2, 0.3, np.inf])
    assert below((0.1, 0.2), far).tolist() == [0, 0, 0.1, 0.1, 0.2, 0.2]


def table() -> tuple[Linear, np.ndarray, np.ndarray, Domain]:
    draw = np.random.default_rng(4)
    columns = (
        Column("age", 18, 90, integer=True),
        Column("income", 0, 100_000, scale=10_000),
        Column("sex", immutable=True),
        Column("years", 0, 40, direction="up"),
        Column("debt", 0, 5000, direction="down"),
        Column("a", one_hot="job"),
        Column("b", one_hot="job"),
    )
    x = np.column_stack([
        draw.integers(18, 91, 90), draw.uniform(0, 1e5, 90), draw.integers(0, 2, 90), draw.uniform(0, 40, 90),
        draw.uniform(0, 5000, 90), np.arange(90) % 2, 1 - np.arange(90) % 2,
    ]).astype(np.float32)  # fmt: skip
    weights = np.array([1 / 50, 1 / 60_000, 3, 1 / 20, -1 / 3000, 2, -2])
    model = Linear([weights, -weights], [-1.5, 1.5], gradients=True)
    return model, x, model.scores(x).argmax(axis=1), Domain(DomainKind.TABULAR, columns=columns)


@pytest.mark.parametrize("name", ["fgsm", "pgd", "auto", "carlini_wagner"])
def test_rules_of_a_table_are_kept(name: str) -> None:
    model, x, y, domain = table()
    names = tuple(c.name for c in domain.columns)
    case = case_of(model, x, y, domain, Budget(eps=(0.05, 0.1, 0.3, 0.6), steps_max=20), names)
    found = run(name, case)
    hit = (found.distance > 0) & np.isfinite(found.distance)
    assert hit.sum() > 10
    made, was = found.adversarial[hit], x[case.attacked][hit]
    assert (model.scores(made).argmax(axis=1) != y[case.attacked][hit]).all()
    assert (made[:, 0] == np.rint(made[:, 0])).all()
    assert (made[:, [2, 5, 6]] == was[:, [2, 5, 6]]).all()
    assert (made[:, 3] >= was[:, 3]).all()
    assert (made[:, 4] <= was[:, 4]).all()
    for at, column in enumerate(domain.columns):
        assert ((made[:, at] >= column.low) & (made[:, at] <= column.high)).all()
    spans = np.array([c.span for c in domain.columns])
    far = (np.abs(made.astype(np.float64) - was) / spans).max(axis=1)
    np.testing.assert_allclose(far, found.distance[hit], rtol=1e-9)


@pytest.mark.parametrize("eps", [1e-3, 0.1, 7.0])
def test_no_rounding_leaves_the_radius(eps: float) -> None:
    draw = np.random.default_rng(2)
    model = Linear(np.ones((2, 50)), [0, 1], gradients=True)
    x = draw.uniform(-900, 900, (40, 50)).astype(np.float32)
    ground = Ground(case_of(model, x, np.zeros(40, np.int64), budget=Budget(low=-1000, high=1000)))
    who = np.arange(len(ground))
    for edge in ground.box(who, eps):
        assert edge.dtype == np.float32
        assert (ground.far(who, edge) <= eps).all()


def test_a_length_is_that_of_the_row_that_was_asked_about_where_columns_are_whole() -> None:
    """Counts of 0 to 10 that move by whole numbers: ten times a length is the root of a whole number."""
    draw = np.random.default_rng(5)
    model = Linear(draw.normal(size=(2, 6)), np.zeros(2), gradients=True)
    x = draw.integers(0, 11, (40, 6)).astype(np.float32)
    table = Domain(DomainKind.TABULAR, columns=tuple(Column(f"f{i}", 0, 10, integer=True) for i in range(6)))
    case = case_of(model, x, model.scores(x).argmax(axis=1), table, Budget(steps_max=30))
    ground = Ground(case)
    lengths, _ = carlini_wagner(ground, np.arange(len(ground)), 30, lambda left: None)
    squares = 100 * lengths[np.isfinite(lengths)] ** 2
    assert len(squares) > 20
    assert np.abs(squares - np.rint(squares)).max() < 1e-6
    assert squares.min() > 0.5


def one_by_one(slopes: np.ndarray, values: np.ndarray, x: np.ndarray, eps: float) -> list[np.ndarray]:
    """Algorithm 1 of Croce and Hein 2020 for a single row, written down as it is printed: its points.

    ``slopes`` (steps, features) and ``values`` (steps,) are what was found at the points asked about.
    """

    def project(z: np.ndarray) -> np.ndarray:
        return np.clip(z, np.maximum(x - eps, 0), np.minimum(x + eps, 1))

    steps, size, points, here = len(values), 2 * eps, [x], slopes[0]
    halved, seen, last_look = True, -np.inf, 0
    for k in range(steps - 1):
        ahead = project(points[-1] + size * np.sign(here))
        if k:
            ahead = project(points[-1] + 0.75 * (ahead - points[-1]) + 0.25 * (points[-1] - points[-2]))
        points.append(ahead)
        here = slopes[k + 1]
        if checkpoints(steps)[k + 1]:
            period = range(last_look, k + 1)
            rises = sum(values[i + 1] > values[i] for i in period)
            most = values[: k + 2].max()
            stuck = rises < 0.75 * len(period) or (not halved and most <= seen)
            halved, seen, last_look = stuck, most, k + 1
            if stuck:
                best = int(values[: k + 2].argmax())
                size, here = size / 2, slopes[best]
                points[-1] = points[best]  # the point before stays: the next momentum is that of the leap
    return points


def test_steps_are_those_of_algorithm_1() -> None:
    """Row for row, point for point, on a net that is not linear and where nobody falls."""
    from tests.tiles.white.nets import Net, digits

    layers, x, y = digits()
    eps, steps, asked, slopes, values = 0.02, 60, [], [], []
    case = case_of(Net(layers), x, y, budget=Budget(eps=(eps,), samples_max=200))
    ground = Ground(case)
    ranked = np.sort(case.scores[case.attacked], axis=1)
    who = np.argsort(ranked[:, -2] - ranked[:, -1])[:12]  # those who are farthest from a mistake
    label = ground.y[who]
    assert (ground.claimed[who] > 0).all()

    def pull(some: np.ndarray, rows: np.ndarray, aim) -> tuple[np.ndarray, np.ndarray]:
        found = ground.pull(some, rows, aim)
        asked.append(rows.copy())
        slopes.append(found[1])
        values.append(AIMS["margin"](found[0], label, label)[0])
        return found

    run = Climb.start(ground, who, np.full(len(who), eps), ground.x[who], label, 2.0)
    climb(ground, run, Way("margin", steps), lambda far: np.zeros(len(far)), lambda left: None, pull)
    assert len(asked) == steps
    looks, halved = checkpoints(steps), 0
    for at, one in enumerate(who):
        mine = [np.array([part[at] for part in found]) for found in (asked, slopes, values)]
        wanted = one_by_one(mine[1], mine[2], ground.x[one], eps)
        for step in range(steps):
            if not looks[step] or step == 0:
                np.testing.assert_allclose(mine[0][step], wanted[step], atol=1e-6)
            else:  # what was asked about may have been left for the best point until then
                halved += not np.allclose(mine[0][step], wanted[step], atol=1e-6)
    assert halved > len(who)
