"""What black-box attacks share: the samples, the queries spent on each, and the nearest adversarial of each.

Every row is made to keep the domain's rules before the model is asked about it, and every answer that is
wrong counts, not only what an attack hands back. No sample is asked about more often than its share.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tallystick.core.errors import Failed
from tallystick.evidence.domain import DomainKind
from tallystick.ports.models.attack import Case
from tallystick.tiles.attack.project import Space

__all__ = ["Hunt"]

ROWS_MAX = 4096
"""Rows of one call of the model."""

NUMBERS_MAX = 2**23
"""Of rows held at once (32 MiB of float32): samples are worked on in blocks that keep within it."""

POOL_MAX = 2000
"""Of the other rows, among which a start is looked for."""

NEAR_MAX = 3
STARTS_MAX = 23
"""Of rows that are tried as a start, the first few of them near rows of other classes, at most."""


class Hunt:
    """The samples of ``case`` that are under attack, each with ``queries`` to spend.

    ``x`` (m, features), ``y`` (m,); ``distance`` (m,) and ``adversarial`` (m, features) begin as the case's
    and are its own copies; ``used`` (m,) counts queries; ``price`` (m,) and ``cheapest`` (m, features) are
    the cheapest adversarial that this hunt itself saw, by the domain's cost.
    """

    def __init__(self, case: Case, queries: int) -> None:
        self.case, self.queries = case, queries
        self.x = np.ascontiguousarray(case.x[case.attacked], np.float32)
        self.y = case.y[case.attacked]
        self.scores = case.scores[case.attacked]
        self.space = Space(case.domain, case.features, self.x.shape[1])
        self.distance = case.distance.astype(np.float64).copy()
        self.adversarial = np.array(case.adversarial, np.float32)
        self.price = np.full(len(self.x), np.inf)
        self.cheapest = np.full_like(self.x, np.nan)
        self.used = np.zeros(len(self.x), np.int64)

    def __len__(self) -> int:
        return len(self.x)

    @property
    def left(self) -> np.ndarray:
        """Queries that each sample may still be asked about, (m,)."""
        return self.queries - self.used

    def open(self) -> np.ndarray:
        """Samples (k,) of whom more can be learnt: not known to fall within the least eps already."""
        return np.flatnonzero(self.distance > self.case.budget.eps[0])

    def generator(self, sample: int, probe: int) -> np.random.Generator:
        """Random numbers of one sample in one probe: the same, whichever others are attacked beside it."""
        return np.random.default_rng([self.case.budget.seed, probe, int(self.case.attacked[sample])])

    def blocks(self, samples: np.ndarray, rows_each: int) -> Iterator[np.ndarray]:
        """``samples`` in parts, so that ``rows_each`` rows for each of a part can be held at once."""
        most = max(1, NUMBERS_MAX // max(1, rows_each * self.x.shape[1]))
        for at in range(0, len(samples), most):
            yield samples[at : at + most]

    def ask(self, owner: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores (n, classes), and whether each is wrong, for ``rows`` (n, features) of samples ``owner``.

        Rows keep the domain's rules already (:meth:`Space.project`). ValueError where a sample would be asked
        about more often than it may: an attack looks at ``left`` first.
        """
        counts = np.bincount(owner, minlength=len(self))
        if (self.used + counts > self.queries).any():
            raise ValueError("more queries of a sample than it has left")
        parts = [self.case.victim.scores(rows[at : at + ROWS_MAX]) for at in range(0, len(rows), ROWS_MAX)]
        self.used += counts
        scores = np.concatenate(parts) if parts else np.zeros((0, self.scores.shape[1]), np.float32)
        wrong: np.ndarray = scores.argmax(axis=1) != self.y[owner]
        if wrong.any():
            self._remember(owner[wrong], rows[wrong])
        return scores, wrong

    def _remember(self, owner: np.ndarray, rows: np.ndarray) -> None:
        far = self.space.distance(rows, self.x[owner])
        self._keep(owner, rows, far, self.distance, self.adversarial)
        if self.case.domain.kind is DomainKind.TABULAR:
            cost = self.space.price(rows, self.x[owner])
            self._keep(owner, rows, cost, self.price, self.cheapest)

    @staticmethod
    def _keep(
        owner: np.ndarray, rows: np.ndarray, value: np.ndarray, best: np.ndarray, kept: np.ndarray
    ) -> None:
        """Into ``best`` and ``kept``, by owner, what is less than there is."""
        less = np.flatnonzero(value < best[owner])
        less = less[np.argsort(-value[less], kind="stable")]  # of one owner's, the last one stays: the least
        best[owner[less]] = value[less]
        kept[owner[less]] = rows[less]

    def starts(self, probe: int) -> np.ndarray:
        """A row that the model gets wrong for every open sample, float32 (m, features); NaN where none is.

        The nearest known adversarial, or the nearest row that the model puts in another class, made to keep
        the rules; else one of the corners and random rows of the range. All but the first cost queries.
        """
        made = np.full_like(self.x, np.nan)
        todo = self.open()
        known = np.isfinite(self.adversarial[todo]).all(axis=1)
        made[todo[known]] = self.adversarial[todo[known]]
        todo = todo[~known]
        pool = self.pool()
        near = {sample: self._near(sample, pool) for sample in todo}
        draws = {sample: self.generator(sample, probe) for sample in todo}
        for turn in range(STARTS_MAX):
            todo = todo[self.left[todo] > 0]
            if not len(todo):
                break
            rows = np.stack([_start(near[s], draws[s], turn, self.space) for s in todo])
            rows = self.space.project(rows, self.x[todo])
            wrong = self.ask(todo, rows)[1]
            made[todo[wrong]] = rows[wrong]
            todo = todo[~wrong]
        return made

    def pool(self) -> np.ndarray:
        """Places in the case's rows, all of them or a seeded choice."""
        size = len(self.case.x)
        if size <= POOL_MAX:
            return np.arange(size)
        return np.sort(np.random.default_rng(self.case.budget.seed).choice(size, POOL_MAX, replace=False))

    def _near(self, sample: int, pool: np.ndarray) -> np.ndarray:
        """The nearest rows (at most NEAR_MAX) that the model puts elsewhere, made to keep the rules."""
        origin = self.x[sample : sample + 1]
        other = pool[self.case.scores[pool].argmax(axis=1) != self.y[sample]]
        rows = self.space.project(self.case.x[other], np.repeat(origin, len(other), axis=0))
        nearest = np.argsort(self.space.distance(rows, origin), kind="stable")[:NEAR_MAX]
        return np.asarray(rows[nearest])

    def check(self) -> None:
        """Failed where an adversarial breaks a rule of the domain: such a result is never given out."""
        found = np.flatnonzero(np.isfinite(self.distance) & (self.distance > 0))
        found = found[self.distance[found] < self.case.distance[found]]
        rows, origin = self.adversarial[found], self.x[found]
        if not self.space.allows(rows, origin).all():
            raise Failed("an adversarial row breaks a rule of the domain", where="attack")


def _start(near: np.ndarray, draw: np.random.Generator, turn: int, space: Space) -> np.ndarray:
    """The next row to try: near ones first, then by turns one drawn from the range and one of its corners."""
    if turn < len(near):
        return np.asarray(near[turn])
    lots = draw.uniform(space.low, space.high)
    corner = np.where(draw.random(len(lots)) < 0.5, space.low, space.high)
    return np.asarray(lots if turn % 2 else corner)
