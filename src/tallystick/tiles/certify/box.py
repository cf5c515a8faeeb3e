"""The box of rows that an attacker may make of a row, never smaller than what the domain allows."""

from __future__ import annotations

import numpy as np

from tallystick.evidence.domain import Column, Domain, DomainKind

__all__ = ["Box"]

TOLERANCE = 1e-6
"""As attacks are judged: what rounding ``x + eps`` may add to a distance that still counts as within eps."""


class Box:
    """Of a domain of ``size`` features. ``span`` (d,) is how far one eps goes in each."""

    def __init__(self, domain: Domain, size: int) -> None:
        table = domain.kind is DomainKind.TABULAR
        plain = Column("", domain.low, domain.high, scale=0.0 if table else 1.0)
        columns = domain.columns if table and len(domain.columns) == size else (plain,) * size
        self.low, self.high, self.span = (
            np.array([getattr(c, name) for c in columns], np.float64) for name in ("low", "high", "span")
        )
        self._whole = np.array([c.integer or bool(c.one_hot) for c in columns])
        self._fixed = np.array([c.immutable for c in columns])
        self._up = np.array([c.direction == "up" for c in columns])
        self._down = np.array([c.direction == "down" for c in columns])
        step = np.spacing(np.maximum(np.abs(self.low), np.abs(self.high)).astype(np.float32))
        least = TOLERANCE if table else TOLERANCE * float((self.high - self.low).max())
        self.slack = max(least, float((step / self.span).max()))

    def around(self, x: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
        """float64 (n, features) least and greatest values; each column of a one-hot group by itself."""
        here = x.astype(np.float64)
        reach = (eps + self.slack) * self.span
        low = np.maximum(here - reach, self.low.astype(np.float32))
        high = np.minimum(here + reach, self.high.astype(np.float32))
        low = np.where(self._whole, np.ceil(low), low)
        high = np.where(self._whole, np.floor(high), high)
        low, high = np.where(self._up, here, low), np.where(self._down, here, high)
        low, high = np.where(self._fixed, here, low), np.where(self._fixed, here, high)
        return np.minimum(low, here), np.maximum(high, here)  # to stay is always allowed
