"""Privacy: an advantage is found where a model leaks, and none where there is nothing to leak."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from tallystick.core.errors import NotSupported
from tallystick.evidence.domain import Budget, Column, Domain, DomainKind
from tallystick.evidence.probe import Probe
from tallystick.ports.models.attack import Attack, Case, Weigh
from tallystick.ports.tile import Place
from tallystick.tiles.privacy.attribute import hidden_columns
from tallystick.tiles.privacy.membership import advantage
from tallystick.tiles.privacy.tile import open_tile

NAMES = ("age", "a", "b", "c", "income", "debt")
COLUMNS = (Column("age", 0, 99, integer=True), *(Column(n, one_hot="town") for n in "abc"),
           Column("income", -4, 4), Column("debt", -4, 4))  # fmt: skip
TABLE = Domain(DomainKind.TABULAR, columns=COLUMNS)


class Fitted:
    """A fitted scikit-learn classifier as a victim."""

    classes = 2
    gradients = False
    twin: Path | None = None

    def __init__(self, model: object, gives: str = "probabilities") -> None:
        self.model, self.gives, self.asked = model, gives, 0

    def scores(self, rows: np.ndarray) -> np.ndarray:
        self.asked += len(rows)
        said = self.model.predict_proba(rows).astype(np.float32)  # type: ignore[attr-defined]  # reason: it has one
        if self.gives == "labels":
            return np.eye(2, dtype=np.float32)[said.argmax(axis=1)]
        return np.log(said + 1e-9) if self.gives == "logits" else said

    def pull(self, rows: np.ndarray, weigh: Weigh) -> tuple[np.ndarray, np.ndarray]:
        raise NotSupported("no gradients")

    def hidden(self, rows: np.ndarray) -> np.ndarray:
        raise NotSupported("no layers")


def _rows(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels that are half chance, so that a model which fits them has learnt its rows by heart."""
    chance = np.random.default_rng(seed)
    x = np.column_stack([
        chance.integers(0, 4, count), np.eye(3)[chance.integers(0, 3, count)],
        chance.normal(0, 1, (count, 2)),
    ]).astype(np.float32)  # fmt: skip
    y = (x[:, 4] + 1.5 * x[:, 1] + chance.normal(0, 1, count) > 0.5).astype(np.int64)
    return x, y


def _case(model: object, rows: int = 500, gives: str = "probabilities", **more: object) -> Case:
    train, test = _rows(rows, 1), _rows(rows, 2)
    victim = Fitted(model.fit(*train), gives)  # type: ignore[attr-defined]  # reason: of scikit-learn
    scores = victim.scores(test[0])
    victim.asked = 0
    size = len(test[1])
    case = Case(
        victim, *test, scores, np.arange(size), np.full(size, np.inf), np.full_like(test[0], np.nan), TABLE,
        Budget(queries_max=1500), NAMES, train=train,
    )  # fmt: skip
    return replace(case, **more)  # type: ignore[arg-type]  # reason: a test says which


def _probe(name: str, case: Case) -> Probe:
    tile = open_tile(Place(Path()))
    assert isinstance(tile, Attack)
    return tile.run(name, case, lambda *_: None).probe


def _forest() -> RandomForestClassifier:
    return RandomForestClassifier(60, random_state=1)


@pytest.mark.parametrize("gives", ["probabilities", "logits", "labels"])
def test_a_forest_that_knows_its_rows_by_heart_tells_them_from_others(gives: str) -> None:
    probe = _probe("membership", _case(_forest(), gives=gives))
    figure = probe.figures[0]
    assert figure.measure == "membership_advantage"
    assert figure.low > 0.1
    assert figure.low <= figure.value <= figure.high
    assert probe.queries == 1000


def test_a_model_that_was_trained_on_none_of_the_rows_gives_no_membership_away() -> None:
    case = _case(LogisticRegression())
    strangers = _rows(500, 9)
    figure = _probe("membership", replace(case, train=strangers)).figures[0]
    assert figure.low < 0.03
    assert figure.value < 0.12


def test_rows_that_it_was_trained_on_are_no_others_even_where_they_are_judged_on() -> None:
    case = _case(_forest())
    assert case.train is not None
    with pytest.raises(NotSupported, match="0 rows are too few"):
        _probe("membership", replace(case, x=case.train[0], y=case.train[1]))
    mixed = [np.concatenate(pair) for pair in zip((case.x, case.y), case.train, strict=True)]
    probe = _probe("membership", replace(case, x=mixed[0], y=mixed[1]))
    assert probe.queries == 1000
    assert probe.figures[0].low > 0.1


def test_a_column_is_inferred_where_the_model_gives_it_away_and_no_chance_is_called_an_advantage() -> None:
    leaky = _probe("attribute", _case(_forest(), 900))
    by_group = {f.group: f for f in leaky.figures}
    assert set(by_group) == {"town", "age", ""}
    assert by_group["town"].value > 0.1
    assert by_group[""].value == max(f.value for f in leaky.figures)
    case = _case(LogisticRegression(), 900)
    deaf = LogisticRegression().fit(np.zeros((2, 6)), [0, 1])  # whose answer is the same for every row
    quiet = _probe("attribute", replace(case, victim=Fitted(deaf)))
    assert all(abs(f.value) < 0.08 for f in quiet.figures)


def test_queries_are_those_that_the_model_was_asked() -> None:
    for name in ("membership", "attribute", "extraction"):
        case = _case(_forest(), 200)
        probe = _probe(name, case)
        assert isinstance(case.victim, Fitted)
        assert probe.queries == case.victim.asked


def test_more_queries_buy_a_better_copy_of_a_model_that_can_be_copied() -> None:
    probe = _probe("extraction", _case(LogisticRegression()))
    curve = probe.curves[0]
    assert list(curve.x) == sorted(set(curve.x))
    assert curve.x[-1] == 1500
    assert curve.y[-1].value > 0.93
    assert curve.y[-1].value >= curve.y[0].value
    assert probe.figures[0].value == curve.y[-1].value


def test_a_model_that_says_one_class_only_is_copied_by_saying_it() -> None:
    case = _case(LogisticRegression())
    deaf = LogisticRegression().fit(np.zeros((3, 6)), [0, 1, 1])
    scores = Fitted(deaf).scores(case.x)
    probe = _probe("extraction", replace(case, victim=Fitted(deaf), scores=scores))
    assert probe.figures[0].value == 1.0
    assert probe.settings["copy"] == "the only class it ever said"


@pytest.mark.parametrize("name", ["membership", "attribute", "extraction"])
def test_the_same_seed_gives_the_same_again(name: str) -> None:
    first, again = (_probe(name, _case(_forest(), 200)) for _ in range(2))
    assert replace(first, seconds=0.0) == replace(again, seconds=0.0)


@pytest.mark.parametrize(
    ("name", "changes", "why"),
    [
        ("membership", {"train": None}, "no rows that it was trained on are known"),
        ("membership", {"train": _rows(10, 3)}, "10 rows are too few"),
        ("attribute", {"train": None}, "no rows that it was trained on are known"),
        ("attribute", {"train": _rows(10, 3)}, "10 rows are too few"),
        ("attribute", {"domain": Domain()}, "vector data has no columns to hide"),
        ("attribute", {"domain": Domain(DomainKind.TABULAR)}, "names no one-hot group or whole number"),
        ("extraction", {"domain": Domain(DomainKind.TEXT)}, "models that take numbers"),
        ("extraction", {"x": _rows(20, 3)[0]}, "20 rows are too few"),
        ("other", {}, "no probe 'other'"),
    ],
)
def test_what_does_not_apply_says_why(name: str, changes: dict[str, object], why: str) -> None:
    with pytest.raises(NotSupported, match=why):
        _probe(name, _case(LogisticRegression(), 100, **changes))


def test_a_whole_number_of_many_values_is_no_hidden_column() -> None:
    case = _case(LogisticRegression(), 100)
    many = case.x.copy()
    many[:, 0] = np.arange(100)
    assert [c.name for c in hidden_columns(case, case.x)] == ["town", "age"]
    assert [c.name for c in hidden_columns(case, many)] == ["town"]


def test_an_attack_that_is_always_right_has_an_interval_and_one_that_guesses_is_at_zero() -> None:
    sure = advantage(np.ones(50, bool), np.zeros(50, bool))
    assert sure.value == 1.0
    assert 0.85 < sure.low < 1.0
    guess = advantage(np.ones(50, bool), np.ones(50, bool))
    assert guess.value == 0.0
    assert guess.low < 0 < guess.high
