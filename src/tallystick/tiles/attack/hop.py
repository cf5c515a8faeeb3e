"""HopSkipJump (Chen, Jordan and Wainwright 2020): walks along the boundary towards the sample.

It sees labels only, and ends with the distance at which a sample is fooled, not just whether it is
within some radius.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np

from tallystick.tiles.attack.hunt import Hunt, Spent
from tallystick.tiles.attack.library import estimator, evasion, seeded

__all__ = ["NAME", "QUERIES_MIN", "hop_skip_jump"]

NAME = "HopSkipJump"
QUERIES_MIN = 20
"""Below this it does not come to its first step."""

GRADIENT_QUERIES = 10
"""For the first estimate of a gradient; the number grows with the root of the iteration."""

_APART = 7919
"""Apart from each other are the seeds of neighbouring samples, so that their walks are not alike."""


def hop_skip_jump(
    hunt: Hunt, starts: np.ndarray, queries: int, seed: int, said: Callable[[float], None]
) -> dict[str, Any]:
    """One walk for each sample that is right when clean, of at most ``queries`` queries.

    ``starts`` (m, features), in units of the range, are rows that the model puts in another class (NaN
    where there is none: then the sample is left out). Returns the settings, for the record.
    """
    attacks = evasion()
    iterations = max(30, queries // 20)
    left_out = 0
    for sample in range(len(hunt)):
        said(sample / len(hunt))
        if hunt.distance[sample] == 0.0:
            continue
        if np.isnan(starts[sample]).any():
            left_out += 1
            continue
        row = hunt.unit[sample : sample + 1]
        attack = attacks.HopSkipJump(
            estimator(hunt.line(sample, queries), row.shape[1:], hunt.classes),
            norm=np.inf,
            max_iter=iterations,
            init_eval=GRADIENT_QUERIES,
            max_eval=1000,
            batch_size=4096,
            verbose=False,
        )
        attack.init_size = 0  # never a start of its own: it takes that from an unseeded generator
        right = np.eye(hunt.classes, dtype=np.float32)[hunt.y[sample : sample + 1]]
        with seeded(seed + _APART * sample), contextlib.suppress(Spent):
            attack.generate(row.copy(), y=right, x_adv_init=starts[sample : sample + 1].copy())
    return {
        "norm": "Linf",
        "queries_max": queries,
        "iterations_max": iterations,
        "gradient_queries": GRADIENT_QUERIES,
        "start": "the nearest row that the model puts in another class",
        "without_start": left_out,
        "sees": "labels",
    }
