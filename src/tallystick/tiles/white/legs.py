"""The legs that the probes are made of: each takes on those who still stand, where they stand.

A leg begins, for each sample, at the greatest radius of the budget that it is not known to fall within. Who
falls goes on at once in the next smaller one, from the adversarial just found; who withstands all steps of
the leg leaves it. So one sweep from the largest radius to the smallest gives the whole curve, and a sample
costs a few steps for each radius that it falls within, and all of them for the first that it withstands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tallystick.ports.models.attack import Case, Progress
from tallystick.tiles.white.aims import cross_entropy
from tallystick.tiles.white.climb import Climb, Pull, Way, climb
from tallystick.tiles.white.ground import Ground, below
from tallystick.tiles.white.nearest import first_radius, nearest

__all__ = [
    "TARGETS_MAX",
    "Said",
    "Sweep",
    "borders",
    "likeliest",
    "one_step",
    "share_of",
    "sweep",
]

TARGETS_MAX = 9
"""Wrong classes that are looked at, as in AutoAttack."""

TARGETS_KEPT = 3
"""Of these so many for which all steps are taken."""

FIRST_LOOK = 0.22
"""Croce and Hein 2020, section 3.2: the share of steps before APGD looks back for the first time."""

Said = Callable[[float], None]
"""Hears the share done."""


def one_step(ground: Ground, case: Case) -> None:
    """Goodfellow et al. 2015: one gradient, and one step as long as each radius, the largest first."""
    who, _ = ground.open(case.budget.eps)
    if not len(who):
        return
    _, slopes = ground.pull(
        who, ground.x[who], lambda p, z: cross_entropy(z, ground.y[who[p]], ground.y[who[p]])[1]
    )
    for eps in case.budget.eps[::-1]:
        lower, upper = ground.box(who, eps)
        ground.ask(who, np.where(slopes > 0, upper, np.where(slopes < 0, lower, ground.x[who])))


@dataclass(frozen=True, slots=True)
class Sweep:
    """How a leg begins: at the samples themselves, or at a place in their ball drawn by ``draw``.

    ``towards`` (m,) says the class towards which it goes of each sample. ``radii`` and ``only`` (samples) are
    used instead of the budget's and of all; ``pull`` instead of the ground's. Into ``reached`` (m,) goes how
    much each sample has of what the leg is after, in the ball where it ends.
    """

    way: Way
    draw: int = 0
    radii: Sequence[float] = ()
    only: np.ndarray | None = None
    pull: Pull | None = None
    towards: np.ndarray | None = None
    reached: np.ndarray | None = None


def sweep(ground: Ground, case: Case, leg: Sweep, said: Said) -> None:
    """Climb, from the largest radius to the smallest."""
    radii, way, draw = leg.radii or case.budget.eps, leg.way, leg.draw
    who, eps = ground.open(radii)
    if leg.only is not None:
        among = np.isin(who, leg.only)
        who, eps = who[among], eps[among]
    if not len(who):
        return
    x = ground.x[who]
    if draw:
        lots = np.random.default_rng([case.budget.seed, draw]).uniform(-1, 1, ground.x.shape)[who]
        x = (x + lots * eps[:, None] * ground.span).astype(np.float32)
    target = (ground.y if leg.towards is None else leg.towards)[who]
    run, most, steps = Climb.start(ground, who, eps, x, target, way.first), len(who), 0

    def told(left: int) -> None:
        nonlocal steps
        steps += 1
        said(max(1 - left / most, min(1.0, steps / way.steps) * 0.9))

    climb(ground, run, way, lambda far: below(radii, far), told, leg.pull, leg.reached)


def likeliest(ground: Ground, case: Case, steps: int, said: Said) -> np.ndarray:
    """Towards which wrong classes it is worth going on, (m, up to ``TARGETS_KEPT``), the best first.

    A short leg towards each of ``TARGETS_MAX`` tells: ``FIRST_LOOK`` of the steps, after which APGD looks
    back for the first time. Taken are those to which a sample came nearest by then.
    """
    ranked = rivals(case)[:, :TARGETS_MAX]
    if ranked.shape[1] <= TARGETS_KEPT:
        return ranked
    way = Way("targeted DLR", max(1, round(FIRST_LOOK * steps)))
    gain = np.full(ranked.shape, -np.inf)
    for rank in range(ranked.shape[1]):
        sweep(
            ground,
            case,
            Sweep(way, 200 + rank, towards=ranked[:, rank], reached=gain[:, rank]),
            lambda s: None,
        )
        said((rank + 1) / ranked.shape[1])
    best = np.argsort(-gain, axis=1, kind="stable")[:, :TARGETS_KEPT]
    return np.take_along_axis(ranked, best, axis=1)


def borders(ground: Ground, case: Case, steps: int, said: Said) -> None:
    """Steps towards the nearest boundary with each of ``TARGETS_KEPT`` wrong classes, of those who stand.

    Of ``TARGETS_MAX`` those whose boundary is the nearest where it is linearised at the sample (DeepFool;
    Moosavi-Dezfooli et al. 2016), the nearest first: of a linear model, exactly.
    """
    ranked = rivals(case)[:, :TARGETS_MAX]
    far, (who, _) = np.full(ranked.shape, np.inf), ground.open(case.budget.eps)
    for rank in range(ranked.shape[1] if len(who) else 0):
        far[who, rank] = first_radius(ground, who, ranked[who, rank])
    order = np.argsort(far, axis=1, kind="stable")
    count = min(TARGETS_KEPT, ranked.shape[1])
    for place in range(count):
        who, _ = ground.open(case.budget.eps)
        if len(who):
            nearest(ground, who, ranked[who, order[who, place]], steps, lambda left: None)
        said((place + 1) / count)


def rivals(case: Case) -> np.ndarray:
    """The wrong classes of each attacked row, those with the highest clean scores first, (m, classes - 1)."""
    scores, y = case.scores[case.attacked].astype(np.float64), case.y[case.attacked]
    scores[np.arange(len(y)), y] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, : scores.shape[1] - 1]


def share_of(progress: Progress, text: str, begin: float, end: float) -> Said:
    """Progress of one leg as a share of its probe's."""
    return lambda share: progress(begin + (end - begin) * min(1.0, max(0.0, share)), text)
