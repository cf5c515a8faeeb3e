"""Weighing: a policy and evidence to a verdict's findings, by nothing but these and the time.

Two things hold whatever the evidence is. A better figure never turns passed into refused. And nothing passes
by omission: a rule whose figure is missing, or rests on attacks of which one broke off, does not hold; nor
does one about the answers of a model that answered the same rows otherwise when it was asked again; nor does
one that wants at most so much, where all that is known is that it is more than something.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from tallystick.core.names import DEFAULT_TENANT
from tallystick.core.verdict import PRODUCTION, Finding, Severity, VerdictState
from tallystick.evidence.evidence import Evidence
from tallystick.evidence.figures import Figure, shortfall
from tallystick.evidence.measures import MEASURES, Measure
from tallystick.evidence.policy import Policy, Rule
from tallystick.evidence.probe import OF_TWIN, Probe, ProbeState, Threat
from tallystick.evidence.threats import BASE

__all__ = ["figures_of", "weigh"]

NAMED_MAX = 3
"""Probes that a sentence names."""
_DIGITS_MAX = 17
_BOUND = {"low": "lower end", "value": "measured value", "high": "upper end"}
_WORST_OF_ALL = frozenset(
    (Threat.EVASION, Threat.CORRUPTION, Threat.POISONING, Threat.EXTRACTION, Threat.INFERENCE)
)
"""Threats whose figures are the worst that any probe found: one that broke off might have found worse."""


def weigh(
    policy: Policy,
    evidence: Evidence,
    at_ms: int,
    model: str,
    stage: str = PRODUCTION,
    tenant: str = DEFAULT_TENANT,
) -> tuple[VerdictState, tuple[Finding, ...]]:
    """Passed where every refusing rule that applies holds or is excepted, and what each of them found.

    ``model`` is ``name@version``. A rule about attacks never holds on evidence in which no attack was carried
    out, or one broke off: what nobody attacked has withstood nothing. Where no refusing rule applies to the
    model at all, nothing vouches for it: refused, with a finding that says so.
    """
    rules = [r for r in policy.rules if r.applies(model, stage, tenant)]
    findings = tuple(_excepted(policy, _apply(rule, policy, evidence), model, at_ms) for rule in rules)
    if not any(r.severity is Severity.REFUSE for r in rules):
        text = f"policy {policy.name}: no rule that refuses applies to {model} at stage {stage or 'any'}"
        findings = (*findings, Finding("policy", False, Severity.REFUSE, text))
    refused = any(f.refuses for f in findings)
    return (VerdictState.REFUSED if refused else VerdictState.PASSED), findings


def figures_of(evidence: Evidence, findings: Iterable[Finding] = ()) -> dict[str, float]:
    """The figures that a listing shows, as measured; ``robust_accuracy@0.1`` where there is an eps."""
    wanted = {f.measure for f in findings} | {"clean_accuracy", "robust_accuracy"}
    found: dict[str, Figure] = {}
    for figure in evidence.figures():
        if figure.measure in wanted and not figure.group and figure.measure in MEASURES:
            name = figure.measure if figure.eps is None else f"{figure.measure}@{figure.eps:g}"
            known = [found[name]] if name in found else []
            found[name] = _counted([*known, figure], MEASURES[figure.measure], "value")
    return {name: figure.value for name, figure in sorted(found.items())}


def _excepted(policy: Policy, finding: Finding, model: str, at_ms: int) -> Finding:
    """The finding, and where an exception lets the model off, which, by whom, why and how long."""
    if finding.holds:
        return finding
    made = [e for e in policy.exceptions if e.counts(finding.rule, model, at_ms)]
    if not made:
        return finding
    last = max(made, key=lambda e: e.ends_ms)
    words = f"excepted until {last.until} by {last.owner}: {last.reason}"
    return replace(finding, text=f"{finding.text}; {words}", exception=words, until_ms=last.ends_ms)


def _apply(rule: Rule, policy: Policy, evidence: Evidence) -> Finding:
    measure = MEASURES[rule.measure]
    found = [f for f in evidence.figures() if f.measure == rule.measure and f.eps == rule.eps and not f.group]
    lacks = _lacks(rule, measure, policy, evidence, bool(found))
    if not lacks:
        lacks = _unbounded(rule, measure, found)
    if not lacks:
        return _compared(rule, measure, _counted(found, measure, rule.end), evidence.budget.precision)
    return Finding(
        rule.name, False, rule.severity, f"{rule.name}: {lacks}", measure=rule.measure, limit=rule.limit
    )


def _lacks(rule: Rule, measure: Measure, policy: Policy, evidence: Evidence, there: bool) -> str:
    """Why there is no figure that could count; empty where there is one."""
    of = evidence.of(measure.threat)
    if measure.threat is Threat.EVASION and not evidence.attacked:
        return f"no attack was carried out: {_why(of) or 'none is recorded'}"
    if not there:
        apart = any(f.measure == rule.measure and OF_TWIN in f.group for p in of for f in p.figures)
        about = "what is known is of its ONNX twin, and not of the model itself" if apart else ""
        why = "; ".join(filter(None, (about, _why([p for p in of if not p.done]))))
        return f"no evidence of {_said(rule, measure)}" + (f": {why}" if why else "")
    unsteady = [p for p in evidence.of(Threat.CLEAN) if p.name == BASE and p.state is ProbeState.FAILED]
    if unsteady and measure.threat is not Threat.SUPPLY:
        return f"{_said(rule, measure)} is not known: {_why(unsteady)}"
    if measure.threat not in _WORST_OF_ALL:
        return ""
    broke = [p for p in of if p.state in (ProbeState.FAILED, ProbeState.CANCELLED)]
    if broke:
        return f"{_said(rule, measure)} is not known to the end: {_why(broke)}"
    absent = [name for name in policy.probes if name not in {p.name for p in evidence.probes}]
    if absent:
        return f"{_said(rule, measure)} is not known to the end: {', '.join(absent)} was not carried out"
    return ""


def _unbounded(rule: Rule, measure: Measure, found: Sequence[Figure]) -> str:
    """That no figure says how bad it may be; empty where it is bad enough already, or a bound is enough."""
    bounds = [f for f in found if f.beyond]
    worst = _counted(found, measure, rule.end)
    if measure.higher_is_better or not bounds or getattr(worst, rule.end) > rule.limit:
        return ""
    most = _shown(_counted(bounds, measure, "value").value, measure)
    return f"{_said(rule, measure)} is known to be more than {most} and not how much more"


def _why(probes: Sequence[Probe]) -> str:
    """What became of probes that found nothing, the first few of them."""
    said = [f"{p.name}: {_became(p)}" for p in probes[:NAMED_MAX]]
    more = len(probes) - NAMED_MAX
    return "; ".join([*said, *([f"and {more} more"] if more > 0 else [])])


def _became(probe: Probe) -> str:
    if probe.done:
        return "it asked the model nothing"
    return f"it {'does not apply' if probe.state is ProbeState.NOT_APPLICABLE else probe.state}, {probe.why}"


def _counted(figures: Sequence[Figure], measure: Measure, end: str) -> Figure:
    """The figure that counts where several probes measured the same.

    That is the worst, as an attacker takes the best attack; of proofs the best, as each of them holds.
    """
    best = measure.threat is Threat.CERTIFICATE
    pick = max if measure.higher_is_better == best else min
    return pick(figures, key=lambda f: (getattr(f, end), f.value, f.low, f.high))


def _said(rule: Rule, measure: Measure) -> str:
    return measure.said if rule.eps is None else f"{measure.said} at eps {rule.eps:g}"


def _compared(rule: Rule, measure: Measure, figure: Figure, precision: float) -> Finding:
    counts = float(getattr(figure, rule.end))
    holds = counts >= rule.limit if measure.higher_is_better else counts <= rule.limit
    kind = _KIND[measure.higher_is_better, holds]
    compared, limit = _told_apart(counts, rule.limit, measure)
    value = _shown(figure.value, measure)
    text = f"{rule.name}: {_said(rule, measure)} is {figure.said}{value}"
    if figure.low < figure.high:
        between = f"{_shown(figure.low, measure)} to {_shown(figure.high, measure)}"
        if measure.share and (lacks := shortfall(figure.rate, precision)):
            between += f", {lacks.words}"
        text += f" (95 % interval {between}); its {_BOUND[rule.end]}, {compared}, is {kind} {limit}"
    elif compared == value:
        text += f", {kind} {limit}"
    else:
        text += f"; exactly {compared}, which is {kind} {limit}"
    return Finding(
        rule.name, holds, rule.severity, text, measure=rule.measure, figure=counts, limit=rule.limit
    )


_KIND = {
    (True, True): "at least",
    (True, False): "below",
    (False, True): "at most",
    (False, False): "above",
}


def _told_apart(figure: float, limit: float, measure: Measure) -> tuple[str, str]:
    """Both with one decimal, or with as many more as it takes to see which one is less."""
    digits = 1
    while figure != limit and digits < _DIGITS_MAX:
        if _shown(figure, measure, digits) != _shown(limit, measure, digits):
            break
        digits += 1
    return _shown(figure, measure, digits), _shown(limit, measure, digits)


def _shown(value: float, measure: Measure, digits: int = 1) -> str:
    return f"{value:.{digits}%}" if measure.share else f"{value:,.{digits}f} {measure.unit}"
