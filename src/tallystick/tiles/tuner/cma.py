"""CMA-ES: each generation of trials moves and shapes the normal distribution that the next ones come from.

Its state is what the generations so far make of it, so they are told anew for each question: a generation is
so many trials in the order of their numbers, as far as all trials before have ended.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from cmaes import CMA

from tallystick.core.errors import NotSupported
from tallystick.core.study import Dimension, Kind, Study, Trial, TrialState

__all__ = ["cma_point"]

SIGMA = 1 / 6
"""Of the first generation, in a space that is 1 wide."""


def cma_point(study: Study, trials: Sequence[Trial], seed: int) -> dict[str, Any]:
    """Parameters of the next trial; NotSupported for a space with a choice in it."""
    for one in study.space:
        if one.kind is Kind.CHOICE:
            raise NotSupported(
                "CMA-ES searches numbers, and this is a choice",
                where=f"parameter {one.name}",
                hint="use another sampler, or leave it out of the space",
            )
    width = len(study.space)
    bounds = np.array([[0.0, 1.0]] * width)
    search = CMA(np.full(width, 0.5), SIGMA, bounds, seed=seed)
    ended = itertools.takewhile(lambda trial: trial.state is not TrialState.RUNNING, trials)
    told = [(_in(study.space, trial), _loss(study, trial)) for trial in ended if trial.value is not None]
    size = search.population_size
    for begin in range(0, len(told) - size + 1, size):
        search.tell(told[begin : begin + size])
    return {one.name: _out(one, float(place)) for one, place in zip(study.space, search.ask(), strict=True)}


def _loss(study: Study, trial: Trial) -> float:
    value = trial.value or 0.0
    return -value if study.maximize else value


def _edges(one: Dimension) -> tuple[float, float]:
    """The range, with half a step at both ends where there are steps, so that all values are as wide."""
    step = one.step or (1.0 if one.kind is Kind.INT else 0.0)
    low, high = one.low - step / 2, one.high + step / 2
    return (math.log(low), math.log(high)) if one.log else (low, high)


def _in(space: Sequence[Dimension], trial: Trial) -> np.ndarray:
    places = []
    for one in space:
        low, high = _edges(one)
        value = float(trial.params[one.name])
        places.append(((math.log(value) if one.log else value) - low) / (high - low))
    return np.array(places)


def _out(one: Dimension, place: float) -> float | int:
    low, high = _edges(one)
    value = low + place * (high - low)
    value = math.exp(value) if one.log else value
    step = one.step or (1.0 if one.kind is Kind.INT else 0.0)
    if step:
        value = one.low + step * min(one.steps, max(0, round((value - one.low) / step)))
    value = min(one.high, max(one.low, value))
    return int(value) if one.kind is Kind.INT else value
