"""Attacks and checks of a model: what a tile offers, and the case that it is given. Used in workers only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from tallystick.evidence.domain import Budget, Domain, DomainKind
from tallystick.evidence.probe import Probe, Threat

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

__all__ = ["Attack", "Case", "Found", "Needs", "Offer", "Progress", "Victim", "Weigh"]

Progress = Callable[[float, str], None]
"""Called with the share done (0 to 1) and what is being done, in plain words."""

Weigh = Callable[["np.ndarray"], "np.ndarray"]
"""From logits (n, classes) to the weights (n, classes) of the sum whose gradient is wanted."""


@runtime_checkable
class Victim(Protocol):
    """The model under attack, as rows in and scores out.

    Rows are float32 (n, features), or of a text object (n,) of str. ``gives`` says what scores are:
    ``logits``, ``probabilities`` or ``labels`` (1 for the class that it says and 0 for all others).
    ``gradients``: whether :meth:`pull` and so white-box attacks work. ``twin`` is an ONNX file that answers
    as this victim does, where there is one: plain data, from which the structure can be read.
    """

    classes: int
    gives: str
    gradients: bool
    twin: Path | None

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """float32 (n, classes), finite. Failed where the model raises, hangs, or answers no numbers."""
        ...

    def pull(self, rows: np.ndarray, weigh: Weigh) -> tuple[np.ndarray, np.ndarray]:
        """Logits (n, classes), and the gradient (n, features) of ``sum(weigh(logits) * logits)`` by rows.

        Of a model that gives probabilities the logits are their logarithms, up to a constant for each row.
        One forward and one backward pass. NotSupported where ``gradients`` is false.
        """
        ...

    def hidden(self, rows: np.ndarray) -> np.ndarray:
        """What the last layer but one says, float32 (n, units); NotSupported where nobody can tell."""
        ...


@dataclass
class Case:
    """What is attacked. ``x`` (n, features) float32, or object (n,) of str; ``y`` (n,) int64, 0..classes-1.

    ``scores`` (n, classes) are the clean ones. ``attacked`` (m,) indexes the rows under attack; ``distance``
    (m,) is that of the nearest adversarial known so far, from the probes before (infinity where there is
    none, 0 where the clean answer is wrong already), in the unit of eps, and ``adversarial`` (m, ...) that
    row, NaN (of a text: empty) where there is none. A probe starts from there and changes neither:
    what it found it returns. ``train`` are rows and labels that it was trained on, as its run calls them, and
    ``trained_on`` whether the record shows that. Where ``victim`` is a twin, ``itself`` is the model: figures
    of changes that turn it are of changes that were shown to it.
    """

    victim: Victim
    x: np.ndarray
    y: np.ndarray
    scores: np.ndarray
    attacked: np.ndarray
    distance: np.ndarray
    adversarial: np.ndarray
    domain: Domain
    budget: Budget
    features: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    groups: dict[str, np.ndarray] = field(default_factory=dict)
    train: tuple[np.ndarray, np.ndarray] | None = None
    trained_on: bool = False
    itself: Victim | None = None


@dataclass
class Found:
    """What a probe found: of evasion as in :class:`Case`, and maybe rows to ``show``, NaN for others."""

    probe: Probe
    distance: np.ndarray | None = None
    adversarial: np.ndarray | None = None
    show: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Needs:
    """What has to be there for a probe to apply; the caller checks these before it runs it."""

    gradients: bool = False
    scores: bool = False  # more than labels
    twin: bool = False
    train: bool = False
    groups: bool = False
    itself: bool = False  # the model and never its twin, within what its speed allows
    kinds: tuple[DomainKind, ...] = ()  # empty: any


@dataclass(frozen=True, slots=True)
class Offer:
    """A probe that a tile can carry out.

    ``version`` rises whenever the same case could come out differently: results of the version before are
    then probed again, and verdicts that rest on them expire. ``weight`` is about how much of a judgement's
    time it takes, beside the others. What is not ``usual`` runs only where a policy names it.
    """

    name: str
    threat: Threat
    version: int
    about: str
    needs: Needs = Needs()
    weight: float = 1.0
    usual: bool = True


@runtime_checkable
class Attack(Protocol):
    """A family of attacks or checks."""

    def offers(self) -> tuple[Offer, ...]:
        """What it can do, in the order in which it should be done: cheap and strong first."""
        ...

    def run(self, name: str, case: Case, progress: Progress) -> Found:
        """Carry out the probe ``name``. The same case and seed give the same result, bit for bit.

        NotSupported, with the reason, where it does not apply to this case after all; Failed or BadInput
        where it broke off: then nothing is claimed.
        """
        ...

    def versions(self) -> dict[str, str]:
        """Versions of the libraries that results depend on."""
        ...
