"""A run's timeline: when what ran, how much at once, and which steps the whole took its length from. Pure.

Up to :data:`ROWS_MAX` steps have a row each. Of more, the steps of a task in all turns of its loops share a
row, and where that is not enough, tasks that began after each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from tallystick.core.pipeline.spec import Pipeline
from tallystick.core.run.events import Run, Step, StepState
from tallystick.drawing import words
from tallystick.drawing.chart import ticks
from tallystick.drawing.critical import critical_path
from tallystick.drawing.piles import bare
from tallystick.drawing.svg import el, picture, text, title

__all__ = ["ROWS_MAX", "Timeline", "draw_timeline"]

ROWS_MAX = 100
LEFT, WIDTH, ROW, STRIP = 200.0, 640.0, 22.0, 44.0
TOP = STRIP + 26
BUCKETS = 320
LEVELS = 4


@dataclass(frozen=True, slots=True)
class Timeline:
    """The picture, how many steps ran at once at most, and the critical path with how long its steps took."""

    art: Markup
    at_once: int
    critical: tuple[str, ...]
    critical_ms: int
    rows: int
    steps: int


@dataclass(frozen=True, slots=True)
class _Axis:
    """From moments to places; ``now_ms`` is where what still runs has come to."""

    begin_ms: int
    now_ms: int
    span_ms: float

    def x(self, at_ms: float) -> float:
        return LEFT + WIDTH * min(1.0, max(0.0, (at_ms - self.begin_ms) / self.span_ms))

    def ended(self, step: Step) -> int:
        return max(step.started_ms, step.ended_ms or self.now_ms)

    def bucket(self, at_ms: float) -> int:
        return min(BUCKETS - 1, int(BUCKETS * max(0.0, at_ms - self.begin_ms) / self.span_ms))


def draw_timeline(run: Run, pipeline: Pipeline | None, now_ms: int, link: str = "") -> Timeline | None:
    """The timeline of ``run``, or None when no step has started; ``link`` is the page of the run."""
    steps = [step for step in run.steps if step.started_ms]
    if not steps:
        return None
    begin = min([s.started_ms for s in steps] + ([run.started_ms] if run.started_ms else []))
    end = max([run.ended_ms or now_ms, *(s.ended_ms for s in steps)])
    across = ticks(max(1, end - begin), 6)
    axis = _Axis(begin, run.ended_ms or now_ms, across[-1])
    path = critical_path(run, pipeline)
    marked = frozenset(path)
    rows = _rows(steps)
    bottom = TOP + ROW * len(rows)
    at_once, strip = _strip(steps, axis)
    parts = [*_grid(across, axis, bottom), *strip]
    for i, (name, group) in enumerate(rows):
        parts += _row(name, group, TOP + ROW * i, axis, marked)
    about = f"{words.plural(len(steps), 'step')} in {words.duration(end - begin)}, at most {at_once} at once"
    art = picture(
        LEFT + WIDTH + 84, bottom + 30, f"Timeline of run {run.key}", about, parts, class_="chart gantt"
    )
    took = sum(axis.ended(s) - s.started_ms for s in steps if s.path in marked)
    return Timeline(art, at_once, path, took, len(rows), len(steps))


def _rows(steps: Sequence[Step]) -> list[tuple[str, list[Step]]]:
    if len(steps) <= ROWS_MAX:
        return [(step.path, [step]) for step in steps]
    alike: dict[str, list[Step]] = {}
    for step in steps:
        alike.setdefault(bare(step.path), []).append(step)
    rows = list(alike.items())
    size = -(-len(rows) // ROWS_MAX)
    if size == 1:
        return rows
    joined = [rows[i : i + size] for i in range(0, len(rows), size)]
    return [(f"{part[0][0]} … {part[-1][0]}", [s for _, group in part for s in group]) for part in joined]


def _grid(across: Sequence[float], axis: _Axis, bottom: float) -> list[Markup]:
    parts: list[Markup] = []
    for at in across:
        x = axis.x(axis.begin_ms + at)
        parts.append(el("line", x1=x, x2=x, y1=8, y2=bottom + 4, class_="grid"))
        parts.append(text(x, bottom + 20, words.duration(at) if at else "0", "tick", "middle"))
    return parts


def _strip(steps: Sequence[Step], axis: _Axis) -> tuple[int, list[Markup]]:
    """How many steps ran at once over time, as a hill; and the most of them."""
    heights, most = _at_once(steps, axis)
    if not most:
        return 0, []
    base, wide = 12 + STRIP, WIDTH / BUCKETS
    path = f"M{LEFT:.1f} {base:.1f}"
    for i, height in enumerate(heights):
        path += f"V{base - STRIP * height / most:.1f}H{LEFT + wide * (i + 1):.1f}"
    said = title(f"at most {words.plural(most, 'step')} at once")
    return most, [
        el("path", said, d=f"{path}V{base:.1f}Z", class_="hill"),
        text(LEFT - 10, base - STRIP / 2 + 4, f"running at once, at most {most:,}", "tick", "end"),
    ]


def _at_once(steps: Sequence[Step], axis: _Axis) -> tuple[list[int], int]:
    """The most steps at once in each bucket, and in all: exact, as ends count before what begins then."""
    moments: list[tuple[int, int]] = []
    for step in steps:
        if step.attempt and step.state is not StepState.CACHED:
            begin, end = step.started_ms, axis.ended(step)
            moments += [(begin, 1), (max(end, begin + 1), -1)]
    heights, now, most, at = [0] * BUCKETS, 0, 0, 0
    for moment, change in sorted(moments):
        to = axis.bucket(moment)
        for bucket in range(at, to + 1):
            heights[bucket] = max(heights[bucket], now)
        at, now = to, now + change
        heights[to] = max(heights[to], now)
        most = max(most, now)
    return heights, most


def _row(name: str, group: Sequence[Step], y: float, axis: _Axis, marked: frozenset[str]) -> list[Markup]:
    bottom = y + ROW - 6
    if len(group) == 1:
        parts = [_bar(group[0], y, axis, marked), _beside(group[0], y, axis)]
    else:
        parts = [*_heap(name, group, y, axis), *_edges(group, bottom, axis, marked)]
    short = name if len(name) <= 28 else "…" + name[-27:]
    label = el("text", short, title(name), x=LEFT - 10, y=y + 14, class_="row-name", text_anchor="end")
    return [label, *parts]


def _told(step: Step, axis: _Axis) -> str:
    """``train: succeeded, 1.2 s, from +0.4 s to +1.6 s``."""
    start, stop = step.started_ms - axis.begin_ms, axis.ended(step) - axis.begin_ms
    if not step.attempt:
        return f"{step.path}: {step.state} at +{words.duration(stop)}"
    if step.state is StepState.CACHED:
        return f"{step.path}: from the cache, at +{words.duration(start)}"
    tried = f", {words.tried(step)}" if words.tried(step) else ""
    until = f"to +{words.duration(stop)}" if step.ended_ms else "and still on"
    took = words.duration(stop - start)
    return f"{step.path}: {step.state}{tried}, {took}, from +{words.duration(start)} {until}"


def _bar(step: Step, y: float, axis: _Axis, marked: frozenset[str]) -> Markup:
    kind, said = words.kind_of(step.state), title(_told(step, axis))
    x0, x1 = axis.x(step.started_ms), axis.x(axis.ended(step))
    if step.state is StepState.CACHED or not step.attempt:
        return el("path", said, d=f"M{x0:.1f} {y + 2:.1f}v{ROW - 7:.1f}", class_=f"moment kind-{kind}")
    critical = " critical" if step.path in marked else ""
    return el("rect", said, x=x0, y=y + 3, width=max(2.0, x1 - x0), height=ROW - 8, rx=3,
              class_=f"span kind-{kind}{critical}")  # fmt: skip


def _beside(step: Step, y: float, axis: _Axis) -> Markup:
    """What is written after a step's bar."""
    if not step.attempt or step.state is StepState.CACHED:
        said = "from cache" if step.attempt else str(step.state)
    else:
        said = words.duration(axis.ended(step) - step.started_ms)
        said += f", {words.tried(step)}" if words.tried(step) else ""
    return text(axis.x(axis.ended(step)) + 6, y + 14, said, "tick")


def _heap(name: str, group: Sequence[Step], y: float, axis: _Axis) -> list[Markup]:
    """Many steps in one row: the darker, the more at once; from the cache, or failed, as ticks."""
    heights, most = _at_once(group, axis)
    kind = "good" if all(s.state.ended for s in group) else "busy"
    parts = _shades([-(-LEVELS * height // most) if most else 0 for height in heights], y, kind)
    for kind, moments in (
        ("kept", [s.started_ms for s in group if s.state is StepState.CACHED]),
        ("bad", [axis.ended(s) for s in group if s.state is StepState.FAILED]),
    ):
        at = sorted({axis.bucket(moment) for moment in moments})
        ticked = "".join(f"M{LEFT + WIDTH * (i + 0.5) / BUCKETS:.1f} {y + 2:.1f}v{ROW - 7:.1f}" for i in at)
        parts += [el("path", d=ticked, class_=f"moment kind-{kind}")] if ticked else []
    told = _counted(name, group, most, axis)
    parts.append(text(LEFT + WIDTH + 8, y + 14, f"{len(group):,}", "tick"))
    return [el("g", title(told), *parts)]


def _shades(levels: Sequence[int], y: float, kind: str) -> list[Markup]:
    parts, x, wide = list[Markup](), LEFT, WIDTH / BUCKETS
    for level, run in groupby(levels):
        width = wide * sum(1 for _ in run)
        if level:
            shade = 0.15 + 0.7 * level / LEVELS
            parts.append(el("rect", x=x, y=y + 3, width=width, height=ROW - 8, class_=f"span kind-{kind}",
                            fill_opacity=shade))  # fmt: skip
        x += width
    return parts


def _counted(name: str, group: Sequence[Step], most: int, axis: _Axis) -> str:
    took = [axis.ended(s) - s.started_ms for s in group if s.attempt and s.state is not StepState.CACHED]
    counts: dict[str, int] = {}
    for step in group:
        counts[str(step.state)] = counts.get(str(step.state), 0) + 1
    said = ", ".join(f"{count:,} {state}" for state, count in counts.items())
    if took:
        said += f"; {words.duration(min(took))} to {words.duration(max(took))} each, at most {most} at once"
    return f"{name}: {said}"


def _edges(group: Sequence[Step], y: float, axis: _Axis, marked: frozenset[str]) -> list[Markup]:
    """Where steps of the critical path lie in a row of many."""
    return [
        el("rect", title(_told(s, axis)), x=axis.x(s.started_ms), y=y, width=max(2.0, axis.x(axis.ended(s)) -
           axis.x(s.started_ms)), height=2.5, class_="critical-line")
        for s in group if s.path in marked
    ]  # fmt: skip
