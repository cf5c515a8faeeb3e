"""Words of a text: cut and joined without loss, and what counts as an edit that a domain allows."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.core.errors import BadInput
from tallystick.core.facts import from_json, to_json
from tallystick.evidence.domain import Budget, Domain, DomainKind
from tallystick.evidence.policy import Policy
from tallystick.evidence.wording import STOP_WORDS, Text, Wording, parted, swaps

ROWS = ("I loved the plot, and she loves the acting.", "Not a great film: boring!", "2 films and 3d glasses")


def wording(**more: object) -> Wording:
    return Wording.of(Domain(DomainKind.TEXT, **more), ROWS)  # type: ignore[arg-type]  # reason: tests say which


@given(st.text())
def test_a_text_is_cut_and_joined_without_loss(text: str) -> None:
    cut = Text.cut(text)
    assert list(cut.words) == text.split()
    assert cut.joined(cut.words) == text
    assert len(cut.gaps) == len(cut.words)


@given(st.text(max_size=12))
def test_a_word_is_its_punctuation_and_its_core(word: str) -> None:
    assert "".join(parted(word)) == word


def test_however_odd_a_text_is_it_takes_time_by_its_length() -> None:
    odd = "a" + "!" * 400_000 + "b"
    assert parted(odd) == ("", odd, "")
    assert math.isinf(wording().edits(f"{odd} one", f"{odd}! two", 3))


@given(st.text("abc", max_size=7), st.text("abc", max_size=7))
def test_the_distance_of_two_words_is_symmetric_and_counts_no_further_than_asked(
    one: str, other: str
) -> None:
    far = swaps(one, other, 10)
    assert far == swaps(other, one, 10)
    assert (far == 0) == (one == other)
    assert abs(len(one) - len(other)) <= far <= max(len(one), len(other))
    assert swaps(one, other, 1) == min(far, 2)


def test_a_swap_of_neighbours_is_one_edit() -> None:
    assert swaps("great", "graet", 3) == 1
    assert swaps("great", "grate", 3) == 2


@pytest.mark.parametrize(
    ("before", "after", "edits"),
    [
        ("a great plot", "a graet plot", 1),  # neighbours swapped
        ("a great plot", "a gr3at plot", 1),
        ("a great plot", "a GREAT plot", 1),
        ("a great, long plot", "a gr3at, long plot", 1),  # punctuation stays
        ("a great, long plot", "a gr3at long plot", math.inf),
        ("a great plot", "a reat plot", math.inf),  # the first letter stays
        ("a great plot", "a gxxxt plot", math.inf),  # three characters
        ("a great plot", "a gx3at plot", 1),  # two of them
        ("the bad plot", "the bda plot", math.inf),  # three letters are too few
        ("this is not great", "this is nto great", math.inf),  # a word that turns the sentence
        ("this is not great", "this is great", math.inf),
        ("a great plot", "a plot", 1),  # left out
        ("a great plot", "a great great plot", 1),  # said twice
        ("a great plot", "a great plot great", math.inf),
        ("she loves it", "she loved it", 1),  # another form that the rows have
        ("she loves it", "she loving it", math.inf),  # one that they have not
        ("boring films", "boring film", 1),
        ("a plot", "a plot", math.inf),  # nothing was changed
        ("plot", "", math.inf),  # nothing is left
        ("all 2 films", "all 3 films", math.inf),  # numbers mean what they say
        ("great plot, great acting", "gr3at plot, gr3at acting", 2),
        ("boring plot", "borings plot", 1),
        ("she wells it", "she will it", math.inf),  # a word that turns the sentence, and that no row has
        ("it didnt bore", "it bore", math.inf),  # one without its apostrophe
    ],
)
def test_what_counts_as_an_edit(before: str, after: str, edits: float) -> None:
    assert wording().edits(before, after, 8) == edits


def test_a_misspelling_that_is_another_word_of_the_rows_is_none() -> None:
    rows = Wording.of(Domain(DomainKind.TEXT), ["a good coat", "a gold coat"])
    assert not rows.misspells("good", "gold")
    assert rows.misspells("good", "goid")


def test_a_policy_names_what_stays_and_what_means_the_same() -> None:
    said = wording(
        immutable=("Plot",), synonyms=(("great", "superb"), ("great", "fine")), word_edits=("synonym",)
    )
    assert said.edits("a great plot", "a superb plot", 8) == 1
    assert said.edits("a Great plot", "a Fine plot", 8) == 1
    assert said.edits("a superb plot", "a fine plot", 8) == math.inf
    assert said.edits("a great plot", "a great plto", 8) == math.inf
    assert said.edits("a great plot", "a plot", 8) == math.inf
    assert said.others("GREAT!") == ("fine", "superb")


def test_no_more_words_are_changed_than_the_budget_and_the_share_allow() -> None:
    before, after = "great films boring acting", "gr3at f1lms boring acting"
    assert wording().edits(before, after, 2) == 2
    assert wording().edits(before, after, 1) == math.inf
    assert wording(share_max=0.3).edits(before, after, 8) == math.inf
    assert wording(share_max=0.1).edits("great film", "gr3at film", 8) == 1  # one may always be


_OLD = ("great", "the", "plot", "films", "not", "boring")
_NEW = (*_OLD, "gr3at", "film")


@given(st.lists(st.sampled_from(_OLD), min_size=1, max_size=7), st.lists(st.sampled_from(_NEW), max_size=8))
def test_edits_are_as_an_exhaustive_alignment_counts_them(old: list[str], new: list[str]) -> None:
    """Against the plain recursion over all alignments."""
    words = wording(share_max=1.0)

    def least(i: int, j: int) -> float:
        if i == len(old) and j == len(new):
            return 0
        ways = [math.inf]
        if i < len(old) and words.changeable(old[i]):
            ways.append(1 + least(i + 1, j))
        if i < len(old) and j < len(new):
            same = old[i] == new[j]
            able = same or words.misspells(old[i], new[j]) or words.replaces(old[i], new[j])
            ways.append(least(i + 1, j + 1) + (not same) if able else math.inf)
        if 0 < j < len(new) and new[j] == new[j - 1] and words.changeable(new[j]):
            ways.append(1 + least(i, j + 1))
        return min(ways)

    found = words.edits(" ".join(old), " ".join(new), 20)
    true = least(0, 0)
    assert found == (true if old != new and new and true <= len(old) else math.inf)
    around = " ".join(["the great"] * 12)
    before, after = (f"{around} the {' '.join(middle)} the {around}" for middle in (old, new))
    assert words.edits(before, after, 3) == (true if 0 < true <= 3 else math.inf)


def test_stop_words_are_in_small_letters_and_hold_negations() -> None:
    assert {"not", "no", "never", "n't", "hardly"} - STOP_WORDS == {"n't"}
    assert all(word == word.casefold() for word in STOP_WORDS)
    assert not wording().changeable("Don\u2019t")


@pytest.mark.parametrize(
    ("wire", "said"),
    [
        ({"chars_max": 11}, "chars_max is 0 to 10"),
        ({"share_max": 0.0}, "share_max above 0"),
        ({"word_edits": ["swap"]}, "no edit of words 'swap'"),
        ({"immutable": ["two words"]}, "no single word"),
        ({"synonyms": [["fine", ""]]}, "no single word"),
    ],
)
def test_what_no_edit_can_obey_is_refused(wire: dict, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        from_json(Domain, {"kind": "text", **wire})


@pytest.mark.parametrize("edits", [[], [0, 1], [2, 1], [1, 1], [1, 1001]])
def test_a_budget_of_edits_rises_from_one(edits: list[int]) -> None:
    with pytest.raises(BadInput):
        from_json(Budget, {"edits": edits})


def test_a_budget_counts_words_of_texts_and_eps_of_all_others() -> None:
    budget = from_json(Budget, {"edits": [1, 3]})
    assert budget.of(DomainKind.TEXT).eps == (1.0, 3.0)
    assert all(budget.of(kind) is budget for kind in DomainKind if kind is not DomainKind.TEXT)


def test_a_rule_may_be_about_as_many_words_as_are_attacked() -> None:
    rule = {"name": "r", "measure": "robust_accuracy", "at_least": 0.5, "eps": 2}
    domain = {"reviews*": {"kind": "text", "synonyms": [["good", "fine"]]}}
    policy = Policy.parse({"rule": [rule], "domain": domain})
    assert policy.domain("reviews-en").synonyms == (("good", "fine"),)
    assert from_json(Policy, to_json(policy)) == policy
    with pytest.raises(BadInput, match=r"eps 3\.0 is not attacked"):
        Policy.parse({"rule": [{**rule, "eps": 3}], "domain": domain})
