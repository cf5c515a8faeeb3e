"""The policy that tallystick brings: a person can read it, and so can the gate."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from tallystick.core.errors import BadInput
from tallystick.core.names import digest_of
from tallystick.core.verdict import Finding, Severity, VerdictState
from tallystick.evidence.domain import Budget
from tallystick.evidence.evidence import Evidence
from tallystick.evidence.figures import Figure, Rate
from tallystick.evidence.policy import Gate
from tallystick.evidence.probe import Point, Probe, Threat
from tallystick.evidence.weigh import weigh
from tallystick.wiring.house import policy_text, read_policy

SUPPLY = ("files_safe", "signature_valid", "lineage_complete")


def evidence(clean: int, robust: dict[float, int], **supply: float) -> Evidence:
    policy = read_policy("")
    curve = tuple(Point(eps, Rate(robust[eps], 150), Rate(145, 150)) for eps in policy.budget.eps)
    shares = {name: supply.get(name, 1.0) for name in SUPPLY}
    probes = (
        Probe("square", Threat.EVASION, library="art", queries=1000),
        Probe(
            "trigger",
            Threat.POISONING,
            figures=(
                Figure("backdoor_success", 0.02, 0.0, 0.1, 60),
                Figure("poison_suspicion", 0.01, 0.0, 0.02, 900),
            ),
        ),
        Probe("supply", Threat.SUPPLY, figures=tuple(Figure(n, v, v, v) for n, v in shares.items())),
    )
    digest = digest_of(b"")
    return Evidence("d@1", digest, "t@1", digest, Rate(clean, 400), policy.budget, curve=curve, probes=probes)


def judged(seen: Evidence) -> tuple[VerdictState, tuple[Finding, ...]]:
    return weigh(read_policy(""), seen, 0, "d@1")


def test_it_says_what_is_attacked_and_what_is_asked() -> None:
    policy = read_policy("", time.time_ns() // 1_000_000)
    assert policy.budget == Budget((0.05, 0.1, 0.15, 0.2), samples_max=150, queries_max=5000, seed=7)
    assert policy.gate == Gate(("champion",), ("Production",))
    refusing = [r for r in policy.rules if r.severity is Severity.REFUSE]
    assert [(r.measure, r.eps, r.end, r.limit) for r in refusing] == [
        ("clean_accuracy", None, "low", 0.94),
        ("robust_accuracy", 0.15, "low", 0.55),
        ("backdoor_success", None, "value", 0.5),
        ("files_safe", None, "low", 1.0),
        ("signature_valid", None, "low", 1.0),
    ]
    warning = [(r.measure, r.eps, r.limit) for r in policy.rules if r.severity is Severity.WARN]
    assert warning == [
        ("robust_accuracy", 0.1, 0.7), ("poison_suspicion", None, 0.1), ("lineage_complete", None, 1.0),
    ]  # fmt: skip
    assert all(r.why and r.name for r in policy.rules)
    assert policy_text("").startswith("# The gate's rules")


def test_it_tells_a_hardened_model_from_one_that_is_not() -> None:
    """Figures as measured on the digits: a hardened network, a plain one, and one that is often wrong."""
    hardened = {0.05: 147, 0.1: 132, 0.15: 109, 0.2: 65}
    plain = {0.05: 129, 0.1: 63, 0.15: 9, 0.2: 1}
    state, findings = judged(evidence(394, hardened))
    assert state is VerdictState.PASSED
    assert all(f.holds for f in findings)
    state, findings = judged(evidence(395, plain))
    assert state is VerdictState.REFUSED
    assert [f.holds for f in findings] == [True, False, False, True, True, True, True, True]
    assert judged(evidence(370, hardened))[0] is VerdictState.REFUSED


@pytest.mark.parametrize(
    ("measure", "says"),
    [
        ("files_safe", "files are safe: share of files that passed inspection is 0.0%, below 100.0%"),
        ("signature_valid", "signed: validity of its signature is 0.0%, below 100.0%"),
    ],
)
def test_what_is_unsafe_or_unsigned_is_refused_for_its_own_reason(measure: str, says: str) -> None:
    hardened = {0.05: 147, 0.1: 132, 0.15: 109, 0.2: 65}
    state, findings = judged(evidence(394, hardened, **{measure: 0.0}))
    assert (state, [f.text for f in findings if f.refuses]) == (VerdictState.REFUSED, [says])
    looked_at = evidence(394, hardened)
    without = replace(looked_at, probes=looked_at.probes[:2])
    state, findings = judged(without)
    assert state is VerdictState.REFUSED
    assert any(f.measure == measure and "no evidence of" in f.text for f in findings)
    assert judged(evidence(394, hardened, lineage_complete=0.5))[0] is VerdictState.PASSED


RULE = '[[rule]]\nname = "a"\nmeasure = "clean_accuracy"\nat_least = 0.9\n'
LET = '[[exception]]\nrule = "a"\nmodel = "m"\nowner = "ann"\nreason = "r"\nuntil = 9999-01-01\n'


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("rule = 3", "policy: rule is not a list of tables", "[[rule]]"),
        (RULE.replace("[[rule]]", "[rule]"), "policy: rule is not a list of tables", "[[rule]]"),
        (RULE + RULE, "rule 'a': two rules have this name", "name of its own"),
        (RULE + "least = 1", "policy rule 1: unknown key 'least'", "at_least"),
        (RULE + LET, "exception from rule 'a': until 9999-01-01 is over a year ahead", "renew"),
        ("budget = 3", "policy budget: expected a table", ""),
        ("", "policy: no rule refuses anything", "[[rule]]"),
        ("=", "is not TOML", ""),
    ],
)
def test_what_is_wrong_in_a_policy_is_said_with_the_file(tmp_path, text: str, words: str, hint: str) -> None:
    path = tmp_path / "strict.toml"
    path.write_text(text)
    with pytest.raises(BadInput) as wrong:
        read_policy(str(path), 1_795_000_000_000)
    assert str(wrong.value).startswith(f"{path}: {words}")
    assert hint in wrong.value.hint


def test_a_policy_that_is_not_there_is_named(tmp_path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        read_policy(str(tmp_path / "none.toml"))


def test_a_policy_that_is_no_text_is_named(tmp_path) -> None:
    (tmp_path / "p.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match=r"p\.toml: is not TOML"):
        read_policy(str(tmp_path / "p.toml"))
