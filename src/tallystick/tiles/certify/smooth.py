"""Randomized smoothing (Cohen, Rosenfeld and Kolter 2019): a certificate for the model as a vote under noise.

The vote is the class that the model says most often when Gaussian noise of deviation sigma is added to a row.
With at least a share p of the noisy answers for one class, p above a half, no change of L2 length below
``sigma * quantile(p)`` turns the vote; p is the lower end of an exact binomial interval (Clopper and Pearson
1934), so that one certificate in a thousand may be wrong. Within an L-infinity radius of eps a row can be
moved by the L2 length of the box that the domain leaves it, at most ``eps * sqrt(features)``.

Noise is added in units of each feature's span, and the noisy row is cut off at the range: so it is the model
behind that cut that votes, which is a model like any other. Features that nobody can change get no noise.

A model that was smoothed itself (``tally harden --how smooth``) is certified with the sigma that it was
smoothed with: who votes is the model inside, under fresh noise, not the mean that it answers with
(``within.py``).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tallystick.core.errors import NotSupported
from tallystick.ports.models.attack import Case
from tallystick.tiles.certify.box import Box
from tallystick.tiles.certify.within import look_within

__all__ = ["ALPHA", "FIRST", "Smoothed"]

ALPHA = 0.001
"""The chance that one row's certificate is wrong."""

FIRST = 100
"""Noisy rows by which the class is chosen; then others by which its share is bounded."""

MANY_MAX = 2000
NUMBERS_MAX = 2**22

WIDE_APART = 0.2
"""Of its square: so far a model's noise may be from its sigma where ranges were taken from other rows."""


class Smoothed:
    """The vote of the case's victim, or of the model ``within`` it.

    ``sigma`` is in the unit of eps, ``many`` the noisy rows of one row, ``lengths`` (radii, m) the greatest
    L2 length, in the unit of eps, of a change that the domain allows to each attacked row within each radius.
    NotSupported for too few queries, for a smoothed model that is not what it says, and for one whose own
    noise leaves out what an attacker may change.
    """

    def __init__(self, case: Case) -> None:
        self.many = min(MANY_MAX, case.budget.queries_max - FIRST)
        if self.many < FIRST:
            raise NotSupported(
                f"{case.budget.queries_max} queries a row are too few: at least {2 * FIRST}",
                where="budget.queries_max",
            )
        self._case = case
        self._box = Box(case.domain, case.x.shape[1])
        x = case.x[case.attacked]
        reach = np.array([self._reach(x, eps) for eps in case.budget.eps])
        self.lengths = np.sqrt((reach**2).sum(axis=2))
        moves = reach.reshape(-1, reach.shape[-1]).max(axis=0) > 0
        self.within = look_within(case.victim.twin)
        noisy = moves if self.within is None else self.within.noise.any(axis=0)
        if self.within is not None:
            self.within.check(case.x, case.scores)
            if (moves & ~noisy).any():
                at = int(np.flatnonzero(moves & ~noisy)[0])
                name = case.features[at] if len(case.features) == len(moves) else str(at)
                what = f"its own noise leaves out feature {name!r:.100}, which an attacker may change"
                raise NotSupported(what, where="twin")
        self._spread = np.where(noisy, self._box.span, 0.0)
        self.width = float(np.sqrt(max(1, noisy.sum())))
        self.sigma = self.within.sigma if self.within else case.budget.eps[0] * self.width
        self.queries = 0

    @property
    def as_wide(self) -> float:
        """How wide the noise is that the model answers with, in the domain's units, as a multiple of the
        sigma that it names; 1 where it is as wide as far as its draws tell, and of a model that names none.
        """
        noisy = self._spread > 0
        if self.within is None or not noisy.any():
            return 1.0
        drawn = self.within.noise[:, noisy] / (self.sigma * self._spread[noisy])
        square = float((drawn.astype(np.float64) ** 2).mean())
        return 1.0 if abs(square - 1) <= WIDE_APART + 4 * np.sqrt(2 / drawn.size) else float(np.sqrt(square))

    def _reach(self, x: np.ndarray, eps: float) -> np.ndarray:
        """How far each feature of rows x (m, features) can be moved within eps, in its unit, float64."""
        low, high = self._box.around(x, eps)
        far: np.ndarray = np.maximum(high - x, x - low) / self._box.span
        return far

    def radii(self, said: Callable[[float], None]) -> tuple[np.ndarray, np.ndarray]:
        """For each attacked row the certified L2 radius (m,), 0 where none, and the class voted for (m,)."""
        from scipy.stats import beta, norm

        rows = self._case.attacked
        radius, voted = np.zeros(len(rows)), np.full(len(rows), -1)
        for at, row in enumerate(rows):
            said(at / len(rows))
            draw = np.random.default_rng([self._case.budget.seed, 77, int(row)])
            best = int(self.votes(draw, self._case.x[row], FIRST).argmax())
            count = int(self.votes(draw, self._case.x[row], self.many)[best])
            low = float(beta.ppf(ALPHA, count, self.many - count + 1)) if count else 0.0
            if low > 0.5:
                radius[at], voted[at] = self.sigma * float(norm.ppf(low)), best
        return radius, voted

    def votes(self, draw: np.random.Generator, row: np.ndarray, count: int) -> np.ndarray:
        """How often each class is said of ``row`` (features,) under ``count`` draws of noise, (classes,)."""
        x, votes = row.astype(np.float64), np.zeros(self._case.scores.shape[1], np.int64)
        most = max(1, NUMBERS_MAX // len(x))
        asked = self.within.scores if self.within else self._case.victim.scores
        for at in range(0, count, most):
            noise = draw.standard_normal((min(most, count - at), len(x))) * (self.sigma * self._spread)
            rows = np.clip(x + noise, self._box.low, self._box.high).astype(np.float32)
            votes += np.bincount(asked(rows).argmax(axis=1), minlength=len(votes))
        self.queries += count
        return votes
