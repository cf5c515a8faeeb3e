"""The boxes of a run's graph: for a step or for many, frames around others, lines between them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from tallystick.core.run.events import Step
from tallystick.drawing import words
from tallystick.drawing.layout import Size, layered
from tallystick.drawing.piles import Pile
from tallystick.drawing.svg import el, group, mark, text, title

__all__ = ["NODES_MAX", "Block", "Canvas", "Many", "TooMany", "assemble", "frame", "node", "shares"]

NODES_MAX = 300
"""Boxes of one picture; past that it is no picture any more."""
NODE = Size(178, 56)
PAD = 14
HEAD = 26


class TooMany(Exception):
    """More boxes than a picture can hold."""


@dataclass(slots=True)
class Count:
    """How many boxes there are; TooMany for one that has no room."""

    boxes: int = 0

    def one_more(self) -> None:
        """Count one."""
        self.boxes += 1
        if self.boxes > NODES_MAX:
            raise TooMany


@dataclass(frozen=True, slots=True)
class Canvas:
    """What boxes are drawn on: the time, the word for what has no step, and how many there are."""

    now_ms: int
    idle: str
    count: Count = field(default_factory=Count)


@dataclass(frozen=True, slots=True)
class Many:
    """What is said of a box that stands for ``whole`` things, and how many of them are of which kind."""

    said: str
    shares: Mapping[str, int]
    whole: int = 0


@dataclass(frozen=True, slots=True)
class Block:
    """Something drawn at the origin, with its size."""

    size: Size
    art: Markup


def assemble(blocks: Mapping[str, Block], edges: Sequence[tuple[str, str]]) -> Block:
    """Blocks side by side, as the edges between them say."""
    layout = layered({name: block.size for name, block in blocks.items()}, edges, gap_x=40)
    lines = [el("path", d=_curve(points), class_="edge") for points in layout.edges.values()]
    tips = [_tip(*points[-1]) for points in layout.edges.values()]
    boxes = [group(layout.boxes[name].x, layout.boxes[name].y, [b.art]) for name, b in blocks.items()]
    return Block(Size(layout.width, layout.height), Markup("").join([*lines, *tips, *boxes]))


def _curve(points: Sequence[tuple[float, float]]) -> str:
    """A smooth line through the points, level where it passes each of them."""
    (x, y), *rest = points
    path = f"M{x:.1f} {y:.1f}"
    for to_x, to_y in rest:
        bend = (to_x - x) / 2
        path += f"C{x + bend:.1f} {y:.1f} {to_x - bend:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}"
        x, y = to_x, to_y
    return path


def _tip(x: float, y: float) -> Markup:
    return el("path", d=f"M{x - 7:.1f} {y - 4:.1f}L{x:.1f} {y:.1f}L{x - 7:.1f} {y + 4:.1f}", class_="edge")


def frame(name: str, blocks: Sequence[Block], kind: str, href: str = "", about: str = "") -> Block:
    """Blocks above each other in a box with a name, which may be a link."""
    width = max([b.size.width for b in blocks] + [len(name) * 7.4 + 14]) + 2 * PAD
    y, parts = float(HEAD), []
    for block in blocks:
        parts.append(group(PAD, y, [block.art]))
        y += block.size.height + 10
    height = y - 10 + PAD
    box = el("rect", x=0, y=0, width=width, height=height, rx=10, class_=f"frame {kind}")
    folds = about.startswith("fold ")
    shown = words.clip(name, int((width - 2 * PAD) / 7)) + (" ▾" if folds and href else "")
    head = text(PAD, 18, shown, "frame-name")
    if href:
        head = el("a", title(about), head, href=href)
    return Block(Size(width, height), Markup("").join([box, head, *parts]))


def node(
    name: str, path: str, pile: Pile, canvas: Canvas, *, href: str = "", many: Many | None = None
) -> Block:
    """One box, for a step or for many."""
    canvas.count.one_more()
    step, state = pile.one, pile.state or canvas.idle
    took, tried = _took(step, canvas.now_ms), words.tried(step) if step else ""
    told = (many.said if many else "") or " · ".join(filter(None, (state, tried or took)))
    more = " · ".join(filter(None, (pile.said() if many else state, tried, took)))
    kind = _kind_of_many(many, state) if many else words.kind_of(state)
    width, height = (NODE.width - 5, NODE.height - 5) if many else (NODE.width, NODE.height - 4)
    parts = [
        title(f"{path}: {more or told}"),
        *(_behind() if many else []),
        el("rect", x=0, y=0, width=width, height=height, rx=8, class_="box"),
        mark(kind, 12, 18),
        text(38, 22, words.clip(name, 17), "node-name"),
        text(38, 40, words.clip(told, 22), "node-state"),
        *(_bar(many, width, height) if many else []),
    ]
    art = el("g", *parts, class_=f"node kind-{kind}")
    return Block(NODE, el("a", art, href=href) if href else art)


def _behind() -> list[Markup]:
    """The edge of a second box, where one stands for many."""
    return [el("rect", x=5, y=5, width=NODE.width - 5, height=NODE.height - 5, rx=8, class_="box")]


def _kind_of_many(many: Many, state: str) -> str:
    """The mark of a heap: one that is done as far as it goes, and has not all, still waits for the rest."""
    kind = words.kind_of(state)
    return "wait" if kind in ("good", "kept", "off") and sum(many.shares.values()) < many.whole else kind


def shares(pile: Pile) -> dict[str, int]:
    """How many of a heap are of which kind."""
    kinds: dict[str, int] = {}
    for state, count in pile.states.items():
        kinds[words.kind_of(state)] = kinds.get(words.kind_of(state), 0) + count
    return kinds


def _bar(many: Many, width: float, height: float) -> list[Markup]:
    """The shares as a line along the lower edge."""
    whole = max(many.whole, sum(many.shares.values()))
    if whole < 2:
        return []
    x, y, room = 8.0, height - 8, width - 16
    parts = [el("rect", x=x, y=y, width=room, height=3, class_="share rest")]
    for kind, count in sorted(many.shares.items()):
        wide = room * count / whole
        if count:
            parts.append(el("rect", x=x, y=y, width=max(1.0, wide), height=3, class_=f"share kind-{kind}"))
        x += wide
    return parts


def _took(step: Step | None, now_ms: int) -> str:
    """How long it took; nothing for what never ran."""
    if step is None or not step.started_ms or not step.attempt:
        return ""
    return words.duration((step.ended_ms or now_ms) - step.started_ms)
