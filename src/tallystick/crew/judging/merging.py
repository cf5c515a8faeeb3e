"""What a probe found, believed as far as it holds: recomputed, checked against the domain, and confirmed.

Attack tiles are code of others, and a twin is not the model: so distances are taken again, rows that the
domain does not allow are left out, and every new adversarial is shown to the model itself. What does not turn
it is not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tallystick.core.errors import Failed
from tallystick.crew.judging.measuring import allowed, distances, prices
from tallystick.evidence.domain import DomainKind
from tallystick.evidence.wording import Wording
from tallystick.ports.models.attack import Case, Found

__all__ = ["Merged", "merge", "to_show"]

SHOWN_MAX = 8
"""Rows beside the nearest ones that a probe may have shown."""

Wrong = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Of rows (k, ...) and the places of the samples (k,): whether the model itself is wrong, bool (k,)."""


@dataclass
class Merged:
    """All evasion probes together: ``nearer`` (m,) says which samples this one came nearer to, ``notes`` what
    of its findings was left out, and why, and ``asked`` (k, ...) are the rows that the model was shown.

    ``show`` are the samples (s,) of which it wants a row shown that the domain allows, and these rows.
    """

    distance: np.ndarray
    adversarial: np.ndarray
    nearer: np.ndarray
    notes: list[str]
    asked: np.ndarray
    show: tuple[np.ndarray, np.ndarray]

    def among(self, case: Case, places: np.ndarray) -> Merged:
        """The same of a ``case`` of which only the samples at ``places`` were attacked, with none to show."""
        distance, adversarial = case.distance.copy(), case.adversarial.copy()
        nearer = np.zeros(len(distance), bool)
        distance[places], adversarial[places] = self.distance, self.adversarial
        nearer[places] = self.nearer
        return Merged(distance, adversarial, nearer, self.notes, self.asked, (places[:0], adversarial[:0]))


def merge(case: Case, found: Found, wrong: Wrong, through_twin: bool) -> Merged:
    """The nearest adversarials of before and of ``found``, those of it that hold.

    Failed where what it found does not go with the case.
    """
    distance, adversarial = case.distance.copy(), case.adversarial.copy()
    nearer, show = np.zeros(len(distance), bool), _wanted(case, found)
    if found.distance is None or found.adversarial is None:
        return Merged(distance, adversarial, nearer, [], adversarial[:0], show)
    if found.distance.shape != distance.shape or found.adversarial.shape != adversarial.shape:
        text = f"it found rows of shape {list(found.adversarial.shape)} for {list(adversarial.shape)}"
        raise Failed(text, where="attack")
    claimed = np.asarray(found.distance, np.float64)
    places = np.flatnonzero((claimed < distance) & (distance > 0))
    notes: list[str] = []
    rows, far = _checked(case, found.adversarial, places, notes)
    keep = np.isfinite(far) & (far < distance[places])
    places, rows, far = places[keep], rows[keep], far[keep]
    turned = wrong(rows, places) if len(places) else np.zeros(0, bool)
    if missed := int((~turned).sum()):
        seen = "found on the model's twin" if through_twin else "found"
        said = "did not turn the model itself, and are not counted"
        notes.append(f"{missed} of {len(places)} adversarial rows {seen} {said}")
    nearer[places[turned]] = True
    distance[places[turned]] = far[turned]
    adversarial[places[turned]] = rows[turned]
    return Merged(distance, adversarial, nearer, notes, rows, show)


def _wanted(case: Case, found: Found) -> tuple[np.ndarray, np.ndarray]:
    """As ``show`` of :class:`Merged`."""
    if found.show is None or case.domain.kind is DomainKind.TEXT:
        return np.zeros(0, np.int64), case.adversarial[:0]
    if found.show.shape != case.adversarial.shape:
        raise Failed(f"it shows rows of shape {list(found.show.shape)}", where="attack")
    places = np.flatnonzero(np.isfinite(found.show).all(axis=1))
    rows, far = _checked(case, found.show, places, [])
    return places[np.isfinite(far)], rows[np.isfinite(far)]


def to_show(case: Case, merged: Merged, wrong: Wrong) -> dict[int, np.ndarray]:
    """By sample a few of the rows to show that turn the model itself: of tables, cheapest to median."""
    places, rows = merged.show
    if case.domain.kind is not DomainKind.TABULAR or not len(places):
        return {}
    turned = wrong(rows, places)
    places, rows = places[turned], rows[turned]
    order = np.argsort(prices(case.domain, case.x[case.attacked[places]], rows), kind="stable")
    some = np.unique(np.linspace(0, (len(order) - 1) // 2, SHOWN_MAX).astype(int)) if len(order) else order
    return {int(places[at]): rows[at] for at in order[some]}


def _checked(
    case: Case, made: np.ndarray, places: np.ndarray, notes: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The rows made of the samples at ``places``, and how far they really are: infinity where not allowed."""
    if case.domain.kind is DomainKind.TEXT:
        return made[places], _edits(case, made[places], places, notes)
    rows = np.asarray(made[places], np.float32)
    x = case.x[case.attacked[places]]
    good = allowed(case.domain, x, rows)
    if bad := int((~good).sum()):
        said = "rows that it found are not allowed by the domain, and not counted"
        notes.append(f"{bad} of {len(places)} {said}")
    far = np.full(len(places), np.inf)
    far[good] = distances(case.domain, x[good], rows[good])
    return rows, far


def _edits(case: Case, made: np.ndarray, places: np.ndarray, notes: list[str]) -> np.ndarray:
    """How many words of each text were changed, float64 (k,); infinity where that is not allowed."""
    wording, most = Wording.of(case.domain, map(str, case.x)), int(case.budget.eps[-1])
    before = case.x[case.attacked[places]]
    pairs = zip(before, made, strict=True)
    far = np.array([wording.edits(str(was), str(now), most) for was, now in pairs], np.float64)
    if bad := int(np.isinf(far).sum()):
        said = "texts that it found are not allowed by the domain, or go beyond the budget, and not counted"
        notes.append(f"{bad} of {len(places)} {said}")
    return far
