"""Domains: what one row is, and how an attacker may change it."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tallystick.core.errors import BadInput

__all__ = [
    "SAMPLES_MAX", "WORD_EDITS", "Budget", "Column", "Domain", "DomainKind", "Preprocessing",
    "one_hot_groups",
]  # fmt: skip

SAMPLES_MAX = 100_000
QUERIES_MAX = 10_000_000
EDITS_MAX = 1000
CHARS_MAX = 10

WORD_EDITS = ("drop", "repeat", "inflect", "synonym")
"""What may be done to a whole word of a text; :mod:`tallystick.evidence.wording` says what each is."""


class DomainKind(enum.StrEnum):
    """What a row is: it decides which corruptions, attacks and pictures make sense."""

    IMAGE = "image"
    TABULAR = "tabular"
    TEXT = "text"
    SERIES = "series"
    VECTOR = "vector"  # numbers of one range, of which nothing more is known


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table or a channel of a series, and what an attacker may do to it.

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


def one_hot_groups(columns: Sequence[Column]) -> dict[str, tuple[int, ...]]:
    """Of each one-hot group the places in ``columns`` of those of it, rising; in order of their first ones.

    Columns of no group are in none.
    """
    found: dict[str, list[int]] = {}
    for at, column in enumerate(columns):
        if column.one_hot:
            found.setdefault(column.one_hot, []).append(at)
    return {group: tuple(places) for group, places in found.items()}


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """That a model begins with what has no useful gradient (fewer bits, JPEG, a median), as its judge says.

    It goes ``until`` a tensor of the model's graph (empty: to be found). On the way back ``stand_in`` takes
    its place (Athalye et al. 2018): the ``identity``, or the ``mean`` of windows of ``size`` by ``size``.
    """

    until: str = ""
    stand_in: str = "identity"
    size: int = 3

    def __post_init__(self) -> None:
        where = "domain.preprocessing"
        if self.stand_in not in ("identity", "mean"):
            raise BadInput(f"no stand-in {self.stand_in!r:.50}", where=where, hint="identity or mean")
        if not (1 <= self.size <= 99 and self.size % 2):
            raise BadInput("size is an odd number, 1 to 99", where=where)


@dataclass(frozen=True, slots=True)
class Domain:
    """What a row is.

    ``shape`` of an image is (height, width) or (height, width, channels), with ``channels_first`` (channels,
    height, width); of a series (steps,) or (steps, channels), with ``channels_first`` (channels, steps);
    otherwise empty. ``low`` and ``high`` are the range of every number, but for tables and series, whose
    ``columns`` (of a series one for each channel, in order) have each their own. ``groups`` names columns of
    the data (not necessarily features) by which worst-group accuracy is taken.

    Of a text a word may be misspelt by up to ``chars_max`` characters, and whole words may be changed as
    ``word_edits`` says, for one of the same group of ``synonyms`` too; no word in ``immutable`` is touched,
    nor more than ``share_max`` of all words (but always one). ``preprocessing`` is what such a model begins
    with, where gradients are to be taken across it.
    """

    kind: DomainKind = DomainKind.VECTOR
    shape: tuple[int, ...] = ()
    channels_first: bool = False
    low: float = 0.0
    high: float = 1.0
    columns: tuple[Column, ...] = ()
    groups: tuple[str, ...] = ()
    chars_max: int = 2
    share_max: float = 0.5
    word_edits: tuple[str, ...] = WORD_EDITS
    immutable: tuple[str, ...] = ()
    synonyms: tuple[tuple[str, ...], ...] = ()
    preprocessing: Preprocessing | None = None

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
        if self.columns and self.kind not in (DomainKind.TABULAR, DomainKind.SERIES):
            text = f"rows of kind {self.kind} have no columns: what is said of them would count for nothing"
            raise BadInput(text, where="domain.columns", hint='say kind = "tabular", or "series"')
        if self.kind is DomainKind.SERIES:
            self._check_channels()
        self._check_words()
        if self.preprocessing and self.preprocessing.stand_in == "mean" and self.kind is not DomainKind.IMAGE:
            raise BadInput("a mean over windows is of images", where="domain.preprocessing")

    def _check_channels(self) -> None:
        if self.columns and len(self.columns) != self.steps_and_channels[1]:
            text = f"{len(self.columns)} columns for {self.steps_and_channels[1]} channels"
            raise BadInput(text, where="domain.columns", hint="of a series, one for each channel, in order")
        if any(c.one_hot for c in self.columns):
            raise BadInput("a channel is of no one-hot group", where="domain.columns")

    def _check_words(self) -> None:
        if not 0 <= self.chars_max <= CHARS_MAX or not 0 < self.share_max <= 1:
            raise BadInput("chars_max is 0 to 10, share_max above 0 and at most 1", where="domain")
        if unknown := [name for name in self.word_edits if name not in WORD_EDITS]:
            hint = f"known: {', '.join(WORD_EDITS)}"
            raise BadInput(f"no edit of words {unknown[0]!r:.50}", where="domain.word_edits", hint=hint)
        for word in (*self.immutable, *(word for group in self.synonyms for word in group)):
            if not word or any(c.isspace() for c in word):
                hint = "words are what white space separates"
                raise BadInput(f"{word!r:.50} is no single word", where="domain", hint=hint)

    @property
    def steps_and_channels(self) -> tuple[int, int]:
        """Of a series."""
        if len(self.shape) == 1:
            return self.shape[0], 1
        return (self.shape[1], self.shape[0]) if self.channels_first else (self.shape[0], self.shape[1])

    def by_feature(self, features: Sequence[str], count: int) -> tuple[Column, ...]:
        """What may be done to each of ``count`` features, which are called ``features`` (or not at all).

        Of a table its columns by name, of a series those of the feature's channel. Of what no column speaks,
        of a table a column of the domain's range, and otherwise one whose ``scale`` is 1: eps in the data's
        own unit. BadInput where a table's columns are named and the features are not.
        """
        spare = Column("", self.low, self.high, scale=0.0 if self.kind is DomainKind.TABULAR else 1.0)
        if self.kind is DomainKind.SERIES and self.columns and count == math.prod(self.shape):
            steps, channels = self.steps_and_channels
            if self.channels_first:
                return tuple(self.columns[at // steps] for at in range(count))
            return tuple(self.columns[at % channels] for at in range(count))
        if self.kind is not DomainKind.TABULAR or not self.columns:
            return (spare,) * count
        if len(features) != count:
            raise BadInput(f"{len(features)} names for {count} features", where="features")
        named = {column.name: column for column in self.columns}
        return tuple(named.get(name, spare) for name in features)


@dataclass(frozen=True, slots=True)
class Budget:
    """What the attacker may do, and how much of it is tried.

    ``eps`` are L-infinity radii in the unit of the data; of a table, shares of each column's span, and of a
    series of each channel's spread. Of a text ``edits`` count instead: how many of its words are changed.
    The first ``samples_max`` rows of a seeded order are attacked; each may be asked about ``queries_max``
    times by all black-box attacks together, and ``steps_max`` gradient steps are taken in each of
    ``restarts`` by a white-box one. ``low`` and ``high`` are the range of features where no domain says
    otherwise. ``precision`` is the half-width of a rate's 95 % interval that is good enough: evidence says
    what lacks it.
    """

    eps: tuple[float, ...] = (0.05, 0.1, 0.15, 0.2)
    samples_max: int = 120
    queries_max: int = 5000
    steps_max: int = 40
    restarts: int = 1
    seed: int = 7
    low: float = 0.0
    high: float = 1.0
    precision: float = 0.03
    edits: tuple[int, ...] = (1, 2, 4, 8)

    def __post_init__(self) -> None:
        if not self.edits or list(self.edits) != sorted(set(self.edits)) or self.edits[0] < 1:
            raise BadInput("edits must be whole numbers above 0, and rising", where="budget.edits")
        if self.edits[-1] > EDITS_MAX:
            raise BadInput(f"edits are at most {EDITS_MAX:,}", where="budget.edits")
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
        if not 0.001 <= self.precision <= 0.5:
            raise BadInput("precision is 0.001 to 0.5", where="budget.precision", hint="0.03 is 3 points")

    def of(self, kind: DomainKind) -> Budget:
        """The same for rows of this kind: ``eps`` of texts are the ``edits``."""
        return replace(self, eps=tuple(map(float, self.edits))) if kind is DomainKind.TEXT else self
