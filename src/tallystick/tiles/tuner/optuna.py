"""The tuner over Optuna: TPE and random search, and CMA-ES and grids beside it; median and hyperband pruning.

For each question Optuna is handed the trials anew, and its lots come from the study's seed and the number of
the trial, so that the answer is the same in a process that has just begun and in one that has asked the rest.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from tallystick.core import study as core
from tallystick.core.errors import NotSupported
from tallystick.core.study import Dimension, Kind, Study, Trial
from tallystick.ports.tile import Place
from tallystick.tiles.tuner.grid import grid_point
from tallystick.tiles.tuner.watch import Watch

__all__ = ["OptunaTuner", "open_tile"]

SAMPLERS = ("tpe", "random", "cmaes", "grid")
PRUNERS = ("none", "median", "hyperband")
_STATES = {
    core.TrialState.RUNNING: TrialState.RUNNING,
    core.TrialState.SUCCEEDED: TrialState.COMPLETE,
    core.TrialState.PRUNED: TrialState.PRUNED,
    core.TrialState.FAILED: TrialState.FAIL,
    core.TrialState.STOPPED: TrialState.FAIL,
}


class OptunaTuner:
    """See :class:`tallystick.ports.runs.tuner.Tuner`."""

    def __init__(self) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._watch: Watch | None = None

    async def ask(self, study: Study, trials: Sequence[Trial]) -> Mapping[str, Any] | None:
        """Parameters of the next trial; None when a grid has been gone through."""
        if study.sampler not in SAMPLERS:
            raise _unknown("sampler", study.sampler, SAMPLERS)
        number = len(trials)
        if study.sampler == "grid":
            return grid_point(study.space, number)
        seed = _seed(study, number)
        if study.sampler == "cmaes":
            from tallystick.tiles.tuner.cma import cma_point  # late, as numpy comes with it

            return cma_point(study, trials, seed)
        return _sampled(study, trials, _sampler(study, seed))

    async def worse(self, study: Study, trials: Sequence[Trial], number: int) -> bool:
        """Whether trial ``number`` is to be pruned."""
        if self._watch is None or self._watch.key != study.key:
            self._watch = Watch(study.key, study.maximize, _pruner(study))
        worse = [self._watch.tell(trial) for trial in trials]
        return worse[number]


def _sampler(study: Study, seed: int) -> BaseSampler:
    if study.sampler == "random":
        return RandomSampler(seed)
    with warnings.catch_warnings():  # the "constant liar" is called experimental
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return TPESampler(seed=seed, constant_liar=study.parallel > 1)


def _pruner(study: Study) -> BasePruner:
    if study.pruner == "hyperband":
        return HyperbandPruner()
    if study.pruner == "median":
        return MedianPruner()
    if study.pruner == "none":
        return NopPruner()
    raise _unknown("pruner", study.pruner, PRUNERS)


def _sampled(study: Study, trials: Sequence[Trial], sampler: BaseSampler) -> dict[str, Any]:
    space = {one.name: _distribution(one) for one in study.space}
    direction = "maximize" if study.maximize else "minimize"
    told = optuna.create_study(direction=direction, sampler=sampler)
    told.add_trials([_past(trial, study, space) for trial in trials])
    asked = told.ask(space).params
    return {one.name: _out(one, asked[one.name]) for one in study.space}


def _past(trial: Trial, study: Study, space: Mapping[str, BaseDistribution]) -> FrozenTrial:
    state = _STATES[trial.state]
    return create_trial(
        state=state,
        value=trial.value if state is TrialState.COMPLETE else None,
        params={one.name: _in(one, trial.params[one.name]) for one in study.space},
        distributions=dict(space),
        intermediate_values={int(step): value for step, value in trial.steps.items()},
    )


def _distribution(one: Dimension) -> BaseDistribution:
    """A choice is one of numbers: its values may be lists or objects, which Optuna does not take."""
    if one.kind is Kind.CHOICE:
        return CategoricalDistribution(range(len(one.values)))
    if one.kind is Kind.INT:
        step = int(one.step) or 1
        return IntDistribution(int(one.low), int(one.low) + step * one.steps, log=one.log, step=step)
    high = one.low + one.step * one.steps if one.step else one.high
    return FloatDistribution(one.low, high, log=one.log, step=one.step or None)


def _in(one: Dimension, value: Any) -> Any:
    if one.kind is Kind.CHOICE:
        return one.values.index(value)
    return int(value) if one.kind is Kind.INT else float(value)


def _out(one: Dimension, value: Any) -> Any:
    return one.values[value] if one.kind is Kind.CHOICE else value


def _seed(study: Study, number: int) -> int:
    """Lots of its own for each trial of a study."""
    return int.from_bytes(hashlib.sha256(f"{study.seed} {number}".encode()).digest()[:4], "big")


def _unknown(what: str, name: str, known: Sequence[str]) -> NotSupported:
    return NotSupported(f"{name!r} is no {what} of this tuner", where=what, hint=f"one of {', '.join(known)}")


def open_tile(_: Place) -> OptunaTuner:
    """It keeps nothing, and takes no options."""
    return OptunaTuner()
