"""Examples of texts and of series: both texts with what was changed marked, and the lines of each channel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from tallystick.drawing import words
from tallystick.drawing.chart import line
from tallystick.drawing.report.content import edits_text
from tallystick.drawing.svg import el, picture, text
from tallystick.evidence.probe import Example, Piece, Trace

__all__ = ["passage", "series"]

WIDTH, HIGH, LOW, GAP = 300.0, 84.0, 30.0, 10.0
"""Of a drawing: how wide, how high its lines and the change below them are, and what is between these."""

LEFT = 4.0


def passage(example: Example) -> Markup:
    """What was changed, in a sentence; then both texts, what differs marked in each."""
    said = f"Row {example.row:,} is {example.truth}. {edits_text(example)} and it flips {_flip(example)}."
    before = el("p", el("b", "before"), " ", *_marked(example.passage, "del"), class_="passage")
    after = el("p", el("b", "after"), " ", *_marked(example.passage, "ins"), class_="passage")
    return el("div", el("p", said), before, after, _source(example), class_="triple edits")


def series(example: Example) -> Markup:
    """A drawing for each of the channels that were changed most; what changed, in numbers, below."""
    said = f"Row {example.row:,} is {example.truth}. It flips {_flip(example)}."
    keys = [
        el("span", "as it was", class_="key noise"),
        el("span", "adversarial", class_="key attack"),
        el("span", "bars: the change, as large as it fits"),
    ]
    edits = [
        el("li", el("b", words.clip(c.feature, 60)), " ", el("code", words.clip(c.before, 20)), " to ",
           el("code", words.clip(c.after, 20)), f" {c.unit}" if c.unit else "")
        for c in example.changes[:3]
    ]  # fmt: skip
    figures = [
        el("figure", _drawing(trace), el("figcaption", words.clip(trace.channel, 60)), class_="trace")
        for trace in example.traces
    ]
    largest = [el("p", "The largest change of each:"), el("ul", *edits, class_="refs")] if edits else []
    shown = el("div", *figures)
    return el(
        "div", el("p", said), shown, el("p", *keys, class_="legend"), *largest, _source(example),
        class_="triple edits",
    )  # fmt: skip


def _flip(example: Example) -> str:
    def sure(confidence: float | None) -> str:
        return "" if confidence is None else f", {confidence:.0%} sure"

    before = f"from {words.clip(example.label_before, 40)}{sure(example.confidence_before)},"
    return f"{before} to {words.clip(example.label_after, 40)}{sure(example.confidence_after)}"


def _source(example: Example) -> Markup:
    eps = "" if example.eps is None else f", distance {example.eps:.3g}"
    return el("p", f"{example.probe}{eps}", class_="dim")


def _marked(pieces: Sequence[Piece], tag: str) -> Iterator[Markup | str]:
    """One of the two texts: ``del`` is the one before, ``ins`` the one after."""
    for piece in pieces:
        shown = piece.before if tag == "del" else piece.after
        if shown:
            yield el(tag, shown) if piece.changed else shown
            yield " "


def _drawing(trace: Trace) -> Markup:
    """Both lines over one another, and below them the change of each step as a bar."""
    values = (*trace.before, *trace.after)
    low, high = min(values, default=0.0), max(values, default=0.0)
    span, first = (high - low) or 1.0, trace.steps[0] if trace.steps else 0
    wide = max(1, (trace.steps[-1] if trace.steps else 0) - first)

    def x(step: int) -> float:
        return LEFT + WIDTH * (step - first) / wide

    def y(value: float) -> float:
        return 6 + HIGH * (1 - (value - low) / span)

    lines = [
        line([(x(step), y(v)) for step, v in zip(trace.steps, row, strict=True)], f"line thin {kind}")
        for row, kind in ((trace.before, "noise"), (trace.after, "attack"))
    ]
    moved = [now - was for was, now in zip(trace.before, trace.after, strict=True)]
    most = max(map(abs, moved), default=0.0) or 1.0
    middle = 6 + HIGH + GAP + LOW / 2
    bars = [
        el("line", x1=x(step), x2=x(step), y1=middle, y2=middle - LOW / 2 * by / most, class_="change")
        for step, by in zip(trace.steps, moved, strict=True)
        if by
    ]
    axis = el("line", x1=LEFT, x2=LEFT + WIDTH, y1=middle, y2=middle, class_="axis")
    ends = [
        text(LEFT + WIDTH + 4, y(high) + 4, words.number(high), "tick"),
        text(LEFT + WIDTH + 4, y(low) + 4, words.number(low), "tick"),
        text(LEFT + WIDTH + 4, middle + 4, f"\u00b1{words.number(most)}", "tick"),
    ]
    name = f"{trace.channel} as it was and adversarial"
    about = f"{len(trace.steps):,} steps; the largest change is {words.number(most)} {trace.unit}".strip()
    height = 6 + HIGH + GAP + LOW + 6
    return picture(LEFT + WIDTH + 70, height, name, about, [*lines, axis, *bars, *ends], class_="chart trace")
