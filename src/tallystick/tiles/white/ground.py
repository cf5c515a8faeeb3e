"""What all white-box attacks share: the samples, where each may go, and the nearest adversarial of each.

Distances are L-infinity, in the unit of eps: the data's own or, of a table, shares of each column's span, and
of a series of each channel's spread.
Whatever is asked is a row that the domain allows: within range and radius, whole where a column is whole,
untouched where it is immutable, and only in the direction in which a column may move.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tallystick.core.errors import Failed
from tallystick.evidence.domain import Domain
from tallystick.ports.models.attack import Case, Weigh
from tallystick.tiles.white.aims import margin

__all__ = ["Aim", "Ground", "below"]

Aim = Callable[[slice, np.ndarray], np.ndarray]
"""From a slice of the rows and their logits (n, classes) to the weights whose gradient is wanted."""

BATCH_FLOATS = 1 << 18
"""Numbers in one batch: larger ones fall out of the processor's caches and gain nothing."""

RADIUS_MAX = 1e30
SHRINK_ROUNDS = 7
OVERSHOOT = 1e-3
"""Of an interval that a root is looked for in: so far beyond where a line would have it."""

_INWARD = 1 - 1e-9  # so that no rounding takes a row out of its radius


def below(eps: Sequence[float], distance: np.ndarray) -> np.ndarray:
    """For distances (k,) the greatest of the rising ``eps`` that is less, 0 where none is."""
    radii = np.asarray((0.0, *eps))
    return np.asarray(radii[np.searchsorted(radii[1:], distance, side="left")])


def _of(aim: Aim, part: slice) -> Weigh:
    return lambda z: aim(part, z.astype(np.float64)).astype(np.float32)


class Ground:
    """The attacked rows ``x`` (m, features) with labels ``y``, and ``distance`` and ``adversarial`` as in
    :class:`tallystick.ports.models.attack.Case`, of which it keeps copies.

    ``queries`` and ``gradients`` count rows asked about and rows pulled. What looks adversarial to the
    gradients is a claim until the model itself has been asked (:meth:`settle`): ``unconfirmed`` counts those
    that it denied.
    """

    def __init__(self, case: Case) -> None:
        self.victim, self.classes = case.victim, case.victim.classes
        self.x = np.ascontiguousarray(case.x[case.attacked], np.float32)
        self.y = case.y[case.attacked]
        self.distance, self.adversarial = case.distance.copy(), case.adversarial.copy()
        self.claimed = self.distance.copy()
        self._claims = self.adversarial.copy()
        self.queries = self.gradients = self.unconfirmed = 0
        self.votes = 1  # more, of a model that answers by lot: so often is it asked, and the mean counts
        self.frozen: tuple[str, ...] = ()
        self._read(case.domain, case.features)
        self.batch = max(16, min(1024, BATCH_FLOATS // self.x.shape[1]))

    def __len__(self) -> int:
        return len(self.x)

    def _read(self, domain: Domain, features: tuple[str, ...]) -> None:
        """Range, reach and rules of each feature."""
        count = self.x.shape[1]
        names = features if len(features) == count else tuple(c.name for c in domain.columns)
        columns = domain.by_feature(names, count)
        self.frozen = tuple(c.name for c in columns if c.immutable or c.one_hot)
        still = np.array([c.immutable or bool(c.one_hot) for c in columns])
        self.span = np.where(still, 0.0, [c.span for c in columns])
        self._whole = np.array([c.integer for c in columns])
        self._floor = np.array([c.low for c in columns])
        self._roof = np.array([c.high for c in columns])
        self._up = np.array([c.direction == "up" for c in columns])
        self._down = np.array([c.direction == "down" for c in columns])

    # ----------------------------------------------------------------------------------------------- where

    def box(self, who: np.ndarray, eps: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """The lowest and the highest row (n, features), float32, within ``eps`` (n,) of each sample."""
        x = self.x[who].astype(np.float64)
        radius = np.minimum(np.broadcast_to(np.asarray(eps, np.float64), (len(who),)), RADIUS_MAX)
        reach = radius[:, None] * (self.span * _INWARD)
        lower = np.where(self._up, x, np.maximum(np.minimum(self._floor, x), x - reach))
        upper = np.where(self._down, x, np.minimum(np.maximum(self._roof, x), x + reach))
        if self._whole.any():
            lower = np.where(self._whole, np.minimum(np.ceil(lower), x), lower)
            upper = np.where(self._whole, np.maximum(np.floor(upper), x), upper)
        low, high = lower.astype(np.float32), upper.astype(np.float32)
        low = np.where(low < lower, np.nextafter(low, np.float32(np.inf)), low)
        return low, np.where(high > upper, np.nextafter(high, np.float32(-np.inf)), high)

    def snap(self, rows: np.ndarray) -> np.ndarray:
        """Whole numbers where a column is whole; the same array where none is."""
        return np.where(self._whole, np.rint(rows), rows).astype(np.float32) if self._whole.any() else rows

    def far(self, who: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Distances (n,) of rows from their samples, in the unit of eps."""
        moved = np.abs(rows.astype(np.float64) - self.x[who])
        return np.asarray((moved / np.where(self.span > 0, self.span, np.inf)).max(axis=1))

    # ------------------------------------------------------------------------------------------------- ask

    def pull(self, who: np.ndarray, rows: np.ndarray, aim: Aim) -> tuple[np.ndarray, np.ndarray]:
        """Logits (n, classes) float64 and gradients (n, features) at rows; what is wrong there is claimed.

        Failed where either is no finite number.
        """
        logits = np.empty((len(rows), self.classes))
        slopes = np.empty(rows.shape, np.float32)
        rows = self.snap(rows)
        for at in range(0, len(rows), self.batch):
            part = slice(at, at + self.batch)
            logits[part], slopes[part] = self.victim.pull(rows[part], _of(aim, part))
        if not (np.isfinite(logits).all() and np.isfinite(slopes).all()):
            raise Failed("the model's logits or gradients are no finite numbers", where="model")
        self.gradients += len(rows)
        if self.votes == 1:
            self.claim(who, rows, logits.argmax(axis=1) != self.y[who])
        return logits, slopes

    def ask(self, who: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Scores (n, classes) at rows, from the model itself; what is wrong there is claimed."""
        rows = self.snap(rows)
        scores = np.zeros((len(rows), self.classes), np.float32)
        for at in [*range(0, len(rows), self.batch)] * self.votes:
            part = slice(at, at + self.batch)
            scores[part] += self.victim.scores(rows[part])
        self.queries += len(rows) * self.votes
        self.claim(who, rows, scores.argmax(axis=1) != self.y[who])
        return scores

    # ------------------------------------------------------------------------------------------------ keep

    def open(self, eps: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """Samples (k,) of whom more can be learnt, and for each the greatest of ``eps`` that it is not known
        to fall within.
        """
        radii = below(eps, self.claimed)
        who = np.flatnonzero(radii > 0)
        return who, radii[who]

    def claim(self, who: np.ndarray, rows: np.ndarray, wrong: np.ndarray) -> None:
        """Keep those of the wrong ``rows`` that are nearer than what is known."""
        hits = np.flatnonzero(wrong)
        if not len(hits):
            return
        far = self.far(who[hits], rows[hits])
        hits, far = hits[far < self.claimed[who[hits]]], far[far < self.claimed[who[hits]]]
        order = np.argsort(-far, kind="stable")  # of one sample's hits the nearest is written last
        self.claimed[who[hits[order]]] = far[order]
        self._claims[who[hits[order]]] = rows[hits[order]]

    def claims(self, who: np.ndarray) -> np.ndarray:
        """The nearest rows (n, features) claimed so far; NaN where there is none."""
        return np.asarray(self._claims[who])

    def settle(self) -> None:
        """Ask the model itself about every claim; what it denies is forgotten."""
        new = np.flatnonzero(self.claimed < self.distance)
        if len(new):
            rows, far = self._claims[new].copy(), self.claimed[new].copy()
            wrong = self.ask(new, rows).argmax(axis=1) != self.y[new]
            self.unconfirmed += int((~wrong).sum())
            self.distance[new[wrong]], self.adversarial[new[wrong]] = far[wrong], rows[wrong]
        self.claimed, self._claims = self.distance.copy(), self.adversarial.copy()

    def shrink(self, rounds: int = SHRINK_ROUNDS) -> None:
        """Draw every adversarial nearer on its path ``x + clip(change, -r, r)``, to the least r that turns.

        Forward passes only: by turns where a line through the margins crosses 0, and halfway. Of a linear
        model and a change that goes to the corner of a box, that is exact.
        """
        who = np.flatnonzero((self.claimed > 0) & np.isfinite(self.claimed))
        if not len(who):
            return
        rows, above, below_ = self._claims[who].copy(), self.claimed[who].copy(), np.zeros(len(who))
        behind, ahead = self._gap(who, self.x[who]), self._gap(who, rows)
        for turn in range(rounds):
            share = np.full(len(who), 0.5)
            if turn % 2 == 0:
                line = -behind / np.maximum(ahead - behind, 1e-12)
                share = np.clip(line + OVERSHOOT, OVERSHOOT, 1 - OVERSHOOT)
            middle = below_ + share * (above - below_)
            gap = self._gap(who, np.clip(rows, *self.box(who, middle)))
            wrong = gap > 0
            above, ahead = np.where(wrong, middle, above), np.where(wrong, gap, ahead)
            below_, behind = np.where(wrong, below_, middle), np.where(wrong, behind, gap)

    def _gap(self, who: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """By how much the best wrong class is ahead at ``rows`` (n,)."""
        scores = self.ask(who, rows).astype(np.float64)
        return margin(scores, self.y[who], self.y[who])[0]
