"""A tuner without Optuna: random proposals, and pruning by the median. It passes the port's proof."""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from tallystick.core.errors import NotSupported
from tallystick.core.study import Dimension, Kind, Study, Trial

__all__ = ["FakeTuner"]

SEEN_MIN = 3


class FakeTuner:
    """Samplers ``random`` and ``grid``, pruners ``none`` and ``median``; ``broken`` is raised when asked."""

    def __init__(self) -> None:
        self.broken: Exception | None = None

    async def ask(self, study: Study, trials: Sequence[Trial]) -> Mapping[str, Any] | None:
        if self.broken:
            raise self.broken
        if study.sampler == "grid":
            number, point = len(trials), dict[str, Any]()
            for one in study.space:
                number, place = divmod(number, len(one.points()))
                point[one.name] = one.points()[place]
            return None if number else point
        if study.sampler != "random":
            raise NotSupported(f"no sampler {study.sampler!r}", where="fake")
        lots = random.Random(f"{study.seed} {len(trials)}")  # noqa: S311  reason: a search, no secret
        return {one.name: _drawn(one, lots) for one in study.space}

    async def worse(self, study: Study, trials: Sequence[Trial], number: int) -> bool:
        if study.pruner not in ("none", "median"):
            raise NotSupported(f"no pruner {study.pruner!r}", where="fake")
        steps = trials[number].steps
        if study.pruner == "none" or not steps:
            return False
        last = max(steps, key=int)
        others = [t.steps[last] for t in trials if t.number != number and last in t.steps]
        if len(others) < SEEN_MIN:
            return False
        sign = -1 if study.maximize else 1
        return sign * steps[last] > sign * statistics.median(others)


def _drawn(one: Dimension, lots: random.Random) -> Any:
    if one.kind is Kind.CHOICE:
        return lots.choice(one.values)
    if one.steps:
        return one.points()[lots.randrange(one.steps + 1)]
    return lots.uniform(one.low, one.high)
