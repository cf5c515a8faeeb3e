"""What comes before all probes: accuracy on the rows as they are, twice asked, and under random noise."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from tallystick.crew.judging.measuring import misspelt, noisy
from tallystick.crew.judging.rows import Given
from tallystick.crew.measure.target import Seen
from tallystick.evidence.domain import Budget, Domain, DomainKind
from tallystick.evidence.figures import Figure, Rate
from tallystick.evidence.probe import Probe, ProbeState, Threat
from tallystick.evidence.threats import BASE
from tallystick.evidence.wording import Wording
from tallystick.ports.models.attack import Case

__all__ = ["Base", "attacked_rows", "begin_case", "measure_base"]

AGAIN_ROWS = 512
"""So many rows are asked about a second time."""

JITTER = 1e-4
"""How far scores of the same row may be apart, for each unit that they are large, and be called the same."""

LIBRARY = "tallystick"


@dataclass(frozen=True, slots=True)
class Base:
    """Of all rows ``clean``; of those under attack how many are ``right``, and at each eps with ``noise``."""

    probe: Probe
    clean: Rate
    right: Rate
    noise: tuple[Rate, ...]
    classes: tuple[str, ...]
    domain: Domain
    versions: dict[str, str] = field(default_factory=dict)


def attacked_rows(rows: int, budget: Budget) -> np.ndarray:
    """The places of the rows under attack: the first of a seeded order."""
    return np.random.default_rng(budget.seed).permutation(rows)[: budget.samples_max]


def begin_case(seen: Seen, itself: Seen, rows: Given, budget: Budget) -> Case:
    """The case before any probe: ``seen`` is asked, ``itself`` decides which answers are wrong already."""
    attacked = attacked_rows(len(rows.truth), budget)
    right = itself.clean[attacked].argmax(axis=1) == itself.y[attacked]
    if rows.x.dtype == object:
        empty: np.ndarray = np.full(len(attacked), "", object)
    else:
        empty = np.full((len(attacked), rows.x.shape[1]), np.nan, np.float32)
    return Case(
        victim=seen,
        x=rows.x,
        y=seen.y,
        scores=seen.clean,
        attacked=attacked,
        distance=np.where(right, np.inf, 0.0),
        adversarial=empty,
        domain=rows.domain,
        budget=budget,
        features=rows.features,
        classes=seen.names,
        groups=rows.groups,
    )


def measure_base(
    itself: Seen, rows: Given, budget: Budget, *, key: str, size_mib: float, notes: list[str]
) -> Base:
    """Ask the model; a model that answers the same rows otherwise the second time fails, row by row wrong."""
    began = time.monotonic()
    right, unsteady, said = _twice(itself, rows.x)
    attacked = attacked_rows(len(right), budget)
    noise = _noise(itself, rows, budget, attacked)
    figures = (Figure("size_mib", size_mib, size_mib, size_mib),) if size_mib else ()
    probe = Probe(
        name=BASE,
        threat=Threat.CLEAN,
        state=ProbeState.FAILED if unsteady else ProbeState.DONE,
        why=said if unsteady else "",
        library=LIBRARY,
        settings={"rows": len(right), "asked_again": min(len(right), AGAIN_ROWS), "gives": itself.gives},
        figures=() if unsteady else figures,
        notes=tuple(dict.fromkeys([*notes, *([said] if said and not unsteady else [])])),
        samples=len(right),
        queries=len(right) + min(len(right), AGAIN_ROWS) + len(attacked) * len(budget.eps),
        seconds=round(time.monotonic() - began, 3),
        key=key,
    )
    return Base(
        probe=probe,
        clean=Rate(int(right.sum()), len(right)),
        right=Rate(int(right[attacked].sum()), len(attacked)),
        noise=noise,
        classes=itself.names,
        domain=rows.domain,
    )


def _twice(itself: Seen, x: np.ndarray) -> tuple[np.ndarray, bool, str]:
    """Which rows it is right about (whenever it was asked), whether its labels differ, and that in words."""
    right = itself.clean.argmax(axis=1) == itself.y
    some = x[:AGAIN_ROWS]
    again, first = itself.scores(some), itself.clean[: len(some)]
    other = int((again.argmax(axis=1) != first.argmax(axis=1)).sum())
    if other:
        right &= itself.scores(x).argmax(axis=1) == itself.y
        right[: len(some)] &= again.argmax(axis=1) == itself.y[: len(some)]
        text = f"asked twice about the same {len(some)} rows, it gave another answer about {other}"
        return right, True, f"{text}: what cannot be repeated is no evidence"
    apart = float((np.abs(again - first) / np.maximum(1, np.abs(first))).max(initial=0.0))
    words = (
        f"asked twice, its scores differ by up to {apart:.2g}, its labels do not" if apart > JITTER else ""
    )
    return right, False, words


def _noise(itself: Seen, rows: Given, budget: Budget, attacked: np.ndarray) -> tuple[Rate, ...]:
    """Of the attacked rows those right under noise at each eps; of texts with so many words misspelt."""
    x, y, text = rows.x[attacked], itself.y[attacked], rows.domain.kind is DomainKind.TEXT
    wording = Wording.of(rows.domain, map(str, x)) if text else None
    made = []
    for eps in budget.eps:
        if wording:
            said = itself.scores(misspelt(wording, x, int(eps), budget.seed))
        else:
            said = itself.scores(noisy(rows.domain, x, eps, budget.seed))
        made.append(Rate(int((said.argmax(axis=1) == y).sum()), len(attacked)))
    return tuple(made)
