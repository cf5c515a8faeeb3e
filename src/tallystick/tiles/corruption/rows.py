"""Tables, series and plain vectors: noise, values gone, units mixed up, columns swapped, readings that drift.

Of series also a gap that a pipeline fills by a straight line, a sensor that is stuck, and time that runs
unevenly (the warping of Um et al. 2017, who train with it).

Strengths are shares: of each column's standard deviation for noise, of cells or rows for the rest. A value
that is gone is what a pipeline usually puts in its place: the column's mean, of a series the reading before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tallystick.evidence.domain import Domain, one_hot_groups
from tallystick.tiles.corruption.images import Spoil

__all__ = ["SERIES", "TABLES", "VECTORS", "kept_possible"]

UNITS = (2.2046, 10.0, 60.0, 100.0, 1000.0)
"""Pounds for kilograms, millimetres for centimetres, minutes for hours, cents for euros, grams for kilos."""

CELLS = (0.05, 0.1, 0.2, 0.3, 0.5)
DEVIATIONS = (0.1, 0.2, 0.4, 0.6, 1.0)


def _noise(x: np.ndarray, strength: float, chance: np.random.Generator) -> np.ndarray:
    noise = chance.normal(0.0, 1.0, x.shape).astype(np.float32) * np.float32(strength)
    noisy: np.ndarray = x + noise * x.std(axis=0)
    return noisy


def _missing(x: np.ndarray, strength: float, chance: np.random.Generator) -> np.ndarray:
    return np.where(chance.random(x.shape) < strength, x.mean(axis=0), x)


def _units(x: np.ndarray, strength: float, chance: np.random.Generator) -> np.ndarray:
    """In a share of the rows one column is told in another unit."""
    spoilt = x.copy()
    hit = np.flatnonzero(chance.random(len(x)) < strength)
    columns = chance.integers(0, x.shape[1], len(hit))
    factors = np.asarray(UNITS, np.float32)[chance.integers(0, len(UNITS), len(hit))]
    spoilt[hit, columns] *= np.where(chance.random(len(hit)) < 0.5, factors, 1 / factors)
    return spoilt


def _swapped(x: np.ndarray, strength: float, chance: np.random.Generator) -> np.ndarray:
    """In a share of the rows two columns that stand beside each other change places."""
    spoilt = x.copy()
    if x.shape[1] > 1:
        hit = np.flatnonzero(chance.random(len(x)) < strength)
        left = chance.integers(0, x.shape[1] - 1, len(hit))
        spoilt[hit, left], spoilt[hit, left + 1] = x[hit, left + 1], x[hit, left]
    return spoilt


def _rounded(x: np.ndarray, strength: float, chance: np.random.Generator) -> np.ndarray:
    """Told in whole multiples of ``strength`` standard deviations."""
    step = x.std(axis=0) * np.float32(strength)
    safe = np.where(step > 0, step, 1)
    return np.where(step > 0, np.rint(x / safe) * safe, x)


def _stuck(x: np.ndarray, strength: float, chance: np.random.Generator) -> np.ndarray:
    """A share of the readings is missing: the one before stands in their place. (n, steps, channels)."""
    gone = chance.random(x.shape[:2]) < strength
    gone[:, 0] = False
    last = np.maximum.accumulate(np.where(gone, 0, np.arange(x.shape[1])), axis=1)
    filled: np.ndarray = np.take_along_axis(x, last[:, :, None], axis=1)
    return filled


def _shifted(x: np.ndarray, strength: float, chance: np.random.Generator) -> np.ndarray:
    """Begun late by up to a share of its length; the first reading stands for what came before."""
    steps = x.shape[1]
    late = chance.integers(0, max(1, int(steps * strength)) + 1, len(x))
    at = np.clip(np.arange(steps)[None, :] - late[:, None], 0, steps - 1)
    moved: np.ndarray = np.take_along_axis(x, at[:, :, None], axis=1)
    return moved


def _drifting(x: np.ndarray, strength: float, chance: np.random.Generator) -> np.ndarray:
    """A sensor that drifts: by ``strength`` standard deviations from the first reading to the last."""
    slope = np.linspace(0.0, 1.0, x.shape[1], dtype=np.float32)[None, :, None]
    side = chance.choice([-1.0, 1.0], (len(x), 1, 1)).astype(np.float32)
    moved: np.ndarray = x + side * slope * x.std(axis=(0, 1)) * np.float32(strength)
    return moved


def _spikes(x: np.ndarray, strength: float, chance: np.random.Generator) -> np.ndarray:
    """Single readings far off: five standard deviations, in a share of all."""
    hit = chance.random(x.shape) < strength / 5
    side = chance.choice([-1.0, 1.0], x.shape).astype(np.float32)
    return np.where(hit, x + side * 5 * x.std(axis=(0, 1)), x)


def _gap(x: np.ndarray, strength: float, chance: np.random.Generator) -> np.ndarray:
    """All channels are missing for a share of the time: a straight line stands in the gap."""
    steps = x.shape[1]
    long = max(1, min(steps - 1, int(steps * strength)))
    first = chance.integers(0, steps - long + 1, len(x))[:, None]
    at = np.arange(steps)[None, :]
    inside = (at >= first) & (at < first + long)
    left, right = np.maximum(first - 1, 0), np.minimum(first + long, steps - 1)
    left, right = np.where(first == 0, right, left), np.where(first + long == steps, left, right)
    share = ((at - left) / np.maximum(right - left, 1)).astype(np.float32)[:, :, None]
    ends = [np.take_along_axis(x, end[:, :, None], axis=1) for end in (left, right)]
    return np.where(inside[:, :, None], ends[0] + share * (ends[1] - ends[0]), x)


def _frozen(x: np.ndarray, strength: float, chance: np.random.Generator) -> np.ndarray:
    """One channel says the same for a share of the time: its sensor is stuck."""
    steps = x.shape[1]
    long = max(2, int(steps * strength))
    first = chance.integers(0, max(1, steps - long + 1), len(x))
    channel = chance.integers(0, x.shape[2], len(x))
    at = np.arange(steps)[None, :]
    inside = (at >= first[:, None]) & (at < first[:, None] + long)
    stuck = x[np.arange(len(x)), first, channel][:, None, None]
    mine = (np.arange(x.shape[2])[None, :] == channel[:, None])[:, None, :]
    return np.where(inside[:, :, None] & mine, stuck, x)


def _warped(x: np.ndarray, strength: float, chance: np.random.Generator) -> np.ndarray:
    """Time runs unevenly: the middle comes earlier or later by a share of the length, the ends do not."""
    steps = x.shape[1]
    even = np.arange(steps) / max(1, steps - 1)
    side = chance.choice([-1.0, 1.0], (len(x), 1))
    place = np.clip((even + side * strength * np.sin(np.pi * even)) * (steps - 1), 0, steps - 1)
    before = np.floor(place).astype(np.int64)
    share = (place - before).astype(np.float32)[:, :, None]
    one = np.take_along_axis(x, before[:, :, None], axis=1)
    other = np.take_along_axis(x, np.minimum(before + 1, steps - 1)[:, :, None], axis=1)
    moved: np.ndarray = one + share * (other - one)
    return moved


Strengths = tuple[Spoil, Sequence[float]]

VECTORS: Mapping[str, Strengths] = {
    "noise": (_noise, DEVIATIONS),
    "missing values": (_missing, CELLS),
    "rounding": (_rounded, DEVIATIONS),
}
TABLES: Mapping[str, Strengths] = {
    **VECTORS,
    "unit mix-up": (_units, (0.1, 0.2, 0.4, 0.7, 1.0)),
    "swapped columns": (_swapped, (0.1, 0.2, 0.4, 0.7, 1.0)),
}
SERIES: Mapping[str, Strengths] = {
    "noise": (_noise, DEVIATIONS),
    "missing readings": (_stuck, CELLS),
    "late start": (_shifted, (0.02, 0.05, 0.1, 0.2, 0.3)),
    "drift": (_drifting, DEVIATIONS),
    "spikes": (_spikes, CELLS),
    "gap": (_gap, CELLS),
    "stuck sensor": (_frozen, (0.1, 0.2, 0.4, 0.7, 1.0)),
    "time warp": (_warped, (0.02, 0.04, 0.07, 0.1, 0.15)),
}


def kept_possible(spoilt: np.ndarray, domain: Domain, features: Sequence[str]) -> np.ndarray:
    """Rows of a table with whole numbers and categories as they can be told at all.

    Ranges are not kept: a value in the wrong unit is out of range, and arrives all the same. Of a one-hot
    group that is not one any more, the largest counts.
    """
    places = {name: at for at, name in enumerate(features)}
    found = spoilt.copy()
    known = [column for column in domain.columns if column.name in places]
    whole = [places[column.name] for column in known if column.integer and not column.one_hot]
    found[:, whole] = np.rint(found[:, whole])
    for group in one_hot_groups(known).values():
        columns = [places[known[at].name] for at in group]
        block = spoilt[:, columns]
        single = (block == block.max(axis=1, keepdims=True)).argmax(axis=1)
        found[:, columns] = np.eye(len(columns), dtype=found.dtype)[single]
    return found
