"""A study's trials as a picture: the value of each, and the best so far. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

from markupsafe import Markup

from tallystick.core.study import Trial, TrialState
from tallystick.drawing import words
from tallystick.drawing.chart import line
from tallystick.drawing.svg import el, picture, text, title

__all__ = ["trials_chart"]

LEFT, TOP, WIDTH, HEIGHT = 80.0, 12.0, 520.0, 180.0


def trials_chart(trials: Sequence[Trial], objective: str, *, maximize: bool) -> Markup | None:
    """A dot for each trial that has a value, and a line for the best so far; None where none has."""
    told = [(t, t.value) for t in trials if t.value is not None and math.isfinite(t.value)]
    if not told:
        return None
    low, high = min(v for _, v in told), max(v for _, v in told)
    low, high = (low - 0.5, high + 0.5) if low == high else (low, high)
    last = max(1, *(t.number for t, _ in told))

    def y(value: float) -> float:
        return TOP + HEIGHT * (high - value) / (high - low)

    def x(number: int) -> float:
        return LEFT + WIDTH * number / last

    better = max if maximize else min
    best = list(accumulate((v for t, v in told if t.state is TrialState.SUCCEEDED), better))
    won = [t.number for t, _ in told if t.state is TrialState.SUCCEEDED]
    steps = [(x(number), y(value)) for number, value in zip(won, best, strict=True)]
    dots = [_dot(t, objective, v, x(t.number), y(v)) for t, v in told]
    name, about = f"Trials by {objective}", f"{words.plural(len(told), 'trial')} with a value"
    about += f"; the best {objective} is {words.number(best[-1])}" if best else ""
    art = [*_frame(low, high, last), line(steps, "line attack"), *dots]
    return picture(LEFT + WIDTH + 20, TOP + HEIGHT + 42, name, about, art, class_="chart")


def _dot(trial: Trial, objective: str, value: float, x: float, y: float) -> Markup:
    said = title(f"trial {trial.number}, {trial.state}: {objective} {words.number(value)}")
    return el("circle", said, cx=x, cy=y, r=3.5, class_="dot noise")


def _frame(low: float, high: float, last: int) -> list[Markup]:
    frame: list[Markup] = []
    for share in (0, 0.5, 1):
        y = TOP + HEIGHT * (1 - share)
        frame.append(el("line", x1=LEFT, x2=LEFT + WIDTH, y1=y, y2=y, class_="grid"))
        frame.append(text(LEFT - 8, y + 4, words.number(low + share * (high - low)), "tick", "end"))
    y = TOP + HEIGHT + 18
    ends = [text(LEFT, y, "0", "tick", "middle"), text(LEFT + WIDTH, y, f"{last}", "tick", "middle")]
    return [*frame, *ends, text(LEFT + WIDTH / 2, y + 16, "trial", "label", "middle")]
