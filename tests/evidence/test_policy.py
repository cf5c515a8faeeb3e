"""Policies are read strictly: what nobody would obey is an error, and the error names what is wrong."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from tallystick.core.errors import BadInput
from tallystick.core.facts import from_json, to_json
from tallystick.evidence.domain import Budget, Column, Domain, DomainKind
from tallystick.evidence.policy import Exemption, Gate, Policy, Rule

RULE: dict[str, Any] = {"name": "r", "measure": "robust_accuracy", "at_least": 0.5, "eps": 0.1}
LEAK: dict[str, Any] = {"name": "l", "measure": "membership_advantage", "at_most": 0.1}
LET: dict[str, Any] = {"rule": "r", "model": "m", "owner": "ann", "reason": "no time", "until": "2027-01-31"}
NOW_MS = 1_795_000_000_000  # 2026-11-18

WHOLE = """
name = "credit"
probes = ["boundary"]
gate = {aliases = ["champion", "live"], stages = ["Production", "Staging"]}

[budget]
eps = [0.1, 0.2]
low = -1
samples_max = 100

[domain."credit*"]
kind = "tabular"
groups = ["sex"]

[[domain."credit*".columns]]
name = "income"
low = 0
high = 100000
integer = true
direction = "up"
unit = "EUR"

[domain."digits"]
kind = "image"
shape = [8, 8]
high = 16

[[rule]]
name = "robust"
measure = "robust_accuracy"
eps = 0.1
at_least = 0.5
models = ["credit*"]
stages = ["Production"]
why = "it is asked by strangers"

[[rule]]
name = "quick"
measure = "latency_ms_p99"
at_most = 20
severity = "warn"

[[exception]]
rule = "robust"
model = "credit-old@3"
owner = "ann@example.com"
reason = "it is replaced in March"
until = 2027-03-31
"""


def test_a_whole_policy_is_read() -> None:
    policy = Policy.parse(tomllib.loads(WHOLE), NOW_MS)
    assert policy.budget == Budget((0.1, 0.2), samples_max=100, low=-1.0)
    income = Column("income", 0, 100_000, integer=True, direction="up", unit="EUR")
    assert policy.domain("credit-1") == Domain(DomainKind.TABULAR, low=-1, columns=(income,), groups=("sex",))
    assert policy.domain("digits") == Domain(DomainKind.IMAGE, (8, 8), low=-1, high=16)
    assert policy.domain("other") == Domain(low=-1, high=1)
    assert policy.probes == ("boundary",)
    assert policy.gate == Gate(("champion", "live"), ("Production", "Staging"))
    assert [(r.name, r.limit, r.end, str(r.severity)) for r in policy.rules] == [
        ("robust", 0.5, "low", "refuse"),
        ("quick", 20, "high", "warn"),
    ]
    assert policy.exceptions == (
        Exemption("robust", "credit-old@3", "ann@example.com", "it is replaced in March", "2027-03-31"),
    )
    assert from_json(Policy, to_json(policy)) == policy


@pytest.mark.parametrize(
    ("said", "rows"),
    [
        ({}, 120),
        ({"precision": 0.05}, 381),
        ({"precision": 0.03}, 1064),
        ({"precision": 0.001}, 100_000),  # 960,000, which nobody attacks
        ({"precision": 0.03, "samples_max": 500}, 500),
    ],
)
def test_a_stated_precision_takes_the_rows_that_it_needs_unless_their_number_is_stated_too(
    said: dict[str, Any], rows: int
) -> None:
    budget = Policy.parse({"rule": [RULE], "budget": {"eps": [0.1], **said}}, NOW_MS).budget
    assert (budget.samples_max, budget.precision) == (rows, said.get("precision", 0.03))


def test_a_policy_of_an_earlier_tallystick_still_means_the_same() -> None:
    old = """
    name = "default"
    [budget]
    eps = [0.05, 0.1, 0.15, 0.2]
    samples_max = 150
    queries_max = 5000
    seed = 7
    low = 0.0
    high = 1.0
    [[rule]]
    name = "accurate"
    measure = "clean_accuracy"
    bound = "low"
    at_least = 0.94
    severity = "refuse"
    why = "because"
    [[rule]]
    name = "robust at 0.15"
    measure = "robust_accuracy"
    eps = 0.15
    at_least = 1
    """
    policy = Policy.parse(tomllib.loads(old), NOW_MS)
    assert [(r.end, r.limit) for r in policy.rules] == [("low", 0.94), ("low", 1)]
    assert policy.gate == Gate(("champion",), ("Production",))
    assert (policy.domains, policy.exceptions, policy.probes) == ((), (), ())


def test_the_digest_is_of_all_that_it_says() -> None:
    wire = {"name": "p", "rule": [RULE]}
    digests = {
        Policy.parse(changed).digest
        for changed in (
            wire,
            {**wire, "name": "q"},
            {**wire, "rule": [{**RULE, "at_least": 0.6}]},
            {**wire, "rule": [{**RULE, "models": ["m"]}]},
            {**wire, "exception": [LET]},
            {**wire, "probes": ["zoo"]},
            {**wire, "gate": {"aliases": []}},
            {**wire, "domain": {"m": {"kind": "tabular"}}},
            {**wire, "budget": {"seed": 8}},
        )
    }
    assert len(digests) == 9


@pytest.mark.parametrize(
    ("wire", "says"),
    [
        ({}, "no rule refuses"),
        ({"rule": [{**RULE, "severity": "warn"}]}, "no rule refuses"),
        ({"rules": [RULE]}, r"unknown key 'rules' \(did you mean rule\?"),
        ({"rule": [{**RULE, "atleast": 1}]}, r"rule 1: unknown key 'atleast' \(did you mean at_least\?"),
        ({"rule": [{**RULE, "colour": 1}]}, r"unknown key 'colour' \(known: at_least, at_most, bound"),
        ({"rule": [{**RULE, "eps": 0.3}]}, "eps 0.3 is not attacked"),
        ({"rule": [{**RULE, "at_least": 1.5}]}, "from 0 to 1"),
        ({"rule": [{**RULE, "at_least": "high"}]}, "expected"),
        ({"rule": [{**RULE, "measure": "beauty"}]}, "unknown measure 'beauty' .known: attribute_advantage"),
        ({"rule": [{**RULE, "measure": "robust_acuracy"}]}, "did you mean robust_accuracy"),
        ({"rule": [{**RULE, "bound": "middle"}]}, "unknown bound 'middle' .low or value"),
        ({"rule": [{**RULE, "bound": "high"}]}, "with at_least, no bound 'high'"),
        ({"rule": [{**LEAK, "bound": "low"}]}, "with at_most, no bound 'low'"),
        ({"rule": [{**RULE, "severity": "maybe"}]}, "expected Severity"),
        (
            {"rule": [{**RULE, "measure": "clean_accuracy"}]},
            "eps goes with robust_accuracy and certified_acc",
        ),
        ({"rule": [{"name": "r", "measure": "robust_accuracy", "at_least": 0.5}]}, "eps goes with"),
        ({"rule": [{"name": "r", "measure": "clean_accuracy"}]}, "'at_least' is missing"),
        ({"rule": [{"name": "r"}]}, "'measure' is missing"),
        ({"rule": [{**RULE, "at_most": 0.9}]}, "the better the higher: at_most would ask for bad ones"),
        ({"rule": [{**LEAK, "at_most": None, "at_least": 0.1}]}, "the better the lower: at_least would"),
        ({"rule": [{**LEAK, "measure": "size_mib", "at_most": -1}]}, "a number of MiB, not below 0"),
        ({"rule": [{**LEAK, "measure": "size_mib", "at_most": float("inf")}]}, "a number of MiB"),
        ({"rule": [{**RULE, "name": " "}]}, "name is 1 to 200"),
        ({"rule": [{**RULE, "name": "a\nb"}]}, "name is 1 to 200"),
        ({"rule": [{**RULE, "models": []}]}, "models is empty"),
        ({"rule": [{**RULE, "stages": "Production"}]}, "expected tuple"),
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
        ({"rule": [RULE], "budget": {"precision": 0}}, "precision is 0.001 to 0.5"),
        ({"rule": [RULE], "budget": {"precision": 1e-300}}, "precision is 0.001 to 0.5"),
        ({"rule": [RULE], "budget": {"precision": 3}}, "precision is 0.001 to 0.5"),
        ({"rule": [RULE], "budget": {"precision": float("nan")}}, "precision is 0.001 to 0.5"),
        ({"rule": [RULE], "budget": {"precision": "fine"}}, "precision: expected float"),
        ({"rule": [RULE], "budget": {"seeds": 1}}, r"budget: unknown key 'seeds' \(did you mean seed\?"),
        ({"rule": [RULE], "budget": 3}, "policy budget: expected a table"),
        ({"rule": [RULE], "domain": 3}, "domain is not a table"),
        (
            {"rule": [RULE], "domain": {"m": {"preprocessing": {"stand": "identity"}}}},
            'domain "m" preprocessing: unknown key .stand. .did you mean stand_in',
        ),
        (
            {"rule": [RULE], "domain": {"m": {"kinds": 1}}},
            'domain "m": unknown key .kinds. .did you mean kind',
        ),
        ({"rule": [RULE], "domain": {"m": {"kind": "sound"}}}, 'domain."m".kind: expected DomainKind'),
        ({"rule": [RULE], "domain": {"m": {"kind": "image"}}}, 'domain "m": domain.shape: a shape of 0'),
        ({"rule": [RULE], "domain": {"m": {"columns": [{"nme": "a"}]}}}, "column 1: unknown key 'nme'"),
        ({"rule": [RULE], "domain": {"m": {"columns": [{"name": "a", "low": 2}]}}}, "low is at most high"),
        ({"rule": [RULE], "domain": {"m": {"columns": {"a": 1}}}}, "columns is not a list of tables"),
        ({"rule": [RULE], "gate": {"alias": ["a"]}}, r"gate: unknown key 'alias' \(did you mean aliases\?"),
        ({"rule": [RULE], "probes": "zoo"}, "expected tuple"),
        ({"rule": [RULE], "name": ""}, "a policy's name is"),
        ({"rule": [RULE], "exception": [{**LET, "rule": "rr"}]}, r"no such rule \(did you mean r\?"),
        ({"rule": [RULE], "exception": [{**LET, "til": 1}]}, "exception 1: unknown key 'til'"),
        (
            {"rule": [RULE], "exception": [{k: v for k, v in LET.items() if k != "owner"}]},
            "'owner' is missing",
        ),
        ({"rule": [RULE], "exception": [{**LET, "reason": " "}]}, "reason is 1 to"),
        ({"rule": [RULE], "exception": [{**LET, "model": "m*"}]}, "'m.' is a pattern"),
        ({"rule": [RULE], "exception": [{**LET, "until": "soon"}]}, "until is no date: 'soon'"),
        ({"rule": [RULE], "exception": [{**LET, "until": "2026-02-30"}]}, "until is no date"),
        (
            {"rule": [RULE], "exception": [{**LET, "until": "2027-12-31"}]},
            "until 2027-12-31 is over a year ahead",
        ),
    ],
)
def test_a_policy_that_is_none_is_named(wire: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        Policy.parse(wire, NOW_MS)


def test_a_moment_is_no_date() -> None:
    text = WHOLE.replace("2027-03-31", "2027-03-31T10:00:00Z")
    with pytest.raises(BadInput, match="until is a date without a time"):
        Policy.parse(tomllib.loads(text))


def test_an_exception_that_has_ended_is_read_all_the_same() -> None:
    ended = {"rule": [RULE], "exception": [{**LET, "until": "2020-01-01"}]}
    assert Policy.parse(ended, NOW_MS).exceptions[0].ends_ms < NOW_MS


def test_nan_is_no_limit() -> None:
    with pytest.raises(BadInput):
        Rule("r", "clean_accuracy", float("nan"))


def test_the_first_domain_that_fits_counts() -> None:
    domains = {"m*": {"high": 2}, "model": {"high": 3}}
    policy = Policy.parse({"rule": [RULE], "domain": domains})
    assert (policy.domain("model").high, policy.domain("x").high) == (2, 1)


@pytest.mark.parametrize("kind", ["vector", "image", "text"])
def test_columns_of_what_has_none_are_refused_and_not_passed_over(kind: str) -> None:
    shape = {"shape": [1, 1]} if kind == "image" else {}
    said = {"kind": kind, **shape, "columns": [{"name": "born", "immutable": True}]}
    with pytest.raises(BadInput, match=f"rows of kind {kind} have no columns"):
        Policy.parse({"rule": [RULE], "domain": {"m*": said}})
    assert Policy.parse({"rule": [RULE], "domain": {"m*": {**said, "kind": "tabular", "shape": []}}})


def test_a_verdict_is_for_one_stage_only_where_rules_differ() -> None:
    staged = {**RULE, "name": "s", "stages": ["Prod*"], "models": ["a"]}
    policy = Policy.parse({"rule": [RULE, staged]})
    assert policy.stage_of("a@1", "Production") == "Production"
    assert policy.stage_of("a@1", "Staging") == "Staging"
    assert policy.stage_of("b@1", "Production") == ""


@pytest.mark.parametrize("alias", ["champion", "Champion", "CHAMPION", " champion\n"])
def test_a_gated_alias_is_known_in_any_case_of_letters(alias: str) -> None:
    assert Gate().asks_alias(alias)


def test_other_aliases_and_stages_are_free() -> None:
    assert not Gate().asks_alias("challenger")
    assert [Gate().asks_stage(s) for s in ("production", "Staging", "None", "")] == ["Production", "", "", ""]
