"""Signs that gradients mislead (Athalye et al. 2018; Carlini et al. 2019): then a curve says too much.

Each becomes a note that a reader sees. That an attack from outside turns what those from inside could not is
the engine's own note: it alone knows them all.
"""

from __future__ import annotations

import numpy as np

from tallystick.ports.models.attack import Case
from tallystick.tiles.white.aims import margin
from tallystick.tiles.white.climb import Way
from tallystick.tiles.white.ground import Ground
from tallystick.tiles.white.legs import Sweep, sweep

__all__ = ["SHARE_DOWNHILL", "SHARE_FLAT", "masking", "slopes_seen"]

ROWS_MAX = 64
"""Samples that the costlier signs are looked for in."""

LOOKS = 32
LEAST_STEPS = 20
STEP = 1e-2
"""Of the least radius: how far along its gradient a sample is moved to see whether it goes uphill."""

SHARE_FLAT = 0.05
SHARE_DOWNHILL = 0.25
_CAVEAT = "the model may be less robust than the curve says"


def masking(ground: Ground, case: Case, single: int | None = None) -> list[str]:
    """What was noticed after an iterated attack. ``single`` is how many a single step turned, where known."""
    notes: list[str] = []
    right = np.flatnonzero(case.scores[case.attacked].argmax(axis=1) == ground.y)
    if not len(right):
        return notes
    some = right[:: max(1, len(right) // ROWS_MAX)][:ROWS_MAX]
    flat, downhill = slopes_seen(ground, case, some)
    if flat > SHARE_FLAT:
        notes.append(f"gradients are zero at {flat:.0%} of {len(some)} samples: {_CAVEAT}")
    if downhill > SHARE_DOWNHILL:
        text = f"a small step along the gradient goes downhill at {downhill:.0%} of {len(some)} samples"
        notes.append(f"{text}: {_CAVEAT}")
    fell = int((ground.distance[right] <= case.budget.eps[-1]).sum())
    if single is not None and single > fell:
        notes.append(f"one step turned {single} samples and {case.budget.steps_max} steps {fell}: {_CAVEAT}")
    by_lot = _by_lot(ground, case, some)
    if by_lot:
        notes.append(
            f"random points turned {by_lot} of {len(some)} samples, gradients none of these: {_CAVEAT}"
        )
    stood = _unbounded(ground, case, some)
    if stood:
        text = f"with no limit but the range of the features {stood} of {len(some)} samples still withstand"
        notes.append(f"{text}: gradients do not lead to a mistake that must be there, and {_CAVEAT}")
    return notes


def slopes_seen(ground: Ground, case: Case, some: np.ndarray) -> tuple[float, float]:
    """The shares of samples whose gradient is zero, and of whom a small step along it goes downhill."""
    y, x = ground.y[some], ground.x[some]
    logits, slopes = ground.pull(some, x, lambda p, z: margin(z, y[p], y[p])[1])
    flat = ~(slopes * ground.span).any(axis=1)
    size = STEP * case.budget.eps[0] * ground.span
    lower, upper = ground.box(some, case.budget.eps[0])
    moved = np.clip(x + size * np.sign(slopes), lower, upper).astype(np.float32)
    after, _ = ground.pull(some, moved, lambda p, z: np.zeros_like(z))
    gained = margin(after, y, y)[0] - margin(logits, y, y)[0]
    told = (slopes.astype(np.float64) * (moved.astype(np.float64) - x)).sum(axis=1)
    sure = ~flat & (told > 1e-4 * np.abs(logits).max(axis=1))  # below that, float32 alone decides
    downhill = float((gained[sure] <= 0).mean()) if sure.any() else 0.0
    return float(flat.mean()), downhill


def _by_lot(ground: Ground, case: Case, some: np.ndarray) -> int:
    """How many samples that withstand the largest radius fall to corners of its ball drawn by lot."""
    eps = case.budget.eps[-1]
    some = some[ground.distance[some] > eps]
    if not len(some):
        return 0
    draw = np.random.default_rng([case.budget.seed, 77])
    lower, upper = ground.box(some, eps)
    for _ in range(LOOKS):
        ground.ask(some, np.where(draw.random(lower.shape) < 0.5, lower, upper))
    return int((ground.claimed[some] <= eps).sum())


def _unbounded(ground: Ground, case: Case, some: np.ndarray) -> int:
    """How many samples withstand whatever the range allows. None could, were its gradients any use, but for a
    model that says one class of everything.
    """
    if len(np.unique(case.scores.argmax(axis=1))) < 2:
        return 0
    lower, upper = ground.box(some, np.inf)
    span = np.where(ground.span > 0, ground.span, np.inf)
    room = float(((upper.astype(np.float64) - lower) / span).max())
    if room > case.budget.eps[-1] and not ground.frozen:
        way = Way("margin", max(LEAST_STEPS, case.budget.steps_max), first=0.2)
        sweep(ground, case, Sweep(way, radii=(room,), only=some), lambda share: None)
        return int(np.isinf(ground.claimed[some]).sum())
    return 0
