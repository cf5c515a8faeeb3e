"""Square attack (Andriushchenko et al. 2020), L-infinity: random search by patches of changed features.

A patch is a square of an image's pixels (of each channel alike), a stretch of a series' steps, and of
anything else a random choice of features. One sweep goes over all radii, the smallest first: samples that
fall leave, and what a sample has learnt at one radius is stretched to the next, where its search goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tallystick.evidence.domain import Domain, DomainKind
from tallystick.tiles.attack.hunt import Hunt

__all__ = ["margins", "square"]

PROBE = 2
FLOOR = 1e-30
"""Smallest probability whose logarithm is taken."""

SHARE_FIRST = 0.8
"""Of the features, changed by the first patches; the paper halves it at these iterations of 10,000."""

HALVED_AT = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
SAID_EVERY = 20


def margins(scores: np.ndarray, y: np.ndarray, gives: str) -> np.ndarray:
    """float64 (n,): the score of the right class less the best other one: below 0 the answer is wrong.

    Of probabilities the logarithms, so that the margin still moves where they saturate.
    """
    z = scores.astype(np.float64)
    if gives == "probabilities":
        z = np.log(np.maximum(z, FLOOR))
    right = z[np.arange(len(z)), y]
    z[np.arange(len(z)), y] = -np.inf
    gap: np.ndarray = right - z.max(axis=1)
    return gap


def square(hunt: Hunt, said: Callable[[float, str], None]) -> Mapping[str, Any]:
    """Search at each radius of the budget with the queries that are left. Returns the settings."""
    radii = hunt.case.budget.eps
    free = np.flatnonzero(hunt.space.plain & ~hunt.space.fixed)
    state = _Search(hunt, _Patches(hunt.case.domain, hunt.x.shape[1], free))
    for step, radius in enumerate(radii):

        def at(share: float, step: int = step, radius: float = radius) -> None:
            said((step + share) / len(radii), f"eps {radius:g}")

        state.at_radius(radius, len(radii) - step, at)
    return {
        "norm": "Linf",
        "queries_max": hunt.queries,
        "share_first": SHARE_FIRST,
        "patches": state.patches.about,
        "warm_start": "from each radius to the next",
        "sees": "scores",
    }


class _Patches:
    """Which features a patch of a given share changes, and to which signs.

    Rows are seen as (high, wide, channels): of a series high is 1 and wide its steps; of anything else wide
    is the features, and a patch a random choice of them. ``free`` (k,) are those that may change at all.
    """

    def __init__(self, domain: Domain, features: int, free: np.ndarray) -> None:
        shape = domain.shape if domain.kind in (DomainKind.IMAGE, DomainKind.SERIES) else ()
        self._grid = bool(shape) and int(np.prod(shape)) == features
        self._first = False
        self._shape = (1, features, 1)
        self._free = np.isin(np.arange(features), free) if len(free) else np.ones(features, bool)
        self.about = "random features"
        if self._grid and domain.kind is DomainKind.IMAGE:
            full = shape if len(shape) == 3 else (*shape, 1)
            self._first = domain.channels_first and len(shape) == 3
            self._shape = (full[1], full[2], full[0]) if self._first else (full[0], full[1], full[2])
            self.about = "squares of pixels"
        elif self._grid:
            steps, channels = domain.steps_and_channels
            self._first = domain.channels_first and len(shape) == 2
            self._shape = (1, steps, channels)
            self.about = "stretches of steps"

    def stripes(self, draw: np.random.Generator, count: int) -> np.ndarray:
        """Signs (count, features) of the start: one for each column and channel, or each feature."""
        signs = _signs(draw, (count, 1, *self._shape[1:]))
        return self._flat(np.broadcast_to(signs, (count, *self._shape)))

    def patched(self, draw: np.random.Generator, signs: np.ndarray, share: np.ndarray) -> np.ndarray:
        """``signs`` (n, features) with a patch of ``share`` (n,) each changed; never all as they were."""
        count = len(signs)
        if not self._grid:
            lots = np.where(self._free, draw.random(signs.shape), 2.0)
            inside = (lots < share[:, None]) | (lots == lots.min(axis=1, keepdims=True))
            new = _signs(draw, signs.shape)
        else:
            inside = self._flat(np.broadcast_to(self._windows(draw, share)[..., None], (count, *self._shape)))
            new = self._flat(
                np.broadcast_to(_signs(draw, (count, 1, 1, self._shape[2])), (count, *self._shape))
            )
        same = ~(inside & (new != signs)).any(axis=1)
        new = np.where(same[:, None], -new, new)
        return np.where(inside, new, signs)

    def _windows(self, draw: np.random.Generator, share: np.ndarray) -> np.ndarray:
        """Which pixels (n, high, wide): a square, or of one row a stretch, that covers about ``share``."""
        high, wide, _ = self._shape
        side = np.sqrt(share * high * wide) if high > 1 else share * wide
        tall = np.clip(np.rint(side), 1, high).astype(np.int64)
        long = np.clip(np.rint(side), 1, wide).astype(np.int64)
        top, left = draw.integers(0, high - tall + 1), draw.integers(0, wide - long + 1)
        row, column = np.arange(high)[None, :], np.arange(wide)[None, :]
        rows = (row >= top[:, None]) & (row < (top + tall)[:, None])
        columns = (column >= left[:, None]) & (column < (left + long)[:, None])
        return np.asarray(rows[:, :, None] & columns[:, None, :])

    def _flat(self, grid: np.ndarray) -> np.ndarray:
        """From (n, high, wide, channels) to (n, features) as the data lies."""
        return (np.moveaxis(grid, 3, 1) if self._first else grid).reshape(
            len(grid), int(np.prod(self._shape))
        )


def _signs(draw: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return draw.integers(0, 2, shape, np.int8) * np.int8(2) - np.int8(1)


class _Search:
    """The signs (m, features) of the best point of each sample, and how many patches it has tried."""

    def __init__(self, hunt: Hunt, patches: _Patches) -> None:
        self._hunt, self.patches = hunt, patches
        self._span = hunt.space.span.astype(np.float32)
        self._draw = np.random.default_rng([hunt.case.budget.seed, PROBE])
        self._signs = np.zeros(hunt.x.shape, np.int8)
        self._turn = np.zeros(len(hunt), np.int64)

    def at_radius(self, radius: float, radii_left: int, said: Callable[[float], None]) -> None:
        """Spend an equal share of the queries that each sample has left, while it withstands."""
        todo = np.flatnonzero(self._hunt.distance > radius)
        stop = self._hunt.used + self._hunt.left // radii_left
        value = np.full(len(self._hunt), np.inf)
        for part in self._hunt.blocks(todo[self._hunt.used[todo] < stop[todo]], 8):
            new = part[self._turn[part] == 0]
            self._signs[new] = self.patches.stripes(self._draw, len(new))
            value[part] = self._value(part, self._signs[part], radius)
        turns, first = max(1, int((stop - self._hunt.used)[todo].max(initial=1))), self._turn.max()
        while True:
            todo = todo[(self._hunt.distance[todo] > radius) & (self._hunt.used[todo] < stop[todo])]
            if not len(todo):
                return
            if self._turn.max() % SAID_EVERY == 0:
                said(min(1.0, (self._turn.max() - first) / turns))
            for part in self._hunt.blocks(todo, 8):
                self._try(part, radius, value)

    def _try(self, part: np.ndarray, radius: float, value: np.ndarray) -> None:
        signs = self.patches.patched(self._draw, self._signs[part], self._share(part))
        self._turn[part] += 1
        found = self._value(part, signs, radius)
        better = found < value[part]
        self._signs[part[better]] = signs[better]
        value[part[better]] = found[better]

    def _share(self, part: np.ndarray) -> np.ndarray:
        """As the paper's schedule, over the queries that the sample has in all."""
        done = 10_000 * self._turn[part] / self._hunt.queries
        return np.asarray(SHARE_FIRST / 2.0 ** np.searchsorted(HALVED_AT, done, side="left"))

    def _value(self, part: np.ndarray, signs: np.ndarray, radius: float) -> np.ndarray:
        x = self._hunt.x[part]
        rows = self._hunt.space.project(x + np.float32(radius) * self._span * signs, x, radius)
        scores, _ = self._hunt.ask(part, rows)
        return margins(scores, self._hunt.y[part], self._hunt.case.victim.gives)
