"""Distances in the unit of eps, which changes the domain allows, and random noise of the same size."""

from __future__ import annotations

import numpy as np

from tallystick.evidence.domain import Column, Domain, DomainKind

__all__ = ["allowed", "distances", "noisy", "spans", "tolerance"]

TOLERANCE = 1e-6
"""In the unit of eps as a share of the range: what rounding ``x + eps`` to float32 may add."""


def spans(domain: Domain, features: int) -> np.ndarray:
    """How far one eps goes in each feature, float64 (features,): of tables each column's span, else 1."""
    if domain.kind is DomainKind.TABULAR:
        return np.array([column.span for column in domain.columns], np.float64)
    return np.ones(features)


def distances(domain: Domain, x: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """The largest change of each row in the unit of eps, float64 (n,); NaN where a row of ``changed`` has."""
    far = np.abs(changed.astype(np.float64) - x) / spans(domain, x.shape[1])
    return np.asarray(far.max(axis=1)) if len(far) else np.empty(0)


def tolerance(domain: Domain, x: np.ndarray) -> float:
    """What a distance may exceed an eps by and still count as within: the step of float32 where x lies."""
    if domain.kind is DomainKind.TEXT:
        return TOLERANCE
    if domain.kind is DomainKind.TABULAR:
        reach = [max(abs(c.low), abs(c.high)) for c in domain.columns]
        steps = np.spacing(np.array(reach, np.float32)) / spans(domain, x.shape[1])
        return max(TOLERANCE, float(steps.max(initial=0.0)))
    step = float(np.spacing(np.float32(max(abs(domain.low), abs(domain.high)))))
    return max(TOLERANCE * (domain.high - domain.low), step)


def allowed(domain: Domain, x: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """Which changed rows an attacker may make of ``x``, bool (n,): in range, whole where whole, and so on."""
    finite = np.isfinite(changed).all(axis=1)
    if domain.kind is not DomainKind.TABULAR:
        low, high = np.float32(domain.low), np.float32(domain.high)
        return np.asarray(finite & (changed >= low).all(axis=1) & (changed <= high).all(axis=1))
    good = finite
    for at, column in enumerate(domain.columns):
        good &= _column_allows(column, x[:, at], changed[:, at])
    for group in {c.one_hot for c in domain.columns} - {""}:
        places = [at for at, c in enumerate(domain.columns) if c.one_hot == group]
        one = np.isin(changed[:, places], (0, 1)).all(axis=1) & (changed[:, places].sum(axis=1) == 1)
        good &= one | (changed[:, places] == x[:, places]).all(axis=1)
    return np.asarray(good)


def _column_allows(column: Column, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    if column.immutable:
        return np.asarray(before == after)
    good = (after >= np.float32(column.low)) & (after <= np.float32(column.high))
    if column.integer:
        good &= (after == np.round(after)) | (after == before)
    if column.direction == "up":
        good &= after >= before
    if column.direction == "down":
        good &= after <= before
    return np.asarray(good)


def noisy(domain: Domain, x: np.ndarray, eps: float, seed: int) -> np.ndarray:
    """``x`` with uniform noise up to ``eps`` in every feature that may change, float32 (n, features).

    The same draw for every eps, scaled. One-hot columns stay as they are.
    """
    draw = np.random.default_rng([seed, 1]).uniform(-1.0, 1.0, x.shape)
    made = x + eps * draw * spans(domain, x.shape[1])
    if domain.kind is not DomainKind.TABULAR:
        return np.asarray(np.clip(made, domain.low, domain.high), np.float32)
    for at, column in enumerate(domain.columns):
        made[:, at] = _column_noise(column, x[:, at], made[:, at])
    return np.asarray(made, np.float32)


def _column_noise(column: Column, before: np.ndarray, made: np.ndarray) -> np.ndarray:
    if column.immutable or column.one_hot:
        return before.astype(np.float64)
    low = np.maximum(column.low, before) if column.direction == "up" else np.float64(column.low)
    high = np.minimum(column.high, before) if column.direction == "down" else np.float64(column.high)
    return np.asarray(np.clip(np.round(made) if column.integer else made, low, high))
