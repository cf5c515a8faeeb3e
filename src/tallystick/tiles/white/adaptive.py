"""Attacks that fit the defence, where a model's gradients mislead (Athalye, Carlini and Wagner 2018).

What a model is defended with is found out by looking. Where answers differ when the same is asked again, the
attack follows the mean gradient over several draws (expectation over transformation), and only what most of
them get wrong counts. Where gradients are zero or point downhill, a rounding, compressing or otherwise
shattering step stands before the model. Where the policy declares that step, all gradients go across it
already (BPDA; :mod:`tallystick.gradient.across`). Where it does not, slopes are taken across it here: the
mean of gradients around the row, and difference quotients of scores (SPSA; Uesato et al. 2018), which lead
straight through whatever is flat in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tallystick.core.errors import NotSupported
from tallystick.ports.models.attack import Case
from tallystick.tiles.white.aims import margin
from tallystick.tiles.white.climb import Pull, Way
from tallystick.tiles.white.ground import Aim, Ground, below
from tallystick.tiles.white.legs import Said, Sweep, sweep
from tallystick.tiles.white.masking import SHARE_DOWNHILL, SHARE_FLAT, slopes_seen

__all__ = ["adaptive"]

DRAWS = 8
QUOTIENTS = 16
VOTES = 5
ROWS = 64
WIDTH = 0.5
"""Of each sample's radius: how far around a row slopes are taken."""

SAME = 1e-5
"""Logits of the same row that differ by more, as a share of the largest, were drawn by lot."""


def adaptive(ground: Ground, case: Case, said: Said) -> Mapping[str, Any]:
    """Attack with what was seen in mind; returns the settings. NotSupported where nothing was seen."""
    some = np.flatnonzero(case.scores[case.attacked].argmax(axis=1) == ground.y)[:ROWS]
    if not len(some):
        raise NotSupported("the model is right about no row", where="rows")
    random = _by_lot(ground, some)
    flat, downhill = (0.0, 0.0) if random else slopes_seen(ground, case, some)
    shattered = flat > SHARE_FLAT or downhill > SHARE_DOWNHILL
    if not (random or shattered):
        text = "no defence was seen: the same row gives the same answer, and gradients lead uphill"
        raise NotSupported(text, where="model")
    ground.votes = VOTES if random else 1
    quotients = min(QUOTIENTS, case.budget.queries_max // (4 * case.budget.steps_max)) if shattered else 0
    pull = _pull(ground, case, quotients, 0.0 if random else WIDTH)
    way = Way("margin", case.budget.steps_max, first=1.0)
    for turn in range(case.budget.restarts):
        sweep(ground, case, Sweep(way, draw=turn, pull=pull), said)
    seen = {
        "answers_by_lot": random,
        "zero_gradients": round(flat, 3),
        "downhill": round(downhill, 3),
    }
    return {
        **seen, "draws": DRAWS, "quotients": quotients, "votes": ground.votes, "steps_max": way.steps,
        "slopes": "mean over draws" if random else "mean around the row and difference quotients",
    }  # fmt: skip


def _by_lot(ground: Ground, some: np.ndarray) -> bool:
    """Whether the model answers the same rows otherwise the second time."""
    first, again = (ground.pull(some, ground.x[some], lambda p, z: np.zeros_like(z))[0] for _ in range(2))
    return bool((np.abs(first - again) > SAME * np.abs(first).max()).any())


def _pull(ground: Ground, case: Case, quotients: int, width: float) -> Pull:
    """As the ground's own, with slopes that are taken over draws, around the row, and across what is flat."""
    draw = np.random.default_rng([case.budget.seed, 41])

    def around(who: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        lots = np.where(draw.random(rows.shape) < 0.5, -1.0, 1.0)
        radius = below(case.budget.eps, ground.claimed[who]) * width
        return lots, radius[:, None] * ground.span * lots

    def pull(who: np.ndarray, rows: np.ndarray, aim: Aim) -> tuple[np.ndarray, np.ndarray]:
        logits, slopes = ground.pull(who, rows, aim)
        total, said = slopes.astype(np.float64), logits.copy()
        for _ in range(DRAWS - 1):
            moved = around(who, rows)[1] if width else np.zeros(rows.shape)
            there, slope = ground.pull(who, _within(ground, who, rows + moved), aim)
            total += slope
            said += there
        total /= np.maximum(np.abs(total).max(axis=1, keepdims=True), 1e-30)
        for _ in range(quotients):
            lots, moved = around(who, rows)
            ahead, behind = (_gap(ground, who, rows + side * moved) for side in (1.0, -1.0))
            gain = ahead - behind
            total += lots * (gain / np.maximum(np.abs(gain).max(), 1e-30))[:, None]
        if not width:
            logits = said / DRAWS
            ground.claim(who, rows, logits.argmax(axis=1) != ground.y[who])
        return logits, total.astype(np.float32)

    return pull


def _gap(ground: Ground, who: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """By how much the best wrong class is ahead (n,), from scores alone."""
    scores = ground.ask(who, _within(ground, who, rows)).astype(np.float64)
    return margin(scores, ground.y[who], ground.y[who])[0]


def _within(ground: Ground, who: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows drawn into the range of the features."""
    return np.asarray(np.clip(rows, *ground.box(who, np.inf)), np.float32)
