"""Policies: rules over evidence that a person reads and edits, exceptions from them, and what asks for them.

A policy is a TOML file; ``docs/policy.md`` describes every key. Reading is strict: what nobody would obey is
an error that names the nearest known word. Whoever weighs gives the time; nothing here reads a clock.
"""

from __future__ import annotations

import dataclasses
import datetime
import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from tallystick.core.errors import BadInput
from tallystick.core.facts import from_json, to_json
from tallystick.core.names import DEFAULT_TENANT, digest_of
from tallystick.core.verdict import PRODUCTION, Severity
from tallystick.evidence.domain import SAMPLES_MAX, Budget, Column, Domain, Preprocessing
from tallystick.evidence.figures import rows_needed
from tallystick.evidence.measures import MEASURES, Measure

__all__ = ["AHEAD_DAYS_MAX", "Exemption", "Gate", "Policy", "PolicyVersion", "Rule"]

AHEAD_DAYS_MAX = 366
"""An exception that outlives a year is no exception any more."""
RULES_MAX = 500
TEXT_CHARS_MAX = 2000
_DAY_MS = 86_400_000
_EPOCH = datetime.date(1970, 1, 1)
_BOUNDS = {True: ("low", "value"), False: ("high", "value")}
_ANY = ("*",)


@dataclass(frozen=True, slots=True)
class Rule:
    """``measure`` must be ``at_least`` so much, or ``at_most``, as suits it; exactly one of them is given.

    ``bound`` is the figure that counts: ``value`` as measured, or the unfavourable end of the 95 % interval
    (``low`` of what is better the higher, else ``high``), which is what an empty one means. ``models``,
    ``tenants`` and ``stages`` are globs: the rule applies where one of each fits.
    """

    name: str
    measure: str
    at_least: float | None = None
    at_most: float | None = None
    eps: float | None = None
    bound: str = ""
    severity: Severity = Severity.REFUSE
    models: tuple[str, ...] = _ANY
    tenants: tuple[str, ...] = _ANY
    stages: tuple[str, ...] = _ANY
    why: str = ""

    def __post_init__(self) -> None:
        where = f"rule {self.name!r:.100}"
        if not self.name.strip() or len(self.name) > 200 or not self.name.isprintable():
            raise BadInput("a rule's name is 1 to 200 characters of one line", where=where)
        self._check_limit(_measure(self.measure, where), where)
        for what in ("models", "tenants", "stages"):
            if not getattr(self, what) or not all(getattr(self, what)):
                raise BadInput(f"{what} is empty: the rule applies nowhere", where=where, hint='["*"] is all')
        if len(self.why) > TEXT_CHARS_MAX:
            raise BadInput(f"why is at most {TEXT_CHARS_MAX} characters", where=where)

    def _check_limit(self, measure: Measure, where: str) -> None:
        right, wrong = ("at_least", "at_most") if measure.higher_is_better else ("at_most", "at_least")
        if getattr(self, wrong) is not None:
            better = "higher" if measure.higher_is_better else "lower"
            text = f"{measure.name} is the better the {better}: {wrong} would ask for bad ones"
            raise BadInput(text, where=where, hint=f"write {right}")
        limit = getattr(self, right)
        if limit is None:
            raise BadInput(f"{right!r} is missing", where=where)
        if not math.isfinite(limit) or (measure.share and not 0 <= limit <= 1) or limit < 0:
            says = "a rate from 0 to 1" if measure.share else f"a number of {measure.unit}, not below 0"
            raise BadInput(f"{right} is {says}", where=where)
        if measure.has_eps != (self.eps is not None):
            names = " and ".join(m.name for m in MEASURES.values() if m.has_eps)
            raise BadInput(f"eps goes with {names}, and only with them", where=where)
        allowed = _BOUNDS[measure.higher_is_better]
        if self.bound and self.bound not in allowed:
            says = (
                "unknown bound" if self.bound not in ("low", "high", "value") else f"with {right}, no bound"
            )
            raise BadInput(f"{says} {self.bound!r:.50}", where=where, hint=" or ".join(allowed))

    @property
    def limit(self) -> float:
        """What the figure is compared with."""
        found = self.at_least if self.at_least is not None else self.at_most
        return 0.0 if found is None else found

    @property
    def end(self) -> str:
        """The bound that counts: ``low``, ``value`` or ``high``."""
        return self.bound or _BOUNDS[self.at_least is not None][0]

    def applies(self, model: str, stage: str, tenant: str) -> bool:
        """Whether it is about this model (``name`` or ``name@version``) at this stage, of this tenant."""
        name = model.partition("@")[0]
        mine = _fits(self.models, name) or _fits(self.models, model)
        return mine and _fits(self.tenants, tenant) and _fits(self.stages, stage)


@dataclass(frozen=True, slots=True)
class Exemption:
    """An exception: through day ``until``, ``rule`` does not stop ``model`` (a name, or ``name@version``).

    ``until`` is a date of UTC (``2027-03-31``). Who answers for it and why it is made are part of it.
    """

    rule: str
    model: str
    owner: str
    reason: str
    until: str

    def __post_init__(self) -> None:
        where = f"exception from rule {self.rule!r:.100}"
        for name in ("rule", "model", "owner", "reason"):
            text = getattr(self, name)
            if not text.strip() or len(text) > TEXT_CHARS_MAX or not text.isprintable():
                raise BadInput(f"{name} is 1 to {TEXT_CHARS_MAX} characters of one line", where=where)
        if any(mark in self.model for mark in "*?["):
            raise BadInput(f"{self.model!r:.100} is a pattern", where=where, hint="name one model")
        try:
            datetime.date.fromisoformat(self.until)
        except ValueError:
            raise BadInput(f"until is no date: {self.until!r:.50}", where=where, hint="2027-03-31") from None

    @property
    def ends_ms(self) -> int:
        """The first moment at which it counts no more: midnight UTC after ``until``."""
        return ((datetime.date.fromisoformat(self.until) - _EPOCH).days + 1) * _DAY_MS

    def counts(self, rule: str, model: str, at_ms: int) -> bool:
        """Whether it lets ``model`` (``name@version``) off ``rule`` at that time."""
        named = self.model in (model, model.partition("@")[0])
        return named and self.rule == rule and at_ms < self.ends_ms <= at_ms + (AHEAD_DAYS_MAX + 1) * _DAY_MS


@dataclass(frozen=True, slots=True)
class Gate:
    """Which of MLflow's aliases and stages ask for a verdict, as deployment does; in any case of letters.

    An alias asks for what stage ``Production`` does.
    """

    aliases: tuple[str, ...] = ("champion",)
    stages: tuple[str, ...] = (PRODUCTION,)

    def asks_alias(self, alias: str) -> bool:
        """Whether to let a version have this alias is a matter of the gate."""
        return _folded(alias) in map(_folded, self.aliases)

    def asks_stage(self, stage: str) -> str:
        """The gate's own word for a stage that it asks for, else an empty text."""
        return next((s for s in self.stages if _folded(s) == _folded(stage)), "")


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules and exceptions, the budget and domains by which evidence is gathered, and where the gate is.

    ``domains`` are pairs of a glob over models' names and what a row of such a model is, the first that fits
    counts; ``probes`` are named attacks and checks that are wanted beside the usual ones.
    """

    name: str
    rules: tuple[Rule, ...]
    budget: Budget = field(default_factory=Budget)
    domains: tuple[tuple[str, Domain], ...] = ()
    probes: tuple[str, ...] = ()
    exceptions: tuple[Exemption, ...] = ()
    gate: Gate = field(default_factory=Gate)

    @classmethod
    def parse(cls, wire: Mapping[str, Any], at_ms: int | None = None) -> Policy:
        """From the tables of a policy file.

        BadInput names what is wrong: an unknown key, with the nearest known one; a missing one; a value out
        of range; a measure's wrong direction; two rules of one name; no rule that refuses; a rule at an eps
        that the budget does not attack at; an exception from no rule, or, where ``at_ms`` says what time it
        is, for over a year ahead.
        """
        _check_keys(wire)
        budget = _budget(wire.get("budget", {}))
        policy = cls(
            name=_text(wire.get("name", "policy")),
            rules=from_json(tuple[Rule, ...], wire.get("rule", []), "policy.rule"),
            budget=budget,
            domains=tuple((g, _domain(d, budget, g)) for g, d in wire.get("domain", {}).items()),
            probes=from_json(tuple[str, ...], wire.get("probes", []), "policy.probes"),
            exceptions=tuple(_exemption(e, i) for i, e in enumerate(wire.get("exception", []))),
            gate=from_json(Gate, wire.get("gate", {}), "policy.gate"),
        )
        _check_whole(policy, at_ms)
        return policy

    @property
    def digest(self) -> str:
        """The digest of all that it says: a verdict holds for the very policy that it was given under."""
        return digest_of(to_json(self))

    def domain(self, model_name: str) -> Domain:
        """What a row of the model is: the first domain that fits, else numbers in the budget's range."""
        plain = Domain(low=self.budget.low, high=self.budget.high)
        return next((d for glob, d in self.domains if fnmatchcase(model_name, glob)), plain)

    def stage_of(self, model: str, stage: str, tenant: str = DEFAULT_TENANT) -> str:
        """``stage``, or an empty text where the same rules apply to the model at every stage."""
        theirs = [r for r in self.rules if replace(r, stages=_ANY).applies(model, "", tenant)]
        return stage if any("*" not in r.stages for r in theirs) else ""


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """A policy that came into force: ``text`` is the artifact that holds its file as it was written."""

    name: str
    digest: str
    text: str
    rules: int = 0
    exceptions: int = 0
    at_ms: int = 0
    tenant: str = DEFAULT_TENANT


def _folded(text: str) -> str:
    return text.strip().casefold()


def _fits(globs: Iterable[str], text: str) -> bool:
    return any(fnmatchcase(text, glob) for glob in globs)


def _measure(name: str, where: str) -> Measure:
    if name in MEASURES:
        return MEASURES[name]
    raise BadInput(f"unknown measure {name!r:.100}", where=where, hint=_near(name, MEASURES))


def _near(word: str, known: Iterable[str]) -> str:
    """The hint for a word that is not known: the nearest one that is, or all."""
    found = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {found[0]}?" if found else "known: " + ", ".join(sorted(known))


def _check_keys(wire: Any) -> None:
    _only(wire, {"name", "budget", "domain", "probes", "rule", "exception", "gate"}, "policy")
    for i, rule in enumerate(_tables(wire, "rule")):
        _only(rule, _names(Rule), f"policy rule {i + 1}")
    for i, exception in enumerate(_tables(wire, "exception")):
        _only(exception, _names(Exemption), f"policy exception {i + 1}")
    _only(wire.get("budget", {}), _names(Budget), "policy budget")
    _only(wire.get("gate", {}), _names(Gate), "policy gate")
    domains = wire.get("domain", {})
    if not isinstance(domains, Mapping):
        raise BadInput("domain is not a table", where="policy", hint='write [domain."MODEL*"]')
    for glob, domain in domains.items():
        _only(domain, _names(Domain), f'policy domain "{glob:.100}"')
        if "preprocessing" in domain:
            where = f'policy domain "{glob:.100}" preprocessing'
            _only(domain["preprocessing"], _names(Preprocessing), where)
        for i, column in enumerate(_tables(domain, "columns", f'domain."{glob:.100}".columns')):
            _only(column, _names(Column), f'policy domain "{glob:.100}" column {i + 1}')


def _tables(wire: Mapping[str, Any], key: str, said: str = "") -> Sequence[Any]:
    """What stands under ``key``, which is a list of tables."""
    found = wire.get(key, ())
    if not isinstance(found, list | tuple):
        hint = (
            f"write [[{said or key}]], with two brackets on either side, above each {key.removesuffix('s')}"
        )
        raise BadInput(f"{key} is not a list of tables", where="policy", hint=hint)
    return found


def _names(kind: type) -> set[str]:
    return {f.name for f in dataclasses.fields(kind)}


def _only(wire: Any, known: set[str], where: str) -> None:
    if not isinstance(wire, Mapping):
        raise BadInput("expected a table", where=where)
    for key in wire:
        if key not in known:
            raise BadInput(f"unknown key {key!r:.100}", where=where, hint=_near(key, known))


def _text(said: Any) -> str:
    if not isinstance(said, str) or not said.strip() or len(said) > 200 or not said.isprintable():
        raise BadInput("a policy's name is a text of one line", where="policy.name")
    return said


def _budget(wire: Mapping[str, Any]) -> Budget:
    """As it is said; where a precision is, and no number of rows, as many rows as that needs at worst."""
    budget = from_json(Budget, wire, "policy.budget")
    if "precision" not in wire or "samples_max" in wire:
        return budget
    return replace(budget, samples_max=min(SAMPLES_MAX, rows_needed(budget.precision)))


def _domain(wire: Mapping[str, Any], budget: Budget, glob: str) -> Domain:
    said = {"low": budget.low, "high": budget.high, **wire}
    try:
        return from_json(Domain, said, f'policy.domain."{glob:.100}"')
    except BadInput as wrong:  # a domain does not know whose it is
        where = f'policy domain "{glob:.100}"'
        where = wrong.where if wrong.where.startswith("policy") else f"{where}: {wrong.where}"
        raise BadInput(wrong.what, where=where, hint=wrong.hint) from None


def _exemption(wire: Mapping[str, Any], index: int) -> Exemption:
    until = wire.get("until")
    if isinstance(until, datetime.datetime):  # it is a date to Python too
        raise BadInput("until is a date without a time", where=f"policy exception {index + 1}")
    said = {**wire, "until": until.isoformat()} if isinstance(until, datetime.date) else wire
    return from_json(Exemption, said, f"policy exception {index + 1}")


def _check_whole(policy: Policy, at_ms: int | None) -> None:
    names = [rule.name for rule in policy.rules]
    if len(names) > RULES_MAX:
        raise BadInput(f"over {RULES_MAX} rules", where="policy")
    for name in names:
        if names.count(name) > 1:
            hint = "give each rule a name of its own"
            raise BadInput("two rules have this name", where=f"rule {name!r:.100}", hint=hint)
    if not any(r.severity is Severity.REFUSE for r in policy.rules):
        hint = 'add one [[rule]] with severity = "refuse"'
        raise BadInput("no rule refuses anything", where="policy", hint=hint)
    for rule in policy.rules:
        if rule.eps is not None and rule.eps not in (*policy.budget.eps, *policy.budget.edits):
            hint = "add it to budget.eps, or of texts to budget.edits"
            raise BadInput(f"eps {rule.eps} is not attacked", where=f"rule {rule.name!r:.100}", hint=hint)
    for exception in policy.exceptions:
        _check_exception(exception, names, at_ms)


def _check_exception(exception: Exemption, names: Sequence[str], at_ms: int | None) -> None:
    where = f"exception from rule {exception.rule!r:.100}"
    if exception.rule not in names:
        raise BadInput("there is no such rule", where=where, hint=_near(exception.rule, names))
    if at_ms is not None and exception.ends_ms > at_ms + (AHEAD_DAYS_MAX + 1) * _DAY_MS:
        raise BadInput(f"until {exception.until} is over a year ahead", where=where, hint="renew it when due")
