"""HopSkipJump (Chen, Jordan and Wainwright 2020), L-infinity: walks along the boundary towards each sample.

It sees labels only, and ends with the distance at which a sample is fooled, not just whether it is within
some radius. All samples walk in step, so that each call of the model answers for all of them; each draws its
own random numbers, and so walks as it would alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tallystick.tiles.attack.hunt import NUMBERS_MAX, Hunt

__all__ = ["hop_skip_jump"]

PROBE = 1
"""Tells its random numbers from those of other probes."""

PLAN = ((0.25, 5, 0.0), (0.5, 10, 0.5), (1.0, 50, 0.8))
"""Until which share of the queries, how many are asked for the first estimate of a gradient (the number grows
with the root of the iteration), and how much of the direction before is kept in the next. Many steps that
forget get far where answers change in steps (trees), fewer that remember where they change smoothly: there
the boundary turns slowly. The paper has one such part, and no memory."""

GRADIENT_MAX = 1000
FIRST_NOISE = 0.1
"""Of the range: how far apart the rows of the first estimate are. Then a share of the distance."""

NOISE = 0.2
SEARCH_STEPS = 12
"""Halvings of one search for the boundary: to a part in 4,096 of the distance."""

STEPS_MAX = 12
"""Halvings of one step away from it."""


def hop_skip_jump(hunt: Hunt, said: Callable[[float], None]) -> Mapping[str, Any]:
    """Walk with every open sample until its queries are spent. Returns the settings, for the record."""
    starts = hunt.starts(PROBE)
    opened = hunt.open()
    able = opened[np.isfinite(starts[opened]).all(axis=1)]
    for block in hunt.blocks(able, GRADIENT_MAX // 4):
        _Walk(hunt, block, starts[block]).go(said)
    return {
        "norm": "Linf",
        "queries_max": hunt.queries,
        "gradient_queries": [queries for _, queries, _ in PLAN],
        "start": "the nearest adversarial known, or the nearest row that the model puts in another class",
        "without_start": len(opened) - len(able),
        "sees": "labels",
    }


class _Walk:
    """Samples (b,) with the wrong rows ``at`` (b, features) where they stand."""

    def __init__(self, hunt: Hunt, samples: np.ndarray, at: np.ndarray) -> None:
        self._hunt, self._space = hunt, hunt.space
        self._samples, self._at = samples, at.copy()
        self._x = hunt.x[samples]
        self._draws = [hunt.generator(sample, PROBE + 100) for sample in samples]
        self._span = hunt.space.span.astype(np.float32)
        self._slope, self._memory = np.zeros(at.shape), 0.0

    def go(self, said: Callable[[float], None]) -> None:
        """All parts of the plan, each from the nearest row that the ones before have come by."""
        for share, queries, memory in PLAN:
            turn = 0
            self._memory = memory
            while len(here := np.flatnonzero(self._lasting(share * self._hunt.queries))):
                said(float(self._hunt.used[self._samples].mean() / self._hunt.queries))
                self._approach(here)
                self._jump(here, queries, turn)
                turn += 1
            nearer = self._hunt.adversarial[self._samples]
            self._at = np.where(np.isfinite(nearer), nearer, self._at)

    def _lasting(self, queries: float) -> np.ndarray:
        used = self._hunt.used[self._samples]
        lasting = (used < queries) & (used < self._hunt.queries)
        return np.asarray(lasting & (self._hunt.distance[self._samples] > self._hunt.case.budget.eps[0]))

    def _ask(self, here: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self._hunt.ask(self._samples[here], rows)[1])

    def _approach(self, here: np.ndarray) -> None:
        """Halve the distance between right and wrong, on the way from each row straight to its sample."""
        far = self._space.distance(self._at[here], self._x[here])
        low, high = np.zeros(len(here)), far.copy()
        for _ in range(SEARCH_STEPS):
            going = np.flatnonzero((high > low) & (self._hunt.left[self._samples[here]] > 0))
            if not len(going):
                break
            middle = (low[going] + high[going]) / 2
            some = here[going]
            rows = self._space.project(self._at[some], self._x[some], middle)
            wrong = self._ask(some, rows)
            high[going[wrong]], low[going[~wrong]] = middle[wrong], middle[~wrong]
        self._at[here] = self._space.project(self._at[here], self._x[here], high)

    def _jump(self, here: np.ndarray, queries: int, turn: int) -> None:
        """Estimate where the boundary leads away from, and go there as far as the answer stays wrong."""
        here = here[self._hunt.left[self._samples[here]] > 1]
        if not len(here):
            return
        far = self._space.distance(self._at[here], self._x[here])
        slope = self._gradient(here, far, queries, turn)
        slope /= np.maximum(np.sqrt((slope**2).sum(axis=1, keepdims=True)), 1e-30)
        self._slope[here] = self._memory * self._slope[here] + slope
        sign = np.sign(self._slope[here]).astype(np.float32)
        step = far / np.sqrt(turn + 1)
        going = np.arange(len(here))
        for _ in range(STEPS_MAX):
            going = going[self._hunt.left[self._samples[here[going]]] > 0]
            if not len(going):
                return
            some = here[going]
            moved = self._at[some] + (step[going, None] * sign[going] * self._span).astype(np.float32)
            rows = self._space.project(moved, self._x[some])
            wrong = self._ask(some, rows)
            self._at[some[wrong]] = rows[wrong]
            going = going[~wrong]
            step[going] /= 2

    def _gradient(self, here: np.ndarray, far: np.ndarray, queries: int, turn: int) -> np.ndarray:
        """The direction (k, features) in which answers are wrong, by rows around where each stands."""
        size = self._x.shape[1]
        many = np.minimum(int(queries * np.sqrt(turn + 1)), self._hunt.left[self._samples[here]] - 1)
        many = np.minimum(many, max(10, min(GRADIENT_MAX, NUMBERS_MAX // size)))
        delta = np.full(len(here), FIRST_NOISE * self._space.room.max()) if turn == 0 else NOISE * far
        owner = np.repeat(np.arange(len(here)), many)
        noise = np.concatenate(
            [self._draws[s].random((n, size), np.float32) * 2 - 1 for s, n in zip(here, many, strict=True)]
        )
        noise /= np.sqrt((noise**2).sum(axis=1, keepdims=True))
        base = self._at[here[owner]]
        rows = base + (delta[owner, None] * noise * self._span).astype(np.float32)
        rows = self._space.project(rows, self._x[here[owner]])
        wrong = self._ask(here[owner], rows)
        moved = (rows - base) / self._span
        return _contrast(moved, wrong, owner, len(here))


def _contrast(moved: np.ndarray, wrong: np.ndarray, owner: np.ndarray, size: int) -> np.ndarray:
    """Of each owner the mean move that was wrong less the mean move that was right (k, features).

    Which is the paper's estimate less its baseline, up to a factor; where all answers agree, the plain mean.
    """
    value = np.where(wrong, 1.0, -1.0)
    count = np.bincount(owner, minlength=size).astype(np.float64)
    mean = np.bincount(owner, value, minlength=size) / count
    value = np.where(np.abs(mean[owner]) == 1, value, value - mean[owner])
    starts = np.concatenate([[0], np.cumsum(count)[:-1]]).astype(np.int64)
    summed: np.ndarray = np.add.reduceat(moved * value[:, None], starts, axis=0)
    return summed
