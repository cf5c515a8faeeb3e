"""The white-box probes: what they are called, what they need, and what they say of themselves."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from tallystick.core.errors import BadInput
from tallystick.evidence.domain import DomainKind
from tallystick.evidence.figures import Z_95, Figure
from tallystick.evidence.probe import Probe, Threat
from tallystick.ports.models.attack import Case, Found, Needs, Offer, Progress
from tallystick.ports.tile import Place
from tallystick.tiles.white.adaptive import adaptive
from tallystick.tiles.white.carlini import SEARCHES, carlini_wagner, longest
from tallystick.tiles.white.climb import Way
from tallystick.tiles.white.ground import Ground
from tallystick.tiles.white.legs import TARGETS_MAX, Sweep, borders, likeliest, one_step, share_of, sweep
from tallystick.tiles.white.masking import masking

__all__ = ["WhiteBox", "open_tile"]

LIBRARY = "tallystick"
_NUMBERS = (DomainKind.IMAGE, DomainKind.TABULAR, DomainKind.SERIES, DomainKind.VECTOR)
_INSIDE = Needs(gradients=True, kinds=_NUMBERS)


FURTHER = 1e-3
"""Of its length: so much longer a change is made that the gradients say turns the answer, and nearly does."""


def _offer(name: str, about: str, weight: float, version: int = 1) -> Offer:
    return Offer(name, Threat.EVASION, version, about, _INSIDE, weight)


OFFERS = (
    _offer("fgsm", "one step along the gradient's sign (Goodfellow et al. 2015)", 0.2),
    _offer("pgd", "projected gradient steps (Madry et al. 2018), adaptive (Croce and Hein 2020)", 2.0, 2),
    _offer(
        "auto", "ensemble of APGD-CE, targeted APGD-DLR and nearest boundary (Croce and Hein 2020)", 5.0, 2
    ),
    _offer("carlini_wagner", "least squares that turn the answer (Carlini and Wagner 2017)", 4.0, 2),
    _offer("adaptive", "gradients taken across a preprocessing defence (Athalye et al. 2018)", 2.0, 2),
)


@dataclass
class _Told:
    """What a probe says beside what its ground holds."""

    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    show: np.ndarray | None = None


class WhiteBox:
    """See :class:`tallystick.ports.models.attack.Attack`."""

    def offers(self) -> tuple[Offer, ...]:
        """See the port."""
        return OFFERS

    def versions(self) -> dict[str, str]:
        """Of numpy: nothing else decides what is found, but for the model's own runtime."""
        return {"numpy": version("numpy")}

    def run(self, name: str, case: Case, progress: Progress) -> Found:
        """See the port. BadInput for a name that is not offered."""
        if name not in _RUNS:
            raise BadInput(f"no probe {name!r:.100}", where="attack", hint=f"known: {', '.join(_RUNS)}")
        began, ground = time.perf_counter(), Ground(case)
        opened = len(ground.open(case.budget.eps)[0])
        told = _RUNS[name](ground, case, progress)
        ground.shrink()
        ground.settle()
        progress(
            1.0, f"{int((ground.distance > case.budget.eps[-1]).sum())} of {len(ground)} samples withstand"
        )
        nearer = int((ground.distance < case.distance).sum())
        frozen = {"one_hot_and_immutable_left_as_they_are": len(ground.frozen)} if ground.frozen else {}
        probe = Probe(
            name=name,
            threat=Threat.EVASION,
            library=LIBRARY,
            settings={"norm": "Linf", **told.settings, **frozen, "samples_nearer": nearer},
            figures=told.figures,
            notes=(*told.notes, *_denied(ground)),
            samples=opened,
            queries=ground.queries,
            gradients=ground.gradients,
            seconds=round(time.perf_counter() - began, 3),
        )
        return Found(probe, ground.distance, ground.adversarial, told.show)


def _denied(ground: Ground) -> tuple[str, ...]:
    text = "rows that its gradients say are wrong, the model itself answers rightly: they are not counted"
    return (f"{ground.unconfirmed} {text}",) if ground.unconfirmed else ()


def _fgsm(ground: Ground, case: Case, progress: Progress) -> _Told:
    progress(0.0, "one step along each gradient")
    one_step(ground, case)
    return _Told({"steps": 1, "aim": "cross-entropy"})


def _pgd(ground: Ground, case: Case, progress: Progress) -> _Told:
    """Two legs in each restart: cross-entropy from the sample itself, then the margin from a random place."""
    budget = case.budget
    single = _single(ground, case)
    first, second = max(1, budget.steps_max * 3 // 4), max(1, budget.steps_max // 2)
    for turn in range(budget.restarts):
        begin, end = turn / budget.restarts * 0.9, (turn + 1) / budget.restarts * 0.9
        middle = begin + (end - begin) * 0.7
        text = f"gradient steps, restart {turn + 1} of {budget.restarts}"
        one, two = (
            Sweep(Way("cross-entropy", first), draw=2 * turn),
            Sweep(Way("margin", second), draw=2 * turn + 1),
        )
        sweep(ground, case, one, share_of(progress, text, begin, middle))
        sweep(ground, case, two, share_of(progress, text, middle, end))
    ground.settle()
    settings = {
        "steps_max": [first, second], "restarts": budget.restarts, "aims": ["cross-entropy", "margin"],
        "step": "2 eps, halved where it stops paying (APGD)", "momentum": 0.75,
        "sweep": "from the largest eps to the smallest, from the adversarial found at the one before",
    }  # fmt: skip
    return _Told(settings, tuple(masking(ground, case, single)))


def _single(ground: Ground, case: Case) -> int:
    """How many samples a single step turns at the largest radius, whatever was known before."""
    alone = Ground(case)
    alone.claimed = np.where(case.distance > 0, np.inf, 0.0)
    one_step(alone, case)
    ground.queries, ground.gradients = ground.queries + alone.queries, ground.gradients + alone.gradients
    return int(((alone.claimed > 0) & (alone.claimed <= case.budget.eps[-1])).sum())


def _auto(ground: Ground, case: Case, progress: Progress) -> _Told:
    """Every leg takes on those who withstood the legs before."""
    budget = case.budget
    for turn in range(budget.restarts):
        begin, end = (0.15 * at / budget.restarts for at in (turn, turn + 1))
        leg = Sweep(Way("cross-entropy", budget.steps_max), draw=100 + turn)
        sweep(ground, case, leg, share_of(progress, f"APGD on cross-entropy, restart {turn + 1}", begin, end))
    said = share_of(progress, "APGD towards each class, a few steps", 0.15, 0.35)
    targets = likeliest(ground, case, budget.steps_max, said)
    for at, target in enumerate(targets.T):
        begin, end = (0.35 + 0.35 * n / targets.shape[1] for n in (at, at + 1))
        leg = Sweep(Way("targeted DLR", budget.steps_max), 300 + at, towards=target)
        text = f"APGD towards the likeliest classes, {at + 1} of {targets.shape[1]}"
        sweep(ground, case, leg, share_of(progress, text, begin, end))
    borders(ground, case, budget.steps_max, share_of(progress, "steps to the nearest boundary", 0.7, 0.95))
    return _Told({
        "legs": ["APGD-CE", "APGD-T (DLR)", "nearest boundary (FAB-T)"],
        "steps_max": budget.steps_max, "restarts": budget.restarts,
        "targets": min(TARGETS_MAX, ground.classes - 1), "targets_with_all_steps": targets.shape[1],
        "random_search": "Square is a probe of its own",
    })  # fmt: skip


def _carlini_wagner(ground: Ground, case: Case, progress: Progress) -> _Told:
    """On those still standing; its L2 length is a figure over all that are right when clean."""
    who = np.flatnonzero(case.distance > 0)
    steps, total = case.budget.steps_max, max(1, SEARCHES * case.budget.steps_max)
    taken = 0

    def said(left: int) -> None:
        nonlocal taken
        taken += 1
        progress(0.95 * min(1.0, taken / total), f"least squares for {left} samples")

    lengths, rows = carlini_wagner(ground, who, steps, said) if len(who) else (np.empty(0), ground.x[:0])
    lengths = _confirmed(ground, case, who, rows, lengths)
    settings = {
        "norm": "L2, reported as Linf",
        "steps_max": steps,
        "searches": SEARCHES,
        "turned": int(np.isfinite(lengths).sum()),
    }
    show = np.full_like(ground.x, np.nan)
    show[who] = rows
    figures = (_median_length(lengths, longest(ground, who)),) if len(who) else ()
    return _Told(settings, figures=figures, show=show)


def _confirmed(
    ground: Ground, case: Case, who: np.ndarray, rows: np.ndarray, lengths: np.ndarray
) -> np.ndarray:
    """The lengths of those ``rows`` (k, features) that turn the model as it answers, and not by its gradients
    alone; where a twin was attacked, the model itself. What lies on the very edge goes a little further.
    """
    known, found = lengths.copy(), np.flatnonzero(np.isfinite(lengths))
    asked, y = case.itself or case.victim, ground.y[who]
    for further in (0.0, FURTHER):
        if not len(found):
            break
        origin = ground.x[who[found]]
        tried = ground.snap(rows[found] + np.float32(further) * (rows[found] - origin))
        lower, upper = ground.box(who[found], np.inf)
        tried = np.clip(tried, lower, upper).astype(np.float32)
        ground.queries += len(found) if case.itself is None else 0
        turned = asked.scores(tried).argmax(axis=1) != y[found]
        known[found[turned]] = lengths[found[turned]] * (1 + further)
        found = found[~turned]
    known[found] = np.inf
    return known


def _median_length(lengths: np.ndarray, most: np.ndarray) -> Figure:
    """The median of ``lengths`` (k,) between the ends of its 95 % interval (order statistics, binomial).

    A row that nothing turned, at infinity, counts with the longest change that there is (k,): where such a
    row bears on the median, that is a bound.
    """
    stood = np.isinf(lengths)
    ordered = np.sort(np.where(stood, most, lengths))
    n = len(ordered)
    half, middle = Z_95 * np.sqrt(n) / 2, (n - 1) // 2
    low = int(max(0, np.floor((n - 1) / 2 - half)))
    high = int(min(n - 1, np.ceil((n - 1) / 2 + half)))
    value = float(ordered[middle])
    beyond = bool(np.isinf(np.sort(lengths)[middle]) or (most[stood] < value).any())
    return Figure("flip_l2_median", value, float(ordered[low]), float(ordered[high]), n, beyond=beyond)


def _adaptive(ground: Ground, case: Case, progress: Progress) -> _Told:
    return _Told(adaptive(ground, case, share_of(progress, "gradients across the defence", 0.0, 0.95)))


_RUNS: Mapping[str, Callable[[Ground, Case, Progress], _Told]] = {
    "fgsm": _fgsm, "pgd": _pgd, "auto": _auto, "carlini_wagner": _carlini_wagner, "adaptive": _adaptive,
}  # fmt: skip


def open_tile(place: Place) -> WhiteBox:
    """No options."""
    return WhiteBox()
