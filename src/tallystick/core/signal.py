"""Signals: something that production says, with its figures. The first kind is drift of the inputs."""

from __future__ import annotations

from dataclasses import dataclass

from tallystick.core.errors import BadInput
from tallystick.core.names import DEFAULT_TENANT

__all__ = ["ColumnDrift", "Drift", "DriftLimits", "Signal", "weigh_drift"]


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

    A column has drifted when its p-value is below ``alpha`` divided by the number of columns
    (Bonferroni); the signal is raised when more than ``share_max`` of the columns have. Fewer than
    ``rows_min`` live rows say nothing.
    """

    alpha: float = 0.01
    share_max: float = 0.1
    rows_min: int = 100

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1 or not 0 <= self.share_max < 1 or self.rows_min < 1:
            raise BadInput("alpha and share_max are rates below 1, rows_min at least 1", where="drift limits")


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
    at_ms: int = 0
    tenant: str = DEFAULT_TENANT


def weigh_drift(drift: Drift, limits: DriftLimits) -> tuple[bool, float, tuple[ColumnDrift, ...]]:
    """Whether to raise a signal, the share of drifted columns (0 to 1), and those, most drifted first."""
    if not drift.columns or drift.rows_live < limits.rows_min:
        return False, 0.0, ()
    threshold = limits.alpha / len(drift.columns)
    drifted = sorted((c for c in drift.columns if c.p_value < threshold), key=lambda c: (-c.ks, c.column))
    share = len(drifted) / len(drift.columns)
    return share > limits.share_max, share, tuple(drifted)
