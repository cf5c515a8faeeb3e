"""Distances in the unit of eps, which changes the domain allows, and random noise of the same size."""

from __future__ import annotations

import numpy as np

from tallystick.evidence.domain import Column, Domain, DomainKind, one_hot_groups
from tallystick.evidence.wording import LETTERS_MIN, Text, Wording, parted

__all__ = ["allowed", "by_channel", "distances", "misspelt", "noisy", "prices", "spans", "tolerance"]

COLUMNED = (DomainKind.TABULAR, DomainKind.SERIES)
"""Kinds of data whose domain has columns, each with a range and a span of its own."""

TOLERANCE = 1e-6
"""In the unit of eps as a share of the range: what rounding ``x + eps`` to float32 may add."""


def spans(domain: Domain, features: int) -> np.ndarray:
    """How far one eps goes in each feature, float64 (features,): its column's or channel's span, else 1."""
    if domain.kind not in COLUMNED:
        return np.ones(features)
    return np.array([column.span for column in _columns(domain, features)], np.float64)


def _columns(domain: Domain, features: int) -> tuple[Column, ...]:
    """A column for each feature: by now the domain of a table names all of them, in order."""
    return domain.by_feature([column.name for column in domain.columns], features)


def by_channel(domain: Domain, series: np.ndarray) -> np.ndarray:
    """Of series (..., features) float64 (..., channels, steps)."""
    steps, channels = domain.steps_and_channels
    made = series.astype(np.float64)
    if domain.channels_first:
        return made.reshape(*series.shape[:-1], channels, steps)
    return made.reshape(*series.shape[:-1], steps, channels).swapaxes(-1, -2)


def distances(domain: Domain, x: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """The largest change of each row in the unit of eps, float64 (n,); NaN where a row of ``changed`` has."""
    far = np.abs(changed.astype(np.float64) - x) / spans(domain, x.shape[1])
    return np.asarray(far.max(axis=1)) if len(far) else np.empty(0)


def prices(domain: Domain, x: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """What the changes of each row cost by the domain, float64 (n,): of a category, that of the one taken."""
    columns = _columns(domain, x.shape[1])
    cost, hot = np.array([c.cost for c in columns]), np.array([bool(c.one_hot) for c in columns])
    moved = changed.astype(np.float64) - x
    return np.asarray(np.where(hot, moved > 0, np.abs(moved) / spans(domain, x.shape[1])) @ cost)


def tolerance(domain: Domain, x: np.ndarray) -> float:
    """What a distance may exceed an eps by and still count as within: the step of float32 where x lies."""
    if domain.kind is DomainKind.TEXT:
        return TOLERANCE
    if domain.kind in COLUMNED and domain.columns:
        reach = [max(abs(c.low), abs(c.high)) for c in _columns(domain, x.shape[1])]
        steps = np.spacing(np.array(reach, np.float32)) / spans(domain, x.shape[1])
        return max(TOLERANCE, float(steps.max(initial=0.0)))
    step = float(np.spacing(np.float32(max(abs(domain.low), abs(domain.high)))))
    return max(TOLERANCE * (domain.high - domain.low), step)


def allowed(domain: Domain, x: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """Which changed rows an attacker may make of ``x``, bool (n,): in range, whole where whole, and so on."""
    finite = np.isfinite(changed).all(axis=1)
    if domain.kind not in COLUMNED or not domain.columns:
        low, high = np.float32(domain.low), np.float32(domain.high)
        return np.asarray(finite & (changed >= low).all(axis=1) & (changed <= high).all(axis=1))
    good = finite
    for at, column in enumerate(_columns(domain, x.shape[1])):
        good &= _column_allows(column, x[:, at], changed[:, at])
    for places in map(list, one_hot_groups(domain.columns).values()):
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
    if domain.kind not in COLUMNED or not domain.columns:
        return np.asarray(np.clip(made, domain.low, domain.high), np.float32)
    for at, column in enumerate(_columns(domain, x.shape[1])):
        made[:, at] = _column_noise(column, x[:, at], made[:, at])
    return np.asarray(made, np.float32)


def _column_noise(column: Column, before: np.ndarray, made: np.ndarray) -> np.ndarray:
    if column.immutable or column.one_hot:
        return before.astype(np.float64)
    low = np.maximum(column.low, before) if column.direction == "up" else np.float64(column.low)
    high = np.minimum(column.high, before) if column.direction == "down" else np.float64(column.high)
    return np.asarray(np.clip(np.round(made) if column.integer else made, low, high))


def misspelt(wording: Wording, texts: np.ndarray, most: int, seed: int) -> np.ndarray:
    """``texts`` (n,) with up to ``most`` words misspelt at random, object (n,) of str: the noise of texts.

    Of words that may be changed two inner letters are swapped. More words for a larger ``most``, and never
    others.
    """
    made = np.empty(len(texts), object)
    for row, text in enumerate(map(str, texts)):
        draw = np.random.default_rng([seed, 2, row])
        cut = Text.cut(text)
        words, left = list(cut.words), min(most, wording.limit(len(cut.words)))
        for at in draw.permutation(len(words)).tolist():
            if not left:
                break
            words[at] = _swapped(wording, words[at], draw)
            left -= words[at] != cut.words[at]
        made[row] = cut.joined(words)
    return made


def _swapped(wording: Wording, word: str, draw: np.random.Generator) -> str:
    """With two letters swapped, neither of them the first; as it is where that is not allowed."""
    before, core, after = parted(word)
    if len(core) < LETTERS_MIN:
        return word
    at = int(draw.integers(1, len(core) - 1))
    made = before + core[:at] + core[at + 1] + core[at] + core[at + 2 :] + after
    return made if wording.misspells(word, made) else word
