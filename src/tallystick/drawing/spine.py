"""The spine as a picture: the life of a model as a loop, each noun a link with its count. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tallystick.drawing import words
from tallystick.drawing.svg import el, group, mark, picture, text, title

__all__ = ["Stop", "draw_spine", "state_words"]

STATES_SHOWN = 3
WIDTH, HEIGHT = 150.0, 106.0

_WIDE = {
    "data": (0.0, 0.0), "pipeline": (192.0, 0.0), "run": (384.0, 0.0), "model": (576.0, 0.0),
    "verdict": (768.0, 0.0), "endpoint": (768.0, 164.0), "signal": (480.0, 164.0), "remedy": (192.0, 164.0),
}  # fmt: skip
_TALL = {
    "data": (0.0, 0.0), "pipeline": (0.0, 144.0), "run": (0.0, 288.0), "model": (0.0, 432.0),
    "verdict": (0.0, 576.0), "endpoint": (176.0, 576.0), "signal": (176.0, 360.0), "remedy": (176.0, 144.0),
}  # fmt: skip

_ARROWS = (
    ("data", "pipeline", "feeds"), ("pipeline", "run", "runs"), ("run", "model", "makes"),
    ("model", "verdict", "is judged"), ("verdict", "endpoint", "lets in"), ("endpoint", "signal", "drifts"),
    ("signal", "remedy", "calls for"), ("remedy", "pipeline", "runs again"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stop:
    """One noun of the spine: what it is called, where it leads, how many, and in which states."""

    noun: str
    name: str
    href: str
    count: int
    states: Sequence[tuple[str, str]] = ()
    """A state and what to say of it, for example ``("running", "1 running")``."""


def draw_spine(stops: Sequence[Stop], *, tall: bool = False) -> Markup:
    """All eight stops and the arrows between them; ``tall`` for narrow screens."""
    spots = _TALL if tall else _WIDE
    by_noun = {stop.noun: stop for stop in stops}
    parts: list[Markup] = []
    for source, target, verb in _ARROWS:
        parts += _arrow(spots[source], spots[target], "" if tall else verb)
    parts += [_stop(by_noun[noun], *spot) for noun, spot in spots.items() if noun in by_noun]
    about = "; ".join(f"{s.name}: {s.count:,}" + "".join(f", {said}" for _, said in s.states) for s in stops)
    wide, high = (326.0, 682.0) if tall else (918.0, 270.0)
    return picture(
        wide + 4, high + 4, "The life of a model", about, [group(2, 2, parts)], links=True,
        class_="spine tall" if tall else "spine wide",
    )  # fmt: skip


def _arrow(a: tuple[float, float], b: tuple[float, float], verb: str) -> list[Markup]:
    """A straight arrow from the edge of one stop to the edge of the next, with its verb beside it."""
    if a[1] == b[1]:
        ahead = b[0] > a[0]
        x1, x2 = (a[0] + WIDTH, b[0]) if ahead else (a[0], b[0] + WIDTH)
        y = a[1] + HEIGHT / 2
        back = -7 if ahead else 7
        tip = f"M{x2 + back:g} {y - 5:g}L{x2:g} {y:g}L{x2 + back:g} {y + 5:g}"
        said = text((x1 + x2) / 2, y - 8, verb, "verb", "middle") if abs(x2 - x1) > 100 else Markup("")
        return [el("path", d=f"M{x1:g} {y:g}H{x2:g}{tip}", class_="edge"), said]
    ahead = b[1] > a[1]
    y1, y2 = (a[1] + HEIGHT, b[1]) if ahead else (a[1], b[1] + HEIGHT)
    x = a[0] + WIDTH / 2
    back = -7 if ahead else 7
    tip = f"M{x - 5:g} {y2 + back:g}L{x:g} {y2:g}L{x + 5:g} {y2 + back:g}"
    return [
        el("path", d=f"M{x:g} {y1:g}V{y2:g}{tip}", class_="edge"),
        text(x + 10, (y1 + y2) / 2 + 4, verb, "verb"),
    ]


def _stop(stop: Stop, x: float, y: float) -> Markup:
    busy = any(words.kind_of(state) == "busy" for state, _ in stop.states)
    parts = [
        title(f"{stop.name}: {stop.count:,}"),
        el("rect", x=0, y=0, width=WIDTH, height=HEIGHT, rx=10, class_="box"),
        text(14, 26, stop.name, "stop-name"),
        text(WIDTH - 14, 27, f"{stop.count:,}", "stop-count", "end"),
    ]
    for i, (state, said) in enumerate(stop.states[:STATES_SHOWN]):
        parts.append(mark(words.kind_of(state), 14, 38 + 21 * i, 13))
        more = len(stop.states) - STATES_SHOWN
        rest = f" +{more}" if i == STATES_SHOWN - 1 and more > 0 else ""
        parts.append(text(33, 49 + 21 * i, words.clip(said, 16) + rest, "stop-state"))
    kind = "stop empty" if stop.count == 0 else "stop busy" if busy else "stop"
    return el("a", group(x, y, parts, kind), href=stop.href, aria_label=_label(stop))


def _label(stop: Stop) -> str:
    return ", ".join([f"{stop.name}: {stop.count:,}", *(said for _, said in stop.states)])


def state_words(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    """``{"running": 1}`` as ``[("running", "1 running")]``, most urgent first."""
    urgency = {"busy": 0, "bad": 1, "no": 2, "warn": 3, "wait": 4, "good": 5, "kept": 6, "off": 7, "none": 8}
    told = sorted(counts.items(), key=lambda item: urgency[words.kind_of(item[0])])
    return [(state, f"{count:,} {state}") for state, count in told]
