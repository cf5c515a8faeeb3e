"""The nearest boundary: linearise it, step just over it, and draw back (FAB; Croce and Hein 2020).

Each sample works at as many wrong classes as are its nearest, one after the other, and keeps what is nearest.
Where the model is linear the first step is exact: no change smaller than ``margin / ||w||_1`` turns it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tallystick.tiles.white.ground import Aim, Ground

__all__ = ["first_radius", "least_radius", "nearest"]

OVER = 1.02
"""By so much a step goes beyond the linearised boundary (FAB's is 1.05)."""

BACK = 0.9
"""The share of its way that is kept when an adversarial is drawn back towards its sample."""

BIAS_MAX = 0.1
"""The most that the step from the sample itself counts beside the step from where the walk stands."""


def least_radius(slopes: np.ndarray, need: np.ndarray, room: np.ndarray, span: np.ndarray) -> np.ndarray:
    """Of each row (n, d) the least r for which changes of at most ``r * span`` and ``room`` gain ``need``.

    The gain is the sum of ``|slopes| * min(r * span, room)``: piecewise linear in r, solved exactly by
    sorting its breakpoints. ``need`` and the answer are (n,): infinity where all the room there is does not
    suffice, 0 where nothing is needed.
    """
    pull = np.abs(slopes) * span
    breaks = np.where(span > 0, room / np.where(span > 0, span, 1.0), 0.0)
    order = np.argsort(breaks, axis=1)
    breaks, pull = np.take_along_axis(breaks, order, 1), np.take_along_axis(pull, order, 1)
    spent = np.cumsum(breaks * pull, axis=1) - breaks * pull  # of those used up before this breakpoint
    free = pull[:, ::-1].cumsum(axis=1)[:, ::-1]  # of those not used up before it
    gain = spent + breaks * free
    at = (gain < need[:, None]).sum(axis=1)
    rows, last = np.arange(len(need)), np.minimum(at, breaks.shape[1] - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        radius = (need - spent[rows, last]) / free[rows, last]
    return np.where(need <= 0, 0.0, np.where(at < breaks.shape[1], radius, np.inf))


def _over(
    ground: Ground, slopes: np.ndarray, need: np.ndarray, x: np.ndarray, lower: np.ndarray, upper: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """``x`` moved to where the linearised boundary is just passed, as (n, d), and the radius (n,) of that."""
    room = np.where(slopes > 0, upper - x, x - lower)
    radius = least_radius(slopes, need * OVER + 1e-9, room, ground.span)
    reach = np.where(np.isfinite(radius), radius, room.max(axis=1) / max(ground.span.max(), 1e-30))
    return x + np.sign(slopes) * np.minimum(reach[:, None] * ground.span, room), radius


def _between(target: np.ndarray, y: np.ndarray) -> Aim:
    """The weights whose gradient is that of the class ``target`` (k,) less the right one ``y``."""

    def aim(part: slice, z: np.ndarray) -> np.ndarray:
        weights = np.zeros_like(z)
        at = np.arange(len(z))
        weights[at, target[part]], weights[at, y[part]] = 1, -1
        return weights

    return aim


def first_radius(ground: Ground, who: np.ndarray, target: np.ndarray) -> np.ndarray:
    """How far from each of ``who`` (k,) its boundary with the class ``target`` (k,) is, were it linear."""
    lower, upper = ground.box(who, np.inf)
    x, rows, y = ground.x[who].astype(np.float64), np.arange(len(who)), ground.y[who]
    logits, slopes = ground.pull(who, ground.x[who], _between(target, y))
    return _over(ground, slopes, logits[rows, y] - logits[rows, target], x, lower, upper)[1]


def nearest(
    ground: Ground, who: np.ndarray, target: np.ndarray, steps: int, said: Callable[[int], None]
) -> None:
    """Walk along the boundary to the class ``target`` (k,) of each of ``who`` (k,), keeping the nearest."""
    lower, upper = ground.box(who, np.inf)
    origin, x, last = ground.x[who].astype(np.float64), ground.x[who].copy(), ground.claimed[who]
    rows = np.arange(len(who))
    y = ground.y[who]
    aim = _between(target, y)
    for _ in range(steps):
        logits, slopes = ground.pull(who, x, aim)
        need = logits[rows, y] - logits[rows, target]
        need = np.where(need <= 0, np.minimum(need, -1e-9), need)
        known = ground.claimed[who]
        fell = known < last  # just now: draw back from there before the next step
        last = known
        here, way = _over(ground, slopes, np.maximum(need, 0), x, lower, upper)
        from_x = need - ((origin - x) * slopes).sum(axis=1)  # the same plane, seen from the sample
        there, far = _over(ground, slopes, from_x, origin, lower, upper)
        both = np.isfinite(far) & np.isfinite(way)
        share = np.where(both, np.where(both, way, 0) / np.where(both, way + far + 1e-30, 1), 0)
        share = np.minimum(share, BIAS_MAX)[:, None]
        made = (1 - share) * here + share * there
        if fell.any():
            made[fell] = origin[fell] + BACK * (ground.claims(who[fell]) - origin[fell])
        x = np.clip(made, lower, upper).astype(np.float32)
        said(len(who))
