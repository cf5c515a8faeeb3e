"""Carlini and Wagner 2017, L2: the least sum of squares that still turns the answer, by Adam.

Changes are sought in the tangent's variable, so that every row is within its range, and how much turning
counts beside the length is found by bisection, for each sample apart. Lengths are those of the change in
units of each feature's span.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tallystick.tiles.white.aims import margin
from tallystick.tiles.white.ground import Ground

__all__ = ["SEARCHES", "carlini_wagner", "longest"]

SEARCHES = 4
RATE = 0.2
BETAS = (0.9, 0.999)
FIRST_WEIGHT = 1.0
WITHIN = 1 - 1e-6
"""Of the range: at its very ends the tangent's variable is infinite."""


def carlini_wagner(
    ground: Ground, who: np.ndarray, steps: int, said: Callable[[int], None]
) -> tuple[np.ndarray, np.ndarray]:
    """Attack the samples ``who``; returns the least L2 length found for each, float64 (k,), or infinity, and
    the rows of that length, float32 (k, features), or NaN.

    ``steps`` gradients in each of ``SEARCHES`` searches. What they pass on the way counts by its L-infinity
    distance too, as any claim does.
    """
    lower, upper = ground.box(who, np.inf)
    centre, half = (upper + lower) / 2.0, np.maximum((upper - lower) / 2.0, 1e-12)
    origin, y = ground.x[who].astype(np.float64), ground.y[who]
    span = np.where(ground.span > 0, ground.span, np.inf)
    start = np.arctanh(np.clip((origin - centre) / half, -WITHIN, WITHIN))
    weight, low, high = np.full(len(who), FIRST_WEIGHT), np.zeros(len(who)), np.full(len(who), np.inf)
    best, rows = np.full(len(who), np.inf), np.full(origin.shape, np.nan, np.float32)
    for _ in range(SEARCHES):
        w, first, second = start.copy(), np.zeros_like(start), np.zeros_like(start)
        turned = np.zeros(len(who), bool)
        for step in range(1, steps + 1):
            bent = np.tanh(w)
            x = ground.snap(np.clip(centre + half * bent, lower, upper).astype(np.float32))
            logits, slopes = ground.pull(who, x, lambda part, z: margin(z, y[part], y[part])[1])
            moved = (x - origin) / span
            wrong = logits.argmax(axis=1) != y
            length = np.sqrt((moved**2).sum(axis=1))
            less = wrong & (length < best)
            best[less], rows[less] = length[less], x[less]
            turned |= wrong
            push = np.where(wrong, 0.0, weight)[:, None] * slopes
            slope = (2 * moved / span - push) * half * (1 - bent**2)
            first = BETAS[0] * first + (1 - BETAS[0]) * slope
            second = BETAS[1] * second + (1 - BETAS[1]) * slope**2
            rate = RATE * np.sqrt(1 - BETAS[1] ** step) / (1 - BETAS[0] ** step)
            w = w - rate * first / (np.sqrt(second) + 1e-8)
            said(len(who))
        high, low = np.where(turned, weight, high), np.where(turned, low, weight)
        weight = np.where(np.isinf(high), weight * 10, (low + np.where(np.isinf(high), low, high)) / 2)
    return best, rows


def longest(ground: Ground, who: np.ndarray) -> np.ndarray:
    """The L2 length of the longest change that each sample's range allows, float64 (k,)."""
    lower, upper = ground.box(who, np.inf)
    origin = ground.x[who].astype(np.float64)
    span = np.where(ground.span > 0, ground.span, np.inf)
    most = np.maximum(origin - lower, upper - origin) / span
    return np.asarray(np.sqrt((most**2).sum(axis=1)))
