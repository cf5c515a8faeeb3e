"""Trials under way, as Optuna's pruners see them: told step by step, in the order of the steps."""

from __future__ import annotations

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from tallystick.core import study as core

__all__ = ["Watch"]

NAME = "tallystick"
"""Of the study in memory: hyperband sorts trials into brackets by it, equal studies alike."""


class Watch:
    """One study's trials. What was told once is not told again."""

    def __init__(self, key: str, maximize: bool, pruner: BasePruner) -> None:
        self.key = key
        direction = "maximize" if maximize else "minimize"
        self._study = optuna.create_study(
            study_name=NAME, direction=direction, pruner=pruner, sampler=RandomSampler(0)
        )
        self._trials: list[optuna.Trial] = []
        self._last: list[int] = []
        self._ended: set[int] = set()

    def tell(self, trial: core.Trial) -> bool:
        """Take what is new of ``trial``, in the order of numbers; whether it is to be pruned by that."""
        if trial.number == len(self._trials):
            self._trials.append(self._study.ask())
            self._last.append(-1)
        worse, seen = False, self._trials[trial.number]
        for step in sorted(map(int, trial.steps)):
            if step > self._last[trial.number]:
                seen.report(trial.steps[str(step)], step)
                worse = bool(seen.should_prune()) or worse
                self._last[trial.number] = step
        if trial.state is not core.TrialState.RUNNING and trial.number not in self._ended:
            self._ended.add(trial.number)
            self._end(seen, trial)
        return worse

    def _end(self, seen: optuna.Trial, trial: core.Trial) -> None:
        if trial.state is core.TrialState.SUCCEEDED:
            self._study.tell(seen, trial.value)
        else:
            pruned = trial.state is core.TrialState.PRUNED
            self._study.tell(seen, state=TrialState.PRUNED if pruned else TrialState.FAIL)
