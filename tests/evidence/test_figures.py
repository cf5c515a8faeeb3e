"""Rates, their intervals, and how many rows a stated precision needs."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.core.errors import BadInput
from tallystick.evidence.figures import Figure, Rate, rate_figure, rows_needed, shortfall

precisions = st.floats(0.004, 0.5)
shares = st.floats(0, 1)


def half(n: int, share: float) -> float:
    """Half of Wilson's interval from its ends, as Newcombe 1998 writes them (method 3)."""
    z, p, q = 1.959963984540054, share, 1 - share
    root = z * math.sqrt(z * z + 4 * n * p * q)
    low, high = ((2 * n * p + z * z + sign * root) / (2 * (n + z * z)) for sign in (-1, 1))
    return (high - low) / 2


@given(precisions, shares)
def test_the_number_of_rows_is_the_smallest_whose_half_width_is_within_the_precision(
    precision: float, share: float
) -> None:
    n = rows_needed(precision, share)
    assert half(n, share) <= precision * (1 + 1e-12)
    assert n == 1 or half(n - 1, share) > precision * (1 - 1e-12)


@given(precisions, shares)
def test_no_rate_needs_more_than_the_worst_case(precision: float, share: float) -> None:
    assert rows_needed(precision, share) <= rows_needed(precision)


@given(st.integers(1, 400), st.data())
def test_a_rate_of_so_many_rows_is_as_precise_as_stated_and_one_row_less_is_not(
    half_points: int, data: st.DataObject
) -> None:
    precision = 0.005 + half_points / 1000
    needs = rows_needed(precision)
    rate = Rate(data.draw(st.integers(0, needs)), needs)
    assert (rate.high - rate.low) / 2 <= precision + 1e-12
    assert shortfall(rate, precision) is None
    if needs > 2 and needs % 2:  # so that half of one less is a whole number
        assert shortfall(Rate((needs - 1) // 2, needs - 1), precision) is not None


def test_what_tables_say() -> None:
    """n = z^2 / (4 h^2) - z^2 at a half; z^2 / (2 h) - z^2 at 0 and 1."""
    assert [rows_needed(h) for h in (0.01, 0.03, 0.05)] == [9600, 1064, 381]
    assert [rows_needed(0.03, share) for share in (0, 1)] == [61, 61]


@pytest.mark.parametrize("precision", [0, -0.1, 0.6, math.nan, math.inf, 1e-300])
def test_what_is_no_precision_is_refused(precision: float) -> None:
    with pytest.raises(BadInput):
        rows_needed(precision)


def test_what_lacks_says_it_in_words() -> None:
    lacks = shortfall(Rate(124, 200), 0.03, Figure("robust_accuracy", 0.62, 0.5, 0.7, 200, 0.1))
    assert lacks is not None
    assert lacks.words == "±6.7 points with 200 rows; ±3 points needs 1,003"
    assert (lacks.measure, lacks.eps, lacks.rows_needed_at_worst) == ("robust_accuracy", 0.1, 1064)
    assert shortfall(Rate(1, 1), 0.025).words == "±39.7 points with 1 row; ±2.5 points needs 73"  # type: ignore[union-attr]  # reason: one row lacks


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_figure_knows_the_rate_that_it_is(rate: tuple[int, int]) -> None:
    assert rate_figure("clean_accuracy", Rate(*rate)).rate == Rate(*rate)


@pytest.mark.parametrize(
    "figure",
    [
        Figure("membership_advantage", 0.34, 0.29, 0.39, 500),  # a difference of two rates
        Figure("size_mib", 1.0, 1.0, 1.0),
        Figure("files_safe", 1.0, 1.0, 1.0, 3),
        Figure("flip_l2_median", 7.0, 6.0, 8.0, 100),
        Figure("corruption_accuracy", 0.5, 0.45, 0.55, 100),  # a mean over severities
    ],
)
def test_what_is_no_rate_of_its_samples_is_said_to_be_none(figure: Figure) -> None:
    assert figure.rate is None
