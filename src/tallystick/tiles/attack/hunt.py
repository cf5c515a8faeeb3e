"""What all attacks share: the samples, the queries spent on each, and the nearest adversarial of each.

Attacks work in units of the feature range (0 to 1); models are asked, and distances taken, in the
data's own. Every query that the model gets wrong counts, not only what an attack hands back, and no
sample is ever asked about more often than its share of the budget.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tallystick.core.errors import BadInput, Failed
from tallystick.core.verdict import Budget
from tallystick.ports.attack import Target

__all__ = ["Hunt", "Spent", "ask_model"]

TOLERANCE = 1e-6
"""Of the feature range, or a step of float32 where that is more: what rounding ``x + eps`` may add."""

ROWS_MAX = 4096
REPEATS_MAX = 20
"""How often in a row the very same image may be asked about before that attack counts as stuck."""


class Spent(Exception):
    """The queries of a sample are used up."""


def ask_model(target: Target, rows: np.ndarray) -> np.ndarray:
    """float32 scores (n, classes) for rows (n, features), in calls of at most ``ROWS_MAX`` rows."""
    parts = [np.asarray(target(rows[at : at + ROWS_MAX])) for at in range(0, len(rows), ROWS_MAX)]
    scores = np.concatenate(parts).astype(np.float32)
    if scores.ndim != 2 or len(scores) != len(rows):
        raise BadInput(f"scores of shape {list(scores.shape)} for {len(rows)} rows", where="model")
    if not np.isfinite(scores).all():
        raise Failed("the model answered with a score that is no finite number", where="model")
    return scores


class Hunt:
    """The samples under attack: rows ``x`` (m, features) with labels ``y`` and clean ``scores``.

    ``distance`` (m,) is that of the nearest ``adversarial`` (m, features) found so far: infinity where
    there is none, 0 where the clean prediction is wrong already. ``used`` (m,) counts queries.
    """

    def __init__(
        self, target: Target, x: np.ndarray, y: np.ndarray, scores: np.ndarray, budget: Budget
    ) -> None:
        self._target = target
        self._low, self._span = budget.low, budget.high - budget.low
        self._high, self._queries_max = budget.high, budget.queries_max
        self.x, self.y, self.scores = x, y, scores
        self.classes = scores.shape[1]
        self.unit = ((x.astype(np.float64) - self._low) / self._span).astype(np.float32)
        self.distance = np.where(scores.argmax(axis=1) == y, np.inf, 0.0)
        self.adversarial = np.full_like(x, np.nan)
        self.used = np.zeros(len(x), np.int64)
        step = float(np.spacing(np.float32(max(abs(budget.low), abs(budget.high)))))
        self.tolerance = max(TOLERANCE * self._span, step)

    def __len__(self) -> int:
        return len(self.x)

    def eps_unit(self, eps: float) -> float:
        """A radius in units of the feature range."""
        return eps / self._span

    def withstands(self, eps: float) -> np.ndarray:
        """Which samples are right when clean and not known to be fooled within ``eps``: bool (m,)."""
        found: np.ndarray = self.distance > eps + self.tolerance
        return found

    def ask(self, owner: np.ndarray, unit: np.ndarray) -> np.ndarray:
        """Scores for the images ``unit`` (n, features) of the samples ``owner`` (n,); each is a query.

        :class:`Spent` where that is more than the budget allows a sample.
        """
        if (self.used[owner] >= self._queries_max).any():
            raise Spent
        rows = self._low + np.clip(unit.astype(np.float64), 0.0, 1.0) * self._span
        rows = np.clip(rows.astype(np.float32), np.float32(self._low), np.float32(self._high))
        scores = ask_model(self._target, rows)
        np.add.at(self.used, owner, 1)
        far = np.abs(rows.astype(np.float64) - self.x[owner]).max(axis=1)
        wrong = scores.argmax(axis=1) != self.y[owner]
        for at in np.flatnonzero(wrong & (far < self.distance[owner])):
            if far[at] < self.distance[owner[at]]:
                self.distance[owner[at]] = far[at]
                self.adversarial[owner[at]] = rows[at]
        return scores

    def line(self, sample: int, queries: int) -> Callable[[np.ndarray], np.ndarray]:
        """A way to ask about one sample, at most ``queries`` times: then it raises :class:`Spent`.

        It does so too where the very same image is asked about over and over: that attack is stuck.
        """
        left = queries
        last, repeats = b"", 0

        def ask(unit: np.ndarray) -> np.ndarray:
            nonlocal left, last, repeats
            if left <= 0:
                raise Spent
            flat = unit.reshape(len(unit), -1)[:left]
            this = flat[0].tobytes() if len(flat) == 1 else b""
            repeats = repeats + 1 if this and this == last else 0
            last = this
            if repeats > REPEATS_MAX:
                raise Spent
            left -= len(flat)
            scores = self.ask(np.full(len(flat), sample), flat)
            if len(flat) < len(unit):
                raise Spent
            return scores

        return ask
