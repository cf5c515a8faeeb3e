"""A victim that counts what it is asked: what a probe says of its own queries is not believed."""

from __future__ import annotations

import numpy as np

from tallystick.ports.models.attack import Victim, Weigh

__all__ = ["Counted"]


class Counted:
    """See :class:`tallystick.ports.models.attack.Victim`; ``queries`` and ``pulls`` count rows."""

    def __init__(self, victim: Victim) -> None:
        self._victim = victim
        self.classes, self.gives = victim.classes, victim.gives
        self.gradients, self.twin = victim.gradients, victim.twin
        self.queries = self.pulls = 0

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """See the port."""
        self.queries += len(rows)
        return self._victim.scores(rows)

    def pull(self, rows: np.ndarray, weigh: Weigh) -> tuple[np.ndarray, np.ndarray]:
        """See the port."""
        self.pulls += len(rows)
        return self._victim.pull(rows, weigh)

    def hidden(self, rows: np.ndarray) -> np.ndarray:
        """See the port."""
        self.queries += len(rows)
        return self._victim.hidden(rows)
