"""What changes a domain allows: the one projection that every attack uses, and the distance that eps is
about.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tallystick.evidence.domain import Domain, one_hot_groups

__all__ = ["Space"]

_WHOLE = 1e-9
"""By so much a radius may fall short of the 1 that a category takes, from rounding ``eps * span``."""


class Space:
    """The rows that an attacker may make out of a row, in arrays of one entry for each feature.

    ``low``, ``high`` and ``span`` (d,) float64: a change of ``span`` is a distance of 1. Of a table and a
    series they are those of the feature's column or channel; of anything else the range is the domain's and
    ``span`` is 1; a table's feature that no column names has the domain's range as its span. A value that
    stays as it was is always allowed, even where the data breaks the rules.
    """

    def __init__(self, domain: Domain, features: Sequence[str], size: int) -> None:
        """``features`` (d,) are the names, needed for tables with columns; ``size`` is d."""
        self.columns = domain.by_feature(features, size)
        self.low, self.high, self.span, self.cost = (
            np.array([getattr(c, name) for c in self.columns], np.float64)
            for name in ("low", "high", "span", "cost")
        )
        self.whole = np.array([c.integer and not c.one_hot for c in self.columns])
        self.fixed = np.array([c.immutable for c in self.columns])
        self._up = np.array([c.direction == "up" for c in self.columns])
        self._down = np.array([c.direction == "down" for c in self.columns])
        self.groups = {name: np.array(places) for name, places in one_hot_groups(self.columns).items()}
        self.plain = np.array([not c.one_hot for c in self.columns])
        self._floor, self._roof = self.low.astype(np.float32), self.high.astype(np.float32)
        self._ranges_only = not (self.whole | self.fixed | self._up | self._down | ~self.plain).any()

    @property
    def room(self) -> np.ndarray:
        """The range of each feature in units of its span, (d,)."""
        made: np.ndarray = (self.high - self.low) / self.span
        return made

    def distance(self, rows: np.ndarray, origin: np.ndarray) -> np.ndarray:
        """float64 (n,): the largest change, in units of the span; ``rows`` and ``origin`` (n, d)."""
        far: np.ndarray = (np.abs(rows.astype(np.float64) - origin) / self.span).max(axis=1)
        return far

    def price(self, rows: np.ndarray, origin: np.ndarray) -> np.ndarray:
        """float64 (n,): what the changes cost; of a category, the cost of the column that becomes 1."""
        moved = rows.astype(np.float64) - origin
        steps = np.abs(moved) / self.span
        costs: np.ndarray = np.where(self.plain, steps, moved > 0) @ self.cost
        return costs

    def bounds(self, origin: np.ndarray, radius: Any = np.inf) -> tuple[np.ndarray, np.ndarray]:
        """float32 (n, d) least and greatest values of plain columns within ``radius`` (a number, or (n,)).

        Rounded inward, so that no value between them is further than the radius. Where nothing but the value
        itself is allowed, both are that; an origin outside the range may have its value beyond them.
        """
        reach = np.broadcast_to(np.asarray(radius, np.float64), len(origin))[:, None] * self.span
        here = origin.astype(np.float64)
        least = _inward(np.where(self._up, here, here - reach), up=True)
        most = _inward(np.where(self._down, here, here + reach), up=False)
        least, most = np.maximum(least, self._floor), np.minimum(most, self._roof)
        least = np.where(self.whole, np.ceil(least), least)
        most = np.where(self.whole, np.floor(most), most)
        shut = (least > most) | self.fixed
        return np.where(shut, origin, least), np.where(shut, origin, most)

    def project(self, rows: np.ndarray, origin: np.ndarray, radius: Any = np.inf) -> np.ndarray:
        """float32 (n, d): near ``rows``, allowed as changes of ``origin`` (n, d), within ``radius`` of it.

        ``radius`` is a number or (n,). What is allowed already and near enough stays as it is.
        """
        rows, origin = np.asarray(rows, np.float32), np.asarray(origin, np.float32)
        if self._ranges_only and np.ndim(radius) == 0 and np.isinf(radius):  # most rows that walks ask about
            inside: np.ndarray = np.clip(rows, self._floor, self._roof)
            return np.where(rows == origin, origin, inside)
        least, most = self.bounds(origin, radius)
        made: np.ndarray = np.clip(np.where(self.whole, np.rint(rows), rows), least, most)
        made = np.where(rows == origin, origin, made)
        for group in self.groups.values():
            made[:, group] = self._category(rows[:, group], origin[:, group], group, radius)
        return made

    def allows(self, rows: np.ndarray, origin: np.ndarray) -> np.ndarray:
        """Whether each row keeps every rule, bool (n,): judged column by column, not by projecting."""
        same = rows == origin
        good = (rows >= self._floor) & (rows <= self._roof) & ~self.fixed
        good &= ~(self._up & (rows < origin)) & ~(self._down & (rows > origin))
        good &= ~self.whole | (rows == np.rint(rows))
        fine: np.ndarray = (same | good).all(axis=1)
        for group in self.groups.values():
            fine &= same[:, group].all(axis=1) | _is_one_hot(rows[:, group])
        return fine

    def switches(self, group: np.ndarray, radius: Any = np.inf) -> tuple[np.ndarray, np.ndarray]:
        """Which columns of a group may be left, and which taken, within radius: bool (k,) or (n, k)."""
        near = np.asarray(radius, np.float64)[..., None] * self.span[group] >= 1 - _WHOLE
        ranged = (self.low[group] <= 0) & (self.high[group] >= 1)
        able = near & ranged & ~self.fixed[group]
        return able & ~self._up[group], able & ~self._down[group]

    def _category(self, rows: np.ndarray, origin: np.ndarray, group: np.ndarray, radius: Any) -> np.ndarray:
        """The category that ``rows`` (n, k) lean to most among those allowed, as (n, k) of 0 and a 1."""
        leave, take = self.switches(group, radius)
        at, hot = np.arange(len(rows)), origin.argmax(axis=1)
        free = _is_one_hot(origin) & np.broadcast_to(leave, rows.shape)[at, hot]
        leaning = np.where(np.broadcast_to(take, rows.shape) & free[:, None], rows, np.float32(-np.inf))
        best = leaning.argmax(axis=1)
        best = np.where(free & (leaning[at, best] > rows[at, hot]), best, hot)
        made = np.zeros_like(origin)
        made[at, best] = 1.0
        return np.where((best == hot)[:, None], origin, made)


def _is_one_hot(rows: np.ndarray) -> np.ndarray:
    found: np.ndarray = ((rows == 1).sum(axis=1) == 1) & ((rows == 0) | (rows == 1)).all(axis=1)
    return found


def _inward(values: np.ndarray, *, up: bool) -> np.ndarray:
    """float64 as float32, rounded up or down and never the other way."""
    with np.errstate(over="ignore"):
        made = values.astype(np.float32)
    past = made < values if up else made > values
    return np.where(past, np.nextafter(made, np.float32(np.inf if up else -np.inf)), made)
