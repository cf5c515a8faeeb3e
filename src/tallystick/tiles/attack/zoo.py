"""ZOO (Chen et al. 2017): gradients guessed from differences of scores, feature by feature, and followed by
Adam.

The paper's penalty for distance is here a projection on the ball of the radius that a sample stands before,
so that it seeks what eps is about (L-infinity); differences are as wide as a share of that radius, as trees
and float32 answer smaller ones with nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tallystick.tiles.attack.hunt import Hunt
from tallystick.tiles.attack.square import margins

__all__ = ["zoo"]

PROBE = 3
FEATURES_EACH = 16
"""Features of one step: each takes two queries."""

WIDTH = 0.25
RATE = 0.25
"""Of the radius: half the width of a difference, and the length of a step."""

DECAY = (0.9, 0.999)


def zoo(hunt: Hunt, said: Callable[[float], None]) -> Mapping[str, Any]:
    """Descend from every open sample until its queries are spent. Returns the settings, for the record."""
    free = np.flatnonzero(hunt.space.plain & ~hunt.space.fixed)
    opened = hunt.open() if len(free) else np.zeros(0, np.int64)
    each = min(FEATURES_EACH, len(free))
    for part in hunt.blocks(opened, 2 * each + 4):
        _Descent(hunt, part, free, each).go(said)
    return {
        "norm": "Linf",
        "queries_max": hunt.queries,
        "features_each_step": each,
        "width": WIDTH,
        "rate": RATE,
        "sees": "scores",
    }


class _Descent:
    """Samples (k,) at rows ``at`` (k, features), with Adam's moments, counts of steps, and radii."""

    def __init__(self, hunt: Hunt, samples: np.ndarray, free: np.ndarray, each: int) -> None:
        self._hunt, self._samples, self._free, self._each = hunt, samples, free, each
        self._x = hunt.x[samples]
        self._at = self._x.copy()
        self._first, self._second = np.zeros_like(self._at), np.zeros_like(self._at)
        self._steps = np.zeros(self._at.shape, np.int64)
        self._draws = [hunt.generator(int(s), PROBE) for s in samples]

    def go(self, said: Callable[[float], None]) -> None:
        while True:
            radius = self._radius()
            here = np.flatnonzero((radius > 0) & (self._hunt.left[self._samples] > 2 * self._each))
            if not len(here):
                return
            said(float(self._hunt.used[self._samples].mean() / self._hunt.queries))
            self._step(here, radius[here])

    def _radius(self) -> np.ndarray:
        """The greatest radius that each sample still withstands; 0 where there is none."""
        eps = np.array([0.0, *self._hunt.case.budget.eps])
        found: np.ndarray = eps[(eps < self._hunt.distance[self._samples][:, None]).sum(axis=1) - 1]
        return np.where(self._hunt.distance[self._samples] > 0, found, 0.0)

    def _step(self, here: np.ndarray, radius: np.ndarray) -> None:
        places = np.stack([self._draws[i].choice(self._free, self._each, replace=False) for i in here])
        slope = self._slopes(here, places, radius)
        rows = here[:, None]
        self._steps[rows, places] += 1
        first = DECAY[0] * self._first[rows, places] + (1 - DECAY[0]) * slope
        second = DECAY[1] * self._second[rows, places] + (1 - DECAY[1]) * slope**2
        self._first[rows, places], self._second[rows, places] = first, second
        turn = self._steps[rows, places]
        first, second = first / (1 - DECAY[0] ** turn), second / (1 - DECAY[1] ** turn)
        span = self._hunt.space.span[places]
        move = RATE * radius[:, None] * span * first / (np.sqrt(second) + 1e-12)
        self._at[rows, places] -= move.astype(np.float32)
        self._at[here] = self._hunt.space.project(self._at[here], self._x[here], radius)
        self._hunt.ask(self._samples[here], self._at[here])

    def _slopes(self, here: np.ndarray, places: np.ndarray, radius: np.ndarray) -> np.ndarray:
        """Of the margin by each of ``places`` (k, e), by symmetric differences: (k, e)."""
        count, each = places.shape
        owner = np.repeat(np.arange(count), 2 * each)
        rows = np.repeat(self._at[here], 2 * each, axis=0)
        sides = np.tile(np.repeat([1.0, -1.0], each), count)
        spots = np.concatenate([places, places], axis=1).ravel()
        rows[np.arange(len(rows)), spots] += (
            sides * WIDTH * radius[owner] * self._hunt.space.span[spots]
        ).astype(np.float32)
        rows = self._hunt.space.project(rows, self._x[here[owner]], radius[owner])
        scores, _ = self._hunt.ask(self._samples[here[owner]], rows)
        value = margins(scores, self._hunt.y[self._samples[here[owner]]], self._hunt.case.victim.gives)
        value = value.reshape(count, 2, each)
        apart = rows[np.arange(len(rows)), spots].reshape(count, 2, each).astype(np.float64)
        width = (apart[:, 0] - apart[:, 1]) / self._hunt.space.span[places]
        slopes: np.ndarray = np.divide(
            value[:, 0] - value[:, 1], width, out=np.zeros_like(width), where=width != 0
        )
        return slopes
