"""How far one sample of numbers lies from another: PSI and the two-sample Kolmogorov-Smirnov test."""

from __future__ import annotations

import math

import numpy as np

from tallystick.core.signal import ColumnDrift

__all__ = ["column_drift", "ks_p_value", "ks_statistic", "psi"]

BINS = 10
TERMS = 100


def column_drift(name: str, reference: np.ndarray, live: np.ndarray) -> ColumnDrift:
    """Both measures for one column: float64 (n,) each; what is no number is left out.

    A column without any number on one side has drifted as far as it can; without any on both, not at all.
    """
    reference, live = reference[~np.isnan(reference)], live[~np.isnan(live)]
    if not len(reference) and not len(live):
        return ColumnDrift(name, psi=0.0, ks=0.0, p_value=1.0)
    ks = ks_statistic(reference, live) if len(reference) and len(live) else 1.0
    p_value = ks_p_value(ks, len(reference), len(live)) if len(reference) and len(live) else 0.0
    return ColumnDrift(name, psi=psi(reference, live), ks=ks, p_value=p_value)


def psi(reference: np.ndarray, live: np.ndarray) -> float:
    """The population stability index over bins between the reference's inner deciles, equal ones once.

    Half a row is added to every bin, so that an empty one costs no infinity.
    """
    edges: np.ndarray = np.empty(0)
    if len(reference):
        edges = np.unique(np.quantile(reference, np.linspace(0, 1, BINS + 1)[1:-1]))
    p, q = (_shares(edges, values) for values in (reference, live))
    return float(((q - p) * np.log(q / p)).sum())


def _shares(edges: np.ndarray, values: np.ndarray) -> np.ndarray:
    counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1) + 0.5
    shares: np.ndarray = counts / counts.sum()
    return shares


def ks_statistic(first: np.ndarray, second: np.ndarray) -> float:
    """The largest difference between the two empirical distribution functions, 0 to 1."""
    first, second = np.sort(first), np.sort(second)
    points = np.concatenate([first, second])
    below_first = np.searchsorted(first, points, side="right") / len(first)
    below_second = np.searchsorted(second, points, side="right") / len(second)
    return float(np.abs(below_first - below_second).max())


def ks_p_value(statistic: float, rows_first: int, rows_second: int) -> float:
    """The asymptotic two-sided p-value, with Stephens' correction for few rows (1970).

    Values that repeat, as pixels do, make it larger than it need be, never smaller.
    """
    root = math.sqrt(rows_first * rows_second / (rows_first + rows_second))
    x = (root + 0.12 + 0.11 / root) * statistic
    if x < 0.2:  # there the series needs many terms, and says 1 to ten digits
        return 1.0
    terms = (math.copysign(1, k % 2 - 0.5) * math.exp(-2 * k * k * x * x) for k in range(1, TERMS))
    return min(1.0, max(0.0, 2 * sum(terms)))
