"""How a probe asks: counted, within a time of its own, and the model itself as much as its speed allows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np

from tallystick.core.errors import TookTooLong
from tallystick.ports.models.attack import Victim, Weigh

__all__ = ["ITSELF_S", "Counted", "Patience", "allowance"]

ITSELF_S = 30.0
"""About so long a model is attacked itself, where its twin has been before."""

ROWS_MIN, QUERIES_MIN = 20, 300
"""At least so many rows, and questions about each, however slowly it answers: slow is not robust."""

QUERIES_GOOD = 500
"""With fewer questions about each, rather fewer rows."""


class Counted:
    """See :class:`tallystick.ports.models.attack.Victim`; ``queries`` and ``pulls`` count rows.

    What a probe says of its own queries is not believed.
    """

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


class Patience:
    """How long one probe may take, ``limit_s`` seconds (infinity: for ever), from :meth:`begin` on.

    It is asked before each question to the model and whenever a probe says how far it is: so a model that
    answers ever more slowly ends the probe, and not the judgement. What never asks is ended by the hub.
    """

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s, self._clock, self._until = limit_s, clock, math.inf

    def begin(self) -> None:
        """A probe begins."""
        self._until = self._clock() + self._limit_s

    def end(self) -> None:
        """It is over: nothing is too late now."""
        self._until = math.inf

    def check(self) -> None:
        """TookTooLong where the probe should be over."""
        if self._clock() > self._until:
            hint = "raise the setting probe_s, or let the policy's budget ask for less"
            raise TookTooLong(f"stopped after {self._limit_s:g} s", where="probe", hint=hint)


def allowance(row_s: float, rows: int, queries_max: int) -> tuple[int, int]:
    """How many of ``rows`` are attacked on a model that takes ``row_s`` seconds for one, and how many
    questions about each are granted: about what it answers in ``ITSELF_S``, within the budget.

    What it answers is taken as a power of two, so that hardly ever two judgements on one machine differ.
    """
    able = 2 ** int(math.log2(max(1.0, ITSELF_S / max(row_s, 1e-9))))
    good, least = min(queries_max, QUERIES_GOOD), min(queries_max, QUERIES_MIN)
    if able >= rows * good:
        return rows, min(queries_max, able // rows)
    some = min(rows, max(ROWS_MIN, able // good))
    return some, max(least, min(good, able // some))
