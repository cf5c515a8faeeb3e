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
from tallystick.crew.judging.measuring import allowed, distances
from tallystick.evidence.domain import DomainKind
from tallystick.ports.models.attack import Case, Found

__all__ = ["Merged", "merge"]

Wrong = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Of rows (k, ...) and the places of the samples (k,): whether the model itself is wrong, bool (k,)."""


@dataclass
class Merged:
    """All evasion probes together: ``nearer`` (m,) says which samples this one came nearer to, and ``notes``
    what of its findings was left out, and why.
    """

    distance: np.ndarray
    adversarial: np.ndarray
    nearer: np.ndarray
    notes: list[str]


def merge(case: Case, found: Found, wrong: Wrong, through_twin: bool) -> Merged:
    """The nearest adversarials of before and of ``found``, those of it that hold.

    Failed where what it found does not go with the case.
    """
    distance, adversarial = case.distance.copy(), case.adversarial.copy()
    nearer = np.zeros(len(distance), bool)
    if found.distance is None or found.adversarial is None:
        return Merged(distance, adversarial, nearer, [])
    if found.distance.shape != distance.shape or found.adversarial.shape != adversarial.shape:
        text = f"it found rows of shape {list(found.adversarial.shape)} for {list(adversarial.shape)}"
        raise Failed(text, where="attack")
    claimed = np.asarray(found.distance, np.float64)
    places = np.flatnonzero((claimed < distance) & (distance > 0))
    notes: list[str] = []
    rows, far = _checked(case, found.adversarial, claimed, places, notes)
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
    return Merged(distance, adversarial, nearer, notes)


def _checked(
    case: Case, made: np.ndarray, claimed: np.ndarray, places: np.ndarray, notes: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """The rows made of the samples at ``places``, and how far they really are: infinity where not allowed."""
    if case.domain.kind is DomainKind.TEXT:
        rows = made[places]
        return rows, np.where([bool(text) for text in rows], claimed[places], np.inf)
    rows = np.asarray(made[places], np.float32)
    x = case.x[case.attacked[places]]
    good = allowed(case.domain, x, rows)
    if bad := int((~good).sum()):
        said = "rows that it found are not allowed by the domain, and not counted"
        notes.append(f"{bad} of {len(places)} {said}")
    far = np.full(len(places), np.inf)
    far[good] = distances(case.domain, x[good], rows[good])
    return rows, far
