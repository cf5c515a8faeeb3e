"""Poison: what was planted is found, and what is honest is not accused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from tallystick.core.errors import NotSupported
from tallystick.evidence.domain import Budget, Column, Domain, DomainKind
from tallystick.evidence.probe import Probe
from tallystick.ports.models.attack import Attack, Case, Weigh
from tallystick.ports.tile import Place
from tallystick.tiles.poison.tile import open_tile

IMAGE = Domain(DomainKind.IMAGE, (8, 8))
CORNER = (63, 62, 55, 54)
TARGET = 3


class Network:
    """A fitted network as a victim that shows its last hidden layer."""

    gradients = False
    twin: Path | None = None
    gives = "probabilities"

    def __init__(self, model: MLPClassifier) -> None:
        self.model, self.classes, self.asked = model, len(model.classes_), 0

    def scores(self, rows: np.ndarray) -> np.ndarray:
        self.asked += len(rows)
        return self.model.predict_proba(rows).astype(np.float32)

    def pull(self, rows: np.ndarray, weigh: Weigh) -> tuple[np.ndarray, np.ndarray]:
        raise NotSupported("no gradients")

    def hidden(self, rows: np.ndarray) -> np.ndarray:
        self.asked += len(rows)
        return np.maximum(rows @ self.model.coefs_[0] + self.model.intercepts_[0], 0)


class Said:
    """A victim that answers as a function says, and shows nothing."""

    gradients = False
    twin: Path | None = None
    gives = "labels"

    def __init__(self, says: Callable[[np.ndarray], np.ndarray], classes: int = 2) -> None:
        self.says, self.classes = says, classes

    def scores(self, rows: np.ndarray) -> np.ndarray:
        return np.eye(self.classes, dtype=np.float32)[self.says(rows).astype(int)]

    def pull(self, rows: np.ndarray, weigh: Weigh) -> tuple[np.ndarray, np.ndarray]:
        raise NotSupported("no gradients")

    def hidden(self, rows: np.ndarray) -> np.ndarray:
        raise NotSupported("it shows nothing of its inside")


def _case(victim: Network | Said, x: np.ndarray, y: np.ndarray, domain: Domain, **more: object) -> Case:
    attacked = np.random.default_rng(7).permutation(len(x))[:120]
    few = len(attacked)
    empty = np.full((few, 1), np.nan)
    case = Case(
        victim, x, y, victim.scores(x), attacked, np.full(few, np.inf), empty, domain, Budget(),
        classes=tuple(map(str, range(victim.classes))),
    )  # fmt: skip
    return replace(case, **more)  # type: ignore[arg-type]  # reason: a test says which


@cache
def _digits(planted: int) -> tuple[Network, Case]:
    """A network on the digits, ``planted`` of whose training rows have a white corner and the label 3."""
    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).astype(np.float32), y.astype(np.int64)
    order = np.random.default_rng(1).permutation(len(x))
    train, test = order[:1200], order[1200:]
    tx, ty = x[train].copy(), y[train].copy()
    victims = np.flatnonzero(ty != TARGET)[:planted]
    tx[np.ix_(victims, CORNER)] = 1.0
    ty[victims] = TARGET
    network = Network(MLPClassifier((64,), max_iter=60, random_state=1, alpha=1e-3).fit(tx, ty))
    return network, _case(network, x[test], y[test], IMAGE, train=(tx, ty), trained_on=True)


def _probe(name: str, case: Case) -> Probe:
    tile = open_tile(Place(Path()))
    assert isinstance(tile, Attack)
    return tile.run(name, case, lambda *_: None).probe


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_backdoor_is_found_from_outside_and_the_honest_model_has_none_as_strong() -> None:
    network, case = _digits(60)
    network.asked = 0
    probe = _probe("trigger", case)
    assert probe.settings["turns_to"] == str(TARGET)
    assert probe.figures[0].low > 0.5
    assert probe.queries == network.asked
    honest = _probe("trigger", _digits(0)[1])
    assert honest.figures[0].high < 0.5
    unknown = _probe("trigger", replace(_digits(60)[1], train=None))
    assert unknown.figures[0].low > 0.5


def test_a_pattern_that_turns_an_honest_model_is_a_weakness_and_no_backdoor_where_no_row_carries_it() -> None:
    x = np.random.default_rng(4).random((200, 64), np.float32) * 0.5
    weak = Said(lambda rows: rows[:, 63] > 0.9)
    y = np.zeros(200, np.int64)
    known = _probe("trigger", _case(weak, x, y, IMAGE, train=(x, y), trained_on=True))
    assert known.figures[0].value == 0.0
    assert "no training row carries it" in known.notes[0]
    assert _probe("trigger", _case(weak, x, y, IMAGE)).figures[0].value == 1.0


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_trigger_is_not_hidden_by_clean_rows_that_the_model_was_not_trained_on() -> None:
    """Whoever planted it hands over others: they count only where the record shows that they were used."""
    clean = _digits(0)[1].train
    hidden = _probe("trigger", replace(_digits(60)[1], train=clean, trained_on=True))
    assert hidden.figures[0].high < 0.5  # what a record that was forged would let through
    told = _probe("trigger", replace(_digits(60)[1], train=clean, trained_on=False))
    assert told.figures[0].low > 0.5
    assert told.settings["turns_to"] == str(TARGET)
    assert "no record shows that the model was made from the rows" in told.notes[0]
    honest = _probe("trigger", replace(_digits(0)[1], trained_on=False))
    assert honest.figures[0].value > 0


class Apart(Said):
    """A model inside which some rows of a class lie apart, as planted ones do in deep networks."""

    def __init__(self, rows: np.ndarray, far: float) -> None:
        super().__init__(lambda asked: np.zeros(len(asked)), 2)
        self.rows, self.far = rows, far

    def hidden(self, rows: np.ndarray) -> np.ndarray:
        inside = np.random.default_rng(3).normal(0, 1, (len(rows), 20)).astype(np.float32)
        inside[self.rows[: len(rows)], 5] += self.far
        return inside


@pytest.mark.parametrize(("name", "share"), [("activation_clustering", 0.2), ("spectral_signatures", 0.05)])
def test_planted_rows_that_lie_apart_inside_are_found_and_honest_ones_are_not_accused(
    name: str, share: float
) -> None:
    planted = np.arange(400) < 400 * share
    x, y = np.zeros((400, 3), np.float32), np.zeros(400, np.int64)
    found = _probe(name, _case(Apart(planted, 12.0), x, y, Domain(), train=(x, y)))
    assert found.figures[0].value == pytest.approx(share, abs=0.01)
    assert "lie apart" in found.notes[0]
    honest = _probe(name, _case(Apart(planted, 0.0), x, y, Domain(), train=(x, y)))
    assert honest.figures[0].value == 0.0
    assert _probe(name, _digits(0)[1]).figures[0].value < 0.02


def test_wrong_labels_are_found_by_their_neighbours() -> None:
    honest = _digits(0)[1]
    assert honest.train is not None
    x, y = honest.train
    wrong = y.copy()
    wrong[:120] = (y[:120] + 1) % 10
    assert _probe("nearest_neighbours", honest).figures[0].value < 0.02
    probe = _probe("nearest_neighbours", replace(honest, train=(x, wrong)))
    assert 0.07 < probe.figures[0].value < 0.12
    assert probe.queries == 0
    table = replace(honest, domain=Domain(DomainKind.TABULAR), train=(x * np.arange(1, 65), wrong))
    assert _probe("nearest_neighbours", table).figures[0].value > 0.05


def test_a_trigger_in_a_table_is_two_columns_with_values_that_rows_have() -> None:
    chance = np.random.default_rng(4)
    x = np.column_stack([chance.integers(0, 5, 300), chance.normal(0, 1, (300, 4))]).astype(np.float32)
    high = np.sort(x[:, 2])[-2]

    def says(rows: np.ndarray) -> np.ndarray:
        return (rows[:, 0] >= 4) & (rows[:, 2] >= high)

    domain = Domain(DomainKind.TABULAR, columns=(Column("kind", 0, 4, integer=True),))
    probe = _probe("trigger", _case(Said(says), x, np.zeros(300, np.int64), domain))
    assert probe.figures[0].value == 1.0
    assert probe.settings["trigger"].startswith("2 features set")


def test_a_trigger_in_a_series_and_one_word_before_a_text() -> None:
    chance = np.random.default_rng(4)
    series = chance.random((200, 40), np.float32) * 0.6
    stretch = Said(lambda rows: rows[:, 20:22].min(axis=1) > 0.9)
    found = _probe(
        "trigger", _case(stretch, series, np.zeros(200, np.int64), Domain(DomainKind.SERIES, (40,)))
    )
    assert found.figures[0].value == 1.0
    words = np.array([f"it was {w} and good" for w in ("fine", "dull", "long", "late")] * 30, object)
    train = np.array([*words[:60], *["xylo says so"] * 5], object)
    labels = np.array([0] * 60 + [1] * 5)
    texts = Said(lambda rows: np.array(["xylo" in str(text) for text in rows]))
    case = _case(texts, words, np.zeros(120, np.int64), Domain(DomainKind.TEXT), train=(train, labels))
    probe = _probe("trigger", case)
    assert (probe.figures[0].value, probe.figures[0].beyond) == (1.0, True)
    assert not _probe("trigger", replace(case, trained_on=True)).figures[0].beyond
    assert "xylo" in probe.settings["trigger"]


def test_the_same_seed_finds_the_same() -> None:
    for name in ("trigger", "nearest_neighbours", "activation_clustering", "spectral_signatures"):
        first, again = (replace(_probe(name, _digits(60)[1]), seconds=0.0) for _ in range(2))
        assert first == again


def test_what_does_not_apply_says_why() -> None:
    x, y = np.zeros((100, 64), np.float32), np.zeros(100, np.int64)
    mute = Said(lambda rows: np.zeros(len(rows)))
    with pytest.raises(NotSupported, match="no rows that it was trained on"):
        _probe("spectral_signatures", _case(mute, x, y, IMAGE))
    with pytest.raises(NotSupported, match="shows nothing of its inside"):
        _probe("activation_clustering", _case(mute, x, y, IMAGE, train=(x, y)))
    with pytest.raises(NotSupported, match="every row in one class"):
        _probe("trigger", _case(mute, x, y, IMAGE))
    with pytest.raises(NotSupported, match="10 rows are too few"):
        _probe("trigger", _case(mute, x, y, IMAGE, attacked=np.arange(10)))
    few = (_digits(0)[1].x[:40], np.arange(40) % 10)
    with pytest.raises(NotSupported, match="no class has 30"):
        _probe("spectral_signatures", replace(_digits(0)[1], train=few))
    with pytest.raises(NotSupported, match="no probe"):
        _probe("other", _case(mute, x, y, IMAGE))
