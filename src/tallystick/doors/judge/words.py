"""A verdict and its evidence in words: lines for a terminal, and Markdown."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tallystick.core.facts import from_json
from tallystick.core.verdict import Finding, Verdict
from tallystick.drawing.report.content import Report, eps_name, lacks_text
from tallystick.drawing.report.markdown import model_card
from tallystick.evidence.evidence import Evidence
from tallystick.evidence.figures import Figure
from tallystick.evidence.measures import MEASURES
from tallystick.evidence.probe import Probe
from tallystick.terminal.show import ago, short

__all__ = ["finding_lines", "markdown", "verdict_text"]

GROUPS_SHOWN_MAX = 20


def finding_lines(verdict: Mapping[str, Any]) -> Sequence[str]:
    """Each finding on a line, with what it means first."""
    return [f"  {_mark(from_json(Finding, f)):<8} {f['text']}" for f in verdict["findings"]]


def _mark(finding: Finding) -> str:
    if finding.holds:
        return "holds"
    return "excepted" if finding.exception else str(finding.severity)


def verdict_text(found: Mapping[str, Any]) -> str:
    """What ``GET /verdicts/KEY`` said, as a person reads it in a terminal."""
    verdict, evidence = _read(found)
    lines = [f"{verdict.model} {verdict.state} ({verdict.key}), {ago(verdict.at_ms)}"]
    if found["expired"]:
        lines.append(f"  it counts no more: it {found['expired']}")
    lines += [f"  {verdict.error}"] if verdict.error else []
    lines += finding_lines(found["verdict"])
    lines += [f"{name}: {said}" for name, said in _about(verdict, evidence)]
    if evidence:
        precision = evidence.budget.precision
        lines += ["figures:", *(f"  {_figure(f, precision)}" for f in _shown(evidence))]
        lines += ["probes:", *(f"  {_probe(p)}" for p in evidence.probes)]
        lines += [f"  note of {p.name}: {note}" for p in evidence.probes for note in p.notes]
    lines.append(f"repeat: {_repeat(verdict)}")
    return "\n".join(lines)


def markdown(found: Mapping[str, Any]) -> str:
    """The same as a model card in Markdown, every word from outside escaped."""
    verdict, evidence = _read(found)
    return model_card(Report(verdict, evidence, expired=found["expired"])).rstrip()


def _read(found: Mapping[str, Any]) -> tuple[Verdict, Evidence | None]:
    evidence = from_json(Evidence, found["evidence"]) if found["evidence"] else None
    return from_json(Verdict, found["verdict"]), evidence


def _about(verdict: Verdict, evidence: Evidence | None) -> Iterator[tuple[str, str]]:
    yield "files", short(verdict.model_digest)
    yield "policy", f"{verdict.policy} {short(verdict.policy_digest)}"
    yield "stage", verdict.stage or "any"
    if evidence:
        yield "rows", f"{evidence.dataset} {short(evidence.dataset_digest)}, label {evidence.label}"
        budget = evidence.budget
        eps = ", ".join(f"{e:g}" for e in budget.eps)
        within = f"{budget.samples_max:,} rows, {budget.queries_max:,} queries for each"
        yield "budget", f"{eps_name(evidence)} {eps}; {within}; seed {budget.seed}"
        yield "took", f"{evidence.seconds:,.1f} s"
    if verdict.envelope:
        yield "signed", short(verdict.envelope)


def _shown(evidence: Evidence) -> Sequence[Figure]:
    """All figures of the whole, and the first few of groups."""
    figures = list(evidence.figures())
    return [f for f in figures if not f.group] + [f for f in figures if f.group][:GROUPS_SHOWN_MAX]


def _figure(figure: Figure, precision: float) -> str:
    measure = MEASURES.get(figure.measure)
    said = measure.said if measure else figure.measure
    share = measure.share if measure else False

    def shown(value: float) -> str:
        return f"{value:.1%}" if share else f"{value:,.4g} {measure.unit if measure else ''}".rstrip()

    text = said + (f" at eps {figure.eps:g}" if figure.eps is not None else "")
    text += f" ({figure.group})" if figure.group else ""
    text += f": {figure.said}{shown(figure.value)}"
    if figure.low < figure.high:
        text += f" (95 % interval {shown(figure.low)} to {shown(figure.high)})"
    text += f", on {figure.samples:,} samples" if figure.samples else ""
    lacks = lacks_text(figure, precision)
    return f"{text}; {lacks}" if lacks else text


def _probe(probe: Probe) -> str:
    if not probe.done:
        return f"{probe.name} ({probe.threat}): {probe.state}, {probe.why}"
    asked = f", {probe.queries:,} queries" if probe.queries else ""
    asked += f", {probe.gradients:,} gradients" if probe.gradients else ""
    through = " through its ONNX twin" if probe.through_twin else ""
    return f"{probe.name} ({probe.threat}): done{through}{asked}, {probe.seconds:,.1f} s"


def _repeat(verdict: Verdict) -> str:
    words = ["tally", "judge", verdict.model, "--again"]
    words += ["--data", verdict.dataset] if verdict.dataset else []
    words += ["--label", verdict.label] if verdict.label else []
    words += ["--stage", verdict.stage] if verdict.stage else []
    return shlex.join(words)
