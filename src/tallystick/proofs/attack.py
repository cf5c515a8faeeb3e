"""What every attack tile must do. Subclass :class:`AttackProof` and say how the tile opens.

The toy model is linear, so that what it truly withstands is known to the last sample: attacks must never
claim that it fell to less, and all evasion attacks of a tile together must come close to it. Every other
offer is carried out as well, as far as the toy has what it needs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tallystick.core.errors import BadInput, Failed, NotSupported, TallyError
from tallystick.core.facts import to_json
from tallystick.evidence.domain import Budget, Domain
from tallystick.evidence.probe import Probe, Threat
from tallystick.ports.models.attack import Attack, Case, Found, Offer, Weigh

__all__ = ["AttackProof", "LinearModel", "toy_case", "toy_rows"]

TOLERANCE = 1e-6


class LinearModel:
    """A victim whose scores are the softmax of ``weights`` (classes, features) x + ``bias``.

    It counts the rows that it was asked about, in ``asked``, and those pulled, in ``pulled``. With
    ``labels`` it says no more than classes; after ``fails_after`` rows it answers no more.
    """

    twin: Path | None = None

    def __init__(
        self, weights: np.ndarray, bias: np.ndarray, *, labels: bool = False, fails_after: float = np.inf
    ) -> None:
        self.weights, self.bias = weights.astype(np.float64), bias.astype(np.float64)
        self.classes, self.gives = len(weights), "labels" if labels else "probabilities"
        self.gradients, self._fails_after = not labels, fails_after
        self.asked = self.pulled = 0

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """float32 rows to float32 probabilities, or labels."""
        assert rows.dtype == np.float32
        assert rows.ndim == 2
        self.asked += len(rows)
        self._check()
        chances = _softmax(self._logits(rows)).astype(np.float32)
        return np.eye(self.classes, dtype=np.float32)[chances.argmax(axis=1)] if self._labels else chances

    @property
    def _labels(self) -> bool:
        return self.gives == "labels"

    def _check(self) -> None:
        if self.asked + self.pulled > self._fails_after:
            raise Failed("the model went away", where="model")

    def _logits(self, rows: np.ndarray) -> np.ndarray:
        found: np.ndarray = rows @ self.weights.T + self.bias
        return found

    def pull(self, rows: np.ndarray, weigh: Weigh) -> tuple[np.ndarray, np.ndarray]:
        """Logits, and the gradient of their weighed sum."""
        if not self.gradients:
            raise NotSupported("labels have no gradient", where="model")
        self.pulled += len(rows)
        self._check()
        logits = self._logits(rows).astype(np.float32)
        return logits, (weigh(logits) @ self.weights).astype(np.float32)

    def hidden(self, rows: np.ndarray) -> np.ndarray:
        """It has one layer."""
        raise NotSupported("there is no layer before the last", where="model")

    def withstands(self, x: np.ndarray, y: np.ndarray, eps: float, low: float, high: float) -> np.ndarray:
        """Which rows no change within ``eps`` and the range can turn: exact, as each margin is linear."""
        holds = np.ones(len(x), bool)
        for other in range(len(self.weights)):
            towards = self.weights[other] - self.weights[y]
            worst = np.clip(x + eps * np.sign(towards), low, high)
            margin = -(worst * towards).sum(axis=1) + self.bias[y] - self.bias[other]
            holds &= (margin > 0) | (y == other)
        return holds


def _softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    chances: np.ndarray = odds / odds.sum(axis=1, keepdims=True)
    return chances


def toy_rows(
    rows: int = 60, low: float = 0.0, high: float = 1.0
) -> tuple[LinearModel, np.ndarray, np.ndarray]:
    """A model of two features and three classes, with rows in its range; a few labels are wrong."""
    draw = np.random.default_rng(11)
    weights = np.array([[9.0, 1.0], [-7.0, 6.0], [-1.0, -8.0]]) / (high - low)
    model = LinearModel(weights, np.array([-4.0, 0.5, 3.0]) - weights @ np.array([low, low]))
    x = draw.uniform(low, high, (rows, 2)).astype(np.float32)
    y = model.scores(x).argmax(axis=1).astype(np.int64)
    y[::20] = (y[::20] + 1) % 3
    model.asked = 0
    return model, x, y


def toy_case(
    model: LinearModel, x: np.ndarray, y: np.ndarray, budget: Budget, domain: Domain | None = None
) -> Case:
    """The case as the engine begins it: nothing found, 0 where the clean answer is wrong already."""
    scores = model.scores(x)
    model.asked = 0
    attacked = np.random.default_rng(budget.seed).permutation(len(x))[: budget.samples_max]
    wrong = scores[attacked].argmax(axis=1) != y[attacked]
    return Case(
        victim=model,
        x=x,
        y=y,
        scores=scores,
        attacked=attacked,
        distance=np.where(wrong, 0.0, np.inf),
        adversarial=np.full((len(attacked), x.shape[1]), np.nan, np.float32),
        domain=domain or Domain(low=budget.low, high=budget.high),
        budget=budget,
        features=tuple(f"f{at}" for at in range(x.shape[1])),
        classes=tuple(str(at) for at in range(model.classes)),
        groups={"half": np.where(x[:, 0] > np.median(x[:, 0]), "upper", "lower").astype(object)},
        train=(x.copy(), y.copy()),
    )


def _quiet(share: float, text: str) -> None:
    assert -TOLERANCE <= share <= 1 + TOLERANCE
    assert text


class _Ear:
    """It remembers the progress that it was told."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, str]] = []

    def __call__(self, share: float, text: str) -> None:
        self.heard.append((share, text))


def _plain(probe: Probe) -> Probe:
    """Without what is a matter of the machine: seconds, and figures of time."""
    figures = tuple(f for f in probe.figures if not f.measure.startswith("latency"))
    return replace(probe, seconds=0.0, figures=figures)


class AttackProof:
    """The conformance suite of :class:`tallystick.ports.models.attack.Attack`."""

    slack = 0.05
    """How far, as a share of the samples, all evasion attacks together may stay from what is exact."""

    budget = Budget(eps=(0.05, 0.1, 0.2), samples_max=40, queries_max=1500, steps_max=20, seed=3)

    def open(self, home: Path) -> Attack:
        """Open the tile."""
        raise NotImplementedError

    @pytest.fixture
    def attack(self, tmp_path: Path) -> Attack:
        """The attack, opened."""
        return self.open(tmp_path)

    def case(self, rows: int = 60, budget: Budget | None = None) -> Case:
        """A fresh case with the toy; a tile for other data gives another one."""
        model, x, y = toy_rows(rows)
        return toy_case(model, x, y, budget or self.budget)

    def able(self, attack: Attack, case: Case) -> list[Offer]:
        """The offers whose needs the case fulfils, as the engine checks them."""
        victim = case.victim
        return [
            o
            for o in attack.offers()
            if (victim.gradients or not o.needs.gradients)
            and (victim.gives != "labels" or not o.needs.scores)
            and (victim.twin is not None or not o.needs.twin)
            and (case.domain.kind in o.needs.kinds or not o.needs.kinds)
        ]

    def evading(self, attack: Attack, case: Case) -> list[Offer]:
        """Of these the evasion attacks; the test is skipped where there are none."""
        found = [o for o in self.able(attack, case) if o.threat is Threat.EVASION]
        if not found:
            pytest.skip("the tile offers no evasion attack for this case")
        return found

    def chained(self, attack: Attack, case: Case) -> Iterator[tuple[Offer, Case, Found]]:
        """Every evasion attack in turn, each from what those before it found; ``case`` is brought along."""
        for offer in self.evading(attack, case):
            given = replace(case, distance=case.distance.copy(), adversarial=case.adversarial.copy())
            try:
                found = attack.run(offer.name, given, _quiet)
            except NotSupported:  # it does not apply after all
                continue
            yield offer, given, found
            if found.distance is not None and found.adversarial is not None:
                case.distance, case.adversarial = found.distance, found.adversarial

    def test_it_says_what_it_offers(self, attack: Attack) -> None:
        """Names of their own, versions, weights, and words for people."""
        assert isinstance(attack, Attack)
        assert all(attack.versions().values())
        offers = attack.offers()
        assert offers
        assert len({o.name for o in offers}) == len(offers)
        for offer in offers:
            assert offer.name
            assert offer.about
            assert offer.version >= 1
            assert offer.weight > 0
        assert attack.offers() == offers

    @pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-5.0, 20.0), (100.0, 101.0)])
    def test_together_they_come_close_to_what_is_exact_and_never_below(
        self, attack: Attack, low: float, high: float
    ) -> None:
        """In any range of the features; radii are in the data's own unit."""
        model, x, y = toy_rows(low=low, high=high)
        eps = tuple(e * (high - low) for e in self.budget.eps)
        case = toy_case(model, x, y, replace(self.budget, eps=eps, low=low, high=high))
        for _ in self.chained(attack, case):
            pass
        slack = max(TOLERANCE * (high - low), float(np.spacing(np.float32(max(abs(low), abs(high))))))
        for radius in eps:
            exact = int(model.withstands(x[case.attacked], y[case.attacked], radius, low, high).sum())
            robust = int((case.distance > radius + slack).sum())
            assert exact <= robust <= exact + self.slack * len(case.attacked)

    def test_adversarials_are_what_they_are_said_to_be(self, attack: Attack) -> None:
        """In range, as far as said, and answered wrongly; what was known before is never made worse."""
        case = self.case()
        for offer, given, found in self.chained(attack, case):
            assert found.distance is not None, offer.name
            assert found.adversarial is not None, offer.name
            assert found.adversarial.dtype == np.float32
            assert (found.distance <= given.distance).all()
            same = found.distance == given.distance
            np.testing.assert_array_equal(found.adversarial[same], given.adversarial[same])
            nearer = np.flatnonzero(~same)
            made, x = found.adversarial[nearer], case.x[case.attacked[nearer]]
            assert (found.distance[nearer] > 0).all()
            assert ((made >= case.domain.low) & (made <= case.domain.high)).all()
            if len(nearer):
                said = case.victim.scores(made).argmax(axis=1)
                assert (said != case.y[case.attacked[nearer]]).all()
            far = np.abs(made.astype(np.float64) - x).max(axis=1) if len(nearer) else np.empty(0)
            np.testing.assert_allclose(far, found.distance[nearer], atol=TOLERANCE)

    def test_the_same_seed_gives_the_same_bit_for_bit(self, tmp_path: Path) -> None:
        """Whatever was drawn from numpy's global numbers in between."""
        for offer in self.able(self.open(tmp_path), self.case()):
            found = []
            for _ in range(2):
                np.random.default_rng().random()
                try:
                    found.append(self.open(tmp_path).run(offer.name, self.case(), _quiet))
                except NotSupported as wrong:
                    found.append(Found(Probe(offer.name, offer.threat, settings={"not": wrong.what})))
            first, again = found
            assert _plain(first.probe) == _plain(again.probe), offer.name
            for part in ("distance", "adversarial"):
                one, other = getattr(first, part), getattr(again, part)
                assert (one is None) == (other is None)
                assert one is None or one.tobytes() == other.tobytes(), offer.name

    def test_what_is_handed_over_is_left_alone(self, attack: Attack) -> None:
        """The case's arrays, and numpy's global random state."""
        for offer in self.able(attack, self.case()):
            case, same = self.case(), self.case()
            state = np.random.get_state(legacy=False)["state"]["key"].copy()
            try:
                attack.run(offer.name, case, _quiet)
            except NotSupported:
                continue
            for part in ("x", "y", "scores", "attacked", "distance", "adversarial"):
                np.testing.assert_array_equal(getattr(case, part), getattr(same, part), offer.name)
            np.testing.assert_array_equal(np.random.get_state(legacy=False)["state"]["key"], state)

    def test_probes_say_what_was_done(self, attack: Attack) -> None:
        """Under the offer's name, in JSON."""
        for offer in self.able(attack, self.case()):
            try:
                probe = attack.run(offer.name, self.case(), _quiet).probe
            except NotSupported:
                continue
            assert (probe.name, probe.threat) == (offer.name, offer.threat)
            assert probe.library
            json.dumps(to_json(probe), allow_nan=False)

    def test_no_sample_costs_more_than_its_queries(self, attack: Attack) -> None:
        """Of an attack from outside: on average over the samples, whatever the budget."""
        for queries_max in (100, 1000):
            budget = replace(self.budget, queries_max=queries_max)
            for offer in self.evading(attack, self.case(budget=budget)):
                case = self.case(budget=budget)
                try:
                    attack.run(offer.name, case, _quiet)
                except TallyError:
                    continue
                assert case.victim.asked <= queries_max * len(case.attacked), offer.name  # type: ignore[attr-defined]  # reason: the toy's own counter

    def test_labels_alone(self, attack: Attack) -> None:
        """What needs no scores works where there are none: what it finds turns the model."""
        model, x, y = toy_rows()
        blunt = LinearModel(model.weights, model.bias, labels=True)
        case = toy_case(blunt, x, y, self.budget)
        for offer in self.evading(attack, case):
            found = attack.run(offer.name, case, _quiet)
            assert found.distance is not None
            assert found.adversarial is not None
            fooled = np.flatnonzero(np.isfinite(found.distance) & (found.distance > 0))
            assert len(fooled), offer.name
            said = blunt.scores(found.adversarial[fooled]).argmax(axis=1)
            assert (said != y[case.attacked[fooled]]).all()

    @pytest.mark.parametrize("answer", ["always right", "always wrong"])
    def test_where_there_is_nothing_to_find_nothing_is_found(self, attack: Attack, answer: str) -> None:
        """A model that always says the same; and one that is wrong about everything as it is."""
        model, x, _ = toy_rows()
        stubborn = LinearModel(np.zeros_like(model.weights), np.array([1.0, 0.0, 0.0]))
        y = np.full(len(x), 0 if answer == "always right" else 1, np.int64)
        for offer in self.evading(attack, toy_case(stubborn, x, y, self.budget)):
            case = toy_case(stubborn, x, y, self.budget)
            try:
                found = attack.run(offer.name, case, _quiet)
            except NotSupported:
                continue
            assert found.distance is not None
            np.testing.assert_array_equal(found.distance, case.distance)

    def test_an_error_of_the_model_is_told(self, attack: Attack) -> None:
        """A model that answers no more ends the probe with its own error, not with a result."""
        model, x, y = toy_rows()
        for offer in self.evading(attack, self.case()):
            fading = LinearModel(model.weights, model.bias)
            case = toy_case(fading, x, y, self.budget)
            fading._fails_after = 30
            with pytest.raises(Failed, match="went away"):
                attack.run(offer.name, case, _quiet)

    def test_an_unknown_probe_is_refused(self, attack: Attack) -> None:
        """By an error that says so, before the model is asked."""
        case = self.case()
        with pytest.raises(BadInput):
            attack.run("no such probe", case, _quiet)
        assert case.victim.asked == 0  # type: ignore[attr-defined]  # reason: the toy's own counter

    def test_progress_rises_and_speaks(self, attack: Attack) -> None:
        """From 0 to 1, in words."""
        for offer in self.able(attack, self.case()):
            ear = _Ear()
            try:
                attack.run(offer.name, self.case(), ear)
            except NotSupported:
                continue
            said = ear.heard
            shares = [share for share, _ in said]
            assert shares == sorted(shares), offer.name
            assert all(0 <= share <= 1 for share in shares)
            assert all(text for _, text in said)
