"""Texts in the engine: noise of words, what of an attack's findings counts, and how examples show them."""

from __future__ import annotations

import numpy as np
import pytest

from tallystick.core.model import TensorSpec
from tallystick.crew.judging.base import begin_case, measure_base
from tallystick.crew.judging.edits import changes, passage
from tallystick.crew.judging.measuring import misspelt
from tallystick.crew.judging.merging import merge, to_show
from tallystick.crew.judging.rows import Given
from tallystick.crew.judging.showing import examples
from tallystick.crew.measure.target import Seen
from tallystick.evidence.domain import Budget, Domain, DomainKind
from tallystick.evidence.probe import Piece, Probe, Threat
from tallystick.evidence.wording import Wording
from tallystick.ports.models.attack import Found

DOMAIN = Domain(DomainKind.TEXT, synonyms=(("great", "superb"),))
BUDGET = Budget(samples_max=4, seed=1).of(DomainKind.TEXT)
TEXTS = (
    "A great film, truly",
    "dull acting and a dull plot",
    "nothing to say",
    "great great great great fun",
)


class Praise:
    """Says that a text with more of ``great`` than of ``dull`` is good; a predictor of one text a row."""

    inputs = (TensorSpec("text", "BYTES", (-1,)),)
    outputs = (TensorSpec("said", "FP32", (-1, 2)),)

    def predict(self, inputs):
        texts = [row.decode() for row in inputs["text"].reshape(-1)]
        z = np.array([t.casefold().count("great") - t.casefold().count("dull") - 0.5 for t in texts])
        good = 1 / (1 + np.exp(-z))
        return {"said": np.stack([1 - good, good], axis=1).astype(np.float32)}

    def close(self):
        """Nothing is held."""


@pytest.fixture
def seen():
    x = np.array(TEXTS, object)
    rows = Given(x, np.array(["1", "0", "0", "1"], object), ("text",), DOMAIN)
    return Seen(Praise(), rows.x, rows.truth), rows


def test_noise_misspells_as_many_words_and_ever_more_of_the_same(seen) -> None:
    _, rows = seen
    wording = Wording.of(DOMAIN, rows.x)
    before = [misspelt(wording, rows.x, most, 7) for most in (1, 2, 4)]
    for most, made in zip((1, 2, 4), before, strict=True):
        for text, noisy in zip(rows.x, made, strict=True):
            assert noisy == text or 1 <= wording.edits(text, noisy, most) <= most
    assert [wording.edits(TEXTS[3], made[3], 4) for made in before] == [1, 2, 2]  # half of its words at most
    assert np.array_equal(misspelt(wording, rows.x, 2, 7), before[1])
    assert before[0][2] == TEXTS[2]  # no word of it may be changed


def test_the_curve_of_noise_has_a_rate_for_each_number_of_words(seen) -> None:
    itself, rows = seen
    base = measure_base(itself, rows, BUDGET, key="sha256:" + "0" * 64, size_mib=0.0, notes=[])
    assert len(base.noise) == len(BUDGET.eps) == 4
    assert base.right.right == 4
    assert base.noise[-1].right < 4  # "grate" is not "great" any more


def test_of_what_an_attack_found_counts_what_is_allowed_counted_anew(seen) -> None:
    itself, rows = seen
    case = begin_case(itself, itself, rows, BUDGET)
    at = {int(row): place for place, row in enumerate(case.attacked)}
    distance, made = np.full(4, np.inf), case.adversarial.copy()
    claims = {
        0: (0.1, "A graet film, truly"),
        1: (1.0, "great acting and a great plot"),
        3: (9.0, TEXTS[3] + " dull" * 9),
    }
    for row, (far, text) in claims.items():
        distance[at[row]], made[at[row]] = far, text
    found = Found(Probe("p", Threat.EVASION), distance, made)
    merged = merge(
        case,
        found,
        lambda texts, places: itself.scores(texts).argmax(1) != case.y[case.attacked[places]],
        False,
    )
    assert merged.distance[at[0]] == 1.0  # not 0.1, as it says
    assert np.isinf(merged.distance[[at[1], at[2], at[3]]]).all()  # another word; nothing; far beyond
    assert any("2 of 3 texts that it found are not allowed" in note for note in merged.notes)
    assert np.array_equal(merged.nearer, np.arange(4) == at[0])
    assert to_show(case, merged, lambda texts, places: np.ones(len(places), bool)) == {}


def test_an_example_has_both_texts_and_says_what_was_changed(seen, tmp_path) -> None:
    itself, rows = seen
    case = begin_case(itself, itself, rows, BUDGET)
    place = int(np.flatnonzero(case.attacked == 0)[0])
    case.distance[place], case.adversarial[place] = 1.0, "A gr\u0435at film, truly"
    (shown,) = examples("p", case, itself, np.arange(4) == place, tmp_path, "000")
    assert (shown.truth, shown.label_before, shown.label_after, shown.eps) == ("1", "1", "0", 1.0)
    assert shown.passage == (
        Piece("A", "A"),
        Piece("great", "gr\u0435at"),
        Piece("film, truly", "film, truly"),
    )
    assert shown.changes[0].after == "gr\u0435at (U+0435)"  # it looks like what it was
    assert shown.confidence_after is not None
    assert not list(tmp_path.iterdir())


def test_of_a_long_text_the_words_around_are_shown() -> None:
    words = [f"w{n}" for n in range(200)]
    after = [*words[:100], "other", *words[101:]]
    pieces = passage(" ".join(words), " ".join(after))
    assert [piece.changed for piece in pieces] == [False, True, False]
    assert pieces[0].before == "\u2026 " + " ".join(words[88:100])
    assert pieces[2].after == " ".join(words[101:113]) + " \u2026"
    assert changes(DOMAIN, ("text",), " ".join(words), " ".join(after))[0].feature == "word 101"


def test_a_hostile_text_stays_small() -> None:
    before = " ".join("x" * 10_000 for _ in range(200))
    after = before.replace("x" * 10_000, "y" * 10_000, 1) + " z" * 5000
    pieces = passage(before, after)
    assert sum(len(piece.before) + len(piece.after) for piece in pieces) < 10_000
