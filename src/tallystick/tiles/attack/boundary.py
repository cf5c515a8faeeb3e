"""Boundary attack (Brendel, Rauber and Bethge 2018): a random walk on the wrong side, ever nearer to the
sample.

It sees labels only. It walks by L2 in units of each feature's range; what counts is how near in L-infinity
any wrong row was that it came by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tallystick.tiles.attack.hunt import Hunt

__all__ = ["boundary"]

PROBE = 4
AROUND, TOWARDS = 0.1, 0.1
"""The first steps, as shares of the distance; each is then fitted to how often it succeeds."""

FITTED_EVERY = 10
FASTER, SLOWER = 1.3, 1 / 1.3
AROUND_AIM, TOWARDS_AIM = 0.5, 0.25
"""The shares of successes at which a step keeps its length."""


def boundary(hunt: Hunt, said: Callable[[float], None]) -> Mapping[str, Any]:
    """Walk with every open sample until its queries are spent. Returns the settings, for the record."""
    starts = hunt.starts(PROBE)
    opened = hunt.open()
    able = opened[np.isfinite(starts[opened]).all(axis=1)]
    for part in hunt.blocks(able, 6):
        _Walk(hunt, part, starts[part]).go(said)
    return {
        "norm": "L2, measured in Linf",
        "queries_max": hunt.queries,
        "first_steps": [AROUND, TOWARDS],
        "without_start": len(opened) - len(able),
        "sees": "labels",
    }


class _Walk:
    """Samples (k,) that stand at wrong rows ``at`` (k, features)."""

    def __init__(self, hunt: Hunt, samples: np.ndarray, at: np.ndarray) -> None:
        self._hunt, self._samples, self._at = hunt, samples, at.copy()
        self._x = hunt.x[samples]
        self._unit = np.maximum(hunt.space.high - hunt.space.low, 1e-30)
        self._draws = [hunt.generator(int(s), PROBE + 100) for s in samples]
        self._around = np.full(len(samples), AROUND)
        self._towards = np.full(len(samples), TOWARDS)
        self._wins = np.zeros((2, len(samples)))
        self._tries = np.zeros((2, len(samples)))

    def go(self, said: Callable[[float], None]) -> None:
        while True:
            lasting = self._hunt.distance[self._samples] > self._hunt.case.budget.eps[0]
            here = np.flatnonzero(lasting & (self._hunt.left[self._samples] >= 2))
            if not len(here):
                return
            said(float(self._hunt.used[self._samples].mean() / self._hunt.queries))
            self._step(here)
            self._fit()

    def _step(self, here: np.ndarray) -> None:
        """First around the sample at the same distance, then, where that is still wrong, towards it."""
        aside = self._project(here, self._turned(here))
        wrong = self._tried(0, here, aside)
        here, aside = here[wrong], aside[wrong]
        if not len(here):
            return
        nearer = aside + (self._towards[here, None] * (self._x[here] - aside)).astype(np.float32)
        nearer = self._project(here, nearer)
        wrong = self._tried(1, here, nearer)
        self._at[here] = np.where(wrong[:, None], nearer, aside)

    def _turned(self, here: np.ndarray) -> np.ndarray:
        """Each row turned around its sample by a random angle, at the same L2 distance."""
        way = (self._at[here].astype(np.float64) - self._x[here]) / self._unit
        far = np.sqrt((way**2).sum(axis=1, keepdims=True))
        straight = way / np.maximum(far, 1e-30)
        lots = np.stack([self._draws[i].standard_normal(way.shape[1]) for i in here])
        lots -= (lots * straight).sum(axis=1, keepdims=True) * straight
        lots /= np.maximum(np.sqrt((lots**2).sum(axis=1, keepdims=True)), 1e-30)
        turned = straight + self._around[here, None] * lots
        turned *= far / np.sqrt((turned**2).sum(axis=1, keepdims=True))
        return np.asarray(self._x[here] + turned * self._unit)

    def _project(self, here: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return self._hunt.space.project(rows, self._x[here])

    def _tried(self, kind: int, here: np.ndarray, rows: np.ndarray) -> np.ndarray:
        wrong = self._hunt.ask(self._samples[here], rows)[1]
        self._tries[kind, here] += 1
        self._wins[kind, here] += wrong
        return wrong

    def _fit(self) -> None:
        """Longer steps where they mostly succeed, shorter ones where they mostly fail."""
        for kind, step, aim in ((0, self._around, AROUND_AIM), (1, self._towards, TOWARDS_AIM)):
            due = np.flatnonzero(self._tries[kind] >= FITTED_EVERY)
            share = self._wins[kind, due] / self._tries[kind, due]
            step[due] = np.clip(step[due] * np.where(share > aim, FASTER, SLOWER), 1e-6, 0.9)
            self._tries[kind, due] = self._wins[kind, due] = 0
