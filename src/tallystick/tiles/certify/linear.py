"""Linear models: the least margin within a box, exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tallystick.tiles.certify.box import Choice
from tallystick.tiles.certify.graph import Affine

__all__ = ["TIED", "least_margin"]

ROUNDING = 1e-5
"""Of the sum of all terms: what float32 may do to a margin."""

TIED = 1e-6
"""Margins below it may end as chances that are one float32 number, and so as a tie."""


def least_margin(
    scores: Affine,
    y: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    choices: Sequence[Sequence[Choice]] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """Of rows within ``low`` to ``high`` (n, features) with right classes ``y`` (n,): the least score of the
    right class less the best other one (n,), and by how much rounding may change it (n,).

    As scores are linear, each term is least at one end of its range, and those of a one-hot group together at
    one of its ``choices`` (of each row some): that is exact.
    """
    least = np.full(len(y), np.inf)
    largest = np.maximum(np.abs(low), np.abs(high))
    size = largest @ np.abs(scores.weights).max(axis=0) + np.abs(scores.bias).max()
    for other in range(len(scores.bias)):
        towards = scores.weights[y] - scores.weights[other]
        terms = np.minimum(towards * low, towards * high)
        for at, groups in enumerate(choices):
            for group in groups:
                terms[at, group.columns] = 0
                terms[at, group.columns[0]] = (group.rows @ towards[at, group.columns]).min()
        worst = terms.sum(axis=1) + scores.bias[y] - scores.bias[other]
        least = np.where(y == other, least, np.minimum(least, worst))
    return least, np.maximum(ROUNDING * size, TIED)
