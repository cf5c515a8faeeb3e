"""Examples of an evasion probe: a few samples as they are, under noise, and as it left them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tallystick.crew.judging.edits import changes, fewer, passage, traces
from tallystick.crew.judging.measuring import distances, noisy
from tallystick.crew.measure.pictures import magnified, picture_shape, write_picture
from tallystick.crew.measure.target import Seen
from tallystick.evidence.domain import DomainKind
from tallystick.evidence.probe import Example
from tallystick.ports.models.attack import Case

__all__ = ["choose", "examples"]

EXAMPLES_MAX = 8
WITHSTOOD_MAX = 2


def examples(
    name: str,
    case: Case,
    itself: Seen,
    nearer: np.ndarray,
    folder: Path,
    mark: str,
    also: Mapping[int, np.ndarray] | None = None,
) -> tuple[Example, ...]:
    """Of the samples that probe ``name`` came nearer to, a few, and those rows that it wants shown ``also``;
    ``case`` is as it is after the probe.

    The model itself is asked about each row that is shown, never a twin. Pictures are PNG files in
    ``folder``, named after ``mark``; of tables the edits are said, as few as the model still takes; of texts
    both are told, and series are drawn from their numbers.
    """
    far = np.where(nearer, case.distance, np.inf)
    chosen = choose(case.y[case.attacked], far, case.budget.eps[-1])
    wanted = [(sample, case.adversarial[sample], float(case.distance[sample])) for sample in chosen]
    for sample, after in (also or {}).items():
        before = case.x[case.attacked[sample]]
        wanted.append((sample, after, float(distances(case.domain, before[None], after[None])[0])))
    made = []
    for place, (sample, after, distance) in enumerate(wanted):
        shown = _Shown(case, itself, int(case.attacked[sample]), after, distance)
        made.append(shown.example(name, folder, f"{mark}-{place:02d}"))
    return tuple(made)


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
    shown = [sample for _, _, sample in sorted(order)][: EXAMPLES_MAX - len(withstood)]
    return [*shown, *map(int, withstood)]


class _Shown:
    """One sample: before, after (with as few edits as possible, where edits are said) and under noise."""

    def __init__(self, case: Case, itself: Seen, row: int, after: Any, distance: float) -> None:
        self._case, self._itself, self._row = case, itself, row
        self._before, self._distance = case.x[row], distance
        self._text = case.domain.kind is DomainKind.TEXT
        self._shape = None if self._text else picture_shape(case.domain, len(self._before))
        self._after = after
        self._series = case.domain.kind is DomainKind.SERIES
        if not self._text and not self._series and self._shape is None:
            self._after = fewer(case.domain, self._before, after, self._turns)
            self._distance = float(distances(case.domain, self._before[None], self._after[None])[0])

    def _turns(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self._itself.scores(rows).argmax(axis=1) != self._itself.y[self._row])

    def example(self, name: str, folder: Path, mark: str) -> Example:
        """Its labels and confidences as the model itself says them, its pictures written, its edits said."""
        case, rows = self._case, [self._before, self._after]
        noise = None
        if not self._text:
            noise = noisy(case.domain, self._before[None], self._distance, case.budget.seed)[0]
            rows.append(noise)
        said = self._itself.scores(np.array(rows, object) if self._text else np.stack(rows))
        labels = [self._itself.names[place] for place in said.argmax(axis=1)]
        sure = [_confidence(scores, self._itself.gives) for scores in said]
        files = self._files(noise, folder, mark)
        return Example(
            probe=name,
            row=self._row,
            truth=self._itself.names[int(self._itself.y[self._row])],
            label_before=labels[0],
            label_after=labels[1],
            confidence_before=sure[0],
            confidence_after=sure[1],
            eps=round(self._distance, 6),
            label_noise=labels[2] if len(labels) > 2 else "",
            changes=() if self._shape else changes(case.domain, case.features, self._before, self._after),
            passage=passage(self._before, self._after) if self._text else (),
            traces=traces(case.domain, self._before, self._after) if self._series else (),
            **files,
        )

    def _files(self, noise: np.ndarray | None, folder: Path, mark: str) -> dict[str, str]:
        if self._shape is None or noise is None:
            return {}
        domain = self._case.domain
        parts = {
            "original": self._before,
            "noise": noise,
            "magnified": magnified(domain, self._before, self._after),
            "adversarial": self._after,
        }
        for kind, row in parts.items():
            write_picture(domain, row, self._shape, folder / f"{mark}-{kind}.png")
        return {kind: f"{mark}-{kind}.png" for kind in parts}


def _confidence(scores: np.ndarray, gives: str) -> float | None:
    """The share of the label that is said: its probability, or by softmax; None of labels alone."""
    if gives == "labels":
        return None
    if gives == "logits":
        odds = np.exp(scores.astype(np.float64) - scores.max())
        return round(float(odds.max() / odds.sum()), 6)
    return round(min(1.0, max(0.0, float(scores.max()))), 6)
