"""What the probe ``table_edits`` says: the median cost of the cheapest edits.

Edits that were found on a model's twin are shown to the model itself before they count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tallystick.core.errors import NotSupported
from tallystick.evidence.figures import Figure
from tallystick.ports.models.attack import Victim
from tallystick.tiles.attack.hunt import Hunt
from tallystick.tiles.attack.project import Space
from tallystick.tiles.attack.tables.edits import DEPTH_MAX, Search

__all__ = ["Told", "median_interval"]

RESAMPLES = 2000
NUMBERS_MAX = 2**20
STEPS = 8
"""Of float32: so much further an edit goes that turns the twin and, by rounding, not the model."""


def median_interval(values: np.ndarray, seed: int) -> tuple[float, float, float]:
    """The median of ``values`` (n,), and its 95 % percentile bootstrap interval (Efron 1979), seeded."""
    draw = np.random.default_rng(seed)
    size = len(values)
    each = max(1, NUMBERS_MAX // size)
    medians = np.concatenate(
        [
            np.median(values[draw.integers(0, size, (min(each, RESAMPLES - at), size))], axis=1)
            for at in range(0, RESAMPLES, each)
        ]
    )
    middle = float(np.median(values))
    low, high = np.quantile(medians, [0.025, 0.975])
    return middle, min(middle, float(low)), max(middle, float(high))


class Told:
    """The search over all rows that the model is right about, and what came of it."""

    def __init__(self, hunt: Hunt) -> None:
        self._hunt = hunt
        self._rows = np.flatnonzero(hunt.case.distance > 0)
        if not len(self._rows):
            raise NotSupported("the model is right about none of the rows", where="attack")
        if hunt.space.fixed.all():
            raise NotSupported("the domain lets an attacker change no column", where="domain.columns")
        self._search = Search(hunt, self._rows)
        self._price, self._denied = hunt.price.copy(), 0

    def search(self, said: Callable[[float, str], None]) -> None:
        """Look for the edits; what was found on a twin is then shown to the model itself."""
        self._search.go(said)
        self._price = self._hunt.price.copy()
        if self._hunt.case.itself is not None:
            said(1.0, "showing the edits to the model itself")
            self._confirm(self._hunt.case.itself)

    def _confirm(self, itself: Victim) -> None:
        """Keep what turns the model itself, and a few float32 steps further count as the same edit; else what
        is known to turn it from before, at its price.
        """
        hunt = self._hunt
        found = np.flatnonzero(np.isfinite(hunt.price))
        missed = found[~self._turns(itself, hunt.cheapest[found], found)]
        rows, origin = hunt.cheapest[missed], hunt.x[missed]
        further = rows + STEPS * np.sign(rows - origin) * np.spacing(np.abs(rows))
        further = hunt.space.project(further, origin)
        turned = self._turns(itself, further, missed)
        hunt.cheapest[missed[turned]] = further[turned]
        missed = missed[~turned]
        self._denied = len(missed)
        known = np.isfinite(hunt.case.adversarial[missed]).all(axis=1)
        self._price[missed] = np.inf
        self._price[missed[known]] = hunt.space.price(
            np.asarray(hunt.case.adversarial[missed[known]], np.float32), hunt.x[missed[known]]
        )

    def _turns(self, itself: Victim, rows: np.ndarray, samples: np.ndarray) -> np.ndarray:
        if not len(rows):
            return np.zeros(0, bool)
        return np.asarray(itself.scores(rows).argmax(axis=1) != self._hunt.y[samples])

    @property
    def gradients(self) -> int:
        """Rows whose gradient was pulled."""
        return self._search.gradients

    def figures(self) -> tuple[Figure, ...]:
        """``flip_cost_median``; a row that no edit turned counts with the dearest edit that is allowed, and
        where such a row bears on the median, that is a bound.
        """
        price = self._price[self._rows]
        stood = np.isinf(price)
        most = np.where(stood, _ceiling(self._hunt.space, self._hunt.x[self._rows]), price)
        value, low, high = median_interval(most, self._hunt.case.budget.seed)
        beyond = bool(np.isinf(np.median(price)) or (most[stood] < value).any())
        return (Figure("flip_cost_median", value, low, high, len(self._rows), beyond=beyond),)

    def notes(self) -> tuple[str, ...]:
        """Whether the median rests on rows that were not turned, or that the model itself denies."""
        stood = int(np.isinf(self._price[self._rows]).sum())
        said = []
        if self._denied:
            text = f"{self._denied} of the cheapest edits found on the model's twin did not turn the model"
            said.append(f"{text} itself, and are not counted")
        if stood:
            text = f"{stood} of {len(self._rows)} rows were turned by no edit that was tried"
            said.append(f"{text}; they count with the cost of the largest edit that the domain allows")
        return tuple(said)

    def settings(self) -> Mapping[str, Any]:
        """For the record."""
        gradients = self._hunt.case.victim.gradients
        return {
            "queries_max": self._hunt.queries,
            "depth_max": DEPTH_MAX,
            "interval": f"percentile bootstrap, {RESAMPLES} resamples",
            "guided_by": "gradients" if gradients else self._hunt.case.victim.gives,
            "sees": self._hunt.case.victim.gives,
        }


def _ceiling(space: Space, origin: np.ndarray) -> np.ndarray:
    """The cost (n,) of the dearest edit of each row that the domain allows."""
    least, most = space.bounds(origin)
    far = np.maximum(np.abs(least.astype(np.float64) - origin), np.abs(most.astype(np.float64) - origin))
    costs: np.ndarray = np.where(space.plain, far / space.span, 0.0) @ space.cost
    for group in space.groups.values():
        leave, take = space.switches(group)
        hot = origin[:, group].argmax(axis=1)
        prices = np.where(take, space.cost[group], 0.0)[None, :].repeat(len(origin), axis=0)
        prices[np.arange(len(origin)), hot] = 0.0
        costs += np.where(leave[hot], prices.max(axis=1), 0.0)
    return costs
