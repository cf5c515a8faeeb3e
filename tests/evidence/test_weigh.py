"""Weighing: whatever the evidence is, more of it and better never harms, and less never helps."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.core.facts import from_json, to_json
from tallystick.core.verdict import Finding, Severity, VerdictState
from tallystick.evidence.domain import Budget
from tallystick.evidence.evidence import Evidence
from tallystick.evidence.figures import Figure, Rate
from tallystick.evidence.measures import MEASURES
from tallystick.evidence.policy import Exemption, Policy, Rule
from tallystick.evidence.probe import Probe, ProbeState, Threat
from tallystick.evidence.weigh import figures_of, weigh
from tests.evidence.strategies import EPS, MODEL, better, evidences, made, policies, rates

PASSED, REFUSED = VerdictState.PASSED, VerdictState.REFUSED
DAY_MS = 86_400_000
NOW_MS = 20_000 * DAY_MS  # 2024-10-04, midnight UTC
CARRIED_OUT = Probe("square", Threat.EVASION, queries=1000)


def evidence(clean: Rate, *robust: Rate, probes: tuple[Probe, ...] = (CARRIED_OUT,)) -> Evidence:
    return made(clean, robust, probes)


def judged(policy: Policy, seen: Evidence, at_ms: int = NOW_MS) -> tuple[VerdictState, tuple[Finding, ...]]:
    return weigh(policy, seen, at_ms, MODEL)


# ---------------------------------------------------------------------- for any evidence


@given(policies(), st.data())
def test_better_evidence_never_turns_passed_into_refused(policy: Policy, data: st.DataObject) -> None:
    worse = data.draw(evidences())
    before, found_before = judged(policy, worse)
    after, found_after = judged(policy, data.draw(better(worse)))
    assert not (before is PASSED and after is REFUSED)
    assert all(b.holds or not a.holds for a, b in zip(found_before, found_after, strict=True))


@given(policies(), evidences(), st.sampled_from([ProbeState.FAILED, ProbeState.CANCELLED]), st.data())
def test_a_probe_that_broke_off_never_turns_refused_into_passed(
    policy: Policy, seen: Evidence, state: ProbeState, data: st.DataObject
) -> None:
    if not seen.probes:
        return
    at = data.draw(st.integers(0, len(seen.probes) - 1))
    probes = list(seen.probes)
    probes[at] = replace(probes[at], state=state, why="it broke off", figures=())
    before, found_before = judged(policy, seen)
    after, found_after = judged(policy, replace(seen, probes=tuple(probes)))
    assert not (before is REFUSED and after is PASSED)
    assert all(a.holds or not b.holds for a, b in zip(found_before, found_after, strict=True))


@given(policies(), evidences(), st.sampled_from(list(MEASURES)))
def test_a_measure_that_nobody_took_never_turns_refused_into_passed(
    policy: Policy, seen: Evidence, measure: str
) -> None:
    """All probes that took it are gone, as if they had never been: nothing passes by omission."""
    left = [p for p in seen.probes if measure not in {f.measure for f in p.figures}]
    if measure == "robust_accuracy":
        left = [p for p in seen.probes if p.threat is not Threat.EVASION]
    before, _ = judged(policy, seen)
    after, found = judged(policy, replace(seen, probes=tuple(left)))
    assert not (before is REFUSED and after is PASSED and _only_by(measure, seen, left))
    if measure != "clean_accuracy":
        assert not any(f.holds for f in found if f.measure == measure)


def _only_by(measure: str, seen: Evidence, left: list[Probe]) -> bool:
    """Whether no other measure lost a figure with these probes, of which a worse one might have counted."""
    gone = [p for p in seen.probes if p not in left]
    return all(f.measure == measure for p in gone for f in p.figures) and all(p.done for p in gone)


@given(policies(), evidences())
def test_refused_means_that_a_refusing_rule_does_not_hold(policy: Policy, seen: Evidence) -> None:
    state, findings = judged(policy, seen)
    broken = [f for f in findings if not f.holds and f.severity is Severity.REFUSE]
    assert state is (REFUSED if broken else PASSED)
    assert [f.rule for f in findings if f.rule != "policy"] == [r.name for r in policy.rules]
    for finding in findings:
        if finding.figure is None:
            assert not finding.holds
        else:
            higher = MEASURES[finding.measure].higher_is_better
            assert finding.holds == (
                finding.figure >= finding.limit if higher else finding.figure <= finding.limit
            )


@given(policies(), evidences())
def test_what_is_weighed_can_be_kept_and_weighed_again(policy: Policy, seen: Evidence) -> None:
    again = from_json(Evidence, to_json(seen))
    assert again == seen
    assert judged(from_json(Policy, to_json(policy)), again) == judged(policy, seen)


@given(policies(), evidences(), st.data())
def test_an_exception_lets_off_its_rule_and_model_in_its_time_and_no_other(
    policy: Policy, seen: Evidence, data: st.DataObject
) -> None:
    rule = data.draw(st.sampled_from(policy.rules)).name
    made_for = data.draw(st.sampled_from(["m", "m@1", "m@2", "other"]))
    until = data.draw(st.sampled_from(["2024-10-03", "2024-10-04", "2025-10-05", "2025-10-06"]))
    excepted = replace(policy, exceptions=(Exemption(rule, made_for, "ann", "no time", until),))
    counts = made_for in ("m", "m@1") and until in ("2024-10-04", "2025-10-05")
    before, after = judged(policy, seen)[1], judged(excepted, seen)[1]
    for plain, finding in zip(before, after, strict=True):
        if counts and plain.rule == rule and not plain.holds:
            assert finding.exception == f"excepted until {until} by ann: no time"
            assert finding.text == f"{plain.text}; {finding.exception}"
            assert not finding.refuses
        else:
            assert finding == plain


def test_an_exception_ends_at_midnight_after_its_last_day() -> None:
    policy = Policy("p", (Rule("clean", "clean_accuracy", 1.0),))
    policy = replace(policy, exceptions=(Exemption("clean", "m", "ann", "no time", "2024-10-04"),))
    seen = evidence(Rate(1, 2))
    assert judged(policy, seen, NOW_MS + DAY_MS - 1)[0] is PASSED
    assert judged(policy, seen, NOW_MS + DAY_MS)[0] is REFUSED


# ---------------------------------------------------------------------- what nobody found


def test_no_evidence_at_an_eps_does_not_hold() -> None:
    policy = Policy("p", (Rule("robust", "robust_accuracy", 0.0, eps=0.1),), Budget(EPS))
    state, (finding,) = judged(policy, evidence(Rate(1, 1), Rate(1, 1)))
    assert (state, finding.holds, finding.figure) == (REFUSED, False, None)
    assert finding.text == "robust: no evidence of accuracy under attack at eps 0.1"


def test_why_no_attack_was_carried_out_is_said() -> None:
    policy = Policy("p", (Rule("robust", "robust_accuracy", 0.0, eps=0.1),), Budget(EPS))
    seen = [Rate(9, 10)] * 3
    too_few = Probe("a", Threat.EVASION, ProbeState.NOT_APPLICABLE, "too few")
    for probes, said in (
        ((), "no attack was carried out: none is recorded"),
        ((too_few,), "no attack was carried out: a: it does not apply, too few"),
        (
            (too_few, Probe("b", Threat.EVASION)),
            "no attack was carried out: a: it does not apply, too few; b: it asked the model nothing",
        ),
    ):
        state, (finding,) = judged(policy, evidence(*seen, probes=probes))
        assert (state, finding.text) == (REFUSED, f"robust: {said}")
    assert judged(policy, evidence(*seen, probes=(too_few, CARRIED_OUT)))[0] is PASSED


def test_an_attack_that_broke_off_leaves_the_rule_unheld_and_is_named() -> None:
    policy = Policy("p", (Rule("robust", "robust_accuracy", 0.0, eps=0.1),), Budget(EPS))
    failed = [Probe(f"hop {n}", Threat.EVASION, ProbeState.FAILED, "the model hung") for n in range(5)]
    state, (finding,) = judged(policy, evidence(*[Rate(9, 10)] * 3, probes=(CARRIED_OUT, *failed)))
    assert state is REFUSED
    assert finding.text == (
        "robust: accuracy under attack at eps 0.1 is not known to the end: hop 0: it failed, the model hung; "
        "hop 1: it failed, the model hung; hop 2: it failed, the model hung; and 2 more"
    )


def test_what_a_model_answers_that_contradicts_itself_is_no_evidence() -> None:
    policy = Policy("p", (Rule("robust", "robust_accuracy", 0.5, eps=0.1),))
    same = Probe("clean", Threat.CLEAN)
    steady = evidence(Rate(9, 10), Rate(90, 100), Rate(90, 100), probes=(same, CARRIED_OUT))
    assert judged(policy, steady)[0] is PASSED
    broke = replace(same, state=ProbeState.FAILED, why="asked twice, it gave another answer about 3")
    seen = evidence(Rate(9, 10), Rate(90, 100), Rate(90, 100), probes=(broke, CARRIED_OUT))
    state, findings = judged(policy, seen)
    assert state is REFUSED
    assert "clean: it failed, asked twice, it gave another answer about 3" in findings[0].text


def test_a_probe_that_the_policy_names_must_be_there() -> None:
    policy = Policy(
        "p", (Rule("robust", "robust_accuracy", 0.0, eps=0.1),), Budget(EPS), probes=("boundary",)
    )
    state, (finding,) = judged(policy, evidence(*[Rate(9, 10)] * 3))
    assert state is REFUSED
    assert finding.text.endswith("is not known to the end: boundary was not carried out")


def test_of_several_attacks_the_worst_counts_and_of_proofs_the_best() -> None:
    leaks = [
        Probe(str(v), Threat.INFERENCE, figures=(Figure("membership_advantage", v, v, v),))
        for v in (0.1, 0.3)
    ]
    proofs = [
        Probe(f"proof {v}", Threat.CERTIFICATE, figures=(Figure("certified_accuracy", v, v, v, 10, 0.1),))
        for v in (0.4, 0.6)
    ]
    policy = Policy(
        "p",
        (
            Rule("private", "membership_advantage", at_most=0.2),
            Rule("proven", "certified_accuracy", at_least=0.5, eps=0.1),
        ),
        Budget(EPS),
    )
    state, (private, proven) = judged(policy, evidence(Rate(9, 10), probes=(*leaks, *proofs)))
    assert state is REFUSED
    assert (private.holds, private.figure, proven.holds, proven.figure) == (False, 0.3, True, 0.6)


def test_a_figure_of_a_group_is_none_of_the_whole() -> None:
    part = Probe(
        "noise", Threat.CORRUPTION, figures=(Figure("corruption_accuracy", 1, 1, 1, 10, None, "snow"),)
    )
    policy = Policy("p", (Rule("spoilt", "corruption_accuracy", 0.1),))
    assert judged(policy, evidence(Rate(1, 1), probes=(part,)))[0] is REFUSED


# ---------------------------------------------------------------------- which rules


@pytest.mark.parametrize(
    ("where", "applies"),
    [
        ({"models": ("m",)}, True),
        ({"models": ("m@1",)}, True),
        ({"models": ("x", "m*")}, True),
        ({"models": ("M",)}, False),
        ({"models": ("m@2",)}, False),
        ({"stages": ("Production",)}, True),
        ({"stages": ("Staging",)}, False),
        ({"tenants": ("def*",)}, True),
        ({"tenants": ("other",)}, False),
    ],
)
def test_a_rule_applies_where_its_globs_fit(where, applies: bool) -> None:
    always = Rule("always", "clean_accuracy", 0.0)
    policy = Policy("p", (always, Rule("some", "clean_accuracy", 1.0, **where)))
    state, findings = judged(policy, evidence(Rate(1, 2)))
    assert state is (REFUSED if applies else PASSED)
    assert len(findings) == 1 + applies


def test_where_no_rule_that_refuses_applies_nothing_passes() -> None:
    policy = Policy(
        "p",
        (
            Rule("other", "clean_accuracy", 0.0, models=("other",)),
            Rule("warn", "clean_accuracy", 1.0, severity=Severity.WARN),
        ),
    )
    state, (warned, none) = judged(policy, evidence(Rate(1, 2)))
    assert (state, warned.holds) == (REFUSED, False)
    assert none.text == "policy p: no rule that refuses applies to m@1 at stage Production"


# ---------------------------------------------------------------------- what is said


@pytest.mark.parametrize(
    ("right", "total", "at_least", "said"),
    [
        (
            188,
            200,
            0.945,
            "is 94.0% (95 % interval 89.8% to 96.5%, ±3.4 points with 200 rows; ±3 points needs 250); "
            "its measured value, 94.0%, is below 94.5%",
        ),
        (1000, 2000, 0.4, "is 50.0% (95 % interval 47.8% to 52.2%); its measured value, 50.0%, is at least"),
        (189, 200, 0.945, "its measured value, 94.5%, is at least 94.5%"),
        (9449, 10000, 0.945, "its measured value, 94.49%, is below 94.50%"),
        (94_506, 100_000, 0.945, "its measured value, 94.51%, is at least 94.50%"),
        (1, 3, 0.333, "its measured value, 33.33%, is at least 33.30%"),
        (2, 3, 2 / 3 + 1e-16, "is below 66.666"),
    ],
)
def test_the_text_shows_what_was_compared(right: int, total: int, at_least: float, said: str) -> None:
    policy = Policy("p", (Rule("m", "clean_accuracy", at_least, bound="value"),))
    _, (finding,) = judged(policy, evidence(Rate(right, total)))
    assert said in finding.text


@pytest.mark.parametrize(
    ("figure", "rule", "said"),
    [
        (
            Figure("latency_ms_p99", 12, 11, 15, 100),
            Rule("quick", "latency_ms_p99", at_most=14),
            "quick: 99th percentile of the time for one row is 12.0 ms (95 % interval 11.0 ms to 15.0 ms); "
            "its upper end, 15.0 ms, is above 14.0 ms",
        ),
        (
            Figure("size_mib", 12.5, 12.5, 12.5),
            Rule("small", "size_mib", at_most=2048),
            "small: size is 12.5 MiB, at most 2,048.0 MiB",
        ),
        (
            Figure("size_mib", 12.04, 12.04, 12.04),
            Rule("small", "size_mib", at_most=12),
            "small: size is 12.0 MiB; exactly 12.04 MiB, which is above 12.00 MiB",
        ),
    ],
)
def test_other_units_and_exact_figures_are_said(figure: Figure, rule: Rule, said: str) -> None:
    probe = Probe("clean", Threat.CLEAN, figures=(figure,))
    _, (finding,) = judged(Policy("p", (rule,)), evidence(Rate(1, 1), probes=(probe,)))
    assert finding.text == said


limits = st.integers(0, 10_000).map(lambda n: n / 10_000)  # as people write them


@given(rates, limits, st.sampled_from(["low", "value"]))
def test_the_text_never_looks_like_the_contrary(rate: Rate, at_least: float, bound: str) -> None:
    policy = Policy("p", (Rule("m", "clean_accuracy", at_least, bound=bound),))
    _, (finding,) = judged(policy, evidence(rate))
    if "; its " not in finding.text:
        return
    figure, _, limit = finding.text.rpartition("; its ")[2].split(", ", 1)[1].partition(", is ")
    shown, wanted = float(figure.rstrip("%")), float(limit.split()[-1].rstrip("%"))
    assert (shown >= wanted) is finding.holds


def test_the_bound_says_which_figure_counts() -> None:
    measured = Rule("m", "clean_accuracy", 0.9, bound="value")
    for rule, holds in (
        (measured, True),
        (replace(measured, bound="low"), False),
        (replace(measured, bound=""), False),
    ):
        _, (finding,) = judged(Policy("p", (rule,)), evidence(Rate(90, 100)))
        assert finding.holds is holds


def test_listings_show_the_figures_that_rules_asked_for() -> None:
    size = Probe(
        "clean", Threat.CLEAN, figures=(Figure("size_mib", 5, 5, 5), Figure("latency_ms_p99", 1, 1, 1))
    )
    seen = evidence(Rate(9, 10), Rate(8, 10), Rate(7, 10), probes=(CARRIED_OUT, size))
    _, findings = judged(Policy("p", (Rule("small", "size_mib", at_most=9),)), seen)
    assert figures_of(seen, findings) == {
        "clean_accuracy": 0.9, "robust_accuracy@0.05": 0.8, "robust_accuracy@0.1": 0.7, "size_mib": 5,
    }  # fmt: skip
