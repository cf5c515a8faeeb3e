"""Climbing: gradient steps of many samples side by side, each in a ball of its own.

All samples take a step together, but each has its own radius, step size and count of steps: who is fooled
leaves, or goes on at once in a smaller ball; who has used up its steps leaves too. So the batch shrinks with
every sample that is done, and a whole curve of radii costs little more than its hardest point.

Steps are those of Auto-PGD (Croce and Hein 2020, algorithm 1): sign steps with momentum, which are halved
where they stop paying, and go on from the best point seen, with the gradient that was found there; or plain
ones (Madry et al. 2018). As in the authors' own code it is looked back as soon as a period's last point is
known, and at the first time a step is not halved only because nothing better was found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tallystick.tiles.white.aims import AIMS, Rise
from tallystick.tiles.white.ground import Aim, Ground

__all__ = ["Climb", "Pull", "Way", "climb"]

Pull = Callable[[np.ndarray, np.ndarray, Aim], tuple[np.ndarray, np.ndarray]]
"""As :meth:`tallystick.tiles.white.ground.Ground.pull`."""

MOMENTUM = 0.75
PAYS = 0.75
"""Share of steps that must raise the value, else the step is halved."""


@dataclass(frozen=True, slots=True)
class Way:
    """How to climb: towards what, with how many steps in one ball, and how large the first is, in radii."""

    aim: str
    steps: int
    first: float = 2.0
    again: float = 0.5  # the first step where an adversarial of a larger ball is the start
    plain: bool = False


def checkpoints(steps: int) -> np.ndarray:
    """At which steps a climb looks back (Croce and Hein 2020, section 3.2), as bool (steps + 1,)."""
    at, looks = [0.0, 0.22], np.zeros(steps + 1, bool)
    while at[-1] <= 1:
        looks[min(steps, int(np.ceil(at[-1] * steps)))] = True
        at.append(at[-1] + max(at[-1] - at[-2] - 0.03, 0.06))
    return looks


@dataclass
class Climb:
    """Those under way, an entry each (k,): ``who`` is the sample, ``eps`` its radius, ``target`` a class."""

    who: np.ndarray
    eps: np.ndarray
    target: np.ndarray
    x: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    before: np.ndarray
    best: np.ndarray
    slope: np.ndarray  # the gradient at the best point
    value: np.ndarray
    seen: np.ndarray  # the best value at the last look back
    step: np.ndarray
    taken: np.ndarray
    since: np.ndarray
    rises: np.ndarray
    last: np.ndarray
    halved: np.ndarray

    @classmethod
    def start(
        cls, ground: Ground, who: np.ndarray, eps: np.ndarray, x: np.ndarray, target: np.ndarray, first: float
    ) -> Climb:
        """Begin at rows ``x``, drawn into their balls."""
        lower, upper = ground.box(who, eps)
        x, none, zero = np.clip(x, lower, upper), np.full(len(who), -np.inf), np.zeros(len(who), np.int64)
        return cls(
            who.copy(), eps.astype(np.float64), target.copy(), x, lower, upper, x.copy(), x.copy(),
            np.zeros_like(x), none, none.copy(), np.full(len(who), first), zero, zero.copy(), zero.copy(),
            none.copy(), np.ones(len(who), bool),
        )  # fmt: skip

    def keep(self, stay: np.ndarray) -> None:
        """Only those that ``stay`` (bool, k) go on."""
        if not stay.all():
            for name in self.__dataclass_fields__:
                setattr(self, name, getattr(self, name)[stay])

    def smaller(self, ground: Ground, at: np.ndarray, eps: np.ndarray, first: float) -> None:
        """The climbs ``at`` go on in a smaller ball, from the nearest adversarial that they know."""
        fresh = Climb.start(ground, self.who[at], eps, ground.claims(self.who[at]), self.target[at], first)
        for name in self.__dataclass_fields__:
            getattr(self, name)[at] = getattr(fresh, name)

    def move(
        self, slopes: np.ndarray, value: np.ndarray, span: np.ndarray, looks: np.ndarray, way: Way
    ) -> None:
        """One step of everyone, after its value and gradient were taken where it stands."""
        better = value > self.value
        self.value = np.where(better, value, self.value)
        self.best[better], self.slope[better] = self.x[better], slopes[better]
        self.rises += (value > self.last) & (self.taken > 0)
        self.last = value
        if not way.plain:
            slopes = self._look_back(looks, slopes)
        size = (self.step * self.eps)[:, None] * span
        ahead = np.clip(self.x + size * np.sign(slopes), self.lower, self.upper)
        if not way.plain:
            share = np.where(self.taken > 0, MOMENTUM, 1.0)[:, None]
            ahead = self.x + share * (ahead - self.x) + (1 - share) * (self.x - self.before)
        self.before, self.x = self.x, np.clip(ahead, self.lower, self.upper).astype(np.float32)
        self.taken += 1
        self.since += 1

    def _look_back(self, looks: np.ndarray, slopes: np.ndarray) -> np.ndarray:
        """Back to the best point where steps stopped paying; the gradients where everyone stands then.

        The point before stays what it was, as in algorithm 1: the momentum is that of the leap back.
        """
        due = looks[np.minimum(self.taken, len(looks) - 1)] & (self.taken > 0)
        if not due.any():
            return slopes
        stuck = due & ((self.rises < PAYS * self.since) | (~self.halved & (self.value <= self.seen)))
        self.step = np.where(stuck, self.step / 2, self.step)
        self.halved = np.where(due, stuck, self.halved)
        self.seen = np.where(due, self.value, self.seen)
        self.rises, self.since = np.where(due, 0, self.rises), np.where(due, 0, self.since)
        self.x[stuck] = self.best[stuck]
        return np.where(stuck[:, None], self.slope, slopes)


def _weights(aim: Rise, y: np.ndarray, target: np.ndarray) -> Aim:
    return lambda part, z: aim(z, y[part], target[part])[1]


def climb(
    ground: Ground,
    run: Climb,
    way: Way,
    smaller: Callable[[np.ndarray], np.ndarray],
    said: Callable[[int], None],
    pull: Pull | None = None,
    reached: np.ndarray | None = None,
) -> None:
    """Climb until everyone is done. ``said`` hears after each step how many are under way.

    ``smaller`` says, for distances (k,), the radius to go on with, and 0 where there is none left. ``pull``
    takes the gradients, where it is not to be the ground's own; ``reached`` (samples,) hears the best value.
    """
    looks, pull = checkpoints(way.steps), pull or ground.pull
    aim = AIMS[way.aim]
    while len(run.who):
        y, target = ground.y[run.who], run.target
        logits, slopes = pull(run.who, run.x, _weights(aim, y, target))
        run.move(slopes, aim(logits, y, target)[0], ground.span, looks, way)
        if reached is not None:
            reached[run.who] = run.value
        known = ground.claimed[run.who]
        fell = known <= run.eps
        if fell.any():
            nearer = smaller(known[fell])
            at = np.flatnonzero(fell)
            run.smaller(ground, at[nearer > 0], nearer[nearer > 0], way.again)
            run.eps[at[nearer <= 0]] = 0
        run.keep((run.eps > 0) & (run.taken < way.steps))
        said(len(run.who))
