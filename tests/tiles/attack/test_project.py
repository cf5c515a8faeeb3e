"""The one projection: whatever comes out keeps every rule, by two other definitions of what the rules are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.core.errors import BadInput
from tallystick.crew.judging.measuring import allowed, distances
from tallystick.evidence.domain import Column, Domain, DomainKind
from tallystick.tiles.attack.project import Space
from tallystick.tiles.certify.box import Box

DIRECTIONS = st.sampled_from(("any", "up", "down"))
NUMBERS = st.floats(-100, 100, width=32)


@st.composite
def tables(draw: st.DrawFn) -> tuple[Domain, np.ndarray, np.ndarray, float]:
    """A table's domain, rows as data has them (some of them outside the rules), proposals, and a radius."""
    columns = []
    for at in range(draw(st.integers(1, 4))):
        low, high = sorted((draw(NUMBERS) + 0.0, draw(NUMBERS) + 0.0))  # never -0.0
        integer = draw(st.booleans())
        columns.append(
            Column(
                f"n{at}",
                float(np.floor(low)) if integer else low,
                float(np.ceil(high)) if integer else high,
                integer=integer,
                immutable=draw(st.booleans()),
                direction=draw(DIRECTIONS),
                cost=draw(st.floats(0, 5)),
                scale=draw(st.sampled_from((0.0, 0.5, 10.0))),
            )
        )
    for group in range(draw(st.integers(0, 2))):
        scale, size = draw(st.sampled_from((0.0, 4.0))), draw(st.integers(2, 4))
        columns += [
            Column(
                f"g{group}={k}",
                one_hot=f"g{group}",
                immutable=draw(st.booleans()) and draw(st.booleans()),
                direction=draw(DIRECTIONS),
                scale=scale,
            )
            for k in range(size)
        ]
    domain = Domain(kind=DomainKind.TABULAR, columns=tuple(columns))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    origin = np.stack([_row(random, domain) for _ in range(8)])
    if draw(
        st.booleans()
    ):  # data that breaks the rules: halves, numbers out of range, two categories at once
        origin[:2] += random.uniform(-1, 1, origin[:2].shape).astype(np.float32)
    wanted = (origin + random.normal(0, 30, origin.shape) * random.integers(0, 2, origin.shape)).astype(
        np.float32
    )
    return domain, origin, wanted, draw(st.sampled_from((0.0, 0.01, 0.3, 1.0, 7.0, np.inf)))


def _row(random: np.random.Generator, domain: Domain) -> np.ndarray:
    row = np.zeros(len(domain.columns))
    for at, column in enumerate(domain.columns):
        value = random.uniform(column.low, column.high)
        row[at] = 0 if column.one_hot else np.rint(value) if column.integer else value
    for group in {c.one_hot for c in domain.columns} - {""}:
        row[random.choice([at for at, c in enumerate(domain.columns) if c.one_hot == group])] = 1
    low = np.array([c.low for c in domain.columns], np.float32)
    return np.clip(row.astype(np.float32), low, np.array([c.high for c in domain.columns], np.float32))


def _space(domain: Domain) -> Space:
    return Space(domain, [c.name for c in domain.columns], len(domain.columns))


@settings(max_examples=300, deadline=None)
@given(tables())
def test_what_comes_out_keeps_every_rule(table: tuple[Domain, np.ndarray, np.ndarray, float]) -> None:
    domain, origin, wanted, radius = table
    space = _space(domain)
    made = space.project(wanted, origin, radius)
    assert made.dtype == np.float32
    assert space.allows(made, origin).all()
    clean = allowed(domain, origin, origin)  # the judge refuses data that breaks the rules before any attack
    assert allowed(domain, origin, made)[clean].all()
    assert (space.distance(made, origin) <= radius + 1e-9).all()
    np.testing.assert_allclose(space.distance(made, origin), distances(domain, origin, made))
    np.testing.assert_array_equal(space.project(made, origin, radius), made)
    np.testing.assert_array_equal(space.project(origin, origin, radius), origin)
    assert (space.price(made, origin) >= 0).all()
    assert (space.price(origin, origin) == 0).all()


@settings(max_examples=200, deadline=None)
@given(tables())
def test_a_certificates_box_holds_whatever_an_attacker_may_make(
    table: tuple[Domain, np.ndarray, np.ndarray, float],
) -> None:
    domain, origin, wanted, radius = table
    made = _space(domain).project(wanted, origin, radius)
    low, high = Box(domain, origin.shape[1]).around(origin, min(radius, 1e6))
    assert (low <= made).all()
    assert (made <= high).all()


@settings(max_examples=200, deadline=None)
@given(tables(), st.integers(0, 7))
def test_what_is_allowed_and_near_stays_as_it_is(
    table: tuple[Domain, np.ndarray, np.ndarray, float], places: int
) -> None:
    """Mixtures of two allowed rows, group by group, are allowed, and so are left alone."""
    domain, origin, wanted, radius = table
    space = _space(domain)
    made = space.project(wanted, origin, radius)
    names = [c.one_hot or c.name for c in domain.columns]
    taken = np.array([(names.index(n) + places) % (2 + places % 3) == 0 for n in names])
    mixed = np.where(taken, made, origin)
    np.testing.assert_array_equal(space.project(mixed, origin, radius), mixed)


def test_a_category_costs_once_and_is_as_far_as_its_scale_says() -> None:
    columns = tuple(Column(f"c={k}", one_hot="c", cost=3.0, scale=10.0) for k in "abc")
    space = _space(Domain(kind=DomainKind.TABULAR, columns=columns))
    origin = np.array([[1, 0, 0]], np.float32)
    wanted = np.array([[0.4, 0.9, 0.1]], np.float32)
    np.testing.assert_array_equal(space.project(wanted, origin, 0.05), origin)
    made = space.project(wanted, origin, 0.1)
    np.testing.assert_array_equal(made, [[0, 1, 0]])
    assert space.price(made, origin).tolist() == [3.0]
    assert space.distance(made, origin).tolist() == [0.1]


@pytest.mark.parametrize(
    ("column", "wanted", "made"),
    [
        (Column("a", 0, 10), 20.0, 10.0),
        (Column("a", 0, 10, integer=True), 6.6, 7.0),
        (Column("a", 0, 10, immutable=True), 7.0, 5.0),
        (Column("a", 0, 10, direction="up"), 2.0, 5.0),
        (Column("a", 0, 10, direction="down"), 7.0, 5.0),
        (Column("a", 0, 10, direction="down"), 2.0, 2.0),
    ],
)
def test_each_rule(column: Column, wanted: float, made: float) -> None:
    space = _space(Domain(kind=DomainKind.TABULAR, columns=(column,)))
    assert space.project(np.array([[wanted]]), np.array([[5.0]])).tolist() == [[made]]


def test_of_other_data_only_the_range_counts() -> None:
    space = Space(Domain(low=-2.0, high=3.0), (), 4)
    origin = np.zeros((1, 4), np.float32)
    made = space.project(np.array([[-5.0, 1.0, 9.0, 0.25]]), origin, 2.5)
    assert made.tolist() == [[-2.0, 1.0, 2.5, 0.25]]
    assert space.distance(made, origin).tolist() == [2.5]


def test_names_that_do_not_go_with_the_rows_are_refused() -> None:
    domain = Domain(kind=DomainKind.TABULAR, columns=(Column("a"),))
    with pytest.raises(BadInput, match="1 names for 2 features"):
        Space(domain, ["a"], 2)
