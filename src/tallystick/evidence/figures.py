"""Figures: a measured number, how many samples it rests on, and its 95 % interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tallystick.core.errors import BadInput

__all__ = ["Z_95", "Figure", "Rate", "rate_figure"]

Z_95 = 1.959963984540054
"""How many standard deviations either way hold 95 % of a normal distribution."""


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
        return max(0.0, self._centre() - self._half())

    @property
    def high(self) -> float:
        """The upper end of the interval, 0 to 1."""
        return min(1.0, self._centre() + self._half())

    def _centre(self) -> float:
        return (self.value + Z_95**2 / (2 * self.total)) / (1 + Z_95**2 / self.total)

    def _half(self) -> float:
        n, p = self.total, self.value
        return Z_95 * math.sqrt(p * (1 - p) / n + Z_95**2 / (4 * n * n)) / (1 + Z_95**2 / n)


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number under the name by which rules ask for it (:mod:`tallystick.evidence.measures`).

    ``low`` and ``high`` are the ends of its 95 % interval, equal to ``value`` where it is exact; ``samples``
    is what it rests on (0: not a matter of samples). ``eps`` is the radius that it is about, in the unit of
    the data; ``group`` what part of the rows, or which corruption, feature or class (empty: all).
    """

    measure: str
    value: float
    low: float
    high: float
    samples: int = 0
    eps: float | None = None
    group: str = ""

    def __post_init__(self) -> None:
        if not all(math.isfinite(v) for v in (self.value, self.low, self.high)):
            raise BadInput("a figure is a finite number", where=self.measure)
        if not self.low <= self.value <= self.high:
            raise BadInput(f"{self.value} is not within {self.low} to {self.high}", where=self.measure)


def rate_figure(measure: str, rate: Rate, eps: float | None = None, group: str = "") -> Figure:
    """A share of samples as a figure, with its Wilson interval."""
    low, high = min(rate.low, rate.value), max(rate.high, rate.value)
    return Figure(measure, rate.value, low, high, rate.total, eps, group)
