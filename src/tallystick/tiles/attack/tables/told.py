"""What the probe ``table_edits`` says: the median cost of the cheapest edits, and a few of them in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tallystick.core.errors import NotSupported
from tallystick.evidence.figures import Figure
from tallystick.evidence.probe import Change, Example
from tallystick.tiles.attack.hunt import Hunt
from tallystick.tiles.attack.project import Space
from tallystick.tiles.attack.tables.edits import DEPTH_MAX, Search

__all__ = ["Told", "changes", "median_interval"]

RESAMPLES = 2000
NUMBERS_MAX = 2**20
EXAMPLES_MAX = 8
CHANGES_MAX = 20


def median_interval(values: np.ndarray, seed: int) -> tuple[float, float, float]:
    """The median of ``values`` (n,), and its 95 % percentile bootstrap interval (Efron 1979), seeded."""
    draw = np.random.default_rng(seed)
    size = len(values)
    each = max(1, NUMBERS_MAX // size)
    medians = np.concatenate(
        [
            np.median(values[draw.integers(0, size, (min(each, RESAMPLES - at), size))], axis=1)
            for at in range(0, RESAMPLES, each)
        ]
    )
    middle = float(np.median(values))
    low, high = np.quantile(medians, [0.025, 0.975])
    return middle, min(middle, float(low)), max(middle, float(high))


class Told:
    """The search over all rows that the model is right about, and what came of it."""

    def __init__(self, hunt: Hunt) -> None:
        self._hunt = hunt
        self._rows = np.flatnonzero(hunt.case.distance > 0)
        if not len(self._rows):
            raise NotSupported("the model is right about none of the rows", where="attack")
        if hunt.space.fixed.all():
            raise NotSupported("the domain lets an attacker change no column", where="domain.columns")
        self._search = Search(hunt, self._rows)

    def search(self, said: Callable[[float, str], None]) -> None:
        """Look for the edits."""
        self._search.go(said)

    @property
    def gradients(self) -> int:
        """Rows whose gradient was pulled."""
        return self._search.gradients

    def figures(self) -> tuple[Figure, ...]:
        """``flip_cost_median``; a row that no edit turned counts with the dearest edit that is allowed."""
        price = self._hunt.price[self._rows]
        price = np.where(np.isfinite(price), price, _ceiling(self._hunt.space, self._hunt.x[self._rows]))
        value, low, high = median_interval(price, self._hunt.case.budget.seed)
        return (Figure("flip_cost_median", value, low, high, len(self._rows)),)

    def notes(self) -> tuple[str, ...]:
        """Whether the median rests on rows that were not turned."""
        stood = int(np.isinf(self._hunt.price[self._rows]).sum())
        if not stood:
            return ()
        text = f"{stood} of {len(self._rows)} rows were turned by no edit that was tried"
        return (f"{text}; they count with the cost of the largest edit that the domain allows",)

    def settings(self) -> Mapping[str, Any]:
        """For the record."""
        gradients = self._hunt.case.victim.gradients
        return {
            "queries_max": self._hunt.queries,
            "depth_max": DEPTH_MAX,
            "interval": f"percentile bootstrap, {RESAMPLES} resamples",
            "guided_by": "gradients" if gradients else self._hunt.case.victim.gives,
            "sees": self._hunt.case.victim.gives,
        }

    def examples(self) -> tuple[Example, ...]:
        """A few of the cheapest edits, from the cheapest of all to the median one."""
        hunt, found = self._hunt, self._rows[np.isfinite(self._hunt.price[self._rows])]
        found = found[np.argsort(hunt.price[found], kind="stable")]
        if not len(found):
            return ()
        places = np.unique(np.linspace(0, (len(found) - 1) // 2, EXAMPLES_MAX).astype(int))
        chosen = found[places]
        scores, _ = hunt.ask(chosen, hunt.cheapest[chosen])
        far = hunt.space.distance(hunt.cheapest[chosen], hunt.x[chosen])
        return tuple(self._example(int(s), z, float(d)) for s, z, d in zip(chosen, scores, far, strict=True))

    def _example(self, sample: int, scores: np.ndarray, far: float) -> Example:
        hunt, case = self._hunt, self._hunt.case
        names = case.classes or tuple(str(c) for c in range(case.victim.classes))
        before = hunt.scores[sample]
        return Example(
            probe="table_edits",
            row=int(case.attacked[sample]),
            truth=_name(names, int(hunt.y[sample])),
            label_before=_name(names, int(before.argmax())),
            label_after=_name(names, int(scores.argmax())),
            confidence_before=_sure(before, case.victim.gives),
            confidence_after=_sure(scores, case.victim.gives),
            eps=round(far, 6),
            changes=changes(hunt.space, hunt.x[sample], hunt.cheapest[sample]),
        )


def _name(names: tuple[str, ...], place: int) -> str:
    return names[place] if place < len(names) else str(place)


def _sure(scores: np.ndarray, gives: str) -> float | None:
    if gives == "labels":
        return None
    top = float(scores.max())
    if gives == "logits":
        top = 1 / float(np.exp(scores.astype(np.float64) - top).sum())
    return round(min(1.0, max(0.0, top)), 6)


def _ceiling(space: Space, origin: np.ndarray) -> np.ndarray:
    """The cost (n,) of the dearest edit of each row that the domain allows."""
    least, most = space.bounds(origin)
    far = np.maximum(np.abs(least.astype(np.float64) - origin), np.abs(most.astype(np.float64) - origin))
    costs: np.ndarray = np.where(space.plain, far / space.span, 0.0) @ space.cost
    for group in space.groups.values():
        leave, take = space.switches(group)
        hot = origin[:, group].argmax(axis=1)
        prices = np.where(take, space.cost[group], 0.0)[None, :].repeat(len(origin), axis=0)
        prices[np.arange(len(origin)), hot] = 0.0
        costs += np.where(leave[hot], prices.max(axis=1), 0.0)
    return costs


def changes(space: Space, before: np.ndarray, after: np.ndarray) -> tuple[Change, ...]:
    """The edit from ``before`` to ``after`` (features,) in words, the dearest part of it first."""
    made: list[tuple[float, Change]] = []
    for at in np.flatnonzero((before != after) & space.plain):
        column, by = space.columns[at], float(after[at]) - float(before[at])
        text = Change(column.name, _said(before[at]), _said(after[at]), float(f"{by:.6g}"), column.unit)
        made.append((abs(by) / space.span[at] * space.cost[at], text))
    for name, group in space.groups.items():
        old, new = (group[int(row[group].argmax())] for row in (before, after))
        if old != new:
            was, now = (_category(space.columns[at].name, name) for at in (old, new))
            made.append((float(space.cost[new]), Change(name, was, now)))
    return tuple(change for _, change in sorted(made, key=lambda pair: -pair[0])[:CHANGES_MAX])


def _category(column: str, group: str) -> str:
    """``colour=red`` of the group ``colour`` as ``red``."""
    return column.removeprefix(group).lstrip("=_: ") or column


def _said(value: float) -> str:
    return f"{int(value)}" if float(value).is_integer() and abs(value) < 2**53 else f"{value:.6g}"
