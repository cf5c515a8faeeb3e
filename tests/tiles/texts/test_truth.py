"""Against what is exact: of a bag of words the best edits are known, and few texts can be searched whole."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tallystick.evidence.domain import Budget, Domain, DomainKind
from tallystick.evidence.wording import Text, Wording
from tallystick.ports.models.attack import Case
from tallystick.tiles.texts.greedy import greedy
from tallystick.tiles.texts.hunt import Hunt
from tallystick.tiles.texts.moves import Moves
from tallystick.tiles.texts.tile import Texts
from tests.tiles.texts.reviews import BAD, GOOD, bag_of_words, case_of, pipeline, reviews, victim_of

DROPS = Domain(DomainKind.TEXT, word_edits=("drop",), share_max=1.0)
BUDGET = Budget(queries_max=20_000, edits=(1, 2, 3, 4, 5, 6))


def _weights(seed: int) -> dict[str, float]:
    draw = np.random.default_rng(seed)
    made = {word: draw.uniform(0.2, 2) for word in GOOD} | {word: -draw.uniform(0.2, 2) for word in BAD}
    return {word: float(weight) for word, weight in made.items()}


def _searched(case: Case, *, characters: bool, words: bool) -> Hunt:
    hunt = Hunt(case, case.budget.queries_max)
    greedy(hunt, Moves(hunt.wording, characters=characters, words=words), 1, lambda *_: None)
    return hunt


@pytest.mark.parametrize("seed", range(4))
def test_the_fewest_words_to_leave_out_of_a_bag_of_words_are_found(seed: int) -> None:
    """Each word weighs by itself: leave out those that speak most for the answer, until it turns."""
    weights = _weights(seed)
    texts, _ = reviews(60, seed)
    case = case_of(bag_of_words(weights, bias=0.05), texts, domain=DROPS, budget=BUDGET)
    hunt = _searched(case, characters=False, words=True)
    wording = Wording.of(DROPS, texts)
    fewest = []
    for row, text in enumerate(texts):
        side = 1 if case.y[row] else -1
        words = [w for w in text.split() if wording.changeable(w)]
        for_it = sorted((side * weights.get(w.strip(".").casefold(), 0.0) for w in words), reverse=True)
        margin = side * float(case.scores[row, 1] - case.scores[row, 0])
        least = next((k for k in range(1, 7) if margin - sum(for_it[:k]) < -1e-6), np.inf)
        fewest.append(least)
    np.testing.assert_array_equal(hunt.distance, fewest)
    assert len(set(fewest)) > 2


def _optimum(case: Case, row: int, moves: Moves, most: int) -> float:
    """The fewest edits of all there are that turn a text, by trying all."""
    draw = np.random.default_rng(0)
    text = Text.cut(str(case.x[row]))
    able = {at: found for at, word in enumerate(text.words) if (found := moves.of(word, draw))}
    for count in range(1, most + 1):
        made = []
        for places in itertools.combinations(able, count):
            for chosen in itertools.product(*(able[at] for at in places)):
                words = list(text.words)
                for at, new in zip(places, chosen, strict=True):
                    words[at] = new
                if any(words):
                    made.append(text.joined(words))
        rows = np.empty(len(made), object)
        rows[:] = made
        if made and (case.victim.scores(rows).argmax(axis=1) != case.y[row]).any():
            return count
    return np.inf


def test_greedy_finds_every_single_edit_and_never_beats_what_there_is() -> None:
    """On a pipeline whose words do not weigh by themselves, as its rows are normed."""
    texts, labels = reviews(400)
    model = pipeline(texts[:300], labels[:300])
    short = [" ".join(text.split()[:7]) for text in texts[300:340]]
    domain = Domain(
        DomainKind.TEXT, chars_max=1, share_max=1.0, synonyms=(("film", "movie"), ("plot", "story"))
    )
    case = case_of(victim_of(model), short, domain=domain, budget=Budget(queries_max=20_000, edits=(1, 2)))
    hunt = _searched(case, characters=False, words=True)
    moves = Moves(hunt.wording, characters=False, words=True)
    best = np.array([_optimum(case, row, moves, 2) for row in range(len(short))])
    assert (hunt.distance >= best).all()
    np.testing.assert_array_equal(hunt.distance == 1, best == 1)
    assert 0 < (best == 1).sum() < len(best)
    assert (hunt.distance > best).sum() <= 2


def test_without_queries_for_all_the_words_that_matter_come_first() -> None:
    weights = {"superb": 3.0, **{f"thing{chr(97 + n)}": 0.01 for n in range(20)}}
    text = " ".join(f"thing{chr(97 + n)}" for n in range(20)) + " superb"
    case = case_of(bag_of_words(weights, -1.0), [text], budget=Budget(queries_max=90, edits=(1,)))
    hunt = Hunt(case, 90)
    said = greedy(hunt, Moves(hunt.wording, characters=True, words=False), 1, lambda *_: None)
    assert said["ranked_by_importance"] == 1
    assert hunt.distance[0] == 1
    assert hunt.used[0] <= 90
    assert "superb" not in str(hunt.adversarial[0])


def test_labels_alone_come_close_to_what_scores_find() -> None:
    texts, labels = reviews(360)
    model = pipeline(texts[:300], labels[:300])
    found = {}
    for gives in ("probabilities", "labels"):
        case = case_of(victim_of(model, gives), texts[300:], labels[300:], budget=Budget(queries_max=3000))
        for offer in Texts().offers():
            if not (offer.needs.scores and gives == "labels"):
                told = Texts().run(offer.name, case, lambda *_: None)
                assert told.distance is not None
                assert told.adversarial is not None
                case.distance, case.adversarial = told.distance, told.adversarial
        found[gives] = case.distance
    for edits in (1, 2, 4, 8):
        best, blind = ((far > edits).mean() for far in (found["probabilities"], found["labels"]))
        assert best <= blind + 1e-9 <= best + 0.15, edits
    assert (found["labels"] > 8).mean() < 0.4
