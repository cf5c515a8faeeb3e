"""Randomized smoothing (Cohen, Rosenfeld and Kolter 2019): a certificate for the model as a vote under noise.

The vote is the class that the model says most often when Gaussian noise of deviation sigma is added to a row.
With at least a share p of the noisy answers for one class, p above a half, no change of L2 length below
``sigma * quantile(p)`` turns the vote; p is the lower end of an exact binomial interval (Clopper and Pearson
1934), so that one certificate in a thousand may be wrong. A change of eps in every one of d features has the
L2 length ``eps * sqrt(d)``: that is what an L-infinity radius costs.

Noise is added in units of each feature's span, and the noisy row is cut off at the range: so it is the model
behind that cut that votes, which is a model like any other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tallystick.core.errors import NotSupported
from tallystick.ports.models.attack import Case
from tallystick.tiles.certify.box import Box

__all__ = ["ALPHA", "FIRST", "Smoothed"]

ALPHA = 0.001
"""The chance that one row's certificate is wrong."""

FIRST = 100
"""Noisy rows by which the class is chosen; then others by which its share is bounded."""

MANY_MAX = 2000
NUMBERS_MAX = 2**22


class Smoothed:
    """The vote of the case's victim. ``sigma`` is in the unit of eps, ``many`` the noisy rows of one row."""

    def __init__(self, case: Case) -> None:
        self.many = min(MANY_MAX, case.budget.queries_max - FIRST)
        if self.many < FIRST:
            raise NotSupported(
                f"{case.budget.queries_max} queries a row are too few: at least {2 * FIRST}",
                where="budget.queries_max",
            )
        self._case = case
        self._box = Box(case.domain, case.x.shape[1])
        self.width = float(np.sqrt(case.x.shape[1]))
        self.sigma = case.budget.eps[0] * self.width
        self.queries = 0

    def radii(self, said: Callable[[float], None]) -> tuple[np.ndarray, np.ndarray]:
        """For each attacked row the certified L2 radius (m,), 0 where none, and the class voted for (m,)."""
        from scipy.stats import beta, norm

        rows = self._case.attacked
        radius, voted = np.zeros(len(rows)), np.full(len(rows), -1)
        for at, row in enumerate(rows):
            said(at / len(rows))
            draw = np.random.default_rng([self._case.budget.seed, 77, int(row)])
            best = int(self._votes(draw, row, FIRST).argmax())
            count = int(self._votes(draw, row, self.many)[best])
            low = float(beta.ppf(ALPHA, count, self.many - count + 1)) if count else 0.0
            if low > 0.5:
                radius[at], voted[at] = self.sigma * float(norm.ppf(low)), best
        return radius, voted

    def _votes(self, draw: np.random.Generator, row: int, count: int) -> np.ndarray:
        """How often each class is said under noise, (classes,)."""
        x, votes = self._case.x[row].astype(np.float64), np.zeros(self._case.scores.shape[1], np.int64)
        most = max(1, NUMBERS_MAX // len(x))
        for at in range(0, count, most):
            noise = draw.standard_normal((min(most, count - at), len(x))) * (self.sigma * self._box.span)
            rows = np.clip(x + noise, self._box.low, self._box.high).astype(np.float32)
            said = self._case.victim.scores(rows).argmax(axis=1)
            votes += np.bincount(said, minlength=len(votes))
        self.queries += count
        return votes
