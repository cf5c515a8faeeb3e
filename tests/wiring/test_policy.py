"""The policy that tallystick brings: a person can read it, and so can the gate."""

from __future__ import annotations

import pytest

from tallystick.core.errors import BadInput
from tallystick.core.names import digest_of
from tallystick.core.verdict import AttackRecord, Budget, Evidence, Point, Rate, Severity, VerdictState, weigh
from tallystick.wiring.house import read_policy


def evidence(clean: int, robust: dict[float, int]) -> Evidence:
    policy = read_policy("")
    curve = tuple(Point(eps, Rate(robust[eps], 150), Rate(145, 150)) for eps in policy.budget.eps)
    digest = digest_of(b"")
    attacks = (AttackRecord("Square", "art", queries=1000),)
    return Evidence(digest, "d@1", digest, policy.budget, Rate(clean, 400), curve, attacks)


def test_it_says_what_is_attacked_and_what_is_asked() -> None:
    policy = read_policy("")
    assert policy.budget == Budget((0.05, 0.1, 0.15, 0.2), samples_max=150, queries_max=5000, seed=7)
    refusing = [r for r in policy.rules if r.severity is Severity.REFUSE]
    assert [(r.measure, r.eps, r.bound, r.at_least) for r in refusing] == [
        ("clean_accuracy", None, "low", 0.94),
        ("robust_accuracy", 0.15, "low", 0.55),
    ]
    assert [(r.eps, r.at_least) for r in policy.rules if r.severity is Severity.WARN] == [(0.1, 0.7)]
    assert all(r.why and r.name for r in policy.rules)


def test_it_tells_a_hardened_model_from_one_that_is_not() -> None:
    """Figures as measured on the digits: a hardened network, a plain one, and one that is often wrong."""
    policy = read_policy("")
    hardened = evidence(394, {0.05: 147, 0.1: 132, 0.15: 109, 0.2: 65})
    plain = evidence(395, {0.05: 129, 0.1: 63, 0.15: 9, 0.2: 1})
    wrong = evidence(370, {0.05: 147, 0.1: 132, 0.15: 109, 0.2: 65})
    assert weigh(policy, hardened)[0] is VerdictState.PASSED
    assert all(f.holds for f in weigh(policy, hardened)[1])
    assert [f.holds for f in weigh(policy, plain)[1]] == [True, False, False]
    assert weigh(policy, plain)[0] is VerdictState.REFUSED
    assert weigh(policy, wrong)[0] is VerdictState.REFUSED


RULE = '[[rule]]\nname = "a"\nmeasure = "clean_accuracy"\nat_least = 0.9\n'


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("rule = 3", "policy: rule is not a list of tables", "[[rule]]"),
        (RULE.replace("[[rule]]", "[rule]"), "policy: rule is not a list of tables", "[[rule]]"),
        (RULE + RULE, "rule 'a': two rules have this name", "name of its own"),
        (RULE + "least = 1", "policy rule 1: unknown key 'least'", "at_least"),
        ("budget = 3", "policy budget: expected a table", ""),
        ("", "policy: no rule refuses anything", "[[rule]]"),
        ("=", "is not TOML", ""),
    ],
)
def test_what_is_wrong_in_a_policy_is_said_with_the_file(tmp_path, text: str, words: str, hint: str) -> None:
    path = tmp_path / "strict.toml"
    path.write_text(text)
    with pytest.raises(BadInput) as wrong:
        read_policy(str(path))
    assert str(wrong.value).startswith(f"{path}: {words}")
    assert hint in wrong.value.hint


def test_a_policy_that_is_not_there_is_named(tmp_path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        read_policy(str(tmp_path / "none.toml"))
