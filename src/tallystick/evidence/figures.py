"""Figures: a measured number, how many samples it rests on, its 95 % interval, and how many it would need.

A rate's interval is Wilson's score interval (Wilson 1927; compared with others by Newcombe 1998). Its
half-width falls with every row more, so there is a least number of rows by which it is within a stated
precision (:func:`rows_needed`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tallystick.core.errors import BadInput

__all__ = ["Z_95", "Figure", "Rate", "Shortfall", "rate_figure", "rows_needed", "shortfall"]

Z_95 = 1.959963984540054
"""How many standard deviations either way hold 95 % of a normal distribution."""


PRECISION_MIN = 0.0001
"""Half-widths below it ask for a hundred million rows."""


@dataclass(frozen=True, slots=True)
class Rate:
    """``right`` of ``total``, with its 95 % Wilson score interval (Wilson 1927)."""

    right: int
    total: int

    def __post_init__(self) -> None:
        if not 0 <= self.right <= self.total or self.total < 1:
            raise BadInput(f"{self.right} of {self.total} is not a rate")

    @property
    def value(self) -> float:
        """The share, 0 to 1."""
        return self.right / self.total

    @property
    def low(self) -> float:
        """The lower end of the interval, 0 to 1."""
        return max(0.0, self._centre() - self.half)

    @property
    def high(self) -> float:
        """The upper end of the interval, 0 to 1."""
        return min(1.0, self._centre() + self.half)

    @property
    def half(self) -> float:
        """Half the interval's width."""
        return _half(self.total, self.value)

    def _centre(self) -> float:
        return (self.value + Z_95**2 / (2 * self.total)) / (1 + Z_95**2 / self.total)


def _half(n: int, share: float) -> float:
    """Half the width of Wilson's interval for a share of ``n`` rows."""
    return Z_95 * math.sqrt(share * (1 - share) / n + Z_95**2 / (4 * n * n)) / (1 + Z_95**2 / n)


def rows_needed(precision: float, share: float = 0.5) -> int:
    """The least number of rows of which a rate of ``share`` has a 95 % interval of half-width ``precision``.

    ``share`` 0.5 is the worst case: with so many rows every rate is known that well. BadInput unless
    ``precision`` is 0.0001 to 0.5 and ``share`` 0 to 1. The half-width is within ``precision`` where
    ``(n + z^2)^2 precision^2 >= z^2 (share (1 - share) n + z^2 / 4)``, a quadratic in n; what float64 made of
    its root is then put right, row by row.
    """
    if not PRECISION_MIN <= precision <= 0.5 or not 0 <= share <= 1:
        raise BadInput(f"a precision is {PRECISION_MIN} to 0.5, a share 0 to 1", where="precision")
    square, spread = Z_95**2, share * (1 - share)
    middle = square * (spread - 2 * precision**2)
    rest = middle**2 - 4 * precision**2 * (precision**2 * square**2 - square**2 / 4)
    n = max(1, math.floor((middle + math.sqrt(rest)) / (2 * precision**2)))
    while n > 1 and _half(n - 1, share) <= precision:
        n -= 1
    while _half(n, share) > precision:
        n += 1
    return n


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number under the name by which rules ask for it (:mod:`tallystick.evidence.measures`).

    ``low`` and ``high`` are the ends of its 95 % interval, equal to ``value`` where it is exact; ``samples``
    is what it rests on (0: not a matter of samples). ``eps`` is the radius that it is about, in the unit of
    the data; ``group`` what part of the rows, or which corruption, feature or class (empty: all). ``beyond``:
    the value and the ends are bounds that the truth is at least, or more than, nobody knows by how much.
    """

    measure: str
    value: float
    low: float
    high: float
    samples: int = 0
    eps: float | None = None
    group: str = ""
    beyond: bool = False

    def __post_init__(self) -> None:
        if not all(math.isfinite(v) for v in (self.value, self.low, self.high)):
            raise BadInput("a figure is a finite number", where=self.measure)
        if not self.low <= self.value <= self.high:
            raise BadInput(f"{self.value} is not within {self.low} to {self.high}", where=self.measure)

    @property
    def said(self) -> str:
        """What comes before the number in words: nothing, but of a bound."""
        return "more than " if self.beyond else ""

    @property
    def rate(self) -> Rate | None:
        """The share of samples that it is; None of what is none, or has another interval than Wilson's."""
        if self.samples < 1 or not 0 <= self.value <= 1 or self.beyond:
            return None
        rate = Rate(round(self.value * self.samples), self.samples)
        ends = ((rate.value, self.value), (rate.low, self.low), (rate.high, self.high))
        return rate if all(math.isclose(one, other, abs_tol=1e-9) for one, other in ends) else None


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A rate that rests on fewer ``rows`` than the stated ``precision`` needs.

    ``half_width`` is half of its 95 % interval now; ``rows_needed`` would do if the share stayed what it is,
    and ``rows_needed_at_worst`` whatever it became.
    """

    measure: str
    half_width: float
    rows: int
    precision: float
    rows_needed: int
    rows_needed_at_worst: int
    eps: float | None = None
    group: str = ""

    @property
    def points(self) -> float:
        """The half-width in percent to one decimal, up: none is said to be narrower than it is."""
        return math.ceil(round(self.half_width * 1000, 6)) / 10

    @property
    def words(self) -> str:
        """``±6.7 points with 200 rows; ±3 points needs 1,003``."""
        rows = f"{self.rows:,} row{'' if self.rows == 1 else 's'}"
        now, stated = f"±{self.points:.1f} points", f"±{self.precision * 100:g} points"
        return f"{now} with {rows}; {stated} needs {self.rows_needed:,}"


def shortfall(rate: Rate | None, precision: float, figure: Figure | None = None) -> Shortfall | None:
    """What ``rate`` lacks; None of none, and of one as precise as stated. ``figure`` says what it is of."""
    if rate is None or rate.half <= precision:
        return None
    needs, worst = rows_needed(precision, rate.value), rows_needed(precision)
    about = (figure.measure, figure.eps, figure.group) if figure else ("", None, "")
    return Shortfall(about[0], rate.half, rate.total, precision, needs, worst, *about[1:])


def rate_figure(measure: str, rate: Rate, eps: float | None = None, group: str = "") -> Figure:
    """A share of samples as a figure, with its Wilson interval."""
    low, high = min(rate.low, rate.value), max(rate.high, rate.value)
    return Figure(measure, rate.value, low, high, rate.total, eps, group)
