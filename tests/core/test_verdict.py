from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.core.errors import BadInput, Refused
from tallystick.core.names import digest_of
from tallystick.core.verdict import (
    AttackRecord,
    Budget,
    Evidence,
    Point,
    Policy,
    Rate,
    Rule,
    Severity,
    Verdict,
    VerdictState,
    check_gate,
    weigh,
)
from tests.core.strategies import rates

EPS = (0.05, 0.1)
FILES = digest_of("model files")


# scipy 1.17.1: scipy.stats.binomtest(right, total).proportion_ci(0.95, "wilson")
@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [
        (0, 1, 0.0, 0.7934506856227626),
        (1, 1, 0.20654931437723745, 1.0),
        (0, 10, 0.0, 0.27753279986288926),
        (10, 10, 0.7224672001371109, 1.0),
        (50, 100, 0.4038315303659956, 0.5961684696340044),
        (95, 100, 0.8882495307680809, 0.978456320845632),
        (81, 263, 0.2552885198782742, 0.36620957698280004),
        (118, 120, 0.941264037027841, 0.9954174354340789),
        (999_999, 1_000_000, 0.9999943350881957, 0.9999998234754233),
    ],
)
def test_the_interval_is_wilson_s(right: int, total: int, low: float, high: float) -> None:
    rate = Rate(right, total)
    assert rate.low == pytest.approx(low, abs=1e-12)
    assert rate.high == pytest.approx(high, abs=1e-12)


@given(rates)
def test_the_interval_holds_the_rate_and_solves_wilson_s_equation(rate: Rate) -> None:
    assert 0 <= rate.low <= rate.value + 1e-12
    assert rate.value - 1e-12 <= rate.high <= 1
    for end in (rate.low, rate.high):
        if 0 < end < 1:
            away = abs(rate.value - end)
            assert away == pytest.approx(
                1.959963984540054 * math.sqrt(end * (1 - end) / rate.total), abs=1e-7
            )


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1))))
def test_one_more_right_raises_both_ends(pair: tuple[int, int]) -> None:
    total, right = pair
    worse, better = Rate(right, total), Rate(right + 1, total)
    assert worse.low < better.low
    assert worse.high <= better.high + 1e-12


@given(st.integers(1, 500), st.integers(0, 500), st.integers(2, 10))
def test_more_evidence_narrows_the_interval(total: int, right: int, times: int) -> None:
    few = Rate(min(right, total), total)
    many = Rate(few.right * times, total * times)
    assert many.low >= few.low - 1e-12
    assert many.high <= few.high + 1e-12


@pytest.mark.parametrize(("right", "total"), [(0, 0), (-1, 3), (4, 3), (0, -1)])
def test_a_rate_that_is_none(right: int, total: int) -> None:
    with pytest.raises(BadInput):
        Rate(right, total)


CARRIED_OUT = AttackRecord("hop skip jump", "art", queries=1000)


def evidence(clean: Rate, *robust: Rate, attacks: tuple[AttackRecord, ...] = (CARRIED_OUT,)) -> Evidence:
    return Evidence(
        model_digest=FILES,
        dataset="t@1",
        dataset_digest=digest_of("rows"),
        budget=Budget(EPS),
        clean=clean,
        curve=tuple(Point(eps, rate, rate) for eps, rate in zip(EPS, robust, strict=False)),
        attacks=attacks,
    )


rules = st.builds(
    lambda eps, at_least, bound, severity: Rule(
        f"{eps}", "robust_accuracy" if eps else "clean_accuracy", at_least, eps, bound, severity
    ),
    st.sampled_from([None, *EPS]),
    st.floats(0, 1),
    st.sampled_from(["low", "value"]),
    st.sampled_from(list(Severity)),
)
policies = st.builds(
    Policy, st.just("p"), st.lists(rules, min_size=1, max_size=5).map(tuple), st.just(Budget(EPS))
)


def _better(rate: Rate, more: int) -> Rate:
    return Rate(min(rate.total, rate.right + more), rate.total)


@given(policies, st.tuples(rates, rates, rates), st.tuples(*[st.integers(0, 1000)] * 3))
def test_better_evidence_never_turns_passed_into_refused(
    policy: Policy, worse: tuple[Rate, Rate, Rate], more: tuple[int, int, int]
) -> None:
    better = [_better(rate, by) for rate, by in zip(worse, more, strict=True)]
    before, found_before = weigh(policy, evidence(*worse))
    after, found_after = weigh(policy, evidence(*better))
    assert not (before is VerdictState.PASSED and after is VerdictState.REFUSED)
    assert all(b.holds or not a.holds for a, b in zip(found_before, found_after, strict=True))


@given(policies, st.tuples(rates, rates, rates))
def test_refused_means_that_a_refusing_rule_does_not_hold(
    policy: Policy, seen: tuple[Rate, Rate, Rate]
) -> None:
    state, findings = weigh(policy, evidence(*seen))
    broken = [f for f in findings if not f.holds and f.severity is Severity.REFUSE]
    assert state is (VerdictState.REFUSED if broken else VerdictState.PASSED)
    assert [f.rule for f in findings] == [r.name for r in policy.rules]
    assert all(f.holds == (f.figure >= f.at_least) for f in findings)


def test_no_evidence_at_an_eps_does_not_hold() -> None:
    policy = Policy("p", (Rule("robust", "robust_accuracy", 0.0, eps=0.1),), Budget(EPS))
    state, (finding,) = weigh(policy, evidence(Rate(1, 1), Rate(1, 1)))
    assert (state, finding.holds) == (VerdictState.REFUSED, False)
    assert "no evidence" in finding.text


skipped = st.builds(
    AttackRecord,
    name=st.text(max_size=8),
    library=st.just("art"),
    queries=st.integers(0, 10**6),
    skipped=st.text(min_size=1, max_size=8),
)
idle = st.builds(AttackRecord, name=st.text(max_size=8), library=st.just("art"), queries=st.just(0))


@given(
    policies,
    st.tuples(rates, rates, rates),
    st.lists(skipped | idle, max_size=3).map(tuple),
)
def test_what_nobody_attacked_has_withstood_nothing(
    policy: Policy, seen: tuple[Rate, Rate, Rate], attacks: tuple[AttackRecord, ...]
) -> None:
    state, findings = weigh(policy, evidence(*seen, attacks=attacks))
    robust = [f for r, f in zip(policy.rules, findings, strict=True) if r.measure == "robust_accuracy"]
    assert not any(f.holds for f in robust)
    assert all("no attack was carried out" in f.text for f in robust)
    if any(f.severity is Severity.REFUSE for f in robust):
        assert state is VerdictState.REFUSED


def test_why_no_attack_was_carried_out_is_said() -> None:
    policy = Policy("p", (Rule("robust", "robust_accuracy", 0.0, eps=0.1),), Budget(EPS))
    seen = [Rate(9, 10)] * 3
    for attacks, said in (
        ((), "no attack was carried out: none is recorded"),
        (
            (AttackRecord("a", "art", skipped="too few"), AttackRecord("b", "art")),
            "no attack was carried out: a: too few; b: it asked the model nothing",
        ),
    ):
        state, (finding,) = weigh(policy, evidence(*seen, attacks=attacks))
        assert (state, finding.text) == (VerdictState.REFUSED, f"robust: {said}")
    one_of_two = (AttackRecord("a", "art", skipped="too few"), CARRIED_OUT)
    assert weigh(policy, evidence(*seen, attacks=one_of_two))[0] is VerdictState.PASSED


@pytest.mark.parametrize(
    ("right", "total", "at_least", "said"),
    [
        (
            188,
            200,
            0.945,
            "is 94.0% (95 % interval 89.8% to 96.5%); its measured value, 94.0%, is below 94.5%",
        ),
        (189, 200, 0.945, "its measured value, 94.5%, is at least 94.5%"),
        (9449, 10000, 0.945, "its measured value, 94.49%, is below 94.50%"),
        (94_506, 100_000, 0.945, "its measured value, 94.51%, is at least 94.50%"),
        (1, 3, 0.333, "its measured value, 33.33%, is at least 33.30%"),
        (2, 3, 2 / 3 + 1e-16, "is below 66.666"),
    ],
)
def test_the_text_shows_what_was_compared(right: int, total: int, at_least: float, said: str) -> None:
    _, (finding,) = weigh(
        Policy("p", (Rule("m", "clean_accuracy", at_least, bound="value"),)), evidence(Rate(right, total))
    )
    assert said in finding.text


limits = st.integers(0, 10_000).map(lambda n: n / 10_000)  # as people write them


@given(rates, limits, st.sampled_from(["low", "value"]))
def test_the_text_never_looks_like_the_contrary(rate: Rate, at_least: float, bound: str) -> None:
    _, (finding,) = weigh(Policy("p", (Rule("m", "clean_accuracy", at_least, bound=bound),)), evidence(rate))
    figure, _, limit = finding.text.rpartition("; its ")[2].split(", ", 1)[1].partition(", is ")
    shown, wanted = float(figure.rstrip("%")), float(limit.split()[-1].rstrip("%"))
    assert (shown >= wanted) is finding.holds


def test_a_warning_refuses_nothing_and_is_said() -> None:
    policy = Policy("p", (Rule("clean", "clean_accuracy", 1.0, severity=Severity.WARN),))
    state, (finding,) = weigh(policy, evidence(Rate(1, 2)))
    assert (state, finding.holds) == (VerdictState.PASSED, False)


def test_the_bound_says_which_figure_counts() -> None:
    measured = Rule("m", "clean_accuracy", 0.9, bound="value")
    for rule, holds in ((measured, True), (replace(measured, bound="low"), False)):
        _, (finding,) = weigh(Policy("p", (rule,)), evidence(Rate(90, 100)))
        assert finding.holds is holds


RULE: dict[str, Any] = {"name": "r", "measure": "robust_accuracy", "at_least": 0.5, "eps": 0.1}


def test_a_policy_is_read() -> None:
    warn = {**RULE, "name": "w", "severity": "warn", "at_least": 1}
    policy = Policy.parse({"name": "p", "rule": [RULE, warn]})
    assert [(r.severity, r.at_least, r.bound) for r in policy.rules] == [
        ("refuse", 0.5, "low"),
        ("warn", 1.0, "low"),
    ]
    assert policy.digest != Policy.parse({"name": "p", "rule": [RULE]}).digest


@pytest.mark.parametrize(
    ("wire", "says"),
    [
        ({}, "no rule refuses"),
        ({"rule": [{**RULE, "severity": "warn"}]}, "no rule refuses"),
        ({"rules": [RULE]}, "unknown key 'rules'"),
        ({"rule": [{**RULE, "atleast": 1}]}, "unknown key 'atleast'"),
        ({"rule": [{**RULE, "eps": 0.3}]}, "eps 0.3 is not attacked"),
        ({"rule": [{**RULE, "at_least": 1.5}]}, "from 0 to 1"),
        ({"rule": [{**RULE, "at_least": "high"}]}, "expected float"),
        ({"rule": [{**RULE, "measure": "beauty"}]}, "unknown measure"),
        ({"rule": [{**RULE, "bound": "high"}]}, "unknown bound"),
        ({"rule": [{**RULE, "severity": "maybe"}]}, "expected Severity"),
        ({"rule": [{**RULE, "measure": "clean_accuracy"}]}, "eps goes with"),
        ({"rule": [{"name": "r", "measure": "robust_accuracy", "at_least": 0.5}]}, "eps goes with"),
        ({"rule": [{"name": "r"}]}, "'measure' is missing"),
        ({"rule": ["r"]}, "expected a table"),
        ({"rule": 3}, "not a list of tables"),
        ({"rule": "rule"}, "not a list of tables"),
        ({"rule": RULE}, r"write \[\[rule\]\]"),
        ({"rule": [RULE, {**RULE, "at_least": 0.1}]}, "rule 'r': two rules have this name"),
        ({"rule": [RULE], "budget": {"eps": []}}, "positive and rising"),
        ({"rule": [RULE], "budget": {"eps": [0.1, 0.1]}}, "positive and rising"),
        ({"rule": [RULE], "budget": {"eps": [0.0, 0.1]}}, "positive and rising"),
        ({"rule": [RULE], "budget": {"eps": [0.1, float("inf")]}}, "finite"),
        ({"rule": [RULE], "budget": {"low": 1, "high": 1}}, "finite, low below high"),
        ({"rule": [RULE], "budget": {"samples_max": 0}}, "samples_max"),
        ({"rule": [RULE], "budget": {"seed": -1}}, "seed"),
        ({"rule": [RULE], "budget": {"speed": 1}}, "unknown key 'speed'"),
    ],
)
def test_a_policy_that_is_none_is_named(wire: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        Policy.parse(wire)


def test_nan_is_no_limit() -> None:
    with pytest.raises(BadInput):
        Rule("r", "clean_accuracy", float("nan"))


PASSED = Verdict("v1", "m@1", FILES, "p", "policy", VerdictState.PASSED)


def test_the_gate_opens_for_the_newest_verdict_that_passed() -> None:
    older = replace(PASSED, key="v0", state=VerdictState.REFUSED)
    assert check_gate("m@1", FILES, "policy", (PASSED, older)) is PASSED
    for state in (VerdictState.JUDGING, VerdictState.FAILED):
        unreached = replace(PASSED, key="v2", state=state)
        assert check_gate("m@1", FILES, "policy", (unreached, PASSED)) is PASSED


@pytest.mark.parametrize(
    ("verdicts", "says"),
    [
        ((), "no verdict"),
        ((replace(PASSED, state=VerdictState.JUDGING),), "no verdict"),
        ((replace(PASSED, state=VerdictState.FAILED),), "no verdict"),
        ((replace(PASSED, model_digest=digest_of("others")),), "other files"),
        ((replace(PASSED, policy_digest="others"),), "another policy"),
        ((replace(PASSED, state=VerdictState.REFUSED), PASSED), "v1 refused"),
        ((replace(PASSED, model_digest=digest_of("others")), PASSED), "other files"),
    ],
)
def test_otherwise_the_gate_stays_shut(verdicts: tuple[Verdict, ...], says: str) -> None:
    with pytest.raises(Refused, match=says) as refused:
        check_gate("m@1", FILES, "policy", verdicts)
    assert refused.value.hint
