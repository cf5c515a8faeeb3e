"""The engine over a model and a twin that is another one, which only an attack's findings show."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tallystick.core.facts import from_json
from tallystick.core.model import TensorSpec
from tallystick.core.names import digest_of
from tallystick.crew.judging.base import begin_case
from tallystick.crew.judging.engine import Engine, Plan
from tallystick.crew.judging.offers import list_threats
from tallystick.crew.judging.pace import Pace
from tallystick.crew.judging.parts import Parts
from tallystick.crew.judging.rows import Given
from tallystick.crew.judging.twins import differing
from tallystick.crew.judging.victims import Victims
from tallystick.crew.measure.target import Seen
from tallystick.evidence.domain import Budget, Domain
from tallystick.evidence.figures import Figure
from tallystick.evidence.probe import Probe, Threat
from tallystick.ports.models.attack import Case, Found, Needs, Offer, Progress
from tests.crew.at_desk import FakeDesk
from tests.fakes.attack import FakeAttack, Trouble

X = np.random.default_rng(3).uniform(0, 1, (60, 2)).astype(np.float32)
TRUTH = np.where(X[:, 0] > 0.5, "b", "a").astype(object)
BUDGET = Budget(eps=(0.1, 0.2), samples_max=20, queries_max=400)


class Model:
    """It says ``b`` where the first number is over ``at``."""

    inputs = (TensorSpec("x", "FP32", (-1, 2)),)
    outputs = (TensorSpec("y", "FP32", (-1, 2)),)

    def __init__(self, at: float) -> None:
        self.at = at

    def predict(self, inputs):
        rows = inputs["x"]
        odds = 1 / (1 + np.exp(-20 * (rows[:, 0] - self.at)))
        return {"y": np.stack([1 - odds, odds], axis=1).astype(np.float32)}


class Itself(FakeAttack):
    """It asks the model where others ask its twin, and tells the median of what it was handed."""

    def offers(self) -> tuple[Offer, ...]:
        return (Offer("own", Threat.EVASION, 1, "own", Needs(itself=True)),)

    def run(self, name: str, case: Case, progress: Progress) -> Found:
        figure = Figure("flip_cost_median", 1.0, 0.5, 2.0, len(case.attacked))
        probe = Probe(name, Threat.EVASION, library="fake", figures=(figure,))
        return Found(probe, case.distance, case.adversarial)


def carried_out(
    tmp_path: Path, model: Model, twin: Model, *named: str, tile: FakeAttack | None = None
) -> dict[str, Probe]:
    itself, other = Seen(model, X, TRUTH), Seen(twin, X, TRUTH)
    other.gradients = True  # as the twin of a linear model has them, and the model itself has not
    seen = Victims(
        itself, other, aligned=itself, apart=lambda rows: differing(other.scores, itself.scores, rows)
    )
    rows = Given(X, TRUTH, ("a", "b"), Domain(low=0, high=1))
    tiles = {"trouble": tile or Trouble()}
    listed = [p for p in list_threats(tiles, {}).chosen(named) if p.name in named]
    desk = FakeDesk({})
    cases = [begin_case(one, itself, rows, BUDGET) for one in (itself, other)]
    engine = Engine(Plan(listed, digest_of("base")), tiles, seen, *cases, Parts(tmp_path, desk))
    engine.run(Pace([1.0] * len(listed), desk.progress), desk.began)
    told = [from_json(Probe, json.loads((tmp_path / part).read_text())["probe"]) for part in desk.parts]
    return {probe.name: probe for probe in told}


def test_an_equal_twin_is_asked_to_the_end(tmp_path: Path) -> None:
    found = carried_out(tmp_path, Model(0.5), Model(0.5), "white", "grid")
    assert all(probe.done and probe.through_twin and not probe.notes for probe in found.values())


def test_an_attack_that_cannot_go_on_without_the_twin_keeps_what_turned_the_model(tmp_path: Path) -> None:
    found = carried_out(tmp_path, Model(0.5), Model(0.52), "white", "grid")
    white, grid = found["white"], found["grid"]
    assert white.done
    assert "answer differently, not by rounding" in white.notes[0]
    assert "to which this attack does not apply: it needs gradients" in white.notes[0]
    assert white.examples  # each shown to the model itself
    assert all(example.label_after != example.truth for example in white.examples)
    assert not grid.through_twin


@pytest.mark.parametrize("some", [5, 20])
def test_a_figure_of_the_rows_that_withstood_most_is_no_figure_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, some: int
) -> None:
    monkeypatch.setattr("tallystick.crew.judging.engine.allowance", lambda *asked: (some, 300))
    own = carried_out(tmp_path, Model(0.5), Model(0.5), "own", tile=Itself())["own"]
    assert (own.settings["rows"], own.settings["of_rows"]) == (some, 20)
    (figure,) = own.figures
    assert (figure.samples, figure.group) == (
        some,
        "the 5 of 20 rows that withstood most" if some < 20 else "",
    )
