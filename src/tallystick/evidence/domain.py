"""Domains: what one row is, and how an attacker may change it."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from tallystick.core.errors import BadInput

__all__ = ["Budget", "Column", "Domain", "DomainKind"]

SAMPLES_MAX = 100_000
QUERIES_MAX = 10_000_000


class DomainKind(enum.StrEnum):
    """What a row is: it decides which corruptions, attacks and pictures make sense."""

    IMAGE = "image"
    TABULAR = "tabular"
    TEXT = "text"
    SERIES = "series"
    VECTOR = "vector"  # numbers of one range, of which nothing more is known


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table, and what an attacker may do to it.

    Changes stay within ``low`` to ``high``, on whole numbers where ``integer``, and not at all where
    ``immutable``; ``direction`` is ``any``, ``up`` or ``down``. Columns of one ``one_hot`` group are 0 but
    for a single 1. A change costs ``cost`` for each ``scale`` that the value moves (one category more: one
    ``cost``); ``scale`` 0 takes the range, so that eps is a share of it.
    """

    name: str
    low: float = 0.0
    high: float = 1.0
    integer: bool = False
    immutable: bool = False
    one_hot: str = ""
    direction: str = "any"
    cost: float = 1.0
    scale: float = 0.0
    unit: str = ""

    def __post_init__(self) -> None:
        where = f"column {self.name!r:.100}"
        if not all(math.isfinite(v) for v in (self.low, self.high, self.cost, self.scale)):
            raise BadInput("low, high, cost and scale are finite numbers", where=where)
        if self.low > self.high or self.cost < 0 or self.scale < 0:
            raise BadInput("low is at most high, cost and scale are not below 0", where=where)
        if self.direction not in ("any", "up", "down"):
            raise BadInput(f"unknown direction {self.direction!r:.50}", where=where, hint="any, up or down")

    @property
    def span(self) -> float:
        """What a change of 1 in units of eps means for this column: ``scale``, or its range, or 1."""
        return self.scale or (self.high - self.low) or 1.0


@dataclass(frozen=True, slots=True)
class Domain:
    """What a row is.

    ``shape`` of an image is (height, width) or (height, width, channels), with ``channels_first`` (channels,
    height, width); of a series (steps,) or (steps, channels); otherwise empty. ``low`` and ``high`` are the
    range of every number, but for tables, whose ``columns`` have each their own. ``groups`` names columns of
    the data (not necessarily features) by which worst-group accuracy is taken. Of a text, ``edits_max`` words
    may be changed, each by at most ``chars_max`` characters or for a word that means the same.
    """

    kind: DomainKind = DomainKind.VECTOR
    shape: tuple[int, ...] = ()
    channels_first: bool = False
    low: float = 0.0
    high: float = 1.0
    columns: tuple[Column, ...] = ()
    groups: tuple[str, ...] = ()
    edits_max: int = 3
    chars_max: int = 2

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise BadInput("the feature range must be finite, low below high", where="domain")
        if any(not 1 <= n <= 2**20 for n in self.shape):
            raise BadInput(f"{list(self.shape)} is no shape", where="domain.shape")
        wanted = {DomainKind.IMAGE: (2, 3), DomainKind.SERIES: (1, 2)}.get(self.kind, (0,))
        if len(self.shape) not in wanted:
            text = f"a shape of {len(self.shape)} lengths does not go with kind {self.kind}"
            raise BadInput(
                text, where="domain.shape", hint="image: height, width[, channels]; series: steps[, channels]"
            )
        names = [c.name for c in self.columns]
        if len(set(names)) < len(names):
            raise BadInput("two columns of one name", where="domain.columns")


@dataclass(frozen=True, slots=True)
class Budget:
    """What the attacker may do, and how much of it is tried.

    ``eps`` are L-infinity radii in the unit of the data; of a table, shares of each column's span. The first
    ``samples_max`` rows of a seeded order are attacked; each may be asked about ``queries_max`` times by all
    black-box attacks together, and ``steps_max`` gradient steps are taken in each of ``restarts`` by a
    white-box one. ``low`` and ``high`` are the range of features where no domain says otherwise.
    """

    eps: tuple[float, ...] = (0.05, 0.1, 0.15, 0.2)
    samples_max: int = 120
    queries_max: int = 5000
    steps_max: int = 40
    restarts: int = 1
    seed: int = 7
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not self.eps or list(self.eps) != sorted(set(self.eps)) or self.eps[0] <= 0:
            raise BadInput("eps must be positive and rising", where="budget.eps")
        if not all(math.isfinite(e) for e in (*self.eps, self.low, self.high)) or self.low >= self.high:
            raise BadInput("the feature range must be finite, low below high", where="budget")
        if not 1 <= self.samples_max <= SAMPLES_MAX or not 1 <= self.queries_max <= QUERIES_MAX:
            raise BadInput("samples_max is 1 to 100,000 and queries_max 1 to 10,000,000", where="budget")
        if not 1 <= self.steps_max <= 10_000 or not 1 <= self.restarts <= 100:
            raise BadInput("steps_max is 1 to 10,000 and restarts 1 to 100", where="budget")
        if not 0 <= self.seed < 2**32:
            raise BadInput("seed is 0 to 4294967295", where="budget.seed")
