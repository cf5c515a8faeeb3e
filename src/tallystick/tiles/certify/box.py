"""The box of rows that an attacker may make of a row, never smaller than what the domain allows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tallystick.evidence.domain import Domain, DomainKind, one_hot_groups

__all__ = ["Box", "Choice"]

TOLERANCE = 1e-6
"""As attacks are judged: what rounding ``x + eps`` may add to a distance that still counts as within eps."""


@dataclass(frozen=True)
class Choice:
    """What a one-hot group may be: one of ``rows`` (a, m) in its ``columns`` (m,)."""

    columns: np.ndarray
    rows: np.ndarray


class Box:
    """Of a domain of ``size`` features. ``span`` (d,) is how far one eps goes in each."""

    def __init__(self, domain: Domain, size: int) -> None:
        columns = domain.by_feature([column.name for column in domain.columns], size)
        self.low, self.high, self.span = (
            np.array([getattr(c, name) for c in columns], np.float64) for name in ("low", "high", "span")
        )
        self._whole = np.array([c.integer or bool(c.one_hot) for c in columns])
        self.groups = tuple(np.array(places) for _, places in sorted(one_hot_groups(columns).items()))
        self._fixed = np.array([c.immutable for c in columns])
        self._up = np.array([c.direction == "up" for c in columns])
        self._down = np.array([c.direction == "down" for c in columns])
        step = np.spacing(np.maximum(np.abs(self.low), np.abs(self.high)).astype(np.float32))
        each = bool(domain.columns) or domain.kind is DomainKind.TABULAR
        least = TOLERANCE if each else TOLERANCE * float((self.high - self.low).max())
        self.slack = max(least, float((step / self.span).max()))

    def around(self, x: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
        """float64 (n, features) least and greatest values; each column of a one-hot group by itself, so that
        with groups the box holds more than what is allowed: :meth:`choices` says what.
        """
        here = x.astype(np.float64)
        reach = (eps + self.slack) * self.span
        low = np.maximum(here - reach, self.low.astype(np.float32))
        high = np.minimum(here + reach, self.high.astype(np.float32))
        low = np.where(self._whole, np.ceil(low), low)
        high = np.where(self._whole, np.floor(high), high)
        low, high = np.where(self._up, here, low), np.where(self._down, here, high)
        low, high = np.where(self._fixed, here, low), np.where(self._fixed, here, high)
        return np.minimum(low, here), np.maximum(high, here)  # to stay is always allowed

    def choices(self, here: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[Choice, ...]:
        """Of each one-hot group what is allowed within ``low`` to ``high`` (features,) of the row ``here``.

        One column is 1 and the others are 0, as attacks are held to it; or the group stays what it is.
        """
        made = []
        for columns in self.groups:
            ones = np.eye(len(columns))
            within = ((ones >= low[columns]) & (ones <= high[columns])).all(axis=1)
            stay = here[None, columns].astype(np.float64)
            made.append(Choice(columns, np.unique(np.concatenate([ones[within], stay]), axis=0)))
        return tuple(made)

    def is_whole(self, rows: np.ndarray) -> np.ndarray:
        """Features (features,) that are whole in whatever the attacker makes of a row, for each of ``rows``
        (n, features): those that must be, where none of them is a fraction now.
        """
        stays = (rows == np.round(rows)) | ~self._whole
        return np.asarray(self._whole & stays.all(axis=1)[:, None])
