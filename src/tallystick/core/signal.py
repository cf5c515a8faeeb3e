"""Signals: something that production says, with its figures. The first kind is drift of the inputs."""

from __future__ import annotations

from dataclasses import dataclass

from tallystick.core.errors import BadInput
from tallystick.core.names import DEFAULT_TENANT

__all__ = ["ColumnDrift", "Drift", "DriftLimits", "Signal", "drift_words", "weigh_drift"]

NAMED_MAX = 3
"""Columns that a sentence names; a signal's ``worst`` has them all."""


@dataclass(frozen=True, slots=True)
class ColumnDrift:
    """One column, live against reference.

    ``psi`` is the population stability index over bins of the reference; ``ks`` the two-sample
    Kolmogorov-Smirnov statistic and ``p_value`` its asymptotic two-sided p-value.
    """

    column: str
    psi: float
    ks: float
    p_value: float


@dataclass(frozen=True, slots=True)
class Drift:
    """Drift of an endpoint's recorded inputs against the data its model was made from."""

    reference: str
    reference_digest: str
    rows_reference: int
    rows_live: int
    columns: tuple[ColumnDrift, ...]
    first_ms: int = 0
    last_ms: int = 0


@dataclass(frozen=True, slots=True)
class DriftLimits:
    """When drift becomes a signal.

    A column has drifted when chance does not explain it (its p-value is below ``alpha`` divided by
    the number of columns, after Bonferroni) and it matters (its KS statistic is at least ``ks_min``:
    with many rows chance explains no trifle any more). The signal is raised when more than
    ``share_max`` of the columns have drifted, or a single one by ``ks_alone`` or more. Fewer than
    ``rows_min`` live rows say nothing; only the newest ``rows_max`` are looked at.
    """

    alpha: float = 0.01
    share_max: float = 0.1
    rows_min: int = 100
    rows_max: int = 1000
    ks_min: float = 0.1
    ks_alone: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1 or not 0 <= self.share_max < 1:
            raise BadInput("alpha and share_max are rates below 1", where="drift limits")
        if not 1 <= self.rows_min <= self.rows_max:
            raise BadInput("rows_min is at least 1 and at most rows_max", where="drift limits")
        if not 0 <= self.ks_min <= self.ks_alone <= 1:
            raise BadInput("ks_min and ks_alone are from 0 to 1, and in this order", where="drift limits")


@dataclass(frozen=True, slots=True)
class Signal:
    """A raised signal; ``share`` of the columns drifted, ``worst`` names them, most drifted first."""

    key: str
    endpoint: str
    model: str
    share: float
    worst: tuple[str, ...]
    text: str
    drift: Drift
    kind: str = "drift"
    generation: int = 0
    at_ms: int = 0
    tenant: str = DEFAULT_TENANT


def weigh_drift(drift: Drift, limits: DriftLimits) -> tuple[bool, float, tuple[ColumnDrift, ...]]:
    """Whether to raise a signal, the share of drifted columns (0 to 1), and those, most drifted first."""
    if not drift.columns or drift.rows_live < limits.rows_min:
        return False, 0.0, ()
    threshold = limits.alpha / len(drift.columns)
    moved = (c for c in drift.columns if c.p_value < threshold and c.ks >= limits.ks_min)
    drifted = sorted(moved, key=lambda c: (-c.ks, c.column))
    share = len(drifted) / len(drift.columns)
    alone = bool(drifted) and drifted[0].ks >= limits.ks_alone
    return share > limits.share_max or alone, share, tuple(drifted)


def drift_words(drift: Drift, limits: DriftLimits) -> str:
    """What ``drift`` says, in a sentence: too little to say, some columns, or enough for a signal."""
    against = f"{drift.rows_live:,} rows against {drift.rows_reference:,} of {drift.reference}"
    if drift.rows_live < limits.rows_min:
        return f"too few rows to say anything: {drift.rows_live:,}, of at least {limits.rows_min:,}"
    raised, share, drifted = weigh_drift(drift, limits)
    if not drifted:
        return f"none of {len(drift.columns)} columns has drifted: {against}"
    worst = ", ".join(f"{c.column} (KS {c.ks:.2f}, PSI {c.psi:.2f})" for c in drifted[:NAMED_MAX])
    have = "has" if len(drifted) == 1 else "have"
    counted = f"{len(drifted)} of {len(drift.columns)} columns {have} drifted ({share:.0%}): {against}"
    end = "" if raised else f"; a signal is raised above {limits.share_max:.0%}"
    return f"{counted}; most of all {worst}{end}"
