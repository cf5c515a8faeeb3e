"""Attacks of the Adversarial Robustness Toolbox (ART), black box: HopSkipJump, then Square.

The model is seen from outside, through its scores alone. So what is found is a model that is *at most*
as robust as the curve says: an attack that sees the inside, or has more queries, may find more. A
sample counts as robust at eps when the model is right about it and no query within eps was wrong.

The queries of a sample are divided: a fifth to HopSkipJump, which finds out how far it is to the
nearest mistake, the rest in equal parts to Square at each eps, on the samples that still withstand it.
The clean pass and the random noise are the judge's own and count as no queries.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import count
from typing import Any

import numpy as np

from tallystick.core.errors import BadInput, NotSupported
from tallystick.core.verdict import AttackRecord, Budget, Point, Rate
from tallystick.ports.attack import AttackResult, Progress, Target
from tallystick.ports.tile import Place
from tallystick.tiles.attack import hop, square
from tallystick.tiles.attack.hunt import Hunt, ask_model
from tallystick.tiles.attack.library import LIBRARY, versions

__all__ = ["ArtAttack", "open_tile"]

HOP_SHARE = 0.2
"""Of a sample's queries."""

RESOLUTION = 1000
"""How many float32 steps the smallest eps must at least be, at the far end of the feature range."""


class ArtAttack:
    """See the module."""

    def run(
        self, target: Target, x: np.ndarray, y: np.ndarray, budget: Budget, progress: Progress
    ) -> AttackResult:
        """See :class:`tallystick.ports.attack.Attack`."""
        _check_budget(budget)
        x, y = _checked(x, y, budget)
        progress(0.0, f"predicting {len(x):,} clean rows")
        scores = ask_model(target, x)
        if y.max() >= scores.shape[1]:
            raise BadInput(f"label {y.max()} has no score: there are {scores.shape[1]}", where="labels")
        order = np.random.default_rng(budget.seed).permutation(len(x))
        attacked = order[: budget.samples_max]
        hunt = Hunt(target, x[attacked], y[attacked], scores[attacked], budget)
        records = (
            _hop(hunt, _starts(hunt, x, scores, budget), budget, progress),
            _square(hunt, budget, progress),
        )
        _check_attacked(hunt, records)
        progress(0.97, "predicting under random noise")
        curve, noisy = _curve(hunt, target, budget)
        progress(1.0, "attacked")
        return AttackResult(
            clean=Rate(int((scores.argmax(axis=1) == y).sum()), len(x)),
            curve=curve,
            records=records,
            attacked=attacked,
            adversarial=hunt.adversarial,
            distance=hunt.distance,
            noisy=noisy,
        )

    def versions(self) -> dict[str, str]:
        """Of ART, numpy and scipy."""
        return versions()


def _checked(x: np.ndarray, y: np.ndarray, budget: Budget) -> tuple[np.ndarray, np.ndarray]:
    if x.ndim != 2 or y.shape != (len(x),) or not x.size:
        text = f"rows of shape {list(x.shape)} and labels of shape {list(y.shape)} do not fit"
        raise BadInput(text, where="rows", hint="rows are (n, features), labels (n,), none empty")
    if x.dtype != np.float32 or y.dtype != np.int64:
        text = f"rows of {x.dtype.name} and labels of {y.dtype.name}"
        raise BadInput(text, where="rows", hint="rows are float32, labels int64")
    if not np.isfinite(x).all():
        raise BadInput("a value is not a finite number", where="rows")
    if x.min() < np.float32(budget.low) or x.max() > np.float32(budget.high):
        text = f"values go from {x.min():g} to {x.max():g}, outside {budget.low:g} to {budget.high:g}"
        raise BadInput(text, where="rows", hint="set low and high in the budget to the range of the features")
    if y.min() < 0:
        raise BadInput(f"label {y.min()} is below 0", where="labels")
    return np.ascontiguousarray(x), y


def _check_budget(budget: Budget) -> None:
    """BadInput where no attack could begin, or float32 cannot tell the smallest radius."""
    if budget.eps[0] < RESOLUTION * np.spacing(np.float32(max(abs(budget.low), abs(budget.high)))):
        hint = "shift and scale the features to about 0 to 1"
        raise BadInput(f"eps {budget.eps[0]:g} is lost in float32 here", where="budget.eps", hint=hint)
    if not _suffices(budget.queries_max, len(budget.eps)):
        least = next(q for q in count(1) if _suffices(q, len(budget.eps)))
        raise BadInput(
            f"{budget.queries_max} queries a row are too few for any attack",
            where="budget.queries_max",
            hint=f"at least {least} let one begin, and some thousands say what a model withstands",
        )


def _check_attacked(hunt: Hunt, records: Sequence[AttackRecord]) -> None:
    """NotSupported where a sample stood to be attacked, and no attack asked the model anything."""
    if (hunt.distance > 0).any() and not any(record.queries for record in records):
        why = "; ".join(f"{r.name}: {r.skipped or 'it asked the model nothing'}" for r in records)
        raise NotSupported(f"no attack could be carried out: {why}", where="attack")


def _starts(hunt: Hunt, x: np.ndarray, scores: np.ndarray, budget: Budget) -> np.ndarray:
    """For each sample the nearest row (in L2) that the model puts in another class, NaN where none is."""
    said = scores.argmax(axis=1)
    rows = ((x.astype(np.float64) - budget.low) / (budget.high - budget.low)).astype(np.float32)
    starts = np.full_like(hunt.unit, np.nan)
    for sample, label in enumerate(hunt.y):
        other = rows[said != label]
        if len(other):
            starts[sample] = other[((other - hunt.unit[sample]) ** 2).sum(axis=1).argmin()]
    return starts


def _split(queries_max: int, radii: int) -> tuple[int, int]:
    """Queries of a sample for HopSkipJump, and for Square at each of ``radii`` eps."""
    each = int(queries_max * (1 - HOP_SHARE)) // radii
    return queries_max - each * radii, each


def _suffices(queries_max: int, radii: int) -> bool:
    """Whether so many queries of a sample let at least one of the attacks begin."""
    walk, each = _split(queries_max, radii)
    return walk >= hop.QUERIES_MIN or each >= square.QUERIES_MIN


def _hop(hunt: Hunt, starts: np.ndarray, budget: Budget, progress: Progress) -> AttackRecord:
    queries = _split(budget.queries_max, len(budget.eps))[0]
    if queries < hop.QUERIES_MIN:
        return _skipped(hop.NAME, f"{queries} queries a sample are too few to begin")
    if np.isnan(starts[hunt.distance > 0]).any(axis=1).all():
        return _skipped(hop.NAME, "the model puts no row in another class, so that no walk has a start")

    def said(share: float) -> None:
        progress(0.02 + 0.3 * share, f"HopSkipJump looks for the nearest mistake of {len(hunt)} samples")

    return _record(hop.NAME, hunt, lambda: hop.hop_skip_jump(hunt, starts, queries, budget.seed, said))


def _square(hunt: Hunt, budget: Budget, progress: Progress) -> AttackRecord:
    queries = _split(budget.queries_max, len(budget.eps))[1]
    if queries < square.QUERIES_MIN:
        return _skipped(square.NAME, f"{queries} queries a sample and eps are too few to begin")

    def said(share: float, eps: float) -> None:
        left = int(hunt.withstands(eps).sum())
        progress(
            0.32 + 0.65 * share, f"Square at eps {eps:g}: {left} of {len(hunt)} samples withstand so far"
        )

    return _record(square.NAME, hunt, lambda: square.square(hunt, budget.eps, queries, budget.seed, said))


def _skipped(name: str, why: str) -> AttackRecord:
    return AttackRecord(name, _library(), skipped=why)


def _record(name: str, hunt: Hunt, attack: Callable[[], dict[str, Any]]) -> AttackRecord:
    """Carry out an attack, and say what it took and how many samples it came nearer to than was known."""
    used, distance = hunt.used.copy(), hunt.distance.copy()
    began = time.perf_counter()
    settings = attack()
    spent = hunt.used - used
    settings["queries_most"] = int(spent.max())
    settings["samples_nearer"] = int((hunt.distance < distance).sum())
    return AttackRecord(
        name=name,
        library=_library(),
        queries=int(spent.sum()),
        seconds=round(time.perf_counter() - began, 3),
        settings=settings,
    )


def _library() -> str:
    return f"{LIBRARY} {version(LIBRARY)}"


def _curve(hunt: Hunt, target: Target, budget: Budget) -> tuple[tuple[Point, ...], np.ndarray]:
    """Robust accuracy at each eps, beside accuracy under one draw of uniform noise scaled to each."""
    draw = np.random.default_rng([budget.seed, 1]).uniform(-1.0, 1.0, hunt.x.shape)
    points, noisy = [], hunt.x
    for eps in budget.eps:
        noisy = np.clip(hunt.x + eps * draw, budget.low, budget.high).astype(np.float32)
        right = ask_model(target, noisy).argmax(axis=1) == hunt.y
        robust = Rate(int(hunt.withstands(eps).sum()), len(hunt))
        points.append(Point(eps, robust, Rate(int(right.sum()), len(hunt))))
    return tuple(points), noisy


def open_tile(place: Place) -> ArtAttack:
    """No options. ImportError where ART is not installed, so that the answer is how to install it."""
    from importlib.util import find_spec

    if find_spec("art") is None:
        raise ImportError("adversarial-robustness-toolbox is not installed", name=LIBRARY)
    return ArtAttack()
