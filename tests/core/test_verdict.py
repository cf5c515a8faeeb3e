"""Verdicts and the gate: what opens it, and what it says where it stays shut."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.core.errors import Refused
from tallystick.core.facts import from_json, to_json
from tallystick.core.names import digest_of
from tallystick.core.verdict import Entry, Finding, Severity, Verdict, VerdictState, check_gate, expired
from tests.core.strategies import of

FILES, POLICY, THREATS = digest_of("model files"), digest_of("policy"), digest_of("threats")
PASSED = Verdict(
    "v1",
    "m@1",
    FILES,
    "p",
    POLICY,
    VerdictState.PASSED,
    evidence_digest=digest_of("evidence"),
    threats=THREATS,
)
OTHER = digest_of("other")
ENTRY = Entry("m@1", FILES, POLICY, THREATS)


def test_the_gate_opens_for_the_newest_verdict_that_passed() -> None:
    older = replace(PASSED, key="v0", state=VerdictState.REFUSED)
    assert check_gate(ENTRY, (PASSED, older), 0) is PASSED
    for state in (VerdictState.JUDGING, VerdictState.FAILED):
        unreached = replace(PASSED, key="v2", state=state)
        assert check_gate(ENTRY, (unreached, PASSED), 0) is PASSED


REFUSED = replace(
    PASSED,
    state=VerdictState.REFUSED,
    findings=(
        Finding("robust", False, Severity.REFUSE, "robust: 1% is below 50%"),
        Finding("warned", False, Severity.WARN, "warned: it is so"),
        Finding("let off", False, Severity.REFUSE, "let off: it is so", exception="by ann", until_ms=9),
    ),
)
EXCEPTED = replace(PASSED, findings=(replace(REFUSED.findings[2], until_ms=1000),))


@pytest.mark.parametrize(
    ("verdicts", "says", "next_step"),
    [
        ((), "model m@1 has no verdict", "tally judge m@1 --data rows"),
        ((replace(PASSED, state=VerdictState.JUDGING),), "has no verdict", "tally judge m@1"),
        ((replace(PASSED, state=VerdictState.FAILED),), "has no verdict", "tally judge m@1"),
        ((replace(PASSED, model="m@2"),), "model m@1 has no verdict", "tally judge m@1"),
        ((replace(PASSED, stage="Staging"),), "no verdict for stage Production", "tally judge m@1"),
        (
            (replace(PASSED, model_digest=OTHER),),
            "v1 is about other files than model m@1 has",
            "tally judge m@1",
        ),
        ((replace(PASSED, policy_digest=OTHER),), "v1 was given under another policy", "tally judge m@1"),
        (
            (replace(PASSED, threats=OTHER),),
            "v1 was reached before the list of threats changed",
            "tally judge",
        ),
        (
            (replace(PASSED, evidence_digest=""),),
            "v1 was reached by an earlier tallystick",
            "tally judge m@1",
        ),
        ((EXCEPTED,), "v1 rests on an exception that has ended", "tally judge m@1"),
        ((REFUSED, PASSED), "v1 refused model m@1: robust: 1% is below 50%$", "tally verdict v1"),
        ((replace(PASSED, model_digest=OTHER), PASSED), "other files", "tally judge m@1"),
    ],
)
def test_otherwise_the_gate_stays_shut_and_says_what_to_run(verdicts, says: str, next_step: str) -> None:
    with pytest.raises(Refused, match=says.removesuffix("$")) as refused:
        check_gate(replace(ENTRY, data="rows"), verdicts, 1000)
    assert next_step in refused.value.hint
    if says.endswith("$"):
        assert refused.value.what.endswith(says[-15:-1])


def test_an_exception_counts_until_it_ends() -> None:
    assert check_gate(ENTRY, (EXCEPTED,), 999) is EXCEPTED
    assert EXCEPTED.expires_ms == 1000
    warned = replace(EXCEPTED, findings=(replace(EXCEPTED.findings[0], severity=Severity.WARN),))
    assert warned.expires_ms == 0  # a warning lets nothing in


def test_a_verdict_for_every_stage_holds_at_each() -> None:
    for stage in ("Production", "Staging"):
        assert check_gate(replace(ENTRY, stage=stage), (PASSED,), 0) is PASSED
    staged = replace(PASSED, stage="Staging")
    assert check_gate(replace(ENTRY, stage="Staging"), (staged,), 0) is staged


def test_a_model_s_name_is_quoted_in_the_command() -> None:
    with pytest.raises(Refused) as refused:
        check_gate(Entry("a; rm -r b@1", FILES, POLICY, stage="it's"), (), 0)
    assert refused.value.hint == "tally judge 'a; rm -r b@1' --stage 'it'\"'\"'s'"


@given(of(Verdict), st.integers(0, 2**62))
def test_what_never_passed_lets_nothing_in(verdict: Verdict, at_ms: int) -> None:
    entry = Entry(verdict.model, verdict.model_digest, verdict.policy_digest)
    try:
        found = check_gate(entry, (verdict,), at_ms)
    except Refused:
        return
    assert found.state is VerdictState.PASSED
    assert not expired(verdict, verdict.model_digest, verdict.policy_digest, at_ms)


def test_a_fact_of_an_earlier_tallystick_is_read_and_counts_no_more() -> None:
    """As version 0.1.0 kept them: the evidence in the fact itself, and no list of threats."""
    old = {
        "key": "verdict-1", "model": "m@1", "model_digest": FILES, "policy": "p", "policy_digest": POLICY,
        "state": "passed", "at_ms": 5, "tenant": "default", "progress": "", "error": "",
        "findings": [{"rule": "accurate", "holds": True, "severity": "refuse", "figure": 0.97,
                      "at_least": 0.94, "text": "accurate: accuracy on clean data is 98.5%"}],
        "evidence": {"model_digest": FILES, "dataset": "t@1", "clean": {"right": 1, "total": 1}, "curve": []},
    }  # fmt: skip
    read = from_json(Verdict, old)
    assert read.findings[0].text.endswith("98.5%")
    assert read.findings[0].figure == 0.97
    assert "earlier tallystick" in expired(read, FILES, POLICY, 0)
    assert from_json(Verdict, to_json(read)) == read
