"""Attacks: what a model withstands within a stated budget. Used in worker processes only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from tallystick.core.verdict import AttackRecord, Budget, Point, Rate

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Attack", "AttackResult", "Progress", "Target"]

Progress = Callable[[float, str], None]
"""Called with the share done (0 to 1) and what is being done, in plain words."""

Target = Callable[["np.ndarray"], "np.ndarray"]
"""The model seen from outside: float32 rows (n, features) to float32 class scores (n, classes)."""


@dataclass(frozen=True)
class AttackResult:
    """Figures for the evidence, and for pictures the nearest adversarial found.

    ``attacked`` (m,) indexes the rows of the data that were used; ``adversarial`` (m, features) is
    the nearest adversarial found for each, NaN where none was found or the clean prediction was
    wrong already; ``distance`` (m,) its L-infinity distance (infinity where none, 0 where wrong
    already); ``noisy`` (m, features) the sample under random noise at the budget's largest eps.
    """

    clean: Rate
    curve: tuple[Point, ...]
    records: tuple[AttackRecord, ...]
    attacked: np.ndarray
    adversarial: np.ndarray
    distance: np.ndarray
    noisy: np.ndarray


@runtime_checkable
class Attack(Protocol):
    """Attacks a model from outside: it sees class scores, nothing else."""

    def run(
        self, target: Target, x: np.ndarray, y: np.ndarray, budget: Budget, progress: Progress
    ) -> AttackResult:
        """Attack ``target`` on rows ``x`` float32 (n, features) with labels ``y`` int64 (n,), 0..classes-1.

        The same inputs and seed give the same result, bit for bit. BadInput for shapes that do not
        fit, values outside the budget's range, NaN, labels the model has no score for, or a budget that
        is too small for any attack. NotSupported, with the reasons, when there was something to attack
        and no attack could be carried out: a curve without an attack would say that all withstood.
        """
        ...

    def versions(self) -> dict[str, str]:
        """Versions of the libraries that the result depends on."""
        ...
