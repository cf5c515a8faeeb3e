"""The report's charts as inline SVG: pure functions of figures."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from tallystick.core.verdict import Finding
from tallystick.drawing import words
from tallystick.drawing.chart import line, ticks
from tallystick.drawing.report.content import eps_name, eps_text, rate_text
from tallystick.drawing.svg import el, picture, text, title
from tallystick.evidence.evidence import Evidence
from tallystick.evidence.figures import Figure, Rate
from tallystick.evidence.measures import MEASURES
from tallystick.evidence.probe import Curve

__all__ = ["copies", "corruption_bars", "limit_bar", "risk_bars", "robustness"]

LEFT, TOP, WIDTH, HEIGHT = 62.0, 16.0, 430.0, 220.0
CORRUPTIONS_MAX = 24

Series = Sequence[tuple[float, Rate]]


def robustness(now: Evidence, before: Evidence | None = None) -> Markup:
    """Accuracy over eps, under attack and under noise of the same size, and of the version before."""
    attack = [(0.0, now.clean), *((p.eps, p.robust) for p in now.curve)] if now.attacked else []
    noise = [(0.0, now.clean), *((p.eps, p.noise) for p in now.curve)]
    was = before is not None and before.attacked and before.curve
    earlier = [(0.0, before.clean), *((p.eps, p.robust) for p in before.curve)] if before and was else []
    high = max([x for x, _ in (*attack, *noise, *earlier)], default=1.0)
    lines = [(noise, "noise"), (earlier, "before"), (attack, "attack")]
    about = f"Accuracy on clean data is {rate_text(now.clean)}. "
    if attack and now.curve:
        last = now.curve[-1]
        about += f"Under attack at eps {last.eps:g} it is {rate_text(last.robust)}."
    return _chart(f"Accuracy over {eps_name(now)}", about, lines, high, eps_text(now))


def copies(curve: Curve) -> Markup:
    """How well a copy of the model answers alike, over the queries that it cost."""
    series = list(zip(curve.x, curve.y, strict=True))
    about = f"At {curve.x[-1]:,.0f} {curve.x_name} it is {rate_text(curve.y[-1])}." if series else ""
    return _chart(curve.name, about, [(series, "attack")], max(curve.x, default=1.0), curve.x_name)


def _chart(name: str, about: str, lines: Sequence[tuple[Series, str]], high: float, across: str) -> Markup:
    steps = ticks(high)

    def x(value: float) -> float:
        return LEFT + WIDTH * value / steps[-1]

    def y(share: float) -> float:
        return TOP + HEIGHT * (1 - share)

    parts: list[Markup] = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        parts.append(el("line", x1=LEFT, x2=LEFT + WIDTH, y1=y(share), y2=y(share), class_="grid"))
        parts.append(text(LEFT - 8, y(share) + 4, f"{share * 100:.0f} %", "tick", "end"))
    for step in steps:
        parts.append(el("line", x1=x(step), x2=x(step), y1=y(0), y2=y(0) + 4, class_="axis"))
        parts.append(text(x(step), y(0) + 18, f"{step:,g}", "tick", "middle"))
    parts.append(el("line", x1=LEFT, x2=LEFT + WIDTH, y1=y(0), y2=y(0), class_="axis"))
    parts.append(text(LEFT + WIDTH / 2, y(0) + 38, across, "label", "middle"))
    for series, kind in lines:
        if series:
            parts.extend(_series([(x(at), rate) for at, rate in series], y, kind, [at for at, _ in series]))
    return picture(510, 284, name, about, parts, class_="chart curve")


def _series(points: Series, y: object, kind: str, at: Sequence[float]) -> list[Markup]:
    """A band, a line and a dot for each figure; the series differ in shape as well as colour."""
    place = y if callable(y) else float
    lower = [(x, place(r.low)) for x, r in points]
    upper = [(x, place(r.high)) for x, r in points]
    around = " ".join(f"{x:.1f},{h:.1f}" for x, h in (*upper, *reversed(lower)))
    drawn = [el("polygon", points=around, class_=f"band {kind}")]
    drawn.append(line([(x, place(r.value)) for x, r in points], f"line {kind}"))
    for (x, rate), value in zip(points, at, strict=True):
        said, height = title(f"{kind}, at {value:g}: {rate_text(rate)}"), place(rate.value)
        if kind == "noise":
            drawn.append(el("rect", said, x=x - 3.5, y=height - 3.5, width=7, height=7, class_=f"dot {kind}"))
        else:
            drawn.append(el("circle", said, cx=x, cy=height, r=4, class_=f"dot {kind}"))
    return drawn


def limit_bar(finding: Finding) -> Markup | str:
    """The figure that a rule compared as a bar, with its limit as a notch; empty where it is no share."""
    measure = MEASURES.get(finding.measure)
    if finding.figure is None or finding.limit is None or measure is None or not measure.share:
        return ""
    kind = "good" if finding.holds else ("bad" if finding.refuses else "warn")
    share, limit = (min(1.0, max(0.0, v)) for v in (finding.figure, finding.limit))
    parts = [
        el("rect", x=0, y=4, width=140, height=8, rx=4, class_="bar-track"),
        el("rect", x=0, y=4, width=max(1.0, 140 * share), height=8, rx=4, class_=f"share kind-{kind}"),
        el("line", x1=140 * limit, x2=140 * limit, y1=0, y2=16, class_="limit"),
    ]
    wanted = "at least" if measure.higher_is_better else "at most"
    about = f"{words.percent(finding.figure)}, {wanted} {words.percent(finding.limit)} is asked for"
    return picture(142, 16, finding.rule, about, parts, class_="limit-bar")


def corruption_bars(rows: Sequence[tuple[str, float, tuple[float, ...]]], clean: float) -> Markup:
    """Mean accuracy under each corruption, the worst first, with a notch for each severity."""
    shown = rows[:CORRUPTIONS_MAX]
    left, width, row = 170.0, 300.0, 24.0
    bottom = 8 + row * len(shown)
    parts: list[Markup] = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        at = left + width * share
        parts.append(el("line", x1=at, x2=at, y1=4, y2=bottom, class_="grid"))
        parts.append(text(at, bottom + 16, f"{share * 100:.0f} %", "tick", "middle"))
    for i, (name, mean, severities) in enumerate(shown):
        top = 8 + row * i
        said = f"{name}: " + ", ".join(words.percent(v) for v in severities) + " from weak to strong"
        parts.append(text(left - 10, top + 13, words.clip(name, 24), "row-name", "end"))
        parts.append(el("rect", title(said), x=left, y=top + 2, width=max(1.0, width * mean), height=row - 8,
                        rx=2, class_="bar"))  # fmt: skip
        for value in severities:
            at = left + width * min(1.0, max(0.0, value))
            parts.append(el("line", x1=at, x2=at, y1=top + 2, y2=top + row - 6, class_="severity"))
        parts.append(text(left + width + 14, top + 13, words.percent(mean), "tick"))
    at = left + width * clean
    parts.append(el("line", title("clean"), x1=at, x2=at, y1=4, y2=bottom, class_="limit"))
    label = "accuracy: the bar is the mean, notches are severities 1 to 5, the long line is clean"
    parts.append(text(0, bottom + 36, label, "label"))
    about = f"Worst is {shown[0][0]} with {words.percent(shown[0][1])} on average." if shown else ""
    return picture(560, bottom + 44, "Accuracy under common corruptions", about, parts, class_="chart curve")


def risk_bars(rows: Sequence[tuple[str, Figure]]) -> Markup:
    """Each risk as a bar from 0 to 1 with its 95 % interval: the shorter, the better."""
    left, width, row = 250.0, 220.0, 26.0
    bottom = 8 + row * len(rows)
    parts: list[Markup] = []
    for share in (0, 0.5, 1):
        at = left + width * share
        parts.append(el("line", x1=at, x2=at, y1=4, y2=bottom, class_="grid"))
        parts.append(text(at, bottom + 16, f"{share * 100:.0f} %", "tick", "middle"))
    for i, (name, figure) in enumerate(rows):
        top, middle = 8 + row * i, 8 + row * i + 9
        low, value, high = (
            left + width * min(1.0, max(0.0, v)) for v in (figure.low, figure.value, figure.high)
        )
        parts.append(text(left - 10, top + 13, words.clip(name, 38), "row-name", "end"))
        parts.append(el("rect", x=left, y=top + 2, width=max(1.0, value - left), height=14, rx=2,
                        class_="bar drifted"))  # fmt: skip
        parts.append(el("line", x1=low, x2=high, y1=middle, y2=middle, class_="severity"))
        parts.append(text(left + width + 14, top + 13, words.percent(figure.value), "tick"))
    about = "0 is chance: the shorter the better"
    name = "Privacy, extraction and poisoning"
    return picture(540, bottom + 28, name, about, parts, class_="chart curve")
