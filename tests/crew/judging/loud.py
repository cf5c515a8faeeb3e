"""An attack for tests of pictures: loud noise, which turns some digits of a small forest."""

from __future__ import annotations

import numpy as np

from tallystick.evidence.probe import Probe, Threat
from tallystick.ports.models.attack import Case, Found, Offer, Progress

__all__ = ["Loud"]


class Loud:
    def offers(self) -> tuple[Offer, ...]:
        return (Offer("loud", Threat.EVASION, 1, "loud noise"),)

    def versions(self) -> dict[str, str]:
        return {}

    def run(self, name: str, case: Case, progress: Progress) -> Found:
        distance, adversarial = case.distance.copy(), case.adversarial.copy()
        draw = np.random.default_rng(case.budget.seed)
        x, y = case.x[case.attacked], case.y[case.attacked]
        for eps in case.budget.eps:
            rows = np.clip(x + draw.choice([-eps, eps], x.shape), 0, 1).astype(np.float32)
            wrong = (case.victim.scores(rows).argmax(axis=1) != y) & np.isinf(distance)
            distance[wrong], adversarial[wrong] = eps, rows[wrong]
        return Found(Probe("loud", Threat.EVASION), distance, adversarial)
