"""How a model is without any attacker: its worst group, and how long it takes over one row.

Accuracy itself, and the size of the files, are measured where the rows are read: they need no tile.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tallystick.core.errors import BadInput, NotSupported
from tallystick.evidence.figures import Z_95, Figure, Rate, rate_figure
from tallystick.evidence.probe import Probe, Threat
from tallystick.ports.models.attack import Case, Found, Offer, Progress
from tallystick.ports.tile import Place

__all__ = ["CleanTile", "open_tile"]

WORST_GROUP = "worst group"
LATENCY = "latency"
LIBRARY = "tallystick"

GROUP_ROWS_MIN = 20
"""Of fewer rows nobody can say how a model fares with them."""

GROUPS_MAX = 500
"""Groups that are told, the worst first."""

WARM_ROWS = 20
"""Asked before the clock counts: caches fill, and libraries make their plans."""

TIMED_ROWS = 300
SECONDS_MAX = 60.0
TIMED_ROWS_MIN = 100
"""Below it there is no 99th percentile."""


class CleanTile:
    """See :class:`tallystick.ports.models.attack.Attack`."""

    def offers(self) -> tuple[Offer, ...]:
        """See the port."""
        worst = "accuracy of each group of rows, and of each class"
        return (
            Offer(WORST_GROUP, Threat.CLEAN, 1, worst, weight=0.1),
            Offer(LATENCY, Threat.CLEAN, 1, "how long it takes over one row at a time", weight=0.5),
        )

    def run(self, name: str, case: Case, progress: Progress) -> Found:
        """See the port."""
        if name == WORST_GROUP:
            return Found(_worst_group(case))
        if name == LATENCY:
            return Found(_latency(case, progress))
        raise BadInput(f"there is no probe {name!r:.100}", where="attack")

    def versions(self) -> dict[str, str]:
        """It depends on nothing beside numpy, which every result does."""
        return {}


def _worst_group(case: Case) -> Probe:
    """Accuracy of the worst group that has ``GROUP_ROWS_MIN`` rows, and of each; of classes without groups.

    Groups overlap where there are several columns of them: each column divides all rows anew.
    """
    right = case.scores.argmax(axis=1) == case.y
    found = sorted(_rates(case, right), key=lambda pair: (pair[1].value, pair[0]))
    large = [(name, rate) for name, rate in found if rate.total >= GROUP_ROWS_MIN]
    if not large:
        raise NotSupported(f"no group or class has {GROUP_ROWS_MIN} rows: judge on more of them")
    small = len(found) - len(large)
    notes = (f"{small} groups of under {GROUP_ROWS_MIN} rows were left out",) if small else ()
    figures = [rate_figure("worst_group_accuracy", rate, group=name) for name, rate in large]
    figures.insert(0, replace(figures[0], group=""))
    return Probe(
        name=WORST_GROUP,
        threat=Threat.CLEAN,
        library=LIBRARY,
        settings={"rows_min": GROUP_ROWS_MIN, "groups": len(large), "by": _by(case), "worst": large[0][0]},
        figures=tuple(figures[:GROUPS_MAX]),
        notes=notes,
        samples=len(right),
    )


def _by(case: Case) -> str:
    return ", ".join(case.groups) or "class"


def _rates(case: Case, right: np.ndarray) -> Iterator[tuple[str, Rate]]:
    """Every group that has rows, as ``column=value``."""
    by = case.groups or {"class": np.array([_class(case, place) for place in case.y], object)}
    for column, values in by.items():
        for value in sorted(set(values)):
            inside = values == value
            yield f"{column}={value}", Rate(int(right[inside].sum()), int(inside.sum()))


def _class(case: Case, place: int) -> str:
    return case.classes[place] if place < len(case.classes) else str(place)


def _latency(case: Case, progress: Progress) -> Probe:
    """Milliseconds for one row, as it is asked here: over a socket where the model has a process of its own.

    The 99th percentile is an order statistic; its interval is that of ranks (Conover 1999, 3.2), which
    assumes nothing of how times are spread.
    """
    draw = np.random.default_rng(case.budget.seed)
    order = draw.integers(len(case.x), size=WARM_ROWS + TIMED_ROWS)
    for at in order[:WARM_ROWS]:
        case.victim.scores(case.x[at : at + 1])
    taken: list[float] = []
    until = time.monotonic() + SECONDS_MAX
    for count, at in enumerate(order[WARM_ROWS:]):
        began = time.perf_counter_ns()
        case.victim.scores(case.x[at : at + 1])
        taken.append((time.perf_counter_ns() - began) / 1e6)
        progress(count / TIMED_ROWS, f"timing one row at a time: {count} of {TIMED_ROWS}")
        if time.monotonic() > until:
            break
    if len(taken) < TIMED_ROWS_MIN:
        raise NotSupported(f"it is too slow: {len(taken)} rows in {SECONDS_MAX:g} s")
    low, value, high = _p99(np.sort(taken))
    return Probe(
        name=LATENCY,
        threat=Threat.CLEAN,
        library=LIBRARY,
        settings={"rows": len(taken), "batch": 1, "warm_rows": WARM_ROWS},
        figures=(Figure("latency_ms_p99", value, low, high, len(taken)),),
        samples=len(taken),
    )


def _p99(times: np.ndarray) -> tuple[float, float, float]:
    """The 99th percentile of sorted times (n,) with its 95 % interval; the largest where ranks run out."""
    count, share = len(times), 0.99
    half = Z_95 * np.sqrt(count * share * (1 - share))
    ranks = [np.floor(count * share - half), np.ceil(count * share) - 1, np.ceil(count * share + half)]
    low, value, high = (float(times[int(np.clip(rank, 0, count - 1))]) for rank in ranks)
    return low, value, high


def open_tile(place: Place) -> CleanTile:
    """No options."""
    return CleanTile()
