"""What a report says: sentences and tables from a verdict and its evidence, before anybody draws them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tallystick.core.verdict import Finding, Verdict, VerdictState
from tallystick.drawing import words
from tallystick.evidence.domain import DomainKind
from tallystick.evidence.evidence import Evidence
from tallystick.evidence.figures import Figure, Rate, rows_needed, shortfall
from tallystick.evidence.measures import MEASURES
from tallystick.evidence.probe import Example, Probe, ProbeState, Threat

__all__ = [
    "Report",
    "again",
    "asked_text",
    "corruptions",
    "edits_text",
    "eps_name",
    "eps_text",
    "examples",
    "figure_text",
    "headline",
    "lacks_text",
    "noise_text",
    "notes",
    "precision",
    "risks",
    "summary",
    "supply",
    "untested",
    "who_was_asked",
]

EXAMPLES_SHOWN = 12
EDITS_SAID = 3
NO_GATE = {
    "endpoint": "nobody knows the files of what answers there",
    "live traffic": "what it was asked has no right answers but its own",
}
"""Stages that nothing is let into, and why."""
RISKS = (Threat.POISONING, Threat.EXTRACTION, Threat.INFERENCE)


@dataclass(frozen=True, slots=True)
class Report:
    """What is reported on. ``before`` is the evidence on the version that came before it, with its key;
    ``expired`` why the verdict counts no more, empty where it does.
    """

    verdict: Verdict
    evidence: Evidence | None = None
    before: Evidence | None = None
    expired: str = ""


def headline(report: Report) -> str:
    """What follows from the verdict, in one sentence."""
    verdict = report.verdict
    stage = verdict.stage.lower() if verdict.stage else "production"
    if verdict.state is VerdictState.JUDGING:
        return f"{verdict.model} is being judged."
    if verdict.state is VerdictState.FAILED:
        return f"{verdict.model} could not be judged, so it may not go into {stage}."
    if verdict.stage in NO_GATE and verdict.state in (VerdictState.PASSED, VerdictState.REFUSED):
        broken = words.plural(len(verdict.reasons), "rule that refuses does", "rules that refuse do")
        holds = f"{broken} not hold" if verdict.reasons else "every rule that refuses holds or is excepted"
        return f"{verdict.model} was judged: {holds}. That opens no gate: {NO_GATE[verdict.stage]}."
    if verdict.state is VerdictState.REFUSED:
        broken = words.plural(len(verdict.reasons), "rule that refuses does", "rules that refuse do")
        return f"{verdict.model} may not go into {stage}: {broken} not hold."
    if report.expired:
        return f"{verdict.model} had passed, but its verdict {report.expired}: it must be judged again."
    excepted = [f for f in verdict.findings if f.exception]
    if excepted:
        by = words.plural(len(excepted), "rule is", "rules are")
        return f"{verdict.model} may go into {stage}, where {by} excepted."
    return f"{verdict.model} may go into {stage}: every rule that refuses holds."


def summary(report: Report) -> list[str]:
    """The three or four sentences that a reader takes away, each a figure and what it means."""
    evidence = report.evidence
    if evidence is None:
        return []
    own = report.verdict.stage == "live traffic"
    said = [
        f"It was asked about {evidence.clean.total:,} rows of {evidence.dataset}; right is what it says of"
        " them as they are."
        if own
        else f"It is right about {words.percent(evidence.clean.value)} of {evidence.clean.total:,} rows"
        f" of {evidence.dataset} as they are."
    ]
    if evidence.attacked and evidence.curve:
        point = max(evidence.curve, key=lambda p: p.noise.value - p.robust.value)
        much = f"{point.eps:g}"
        if evidence.domain.kind is DomainKind.TABULAR:
            much = f"{words.percent(point.eps)} of its span, as far as its column allows"
        if evidence.domain.kind is DomainKind.SERIES:
            much = f"{much} of its channel's spread"
        may, noise = f"every feature by {much}", noise_text(evidence)
        if evidence.domain.kind is DomainKind.TEXT:
            may = words.plural(int(point.eps), "word")
        said.append(
            f"When an attacker may change {may}, it is still right about"
            f" {words.percent(point.robust.value)} of {point.robust.total:,} rows;"
            f" {words.percent(point.noise.value)} with {noise}."
        )
    elif not evidence.attacked:
        said.append("No attack could be carried out, so nothing is known about what it withstands.")
    if worst := next(iter(corruptions(evidence)), None):
        said.append(
            f"The corruption that hurts most is {worst[0]}: on average over five severities it is right about"
            f" {words.percent(worst[1])}."
        )
    said += who_was_asked(evidence)
    said += precision(evidence)
    if not_done := untested(evidence):
        said.append(
            f"{words.plural(len(not_done), 'probe was', 'probes were')} not carried out; why stands below."
        )
    return said


def who_was_asked(evidence: Evidence) -> list[str]:
    """A sentence where attacks asked a twin in the model's place, and what asked the model itself."""
    done = [p for p in evidence.of(Threat.EVASION) if p.asked]
    through = [p for p in done if p.through_twin]
    if not through:
        return []
    many = words.plural(len(through), "attack", "attacks")
    text = f"{many} asked an ONNX twin of it in its place, and showed the model itself what turned the twin"
    itself = [_about_itself(p) for p in done if not p.through_twin]
    if not itself:
        return [f"{text}; no attack was carried out on the model itself."]
    return [f"{text}; on the model itself were carried out {', '.join(itself)}."]


def _about_itself(probe: Probe) -> str:
    of, rows, each = (probe.settings.get(name) for name in ("of_rows", "rows", "queries_max"))
    return f"{probe.name} (on {rows} of {of} rows, up to {each} questions about each)" if of else probe.name


def asked_text(probe: Probe) -> str:
    """Whom a probe asked."""
    if probe.through_twin:
        return "its ONNX twin; what turned it, the model itself"
    return "the model itself" if probe.queries or probe.gradients else "—"


def precision(evidence: Evidence) -> list[str]:
    """A sentence where accuracy, clean or under attack, rests on fewer rows than the stated precision needs,
    and what there is to do. Other rates are of rows of their own: beside each stands what it needs.
    """
    short = [s for s in evidence.shortfalls() if s.measure in ("clean_accuracy", "robust_accuracy")]
    stated = evidence.budget.precision
    if not short:
        return []
    worst, there = max(short, key=lambda s: (s.half_width, s.rows_needed)), evidence.clean.total
    needs = rows_needed(stated)
    text = (
        f"{words.plural(len(short), 'accuracy is', 'accuracies are')} less certain than the stated"
        f" ±{stated * 100:g} points, at worst ±{worst.points:.1f};"
        f" {needs:,} rows would make each that certain"
    )
    if there >= needs:
        return [f"{text}, and {evidence.dataset} has {there:,}: raise samples_max in the policy's budget."]
    return [f"{text}, and {evidence.dataset} has {there:,}."]


def lacks_text(found: Rate | Figure, stated: float) -> str:
    """``±6.7 points with 200 rows; ±3 points needs 1,003``; empty for what is as precise as ``stated``."""
    rate = found.rate if isinstance(found, Figure) else found
    lacks = shortfall(rate, stated) if rate else None
    return lacks.words if lacks else ""


def examples(evidence: Evidence, most: int = EXAMPLES_SHOWN) -> list[Example]:
    """Examples to show, those of different probes and classes first."""
    found = [e for probe in evidence.probes for e in probe.examples]
    seen: dict[tuple[str, str], int] = {}
    ranked = []
    for at, example in enumerate(found):
        kind = example.probe, example.truth
        ranked.append((seen.get(kind, 0), at, example))
        seen[kind] = seen.get(kind, 0) + 1
    return [example for _, _, example in sorted(ranked, key=lambda r: r[:2])[:most]]


def edits_text(example: Example) -> str:
    """``Change "great" to "gr3at" and leave out "fine"``: what was done to a text, the first few edits."""
    done = []
    for change in example.changes[:EDITS_SAID]:
        was, now = words.clip(change.before, 60), words.clip(change.after, 80)
        if not now:
            done.append(f"leave out \u201c{was}\u201d")
        elif not was:
            done.append(f"say \u201c{now}\u201d once more")
        else:
            done.append(f"change \u201c{was}\u201d to \u201c{now}\u201d")
    more = len(example.changes) - len(done)
    said = ", ".join([*done, *([f"and {more} more"] if more > 0 else [])])
    return said[:1].upper() + said[1:]


def eps_name(evidence: Evidence) -> str:
    """What eps is called, as a column says it."""
    return "words changed" if evidence.domain.kind is DomainKind.TEXT else "eps"


def eps_text(evidence: Evidence) -> str:
    """What eps counts, as an axis says it."""
    if evidence.domain.kind is DomainKind.TEXT:
        return eps_name(evidence)
    if evidence.domain.kind is DomainKind.SERIES:
        return "eps: largest change, in standard deviations of its channel or in its stated scale"
    return "eps: largest change of an input"


def noise_text(evidence: Evidence) -> str:
    """What an attack is compared with."""
    text = evidence.domain.kind is DomainKind.TEXT
    return "as many words misspelt at random" if text else "random noise of the same size"


def corruptions(evidence: Evidence) -> list[tuple[str, float, tuple[float, ...]]]:
    """(name, mean, accuracy at each severity) of each corruption, the worst first.

    A figure of one corruption has the group ``NAME:SEVERITY``.
    """
    found: dict[str, dict[int, float]] = {}
    for probe in evidence.of(Threat.CORRUPTION):
        for figure in probe.figures:
            name, _, severity = figure.group.rpartition(":")
            if figure.measure == "corruption_accuracy" and name and severity.isdigit():
                found.setdefault(name, {})[int(severity)] = figure.value
    rows = [
        (name, sum(by.values()) / len(by), tuple(by[severity] for severity in sorted(by)))
        for name, by in found.items()
    ]
    return sorted(rows, key=lambda row: (row[1], row[0]))


def risks(evidence: Evidence) -> list[tuple[str, Figure]]:
    """Figures of poisoning, extraction and inference, with what each is about, the highest first."""
    found = [
        (f"{MEASURES[f.measure].said}" + (f" ({f.group})" if f.group else ""), f)
        for threat in RISKS
        for probe in evidence.of(threat)
        for f in probe.figures
        if f.measure in MEASURES
    ]
    return sorted(found, key=lambda risk: (-risk[1].value, risk[0]))


def supply(evidence: Evidence) -> list[Probe]:
    """What was found out about the files, their signature and where they came from."""
    return list(evidence.of(Threat.SUPPLY))


def untested(evidence: Evidence) -> list[tuple[str, str, str]]:
    """(probe, state, why) of everything that was to be carried out and was not."""
    return [(p.name, str(p.state), p.why) for p in evidence.probes if p.state is not ProbeState.DONE]


def notes(evidence: Evidence) -> list[tuple[str, str]]:
    """(probe, note): what a reader must know about a figure, such as signs of gradient masking."""
    return [(p.name, note) for p in evidence.probes if p.threat is not Threat.SUPPLY for note in p.notes]


def again(report: Report) -> str:
    """The command that reaches this verdict again."""
    verdict, evidence = report.verdict, report.evidence
    command = f"tally judge {shlex.quote(verdict.model)}"
    if evidence is not None:
        command += f" --data {shlex.quote(evidence.dataset)} --label {shlex.quote(evidence.label)} --again"
    return command


def figure_text(figure: Figure) -> str:
    """``84.2 % (81.0 % to 87.1 %)``, ``3.1 MiB``."""
    measure = MEASURES.get(figure.measure)
    share, unit = (measure.share, measure.unit) if measure else (False, "")

    def said(value: float) -> str:
        return words.percent(value) if share else f"{words.number(value)} {unit}".strip()

    if figure.low == figure.high:
        return f"{figure.said}{said(figure.value)}"
    return f"{figure.said}{said(figure.value)} ({said(figure.low)} to {said(figure.high)})"


def rate_text(rate: Rate) -> str:
    """``84.2 % (81.0 % to 87.1 %)``."""
    return f"{words.percent(rate.value)} ({words.percent(rate.low)} to {words.percent(rate.high)})"


def rules_in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Those that refuse first, then those that warn, then those that hold."""
    return sorted(findings, key=lambda f: (f.holds, not f.refuses))


def setting_text(settings: Mapping[str, object]) -> str:
    """``steps 40, restarts 1``."""
    return ", ".join(f"{name} {words.clip(words.value_text(value), 120)}" for name, value in settings.items())


def rows_of(before: Evidence | None, now: Evidence) -> Sequence[tuple[float, Rate, Rate, Rate | None]]:
    """(eps, under attack, under noise, the version before under attack) for each point of the curve."""
    was = {p.eps: p.robust for p in before.curve} if before is not None and before.attacked else {}
    return [(p.eps, p.robust, p.noise, was.get(p.eps)) for p in now.curve]
