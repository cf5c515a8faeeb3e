"""What every tuner must do. Subclass :class:`TunerProof` and say how the tile opens.

The function that is searched is a bowl, lowest at x = 3 and n = 7, in a space of a number and a whole number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tallystick.core.errors import NotSupported
from tallystick.core.study import Dimension, Kind, Study, Trial, TrialState
from tallystick.ports.runs.tuner import Tuner

__all__ = ["BOWL", "CHOICE", "TunerProof", "bowl", "tried"]

X = Dimension("x", Kind.FLOAT, -10, 10)
N = Dimension("n", Kind.INT, 0, 20)
CHOICE = Dimension("how", Kind.CHOICE, values=("a", "b", ["c", 1], None, 2.5))
BOWL = Study("study-1", "bowl", "p", "sha256:0", "loss", (X, N), seed=7)


def bowl(params: Mapping[str, Any]) -> float:
    """Lowest, 0, at x = 3 and n = 7."""
    return float((params["x"] - 3) ** 2 + (params["n"] - 7) ** 2)


async def tried(tuner: Tuner, study: Study, count: int, sign: float = 1.0) -> list[Trial]:
    """So many trials, one after another."""
    trials: list[Trial] = []
    for number in range(count):
        params = await tuner.ask(study, trials)
        assert params is not None
        value = sign * bowl(params)
        trials.append(Trial(number, params, state=TrialState.SUCCEEDED, value=value))
    return trials


def running(number: int, *values: float, state: TrialState = TrialState.RUNNING) -> Trial:
    """A trial with these values at the steps 0, 1, 2 and so on."""
    steps = {str(step): value for step, value in enumerate(values)}
    value = values[-1] if state is TrialState.SUCCEEDED else None
    return Trial(number, {"x": 0.0, "n": 1}, state=state, value=value, steps=steps)


class TunerProof:
    """``samplers`` and ``pruners`` are those that the tile brings, beside ``random`` and ``none``.

    So many trials are ``judged``, each by a tuner that has just begun: fewer where that is a process.
    """

    samplers: tuple[str, ...] = ("tpe", "cmaes", "grid")
    pruners: tuple[str, ...] = ("median", "hyperband")
    judged = 10

    async def open(self) -> Tuner:
        raise NotImplementedError

    async def test_it_is_a_tuner(self) -> None:
        assert isinstance(await self.open(), Tuner)

    async def test_proposals_are_in_the_space(self) -> None:
        log = Dimension("rate", Kind.FLOAT, 1e-4, 1.0, log=True)
        even = Dimension("even", Kind.INT, 2, 9, step=2)
        quarter = Dimension("quarter", Kind.FLOAT, 0, 1, step=0.25)
        tuner = await self.open()
        for sampler in {"random", *self.samplers} - {"grid"}:
            space = (X, N, log, even, quarter, *(() if sampler == "cmaes" else (CHOICE,)))
            study, trials = replace(BOWL, space=space, sampler=sampler), list[Trial]()
            for number in range(30):
                params = await tuner.ask(study, trials)
                assert params is not None
                assert list(params) == [one.name for one in space]
                assert all(_inside(one, params[one.name]) for one in space), params
                assert type(params["n"]) is int
                assert type(params["x"]) is float
                trials.append(Trial(number, params, state=TrialState.SUCCEEDED, value=bowl(params)))

    async def test_the_same_study_and_trials_give_the_same_proposal(self) -> None:
        for sampler in {"random", *self.samplers} - {"grid"}:
            study = replace(BOWL, sampler=sampler)
            first = await tried(await self.open(), study, 24)
            renamed = replace(study, key="study-2", name="another")
            assert first == await tried(await self.open(), renamed, 24), sampler
            half = await (await self.open()).ask(study, first[:12])
            assert half == first[12].params, f"{sampler}: a tuner that has just begun"
            other = await tried(await self.open(), replace(study, seed=8), 3)
            assert [t.params for t in other] != [t.params for t in first[:3]]

    async def test_what_learns_comes_closer_than_its_first_trials(self) -> None:
        for sampler in set(self.samplers) & {"tpe", "cmaes"}:
            for sign in (1.0, -1.0):
                study = replace(BOWL, sampler=sampler, maximize=sign < 0)
                losses = [abs(t.value or 0.0) for t in await tried(await self.open(), study, 60, sign)]
                assert min(losses[40:]) < min(losses[:8]), sampler
                assert sum(losses[40:]) / 20 < sum(losses[:8]) / 8 / 2, sampler

    async def test_trials_under_way_or_gone_wrong_are_no_obstacle(self) -> None:
        states = [*TrialState] * 4
        tuner, bad = await self.open(), list[Trial]()
        for sampler in {"random", *self.samplers} - {"grid"}:
            study, bad = replace(BOWL, sampler=sampler, parallel=4), []
            for number, state in enumerate(states):
                params = await tuner.ask(study, bad)
                assert params is not None
                value = bowl(params) if state is TrialState.SUCCEEDED else None
                bad.append(Trial(number, params, state=state, value=value))
            assert len({str(t.params) for t in bad}) > len(bad) / 2, "they are not all the same"

    async def test_a_grid_is_gone_through_once(self) -> None:
        if "grid" not in self.samplers:
            pytest.skip("this tuner has no grids")
        space = (CHOICE, Dimension("n", Kind.INT, 0, 4, step=2), Dimension("q", Kind.FLOAT, 0, 1, step=0.5))
        tuner, trials = await self.open(), list[Trial]()
        while params := await tuner.ask(replace(BOWL, space=space, sampler="grid"), trials):
            trials.append(Trial(len(trials), params, state=TrialState.FAILED))
            assert len(trials) <= 5 * 3 * 3
        assert len({str(t.params) for t in trials}) == 5 * 3 * 3

    async def test_nothing_is_pruned_by_none(self) -> None:
        trials = [running(n, 0.0, 0.0, state=TrialState.SUCCEEDED) for n in range(9)]
        tuner = await self.open()
        assert await tuner.worse(BOWL, [*trials, running(9, 1e9)], 9) is False

    async def test_what_is_far_worse_is_pruned_and_what_is_best_is_not(self) -> None:
        for pruner in self.pruners:
            for sign in (1.0, -1.0):
                study = replace(BOWL, pruner=pruner, maximize=sign < 0)
                assert await self._pruned(study, [sign * 1e6] * 9) > 0, pruner
                assert await self._pruned(study, [-sign] * 9) == 0, pruner

    async def _pruned(self, study: Study, values: Sequence[float]) -> int:
        """Of the ``judged`` trials with these values, after 20 that ended at 1 to 20, how many are pruned."""
        sign = -1.0 if study.maximize else 1.0
        past = [running(n, *[sign * (n + 1)] * 9, state=TrialState.SUCCEEDED) for n in range(20)]
        pruned = 0
        for number in range(20, 20 + self.judged):
            tuner = await self.open()  # one that has just begun, as after a crash
            past.append(running(number, *values))
            pruned += await tuner.worse(study, past, number)
            past[-1] = replace(past[-1], state=TrialState.FAILED)
        return pruned

    async def test_a_trial_is_judged_by_what_came_since(self) -> None:
        for pruner in self.pruners:
            study, tuner = replace(BOWL, pruner=pruner), await self.open()
            past = [running(n, *[1.0] * 9, state=TrialState.SUCCEEDED) for n in range(12)]
            verdicts = []
            for number in range(12, 22):
                values: list[float] = []
                past.append(running(number))
                assert await tuner.worse(study, past, number) is False, "it has said nothing yet"
                verdict = False
                for _ in range(9):
                    values.append(100.0)
                    past[number] = running(number, *values)
                    verdict = await tuner.worse(study, past, number) or verdict
                verdicts.append(verdict)
                past[number] = replace(
                    past[number], state=TrialState.PRUNED if verdict else TrialState.FAILED
                )
            assert any(verdicts), pruner

    async def test_an_unknown_sampler_or_pruner_is_said_to_be_so(self) -> None:
        tuner = await self.open()
        with pytest.raises(NotSupported, match="guess"):
            await tuner.ask(replace(BOWL, sampler="guess"), [])
        with pytest.raises(NotSupported, match="axe"):
            await tuner.worse(replace(BOWL, pruner="axe"), [running(0, 1.0)], 0)

    async def test_a_sampler_that_needs_numbers_refuses_a_choice(self) -> None:
        if "cmaes" not in self.samplers:
            pytest.skip("this tuner has no CMA-ES")
        with pytest.raises(NotSupported, match="choice"):
            await (await self.open()).ask(replace(BOWL, space=(X, CHOICE), sampler="cmaes"), [])


def _inside(one: Dimension, value: Any) -> bool:
    if one.kind is Kind.CHOICE:
        return value in one.values
    on_step = not one.step or ((value - one.low) / one.step) % 1 == 0
    return bool(one.low <= value <= one.high) and on_step
