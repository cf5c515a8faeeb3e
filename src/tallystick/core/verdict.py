"""Verdicts: evidence gathered by attack, weighed by a policy that a person can read.

A verdict is a pure function of policy and evidence. Without evidence there is no verdict, and
without a verdict that passed the gate stays shut.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tallystick.core.errors import BadInput, Refused
from tallystick.core.facts import from_json, to_json
from tallystick.core.names import DEFAULT_TENANT, check_digest, digest_of

__all__ = [
    "AttackRecord",
    "Budget",
    "Evidence",
    "Finding",
    "Picture",
    "Point",
    "Policy",
    "Rate",
    "Rule",
    "Severity",
    "Verdict",
    "VerdictState",
    "check_gate",
    "weigh",
]

_Z_95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Rate:
    """``right`` of ``total``, with its 95 % Wilson score interval (Wilson 1927)."""

    right: int
    total: int

    def __post_init__(self) -> None:
        if not 0 <= self.right <= self.total or self.total < 1:
            raise BadInput(f"{self.right} of {self.total} is not a rate")

    @property
    def value(self) -> float:
        """The share, 0 to 1."""
        return self.right / self.total

    @property
    def low(self) -> float:
        """The lower end of the interval, 0 to 1."""
        return max(0.0, self._centre() - self._half())

    @property
    def high(self) -> float:
        """The upper end of the interval, 0 to 1."""
        return min(1.0, self._centre() + self._half())

    def _centre(self) -> float:
        return (self.value + _Z_95**2 / (2 * self.total)) / (1 + _Z_95**2 / self.total)

    def _half(self) -> float:
        n, p = self.total, self.value
        return _Z_95 * math.sqrt(p * (1 - p) / n + _Z_95**2 / (4 * n * n)) / (1 + _Z_95**2 / n)


@dataclass(frozen=True, slots=True)
class Budget:
    """What the attacker may do: L-infinity radii, samples attacked, queries for each sample, seed.

    ``eps`` are in the unit of the data after ``low``..``high`` (the feature range) is applied.
    """

    eps: tuple[float, ...] = (0.05, 0.1, 0.15, 0.2)
    samples_max: int = 120
    queries_max: int = 5000
    seed: int = 7
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not self.eps or list(self.eps) != sorted(set(self.eps)) or self.eps[0] <= 0:
            raise BadInput("eps must be positive and rising", where="budget.eps")
        if not all(math.isfinite(e) for e in (*self.eps, self.low, self.high)) or self.low >= self.high:
            raise BadInput("the feature range must be finite, low below high", where="budget")
        if not 1 <= self.samples_max <= 100_000 or not 1 <= self.queries_max <= 10_000_000:
            raise BadInput("samples_max is 1 to 100,000 and queries_max 1 to 10,000,000", where="budget")
        if not 0 <= self.seed < 2**32:
            raise BadInput("seed is 0 to 4294967295", where="budget.seed")


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the curve: accuracy under attack, and under random noise of the same size."""

    eps: float
    robust: Rate
    noise: Rate


@dataclass(frozen=True, slots=True)
class AttackRecord:
    """One attack: that it was used, with what, or (``skipped``) why it does not apply."""

    name: str
    library: str
    queries: int = 0
    seconds: float = 0.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    skipped: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """One sample before and after: labels as predicted, images as artifact digests (PNG)."""

    truth: str
    label_original: str
    label_noise: str
    label_adversarial: str
    eps: float
    original: str
    noise: str
    adversarial: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an attack found: complete enough to be repeated elsewhere and compared.

    ``label`` is the column of the dataset that holds the right answers; all others are features.
    """

    model_digest: str
    dataset: str
    dataset_digest: str
    budget: Budget
    clean: Rate
    curve: tuple[Point, ...]
    attacks: tuple[AttackRecord, ...]
    pictures: tuple[Picture, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    label: str = "label"

    def __post_init__(self) -> None:
        check_digest(self.model_digest)
        check_digest(self.dataset_digest)


class Severity(enum.StrEnum):
    """What a rule that does not hold means."""

    REFUSE = "refuse"
    WARN = "warn"


@dataclass(frozen=True, slots=True)
class Rule:
    """``measure`` must be at least ``at_least``.

    ``measure`` is ``clean_accuracy`` or ``robust_accuracy`` (which needs ``eps``). ``bound`` says
    which figure counts: ``value`` as measured, or ``low``, the lower end of the 95 % interval.
    """

    name: str
    measure: str
    at_least: float
    eps: float | None = None
    bound: str = "low"
    severity: Severity = Severity.REFUSE
    why: str = ""

    def __post_init__(self) -> None:
        where = f"rule {self.name!r}"
        if self.measure not in ("clean_accuracy", "robust_accuracy"):
            raise BadInput(
                f"unknown measure {self.measure!r}", where=where, hint="clean_accuracy or robust_accuracy"
            )
        if self.bound not in ("low", "value"):
            raise BadInput(f"unknown bound {self.bound!r}", where=where, hint="low or value")
        if not 0 <= self.at_least <= 1:
            raise BadInput("at_least is a rate from 0 to 1", where=where)
        if (self.measure == "robust_accuracy") != (self.eps is not None):
            raise BadInput("eps goes with robust_accuracy, and only with it", where=where)


@dataclass(frozen=True, slots=True)
class Policy:
    """The gate's rules, and the budget with which evidence is gathered."""

    name: str
    rules: tuple[Rule, ...]
    budget: Budget = field(default_factory=Budget)

    @classmethod
    def parse(cls, wire: Mapping[str, Any]) -> Policy:
        """From the tables of a policy file: ``name``, ``[budget]`` and ``[[rule]]``.

        BadInput names what is wrong: an unknown key, a missing one, a value out of range, two rules of
        one name, no rule that refuses, or a rule at an eps that the budget does not attack at.
        """
        _only(wire, {"name", "budget", "rule"}, "policy")
        for i, rule in enumerate(_tables(wire.get("rule", ()))):
            _only(rule, set(Rule.__dataclass_fields__), f"policy rule {i + 1}")
        _only(wire.get("budget", {}), set(Budget.__dataclass_fields__), "policy budget")
        fields = {
            "name": wire.get("name", "policy"),
            "rules": wire.get("rule", []),
            "budget": wire.get("budget", {}),
        }
        policy = from_json(cls, fields, "policy")
        names = [rule.name for rule in policy.rules]
        for name in names:
            if names.count(name) > 1:
                hint = "give each rule a name of its own"
                raise BadInput("two rules have this name", where=f"rule {name!r:.100}", hint=hint)
        if not any(r.severity is Severity.REFUSE for r in policy.rules):
            raise BadInput(
                "no rule refuses anything", where="policy", hint='add one [[rule]] with severity = "refuse"'
            )
        for rule in policy.rules:
            if rule.eps is not None and rule.eps not in policy.budget.eps:
                raise BadInput(
                    f"eps {rule.eps} is not attacked",
                    where=f"rule {rule.name!r}",
                    hint="add it to budget.eps",
                )
        return policy

    @property
    def digest(self) -> str:
        """The digest of all rules and the budget."""
        return digest_of(to_json(self))


def _tables(wire: Any) -> Sequence[Any]:
    """The rules of a policy file, which are a list of tables."""
    if not isinstance(wire, list | tuple):
        hint = "write [[rule]], with two brackets on either side, above each rule"
        raise BadInput("rule is not a list of tables", where="policy", hint=hint)
    return wire


def _only(wire: Any, known: set[str], where: str) -> None:
    if not isinstance(wire, Mapping):
        raise BadInput("expected a table", where=where)
    for key in wire:
        if key not in known:
            raise BadInput(f"unknown key {key!r}", where=where, hint="known: " + ", ".join(sorted(known)))


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule says of the evidence; ``figure`` is what was compared with ``at_least``."""

    rule: str
    holds: bool
    severity: Severity
    figure: float
    at_least: float
    text: str


class VerdictState(enum.StrEnum):
    """Where a verdict stands."""

    JUDGING = "judging"
    PASSED = "passed"
    REFUSED = "refused"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether it was reached, or given up."""
        return self is not VerdictState.JUDGING


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judgement of one model version under one policy; ``failed`` means none could be reached."""

    key: str
    model: str
    model_digest: str
    policy: str
    policy_digest: str
    state: VerdictState = VerdictState.JUDGING
    findings: tuple[Finding, ...] = ()
    evidence: Evidence | None = None
    progress: str = ""
    error: str = ""
    at_ms: int = 0
    tenant: str = DEFAULT_TENANT

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it was refused: the text of each rule that did not hold and refuses."""
        return tuple(f.text for f in self.findings if not f.holds and f.severity is Severity.REFUSE)


def weigh(policy: Policy, evidence: Evidence) -> tuple[VerdictState, tuple[Finding, ...]]:
    """Passed if every refusing rule holds, refused otherwise, and what each rule found.

    A rule about ``robust_accuracy`` never holds on evidence without an attack that was carried out:
    what nobody attacked has withstood nothing.
    """
    findings = tuple(_apply(rule, evidence) for rule in policy.rules)
    refused = any(not f.holds and f.severity is Severity.REFUSE for f in findings)
    return (VerdictState.REFUSED if refused else VerdictState.PASSED), findings


def _apply(rule: Rule, evidence: Evidence) -> Finding:
    if rule.measure == "clean_accuracy":
        return _compare(rule, evidence.clean, "accuracy on clean data")
    said = f"accuracy under attack at eps {rule.eps:g}"
    point = next((p for p in evidence.curve if p.eps == rule.eps), None)
    lacks = f"no evidence of {said}" if point is None else _no_attack(evidence.attacks)
    if point is None or lacks:
        return Finding(rule.name, False, rule.severity, 0.0, rule.at_least, f"{rule.name}: {lacks}")
    return _compare(rule, point.robust, said)


def _no_attack(records: Sequence[AttackRecord]) -> str:
    """Why what withstood has withstood nothing; empty where an attack did ask the model something."""
    if any(not record.skipped and record.queries > 0 for record in records):
        return ""
    why = "; ".join(f"{r.name}: {r.skipped or 'it asked the model nothing'}" for r in records)
    return f"no attack was carried out: {why or 'none is recorded'}"


def _compare(rule: Rule, rate: Rate, said: str) -> Finding:
    figure = rate.low if rule.bound == "low" else rate.value
    holds = figure >= rule.at_least
    kind = "at least" if holds else "below"
    shown = f"{rate.value:.1%} (95 % interval {rate.low:.1%} to {rate.high:.1%})"
    compared, limit = _told_apart(figure, rule.at_least)
    text = f"{rule.name}: {said} is {shown}; its {_BOUND[rule.bound]}, {compared}, is {kind} {limit}"
    return Finding(rule.name, holds, rule.severity, figure, rule.at_least, text)


def _told_apart(figure: float, limit: float) -> tuple[str, str]:
    """Both with one decimal, or with as many more as it takes to see which one is less."""
    digits = 1
    while figure != limit and digits < _DIGITS_MAX and f"{figure:.{digits}%}" == f"{limit:.{digits}%}":
        digits += 1
    return f"{figure:.{digits}%}", f"{limit:.{digits}%}"


_BOUND = {"low": "lower end", "value": "measured value"}
_DIGITS_MAX = 17


def check_gate(model: str, model_digest: str, policy_digest: str, verdicts: tuple[Verdict, ...]) -> Verdict:
    """The verdict that lets ``model`` into production; Refused names the verdict or what to run.

    ``verdicts`` are those of the model, newest first. Only the newest one that was reached counts,
    and only for these very files under this very policy.
    """
    judge = f"tally judge {model} --data TABLE"
    reached = [v for v in verdicts if v.state in (VerdictState.PASSED, VerdictState.REFUSED)]
    if not reached:
        raise Refused(f"model {model} has no verdict", where="gate", hint=judge)
    newest = reached[0]
    if newest.model_digest != model_digest:
        raise Refused(
            f"verdict {newest.key} is about other files than model {model} has now", where="gate", hint=judge
        )
    if newest.policy_digest != policy_digest:
        raise Refused(f"verdict {newest.key} was given under another policy", where="gate", hint=judge)
    if newest.state is not VerdictState.PASSED:
        raise Refused(
            f"verdict {newest.key} refused model {model}: " + "; ".join(newest.reasons),
            where="gate",
            hint="deploy a version that passed, or harden this one and judge it again",
        )
    return newest
