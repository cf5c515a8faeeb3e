"""Examples of texts and series in the report: marked, drawn, said in words, and hostile ones harmless."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from tallystick.core.errors import BadInput
from tallystick.core.facts import from_json, to_json
from tallystick.drawing.report.content import edits_text, eps_text, summary
from tallystick.drawing.report.edited import passage, series
from tallystick.drawing.report.markdown import model_card
from tallystick.drawing.report.page import sections
from tallystick.drawing.report.whole import pictures_of
from tallystick.evidence.domain import Budget, Domain, DomainKind
from tallystick.evidence.figures import Rate
from tallystick.evidence.probe import Change, Example, Piece, Point, Probe, Threat, Trace
from tests.drawing.report.reports import EVIDENCE, HOSTILE, report

TEXT = Example(
    "text_characters", 12, "good", "good", "bad", 0.83, 0.61, 2.0,
    changes=(Change("word 2", "great", "gr3at"), Change("word 5", "loved", "")),
    passage=(Piece("A", "A"), Piece("great", "gr3at"), Piece("film, we", "film, we"), Piece("loved", "")),
)  # fmt: skip
SERIES = Example(
    "pgd", 3, "walk", "walk", "run", None, None, 0.1,
    changes=(Change("tilt at step 2", "0.1", "0.3", 0.2, "g"),),
    traces=(Trace("tilt", (0, 1, 2), (0.0, 0.1, 0.0), (0.0, 0.3, -0.05), "g"), Trace("heat", (), (), ())),
)  # fmt: skip


def _of(kind: DomainKind, example: Example, *eps: float):
    shape = (3,) if kind is DomainKind.SERIES else ()
    probe = Probe(example.probe, Threat.EVASION, queries=9, examples=(example,))
    points = tuple(Point(at, Rate(50, 120), Rate(110, 120)) for at in eps)
    return replace(
        EVIDENCE, domain=Domain(kind, shape), probes=(probe,), curve=points, budget=Budget(eps=eps)
    )


def _read(markup: str) -> ET.Element:
    return ET.fromstring(f"<div>{markup}</div>")  # noqa: S314 - our own markup, and this is where it must be whole


def test_both_texts_are_shown_with_what_was_changed_marked() -> None:
    found = _read(passage(TEXT))
    texts = [" ".join("".join(p.itertext()).split()) for p in found.iter("p")]
    assert texts[0].startswith(
        "Row 12 is good. Change \u201cgreat\u201d to \u201cgr3at\u201d, leave out \u201cloved\u201d"
    )
    assert "flips from good, 83% sure, to bad, 61% sure" in texts[0]
    assert texts[1] == "before A great film, we loved"
    assert texts[2] == "after A gr3at film, we"
    assert [e.text for e in found.iter("del")] == ["great", "loved"]
    assert [e.text for e in found.iter("ins")] == ["gr3at"]


def test_a_window_is_drawn_as_what_it_was_what_it_became_and_the_change() -> None:
    found = _read(series(SERIES))
    drawings = list(found.iter("svg"))
    assert len(drawings) == 2
    was, now = drawings[0].iter("polyline")
    assert len(was.attrib["points"].split()) == len(now.attrib["points"].split()) == 3
    assert was.attrib["points"] != now.attrib["points"]
    assert sum(e.attrib.get("class") == "change" for e in drawings[0].iter("line")) == 2
    assert "0.2 g" in "".join(drawings[0].itertext())
    assert "tilt at step 2" in "".join(found.itertext())


@pytest.mark.parametrize(
    ("example", "drawn"),
    [
        (replace(TEXT, truth=HOSTILE, label_after=HOSTILE, passage=(Piece(HOSTILE, HOSTILE * 2),),
                 changes=(Change("word 1", HOSTILE, HOSTILE * 2),)), passage),
        (replace(SERIES, traces=(replace(SERIES.traces[0], channel=HOSTILE, unit=HOSTILE),)), series),
    ],
)  # fmt: skip
def test_what_a_stranger_wrote_stays_text(example: Example, drawn) -> None:
    markup = drawn(example)
    assert "<script" not in markup
    assert HOSTILE in "".join(_read(markup).itertext())


def test_the_page_and_the_card_speak_of_words() -> None:
    told = report(evidence=_of(DomainKind.TEXT, TEXT, 1.0, 4.0), before=None)
    assert "When an attacker may change 1 word, it is still right about" in " ".join(summary(told))
    assert "as many words misspelt at random" in " ".join(summary(told))
    page, card = sections(told, lambda digest: digest), model_card(told)
    assert "<del>great</del>" in page
    assert "Accuracy over words changed" in page
    assert "| words changed | accuracy under attack |" in card
    assert "leave out \u201cloved\u201d" in card
    assert pictures_of(told) == []


def test_the_page_and_the_card_speak_of_spreads() -> None:
    told = report(evidence=_of(DomainKind.SERIES, SERIES, 0.1), before=None)
    assert "0.1 of its channel's spread" in " ".join(summary(told))
    assert "deviations of its channel or in its stated scale" in sections(told, lambda digest: digest)
    assert "tilt at step 2 0.1 to 0.3" in model_card(told)
    assert told.evidence is not None
    assert eps_text(told.evidence).startswith("eps:")


def test_edits_are_said_in_words_and_the_rest_counted() -> None:
    said = edits_text(replace(TEXT, changes=(Change("word 1", "", "fine"), *TEXT.changes, *TEXT.changes)))
    assert said.startswith("Say \u201cfine\u201d once more, change \u201cgreat\u201d")
    assert said.endswith(", and 2 more")


def test_examples_are_kept_as_json_and_come_back() -> None:
    for example in (TEXT, SERIES):
        assert from_json(Example, to_json(example)) == example
    with pytest.raises(BadInput, match="steps rise"):
        Trace("a", (1, 0), (0.0, 0.0), (0.0, 0.0))
    with pytest.raises(BadInput, match="steps rise"):
        Trace("a", (0, 1), (0.0,), (0.0, 0.0))
