"""The report as a page's content: sections of HTML, each escaped piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from markupsafe import Markup

from tallystick.core.verdict import Finding
from tallystick.drawing import words
from tallystick.drawing.report import charts, content, edited
from tallystick.drawing.report.content import Report
from tallystick.drawing.svg import el, mark
from tallystick.evidence.evidence import Evidence
from tallystick.evidence.figures import Rate
from tallystick.evidence.probe import Example, Probe, ProbeState, Threat

__all__ = ["Where", "brief", "sections"]

Where = Callable[[str], str]
"""From an artifact's digest to the address at which a picture of it is shown."""

NAME_OF = {
    Threat.CLEAN: "as it is", Threat.EVASION: "evasion", Threat.CORRUPTION: "corruption",
    Threat.CERTIFICATE: "certificate", Threat.POISONING: "poisoning", Threat.EXTRACTION: "extraction",
    Threat.INFERENCE: "inference", Threat.SUPPLY: "supply chain",
}  # fmt: skip


def sections(report: Report, where: Where) -> Markup:
    """The whole report below its heading."""
    evidence = report.evidence
    parts: list[Markup | str] = [_lead(report), _rules(report)]
    if evidence is not None:
        parts += [
            _notes(evidence), _robustness(report, evidence), _gallery(evidence, where), _corruption(evidence),
            _risks(evidence), _supply(evidence), _untested(evidence), _probes(evidence),
            _conditions(report, evidence),
        ]  # fmt: skip
    return Markup("\n").join(part for part in parts if part)


def brief(report: Report) -> Markup:
    """What follows from it, the rules and the curve."""
    parts = [_lead(report), _rules(report)]
    if report.evidence is not None:
        parts.append(_robustness(report, report.evidence))
    return Markup("\n").join(part for part in parts if part)


def _lead(report: Report) -> Markup:
    said = [el("p", content.headline(report), class_="lead strong")]
    if report.verdict.error:
        said.append(el("div", el("pre", words.clip(report.verdict.error, 4000)), class_="error"))
    said += [el("p", sentence, class_="lead") for sentence in content.summary(report)]
    if report.expired:
        said.append(el("p", f"This verdict {report.expired}.", class_="note warn"))
    return el("section", *said, class_="report-lead")


def _rules(report: Report) -> Markup | str:
    findings = content.rules_in_order(report.verdict.findings)
    if not findings:
        return ""
    items = [el("li", _badge(*_standing(f)), charts.limit_bar(f), el("span", f.text)) for f in findings]
    return el("section", el("h2", "The rules"), el("ul", *items, class_="findings"))


def _standing(finding: Finding) -> tuple[str, str]:
    if finding.holds:
        return "good", "holds"
    if finding.exception:
        return "warn", "excepted"
    return ("no", "refuses") if finding.refuses else ("warn", "warns")


def _badge(kind: str, said: str) -> Markup:
    shape = el("svg", mark(kind, 0, 0), class_="icon", viewBox="0 0 16 16", aria_hidden="true")
    return el("span", shape, said, class_=f"badge kind-{kind}")


def _notes(evidence: Evidence) -> Markup | str:
    found = content.notes(evidence)
    if not found:
        return ""
    items = [el("li", _badge("none", probe), el("span", note)) for probe, note in found]
    return el("section", el("h2", "What to know about these figures"), el("ul", *items, class_="findings"))


def _robustness(report: Report, evidence: Evidence) -> Markup | str:
    if not evidence.curve:
        return ""
    keys = [el("span", "under attack", class_="key attack")] if evidence.attacked else []
    keys.append(el("span", content.noise_text(evidence), class_="key noise"))
    if report.before is not None and report.before.attacked:
        keys.append(el("span", f"{report.before.model} under attack", class_="key before"))
    keys.append(el("span", "shaded: 95 % interval"))
    figure = el("figure", el("div", charts.robustness(evidence, report.before), class_="scroll"),
                el("figcaption", *keys, class_="legend"), class_="grow")  # fmt: skip
    return el("section", el("h2", "What it withstands"),
              el("div", figure, _curve_table(report, evidence), class_="beside"))  # fmt: skip


def _curve_table(report: Report, evidence: Evidence) -> Markup:
    was = report.before is not None and report.before.attacked
    heads = [
        content.eps_name(evidence),
        "under attack",
        "random noise",
        *(["version before"] if was else []),
        "samples",
    ]
    stated = evidence.budget.precision
    clean = [_num("0 (clean)"), _rate(evidence.clean, stated), _rate(evidence.clean, stated)]
    if was and report.before is not None:
        clean.append(_rate(report.before.clean, stated))
    rows = [[*clean, _num(f"{evidence.clean.right:,} of {evidence.clean.total:,}")]]
    for eps, robust, noise, earlier in content.rows_of(report.before, evidence):
        attacked = _rate(robust, stated) if evidence.attacked else _num("—")
        row = [_num(f"{eps:g}"), attacked, _rate(noise, stated)]
        if was:
            row.append(_rate(earlier, stated) if earlier else _num("—"))
        rows.append([*row, _num(f"{robust.right:,} of {robust.total:,}")])
    return _table("Accuracy, with its 95 % interval", heads, rows, numbers=True)


def _gallery(evidence: Evidence, where: Where) -> Markup | str:
    found = content.examples(evidence)
    if not found:
        return ""
    shown = [_example(e, where) for e in found]
    total = sum(len(p.examples) for p in evidence.probes)
    more = (
        el("p", f"{len(found)} of {total} examples; the JSON has all.", class_="note")
        if total > len(found)
        else ""
    )
    return el("section", el("h2", "What turned its answers"), el("div", *shown, class_="shots"), more)


def _example(example: Example, where: Where) -> Markup:
    if example.passage:
        return edited.passage(example)
    if example.traces:
        return edited.series(example)
    return _pictures(example, where) if example.adversarial and example.original else _edits(example)


def _pictures(example: Example, where: Where) -> Markup:
    eps = f" eps {example.eps:.3g}" if example.eps is not None else ""
    heading = el(
        "p", "truth ", el("b", example.truth), " ", el("span", f"{example.probe}{eps}", class_="dim")
    )
    shots = [
        _shot(
            where(example.original),
            "original",
            example.label_before,
            example.confidence_before,
            example.truth,
        )
    ]
    if example.magnified:
        image = el("img", src=where(example.magnified), alt="the change, magnified", width=112, height=112)
        shots.append(el("figure", image, el("figcaption", "the change, magnified"), class_="shot"))
    if example.noise:
        shots.append(_shot(where(example.noise), "as much noise", example.label_noise, None, example.truth))
    adversarial = where(example.adversarial)
    shots.append(
        _shot(adversarial, "adversarial", example.label_after, example.confidence_after, example.truth)
    )
    return el("div", heading, el("div", *shots), class_="triple")


def _shot(address: str, what: str, label: str, sure: float | None, truth: str) -> Markup:
    said = f"says {words.clip(label, 14)}" + ("" if sure is None else f", {sure:.0%} sure")
    image = el("img", src=address, alt=f"{what}, predicted {label}", width=112, height=112)
    right = _badge("good" if label == truth else "bad", said)
    return el("figure", image, el("figcaption", what, Markup("<br>"), right), class_="shot")


def _edits(example: Example) -> Markup:
    sure = "" if example.confidence_after is None else f", {example.confidence_after:.0%} sure"
    edits = [
        el("li", el("b", words.clip(c.feature, 60)), " ", el("code", words.clip(c.before, 80)), " to ",
           el("code", words.clip(c.after, 80)), f" ({c.by:+.4g} {c.unit})".replace(" )", ")") if c.by else "")
        for c in example.changes
    ]  # fmt: skip
    flips = (
        f"Row {example.row:,} is {example.truth}. It flips from {example.label_before}"
        f" to {example.label_after}{sure} by:"
    )
    return el("div", el("p", flips), el("ul", *edits, class_="refs"), class_="triple edits")


def _corruption(evidence: Evidence) -> Markup | str:
    rows = content.corruptions(evidence)
    if not rows:
        return ""
    chart = charts.corruption_bars(rows, evidence.clean.value)
    return el("section", el("h2", "As the world spoils its inputs"), el("div", chart, class_="scroll"))


def _risks(evidence: Evidence) -> Markup | str:
    rows = content.risks(evidence)
    shares = [(name, f) for name, f in rows if f.low >= -1 and f.high <= 1]
    curves = [c for p in evidence.of(Threat.EXTRACTION) for c in p.curves]
    if not shares and not curves:
        return ""
    drawn = [el("figure", el("div", charts.risk_bars(shares), class_="scroll"))] if shares else []
    for curve in curves:
        caption = el("figcaption", curve.name, class_="legend")
        drawn.append(el("figure", el("div", charts.copies(curve), class_="scroll"), caption))
    title = el("h2", "What it gives away, and what was planted")
    return el("section", title, el("div", *drawn, class_="beside"))


def _supply(evidence: Evidence) -> Markup | str:
    rows = []
    for probe in content.supply(evidence):
        state = _badge("good", "checked") if probe.done else _badge("off", str(probe.state))
        figures = "; ".join(f"{f.measure.replace('_', ' ')} {content.figure_text(f)}" for f in probe.figures)
        said = "; ".join(text for text in (figures or probe.why, *probe.notes) if text)
        rows.append([el("td", probe.name), el("td", state), el("td", said, class_="words")])
    if not rows:
        return ""
    return el("section", el("h2", "Its files and where they came from"),
              _table("", ["check", "", "what was found"], rows))  # fmt: skip


def _untested(evidence: Evidence) -> Markup:
    rows = [
        [el("td", name), el("td", _badge("bad" if state == ProbeState.FAILED else "off", state)),
         el("td", why, class_="words")]
        for name, state, why in content.untested(evidence)
    ]  # fmt: skip
    title = el("h2", "What was not tested, and why")
    if not rows:
        return el("section", title, el("p", "Every probe that was to be carried out was.", class_="note"))
    return el("section", title, _table("", ["probe", "", "why"], rows))


def _probes(evidence: Evidence) -> Markup:
    rows = [_probe(p) for p in evidence.probes if p.done]
    heads = ["probe", "about", "asked", "library", "samples", "queries", "gradients", "time", "settings"]
    return el(
        "section", el("h2", "How it was found"), _table("Probes, in the order in which they ran", heads, rows)
    )


def _probe(probe: Probe) -> list[Markup]:
    counts = [f"{n:,}" if n else "—" for n in (probe.samples, probe.queries, probe.gradients)]
    settings = content.setting_text(probe.settings)
    return [
        el("td", probe.name), el("td", NAME_OF[probe.threat]), el("td", content.asked_text(probe)),
        el("td", probe.library),
        *(_num(count) for count in counts), _num(words.duration(probe.seconds * 1000)),
        el("td", settings, class_="words"),
    ]  # fmt: skip


def _conditions(report: Report, evidence: Evidence) -> Markup:
    verdict, budget = report.verdict, evidence.budget
    pairs = [
        ("data", evidence.dataset), ("content of the data", evidence.dataset_digest),
        ("label", evidence.label),
        ("files judged", evidence.model_digest), ("policy", f"{verdict.policy} {verdict.policy_digest}"),
        ("list of threats", evidence.threats or "—"), ("kind of data", str(evidence.domain.kind)),
        ("eps", ", ".join(f"{e:g}" for e in budget.eps)), ("samples at most", f"{budget.samples_max:,}"),
        ("queries for each at most", f"{budget.queries_max:,}"), ("gradient steps", f"{budget.steps_max:,}"),
        ("restarts", str(budget.restarts)), ("seed", str(budget.seed)),
        ("precision", f"±{budget.precision * 100:g} points at 95 %"),
        ("took", words.duration(evidence.seconds * 1000)), *sorted(evidence.versions.items()),
    ]  # fmt: skip
    listed = [el("div", el("dt", name), el("dd", value)) for name, value in pairs]
    command = el("pre", el("code", content.again(report)), class_="command")
    return el("section", el("h2", "To repeat it"), command, el("dl", *listed, class_="pairs"))


def _table(
    caption: str, heads: Sequence[str], rows: Iterable[Sequence[Markup]], numbers: bool = False
) -> Markup:
    head = el("thead", el("tr", *(el("th", name, class_="num" if numbers else "") for name in heads)))
    body = el("tbody", *(el("tr", *row) for row in rows))
    said = [el("caption", caption)] if caption else []
    return el("div", el("table", *said, head, body), class_="scroll")


def _num(said: str) -> Markup:
    return el("td", said, class_="num")


def _rate(rate: Rate, stated: float) -> Markup:
    """With its interval, and what it lacks of the ``stated`` precision."""
    lines = [f"{words.percent(rate.low)} to {words.percent(rate.high)}", content.lacks_text(rate, stated)]
    said = [el("span", line, class_="dim interval") for line in lines if line]
    return el("td", words.percent(rate.value), *said, class_="num")
