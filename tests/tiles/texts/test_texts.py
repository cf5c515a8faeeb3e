"""The tile of texts: what it finds keeps the rules, turns the model, costs what it may, and comes again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tallystick.core.errors import BadInput, Failed, NotSupported
from tallystick.evidence.domain import Budget, Domain, DomainKind
from tallystick.evidence.wording import Wording
from tallystick.ports.models.attack import Case, Found
from tallystick.ports.tile import Place
from tallystick.proofs.attack import AttackProof
from tallystick.tiles.texts import hunt
from tallystick.tiles.texts.moves import LOOK_ALIKES, Moves
from tallystick.tiles.texts.tile import Texts, open_tile
from tests.tiles.texts.reviews import Victim, case_of, pipeline, reviews, victim_of

NAMES = [offer.name for offer in Texts().offers()]
BUDGET = Budget(queries_max=1200)


class TestTexts(AttackProof):
    """Of rows that are no texts: it offers nothing that applies, and says so."""

    def open(self, home: Path) -> Texts:
        return open_tile(Place(home))


@pytest.fixture(scope="module")
def model():
    texts, labels = reviews(360)
    return pipeline(texts[:300], labels[:300]), texts[300:], labels[300:]


@pytest.fixture
def case(model) -> Case:
    return case_of(victim_of(model[0]), model[1], model[2], budget=BUDGET)


def _run(name: str, case: Case) -> Found:
    return Texts().run(name, case, lambda *_: None)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_found_keeps_the_rules_and_turns_the_model(name: str, case: Case) -> None:
    found = _run(name, case)
    assert found.distance is not None
    assert found.adversarial is not None
    turned = np.flatnonzero(np.isfinite(found.distance) & (found.distance > 0))
    assert len(turned) > 20
    wording = Wording.of(case.domain, case.x)
    for row in turned:
        edits = wording.edits(case.x[row], found.adversarial[row], 8)
        assert 0 < edits <= found.distance[row], (case.x[row], found.adversarial[row])
    said = case.victim.scores(found.adversarial[turned]).argmax(axis=1)
    assert (said != case.y[turned]).all()
    rest = np.setdiff1d(np.arange(len(found.distance)), turned)
    assert all(text == "" for text in found.adversarial[rest])
    np.testing.assert_array_equal(found.distance[rest], case.distance[rest])


@pytest.mark.parametrize("name", NAMES)
def test_few_texts_a_call_find_the_same(name: str, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _run(name, case)
    monkeypatch.setattr(hunt, "ROWS_MAX", 50)
    monkeypatch.setattr(hunt, "CHARS_MAX", 2000)
    sizes: list[list[int]] = []
    plain = case.victim.scores
    monkeypatch.setattr(case.victim, "scores", lambda x: (sizes.append([len(t) for t in x]), plain(x))[1])
    parts = _run(name, case)
    assert max(map(len, sizes)) <= 50
    assert all(sum(chars) <= 2000 or len(chars) == 1 for chars in sizes)
    assert replace(parts.probe, seconds=0.0) == replace(whole.probe, seconds=0.0)
    np.testing.assert_array_equal(parts.adversarial, whole.adversarial)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_and_leaves_the_case_alone(name: str, case: Case) -> None:
    before = case.distance.copy(), case.adversarial.copy(), case.x.copy()
    one, other = _run(name, case), _run(name, case)
    assert replace(one.probe, seconds=0.0) == replace(other.probe, seconds=0.0)
    np.testing.assert_array_equal(one.adversarial, other.adversarial)
    np.testing.assert_array_equal(one.distance, other.distance)
    for kept, now in zip(before, (case.distance, case.adversarial, case.x), strict=True):
        np.testing.assert_array_equal(kept, now)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("queries", [40, 300])
def test_no_text_costs_more_than_its_share_and_all_are_asked_about_together(name, queries, case) -> None:
    case = replace(case, budget=replace(case.budget, queries_max=queries))
    victim = case.victim
    assert isinstance(victim, Victim)
    probe = _run(name, case).probe
    share = {"text_characters": 3, "text_words": 3, "text_random": 2}[name] / 8
    assert probe.settings["queries_most"] <= queries * share
    assert victim.asked == probe.queries
    assert victim.calls < victim.asked / 5


def test_all_together_find_more_and_go_on_from_one_another(case: Case) -> None:
    robust = [int((case.distance > 8).sum())]
    for name in NAMES:
        found = _run(name, case)
        assert found.distance is not None
        assert found.adversarial is not None
        assert (found.distance <= case.distance).all()
        case = replace(case, distance=found.distance, adversarial=found.adversarial)
        robust.append(int((case.distance > 8).sum()))
    assert robust[0] > 2 * robust[-1]


def test_words_that_a_policy_holds_fast_are_in_every_adversarial(model) -> None:
    still = ("plot", "story", "great", "wonderful", "loved")
    case = case_of(victim_of(model[0]), model[1], model[2], Domain(DomainKind.TEXT, immutable=still), BUDGET)
    for name in NAMES:
        found = _run(name, case)
        assert found.adversarial is not None
        for before, after in zip(case.x, found.adversarial, strict=True):
            for word in (*still, "not", "the") if after else ():
                assert before.casefold().split().count(word) == after.casefold().split().count(word)


def test_what_cannot_be_changed_is_said_and_left(model) -> None:
    """Numbers, small words, nothing at all: no edit, no query for them, and a note."""
    case = case_of(
        victim_of(model[0]), ["", "   ", "not the 3 of us", "12 345 6", "a great film"], budget=BUDGET
    )
    for name in NAMES:
        found = _run(name, case)
        assert found.distance is not None
        assert np.isinf(found.distance[:4]).all()
        assert found.probe.notes[0].endswith("may be changed in this way: 2")
        assert found.probe.samples == 3  # of two there is no word at all


@pytest.mark.parametrize(
    "text", ["\u200b\u202e evil\u0000 text", "\U0001f600 " * 40, "x" * 20_000, "\ud7ff\u0301 a"]
)
def test_hostile_texts_break_nothing(text: str, model) -> None:
    case = case_of(victim_of(model[0]), [text, "a great film"], budget=BUDGET)
    for name in NAMES:
        assert _run(name, case).probe.done


def test_a_long_text_is_changed_where_it_matters(model) -> None:
    """Of 1,500 words, with queries for a few hundred: nothing is made for words that nobody asks about."""
    rest = " ".join(["and the camera was with the music in a scene"] * 150)
    case = case_of(victim_of(model[0]), [f"{rest} great. {rest}", f"dull {rest}"], budget=BUDGET)
    for name in NAMES:
        probe = _run(name, case).probe
        assert probe.settings["queries_most"] <= BUDGET.queries_max
        assert probe.settings.get("ranked_by_importance", 2) == 2


@pytest.mark.parametrize("classes", ["one", "always the same", "always wrong"])
def test_where_there_is_nothing_to_find_nothing_is_found(classes: str) -> None:
    wide = 1 if classes == "one" else 3
    victim = Victim(lambda texts: np.tile(np.eye(wide)[0], (len(texts), 1)))
    labels = [1, 1] if classes == "always wrong" else [0, 0]
    case = case_of(victim, ["a great film", "some dull words"], labels, budget=BUDGET)
    for name in NAMES:
        found = _run(name, case)
        np.testing.assert_array_equal(found.distance, case.distance)
        assert found.probe.settings["samples_nearer"] == 0
    assert classes != "always wrong" or victim.asked == 0


def test_an_error_of_the_model_is_told(case: Case) -> None:
    assert isinstance(case.victim, Victim)
    for name in NAMES:
        case.victim.asked, case.victim.fails_after = 0, 30
        with pytest.raises(Failed, match="went away"):
            _run(name, case)


def test_what_does_not_apply_is_refused(case: Case) -> None:
    with pytest.raises(BadInput, match="no probe 'x'"):
        _run("x", case)
    with pytest.raises(BadInput, match="whole numbers of words"):
        _run(NAMES[0], replace(case, budget=Budget()))
    with pytest.raises(NotSupported, match="for texts"):
        _run(NAMES[0], replace(case, domain=Domain()))
    with pytest.raises(NotSupported, match="needs 10"):
        _run(NAMES[0], replace(case, budget=replace(case.budget, queries_max=20)))


def test_misspellings_are_of_every_kind_and_look_like_the_word() -> None:
    moves = Moves(Wording.of(Domain(DomainKind.TEXT), []), characters=True, words=False)
    found: set[str] = set()
    for seed in range(20):
        found |= set(moves.of("Charming,", np.random.default_rng(seed)))
    assert {"Chamring,", "Charmng,", "Charrming,", "Chatming,", "CHARMING,", "charming,"} <= found
    assert {f"Ch{LOOK_ALIKES['a'][0]}rming,", "Charm1ng,", "Ch4rming,"} & found
    assert all(made[0] in "Cc" and made.endswith(",") for made in found)


def test_whole_words_keep_their_case_and_punctuation() -> None:
    domain = Domain(DomainKind.TEXT, synonyms=(("great", "superb"),))
    moves = Moves(Wording.of(domain, ["loves loved"]), characters=False, words=True)
    draw = np.random.default_rng(0)
    assert moves.of("Great!", draw) == ("", "Great! Great!", "Superb!")
    assert moves.of('"LOVES"', draw) == ("", '"LOVES" "LOVES"', '"LOVED"')
    assert moves.of("not", draw) == ()
