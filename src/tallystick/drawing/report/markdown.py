"""The report as a Markdown model card, in the headings that model cards have (Mitchell et al. 2019)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tallystick.drawing import words
from tallystick.drawing.report import content
from tallystick.drawing.report.content import Report, figure_text, lacks_text, rate_text
from tallystick.evidence.evidence import Evidence
from tallystick.evidence.figures import Figure, Rate

__all__ = ["model_card"]

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!])")


def model_card(report: Report) -> str:
    """The card; what strangers named (rows, labels, settings) is escaped, so that it stays text."""
    verdict, evidence = report.verdict, report.evidence
    lines = [f"# {_plain(verdict.model)}", "", f"**{_plain(content.headline(report))}**", ""]
    lines += [_plain(verdict.error), ""] if verdict.error else []
    lines += [_plain(sentence) for sentence in content.summary(report)]
    lines += ["", _plain(f"This verdict {report.expired}.")] if report.expired else []
    if verdict.findings:
        rows = [
            ("holds" if f.holds else "excepted" if f.exception else str(f.severity), f.text)
            for f in content.rules_in_order(verdict.findings)
        ]
        lines += ["", "## Verdict", "", *_table(("rule", "what was found"), rows)]
    if evidence is not None:
        lines += _evaluation(evidence) + _caveats(evidence) + _conditions(report, evidence)
    return "\n".join(lines).rstrip() + "\n"


def _evaluation(evidence: Evidence) -> list[str]:
    lines = ["", "## Quantitative analyses", ""]

    def said(found: Rate | Figure) -> str:
        text = rate_text(found) if isinstance(found, Rate) else figure_text(found)
        lacks = lacks_text(found, evidence.budget.precision)
        return f"{text}; {lacks}" if lacks else text

    rows = [("0 (clean)", said(evidence.clean), said(evidence.clean))]
    for eps, robust, noise, _ in content.rows_of(None, evidence):
        rows.append((f"{eps:g}", said(robust) if evidence.attacked else "not attacked", said(noise)))
    lines += _table((content.eps_name(evidence), "accuracy under attack", "under random noise"), rows)
    if found := content.corruptions(evidence):
        severities = max(len(row[2]) for row in found)
        heads = ("corruption", "mean", *(f"severity {n + 1}" for n in range(severities)))
        table = [(name, words.percent(mean), *(words.percent(v) for v in by)) for name, mean, by in found]
        lines += ["", *_table(heads, table)]
    if found_risks := content.risks(evidence):
        lines += ["", *_table(("risk", "figure"), [(name, said(f)) for name, f in found_risks])]
    for example in content.examples(evidence):
        if example.changes:
            edits = ", ".join(f"{c.feature} {c.before} to {c.after}" for c in example.changes)
            edits = content.edits_text(example) if example.passage else edits
            flips = f"row {example.row}: {edits}: {example.label_before} becomes {example.label_after}"
            lines += ["", f"- {_plain(flips)}"]
    return lines


def _caveats(evidence: Evidence) -> list[str]:
    lines = ["", "## Caveats", ""]
    told = [f"{name}: {note}" for name, note in content.notes(evidence)]
    told += [f"not tested: {name} ({state}): {why}" for name, state, why in content.untested(evidence)]
    return lines + [f"- {_plain(text)}" for text in told or ["Every probe that was to be carried out was."]]


def _conditions(report: Report, evidence: Evidence) -> list[str]:
    probes = [
        (
            p.name,
            p.library,
            content.asked_text(p),
            f"{p.queries:,}",
            f"{p.gradients:,}",
            content.setting_text(p.settings),
        )
        for p in evidence.probes
        if p.done
    ]
    data = f"Data {evidence.dataset} {evidence.dataset_digest}, label {evidence.label}"
    policy = f"policy {report.verdict.policy} {report.verdict.policy_digest}"
    versions = ", ".join(f"{name} {version}" for name, version in sorted(evidence.versions.items()))
    return [
        "", "## How it was found", "",
        *_table(("probe", "library", "asked", "queries", "gradients", "settings"), probes), "",
        _plain(f"{data}, seed {evidence.budget.seed}."),
        _plain(f"Files {evidence.model_digest}; {policy}."),
        _plain(versions), "", "To repeat it:", "", "    " + _line(content.again(report)),
    ]  # fmt: skip


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(heads) + " |",
        "|" + " --- |" * len(heads),
        *("| " + " | ".join(_plain(cell) for cell in row) + " |" for row in rows),
    ]


def _plain(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", _line(text))


def _line(text: str) -> str:
    """On one line, without what moves a cursor."""
    return "".join(c if c.isprintable() else " " for c in text)
