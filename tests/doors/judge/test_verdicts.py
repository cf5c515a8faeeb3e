"""``tally judge``, ``tally verdicts`` and ``tally verdict``: what is asked, what is shown, how they end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tallystick.core.facts import to_json
from tallystick.core.names import digest_of
from tallystick.core.verdict import Finding, Severity, Verdict, VerdictState
from tallystick.evidence.evidence import Evidence
from tallystick.evidence.figures import Figure, Rate
from tallystick.evidence.probe import Probe, ProbeState, Threat

EVIL = "\x1b[31m|evil|*\n"
FINDINGS = (
    Finding("robust", False, Severity.REFUSE, "robust: 1% is below 50%"),
    Finding("slow", False, Severity.WARN, "slow: 9 ms is above 5 ms"),
    Finding("signed", False, Severity.REFUSE, "signed: no; excepted", exception="excepted", until_ms=9),
    Finding("clean", True, Severity.REFUSE, "clean: 99% is at least 90%"),
)
REFUSED = Verdict(
    "verdict-1", "m@1", digest_of("files"), "p", digest_of("p"), VerdictState.REFUSED, FINDINGS,
    dataset="t@1", label="label", stage="Staging", envelope=digest_of("e"), at_ms=1,
)  # fmt: skip
EVIDENCE = Evidence(
    "m@1", digest_of("files"), "t@1", digest_of("rows"), Rate(99, 100),
    probes=(
        Probe("hop", Threat.EVASION, queries=1234, gradients=56, seconds=2, notes=("a sign of masking",)),
        Probe("pgd", Threat.EVASION, ProbeState.NOT_APPLICABLE, f"no gradients {EVIL}"),
        Probe("clean", Threat.CLEAN, figures=(Figure("latency_ms_p99", 2, 1, 3, 100),
                                              Figure("worst_group_accuracy", 0.5, 0.4, 0.6, 10, None, "a"))),
    ),
)  # fmt: skip


def judged(desk, **more):
    desk.answers["POST /api/tally/verdicts"] = {"key": "verdict-1"}
    desk.noun("verdict", "verdict-1", {**to_json(REFUSED), **more})


def test_a_judgement_says_what_each_rule_means(desk):
    judged(desk)
    said = desk.type("judge", "m", "--data", "t", "--stage", "Staging", "--again")
    assert said.status == 3
    assert said.out.splitlines() == [
        "m@1 refused (verdict-1)",
        "  refuse   robust: 1% is below 50%",
        "  warn     slow: 9 ms is above 5 ms",
        "  excepted signed: no; excepted",
        "  holds    clean: 99% is at least 90%",
    ]
    (sent,) = desk.bodies("POST /api/tally/verdicts")
    assert sent == {"model": "m", "data": "t", "stage": "Staging", "again": True}


def test_a_judgement_that_passed_ends_well_and_one_that_failed_says_why(desk):
    judged(desk, state="passed")
    assert desk.type("judge", "m").status == 0
    judged(desk, state="failed", error="the model hangs")
    said = desk.type("judge", "m")
    assert (said.status, said.err) == (1, "error: verdict-1: no verdict could be reached: the model hangs\n")


def test_an_endpoint_is_judged_by_its_address(desk):
    judged(desk)
    url = "http://127.0.0.1:8000/v2/models/m"
    desk.type("judge", "--endpoint", url, "--data", "t")
    (sent,) = desk.bodies("POST /api/tally/verdicts")
    assert sent == {"endpoint": url, "data": "t", "again": False}
    for words in (("judge",), ("judge", "m", "--endpoint", url)):
        assert "name a model, or an endpoint" in desk.type(*words).err


def test_a_judgement_is_cancelled_by_its_model(desk):
    other = {**to_json(REFUSED), "key": "verdict-2", "state": "judging", "model": "other@1"}
    going = {**to_json(REFUSED), "state": "judging"}
    desk.answers["GET /api/tally/nouns/verdict"] = [other, going]
    desk.answers["POST /api/tally/verdicts/verdict-1/cancel"] = {**going, "state": "failed"}
    for model in ("m", "m@1"):
        said = desk.type("judge", model, "--cancel")
        assert (said.status, said.out) == (0, "m@1: verdict-1 is cancelled; what was probed is kept\n")
    said = desk.type("judge", "m@2", "--cancel")
    assert (said.status, "m@2 is not being judged" in said.err) == (2, True)


def test_verdicts_are_listed_with_why_they_count_no_more(desk):
    older = {
        **to_json(REFUSED),
        "key": "verdict-0",
        "state": "passed",
        "at_ms": 0,
        "findings": [],
        "stage": "",
    }
    other = {**to_json(REFUSED), "key": "verdict-2", "model": "other@1"}
    desk.answers["GET /api/tally/nouns/verdict"] = [older, to_json(REFUSED), other]
    desk.answers["GET /api/tally/verdicts/standing"] = {"verdict-0": "was given under another policy"}
    lines = [" ".join(line.split()) for line in desk.type("verdicts", "m").out.splitlines()]
    assert lines[1].startswith("verdict-1 m@1 Staging refused 1970-01-01 robust: 1% is below 50%")
    assert lines[2] == "verdict-0 m@1 any passed, expired 1970-01-01 it was given under another policy"
    assert len(lines) == 3
    as_json = desk.type("verdicts", "--json").json
    assert {v["key"]: v["expired"] for v in as_json}["verdict-0"] == "was given under another policy"
    assert desk.type("verdicts", "none").out == "no verdict on none yet: tally judge none\n"


def whole(desk, verdict=REFUSED, evidence=EVIDENCE, expired=""):
    desk.answers["GET /api/tally/verdicts/verdict-1"] = {
        "verdict": to_json(verdict), "evidence": to_json(evidence), "expired": expired
    }  # fmt: skip


def test_a_verdict_is_shown_with_all_that_it_rests_on(desk):
    whole(desk, expired="was given under another policy")
    said = desk.type("verdict", "verdict-1").out
    for words in (
        "m@1 refused (verdict-1)", "it counts no more: it was given under another policy", "stage: Staging",
        "excepted signed: no", "rows: t@1", "99th percentile of the time for one row: 2 ms (95 % interval 1",
        "accuracy on its worst group (a): 50.0%", "hop (evasion): done, 1,234 queries, 56 gradients, 2.0 s",
        "pgd (evasion): not applicable, no gradients", "note of hop: a sign of masking", "signed: ",
        "repeat: tally judge m@1 --again --data t@1 --label label --stage Staging",
    ):  # fmt: skip
        assert words in said
    assert "\x1b[31m" not in said
    assert desk.type("verdict", "verdict-1", "--json").json["evidence"]["dataset"] == "t@1"


def test_beside_a_rate_of_too_few_rows_stands_how_many_its_precision_needs(desk):
    few = replace(EVIDENCE, clean=Rate(124, 200))
    whole(desk, evidence=few)
    words = "±6.7 points with 200 rows; ±3 points needs 1,003"
    assert f"on 200 samples; {words}" in desk.type("verdict", "verdict-1").out
    assert words in desk.type("verdict", "verdict-1", "--markdown").out
    whole(desk, evidence=replace(few, budget=replace(few.budget, precision=0.07)))
    assert "points needs" not in desk.type("verdict", "verdict-1").out


def test_a_verdict_as_markdown_lets_nothing_of_others_act(desk):
    whole(desk)
    said = desk.type("verdict", "verdict-1", "--markdown").out
    assert said.startswith("# m@1\n\n**m@1 may not go into staging")
    assert "| refuse | robust: 1% is below 50% |" in said
    assert r"\[31m\|evil\|\*" in said
    assert "\x1b" not in said


@pytest.mark.parametrize("mark", [(), ("--markdown",)])
def test_a_verdict_without_evidence_is_shown_too(desk, mark):
    whole(
        desk,
        Verdict("verdict-1", "m@1", digest_of("f"), "p", "q", VerdictState.FAILED, error="it hung"),
        None,
    )
    assert "it hung" in desk.type("verdict", "verdict-1", *mark).out
