"""The report: everything that was found is said, nothing that a stranger named is more than text."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from tallystick.core.verdict import VerdictState
from tallystick.drawing.report import charts, content
from tallystick.drawing.report.content import Report
from tallystick.drawing.report.markdown import model_card
from tallystick.drawing.report.page import sections
from tallystick.drawing.report.whole import pictures_of, self_contained
from tallystick.evidence.domain import Domain, DomainKind
from tallystick.evidence.figures import Rate
from tallystick.evidence.probe import ProbeState, Threat
from tallystick.judging.judge import ENDPOINT
from tallystick.routines.rejudge import LIVE
from tests.drawing.report.reports import EVIDENCE, HOSTILE, VERDICT, report

VOID = {"br", "img", "meta"}


class _Elements(HTMLParser):
    """Elements and their attributes; fails where they are not nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + " "


def _page(found: Report) -> _Elements:
    return _Elements(str(sections(found, lambda digest: f"/artifacts/{digest}")))


def test_a_refused_model_is_said_to_be_refused_first_with_each_rule_and_its_limit() -> None:
    page = _page(report())
    assert page.text.index("may not go into production: 1 rule that refuses does not hold") < 20
    for finding in VERDICT.findings:
        assert finding.text in page.text
    assert (
        sum(tag == "svg" and "limit-bar" in (a["class"] or "") for tag, a in page.seen) == 2
    )  # not that in ms


def test_every_probe_is_there_and_what_was_not_tested_stands_with_its_reason() -> None:
    page = _page(report())
    for probe in EVIDENCE.probes:
        assert probe.name in page.text
        assert probe.why in page.text
    assert [name for name, _, _ in content.untested(EVIDENCE)] == ["hop_skip_jump", "attribute"]
    whole = replace(EVIDENCE, probes=tuple(p for p in EVIDENCE.probes if p.done))
    assert "Every probe that was to be carried out was." in _page(report(evidence=whole)).text


def test_what_a_stranger_named_stays_text() -> None:
    for text in (str(sections(report(), str)), self_contained(report(), {}, "", HOSTILE)):
        assert "script" not in {tag for tag, _ in _Elements(text).seen}
        assert HOSTILE in _Elements(text).text
    assert "<script>" not in model_card(report())


def test_the_file_needs_nothing_else_and_its_pictures_are_inside() -> None:
    digests = pictures_of(report())
    assert len(digests) == 4
    text = self_contained(
        report(), dict.fromkeys(digests[:3], b"\x89PNG"), "p::after { content: '</style>' }", ""
    )
    page = _Elements(text)
    images = [a["src"] or "" for tag, a in page.seen if tag == "img"]
    assert images
    assert all(src.startswith("data:") for src in images)
    assert "data:," in images  # the one that is missing
    assert not [a for tag, a in page.seen if tag in ("link", "script", "iframe")]
    assert text.count("</style>") == 1


def test_the_version_before_is_drawn_and_listed_where_there_is_one() -> None:
    assert "digits@1 under attack" in _page(report()).text
    assert "digits@1" not in _page(report(before=None)).text
    assert str(charts.robustness(EVIDENCE)).count("<polyline") == 2
    assert str(charts.robustness(EVIDENCE, report().before)).count("<polyline") == 3


def test_where_nothing_was_attacked_no_line_claims_robustness() -> None:
    unasked = tuple(replace(p, queries=0, gradients=0) for p in EVIDENCE.probes)
    bare = replace(EVIDENCE, probes=unasked)
    assert str(charts.robustness(bare)).count("<polyline") == 1
    page = _page(report(evidence=bare, before=None))
    assert "nothing is known about what it withstands" in page.text
    assert "not attacked" in model_card(report(evidence=bare))


def test_corruptions_are_listed_worst_first_with_their_severities() -> None:
    rows = content.corruptions(EVIDENCE)
    assert [row[0] for row in rows] == ["JPEG", "brightness", "blur", "noise"]
    assert all(len(row[2]) == 5 and list(row[2]) == sorted(row[2], reverse=True) for row in rows)
    assert "hurts most is JPEG" in " ".join(content.summary(report()))


def test_examples_come_from_different_probes_and_classes_first() -> None:
    assert {e.probe for e in content.examples(EVIDENCE, 2)} == {"pgd"}
    assert {e.probe for e in content.examples(EVIDENCE, 3)} == {"pgd", "table_edits"}
    assert "210" in _page(report()).text


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (VerdictState.JUDGING, "is being judged"),
        (VerdictState.FAILED, "could not be judged"),
        (VerdictState.PASSED, "may go into production: every rule that refuses holds"),
    ],
)
def test_the_headline_says_what_follows(state: VerdictState, said: str) -> None:
    bare = Report(replace(VERDICT, state=state, findings=()))
    assert said in content.headline(bare)
    assert said in _page(bare).text
    assert said in model_card(bare).replace("\\", "")


@pytest.mark.parametrize("stage", [ENDPOINT, LIVE])
@pytest.mark.parametrize(
    ("state", "said"),
    [
        (VerdictState.PASSED, "every rule that refuses holds"),
        (VerdictState.REFUSED, "1 rule that refuses does not hold"),
    ],
)
def test_a_verdict_that_opens_no_gate_is_never_said_to_let_in(
    state: VerdictState, said: str, stage: str
) -> None:
    kept = VERDICT.findings if state is VerdictState.REFUSED else ()
    far = replace(VERDICT, state=state, stage=stage, findings=kept)
    line = content.headline(report(verdict=far))
    assert said in line
    assert "may go" not in line
    assert "opens no gate" in line
    own = "right is what it says of them" in " ".join(content.summary(report(verdict=far)))
    assert own == (stage == LIVE)


def test_eps_of_a_table_is_a_share_of_each_span_and_of_anything_else_a_number() -> None:
    assert "change every feature by 0.1, it" in " ".join(content.summary(report()))
    table = replace(EVIDENCE, domain=Domain(DomainKind.TABULAR))
    said = " ".join(content.summary(report(evidence=table)))
    assert "change every feature by 10.0 % of its span" in said


def test_a_verdict_that_counts_no_more_says_so() -> None:
    old = report(
        verdict=replace(VERDICT, state=VerdictState.PASSED), expired="was given under another policy"
    )
    assert "must be judged again" in content.headline(old)


def test_the_card_has_a_table_for_every_part_and_the_command_to_repeat_it() -> None:
    card = model_card(report())
    for heading in ("## Verdict", "## Quantitative analyses", "## Caveats", "## How it was found"):
        assert heading in card
    assert "tally judge digits@2 --data digits_test@7 --label label --again" in card
    assert "not tested: hop\\_skip\\_jump (failed)" in card
    for line in card.splitlines():
        assert "\n" not in line


def test_a_probe_that_failed_is_never_drawn_as_a_risk() -> None:
    assert [name for name, _ in content.risks(EVIDENCE)] == [
        "agreement of a stolen copy", "advantage of a membership attack",
    ]  # fmt: skip
    assert EVIDENCE.of(Threat.INFERENCE)[1].state is ProbeState.NOT_APPLICABLE


def test_beside_each_rate_that_rests_on_too_few_rows_stands_how_many_it_needs() -> None:
    page, card = _page(report()).text, model_card(report())
    for words in (
        "±3.8 points with 100 rows; ±3 points needs 145",  # 97 of 100
        "±8.4 points with 120 rows; ±3 points needs 946",  # 80 of 120
        "±8.8 points with 120 rows; ±3 points needs 1,045",  # 52 of 120
    ):
        assert words in page
        assert words in card
    fine = replace(EVIDENCE, budget=replace(EVIDENCE.budget, precision=0.2))
    assert "points needs" not in _page(report(evidence=fine)).text
    assert "points needs" not in model_card(report(evidence=fine))


def test_the_summary_says_how_many_rows_would_do_and_whether_the_data_has_them() -> None:
    said = " ".join(content.summary(report()))
    assert "1,064 rows would make each that certain, and digits_test@7 has 100." in said
    close = replace(EVIDENCE, budget=replace(EVIDENCE.budget, precision=0.087))
    (worst,) = (s for s in close.shortfalls() if s.measure == "robust_accuracy")
    assert worst.half_width * 100 < 8.75, "which rounds to what is stated"
    said = " ".join(content.summary(report(evidence=close)))
    assert "1 accuracy is less certain than the stated ±8.7 points, at worst ±8.8;" in said
    many = replace(EVIDENCE, clean=Rate(970, 1000), budget=replace(EVIDENCE.budget, precision=0.05))
    said = " ".join(content.summary(report(evidence=many)))
    assert "381 rows would make each that certain, and digits_test@7 has 1,000: raise samples" in said


def test_whether_the_model_or_its_twin_was_asked_stands_in_every_form() -> None:
    square = next(p for p in EVIDENCE.probes if p.name == "square")
    through = replace(square, through_twin=True)
    about = {"rows": 20, "of_rows": 120, "queries_max": 500}
    itself = replace(square, name="model_itself", settings=about)
    others = tuple(p for p in EVIDENCE.probes if p.threat is not Threat.EVASION)
    seen = replace(EVIDENCE, probes=(through, itself, *others))
    [said] = content.who_was_asked(seen)
    assert said == (
        "1 attack asked an ONNX twin of it in its place, and showed the model itself what turned the twin;"
        " on the model itself were carried out model_itself (on 20 of 120 rows, up to 500 questions about"
        " each)."
    )
    found = report(evidence=seen)
    for text in (_page(found).text, model_card(found).replace("\\", "")):
        assert said in text
        assert "its ONNX twin; what turned it, the model itself" in text
    [alone] = content.who_was_asked(replace(seen, probes=(through, *others)))
    assert alone.endswith("no attack was carried out on the model itself.")
    assert content.who_was_asked(EVIDENCE) == []
    assert "— |" in model_card(found)  # of what asks nobody
