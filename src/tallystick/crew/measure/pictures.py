"""Pictures for a verdict: a few samples as they are, under noise, and as the attack left them.

Drawn only where the rows can be gray images, that is where the features make a square. A pixel of the
file is a feature; whoever shows it makes it larger.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tallystick.core.verdict import Budget
from tallystick.ports.attack import AttackResult, Target

__all__ = ["draw"]

PICTURES_MAX = 8
WITHSTOOD_MAX = 2
SIDE_MIN = 4
"""A square of 2 or 3 features a side is a table of numbers rather than an image."""


def draw(
    target: Target, x: np.ndarray, y: np.ndarray, found: AttackResult, budget: Budget, folder: Path
) -> list[Mapping[str, Any]]:
    """Write the PNG files, and say what is on them; nothing where the rows are no square images.

    Each picture's ``eps`` is the distance of its adversarial: over the largest of the budget for the
    few that withstood the attack and were fooled only beyond.
    """
    side = math.isqrt(x.shape[1])
    chosen = choose(y[found.attacked], found.distance, budget.eps[-1])
    if side * side != x.shape[1] or side < SIDE_MIN or not chosen:
        return []
    rows = {
        "original": x[found.attacked[chosen]],
        "noise": found.noisy[chosen],
        "adversarial": found.adversarial[chosen],
    }
    said = {kind: target(part).argmax(axis=1) for kind, part in rows.items()}
    made: list[Mapping[str, Any]] = []
    for place, sample in enumerate(chosen):
        files = {kind: f"{place:02d}-{kind}.png" for kind in rows}
        for kind, name in files.items():
            _write(rows[kind][place].reshape(side, side), budget, folder / name)
        made.append(
            {
                "truth": str(y[found.attacked[sample]]),
                **{f"label_{kind}": str(labels[place]) for kind, labels in said.items()},
                "eps": round(float(found.distance[sample]), 6),
                **files,
            }
        )
    return made


def choose(y: np.ndarray, distance: np.ndarray, eps_max: float) -> list[int]:
    """Which samples to show: fooled ones, of every class in turn, those first that took nearly ``eps_max``;
    then one or two that took more.
    """
    fooled = np.flatnonzero((distance > 0) & (distance <= eps_max * (1 + 1e-5)))
    beyond = np.flatnonzero((distance > eps_max * (1 + 1e-5)) & np.isfinite(distance))
    withstood = sorted(beyond, key=lambda s: (distance[s], s))[:WITHSTOOD_MAX]
    turn: dict[int, int] = {}
    order = []
    for sample in sorted(fooled, key=lambda s: (-distance[s], s)):
        label = int(y[sample])
        turn[label] = turn.get(label, -1) + 1
        order.append((turn[label], -float(distance[sample]), int(sample)))
    shown = [sample for _, _, sample in sorted(order)][: PICTURES_MAX - len(withstood)]
    return [*shown, *map(int, withstood)]


def _write(image: np.ndarray, budget: Budget, path: Path) -> None:
    """``image`` (side, side) in the feature range as 8-bit gray: ``low`` is black."""
    from PIL import Image

    share = (image.astype(np.float64) - budget.low) / (budget.high - budget.low)
    Image.fromarray(np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)).save(path, format="PNG")
