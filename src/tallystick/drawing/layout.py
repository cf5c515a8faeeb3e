"""Where the boxes of a directed graph stand: layers from left to right. Pure geometry, in pixels.

After Sugiyama, Tagawa and Toda (1981): each box in the first layer after all it waits for, an edge that
passes a layer gets a small place of its own there, places are ordered by the mean of their neighbours,
then drawn towards those neighbours as far as the order allows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Box", "Layout", "Size", "layered"]

SWEEPS = 6


@dataclass(frozen=True, slots=True)
class Size:
    """In pixels."""

    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Box:
    """A placed box: its upper left corner and size."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Layout:
    """Boxes by name; for each edge the points that it passes, right side to left side."""

    boxes: Mapping[str, Box]
    edges: Mapping[tuple[str, str], tuple[tuple[float, float], ...]]
    width: float
    height: float


_Place = tuple[str, ...]
"""A box ``(name,)``, or the place where an edge passes a layer: ``(source, target, layer)``."""


def layered(
    sizes: Mapping[str, Size], edges: Sequence[tuple[str, str]], gap_x: float = 48, gap_y: float = 18
) -> Layout:
    """Lay out boxes of ``sizes``, in their order where nothing else decides; edges that close a cycle are
    left out, as are those of unknown boxes.
    """
    order = _topological(sizes, edges)
    rank = {name: i for i, name in enumerate(order)}
    kept = [(a, b) for a, b in dict.fromkeys(edges) if a in rank and b in rank and rank[a] < rank[b]]
    layer = _layers(order, kept)
    columns, chains = _columns(sizes, kept, layer)
    near = _neighbours(chains)
    _arrange(columns, near)
    height_of = {p: sizes[p[0]].height if len(p) == 1 else 6.0 for column in columns for p in column}
    middle = _settle(columns, near, height_of, gap_y)
    return _draw(sizes, columns, chains, height_of, middle, gap_x)


def _topological(sizes: Mapping[str, Size], edges: Sequence[tuple[str, str]]) -> list[str]:
    waits: dict[str, set[str]] = {name: set() for name in sizes}
    for a, b in edges:
        if a in sizes and b in sizes and a != b:
            waits[b].add(a)
    order: list[str] = []
    while waits:
        free = [n for n, needs in waits.items() if not needs & waits.keys()] or [next(iter(waits))]
        order += free
        for name in free:
            del waits[name]
    return order


def _layers(order: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """The longest way to each box; one that waits for nothing stands just before the first that uses it."""
    before: dict[str, list[str]] = {name: [] for name in order}
    after: dict[str, list[str]] = {name: [] for name in order}
    for a, b in edges:
        before[b].append(a)
        after[a].append(b)
    layer: dict[str, int] = {}
    for name in order:
        layer[name] = max((layer[a] + 1 for a in before[name]), default=0)
    for name in order:
        if not before[name] and after[name]:
            layer[name] = min(layer[b] for b in after[name]) - 1
    return layer


def _columns(
    sizes: Mapping[str, Size], edges: Sequence[tuple[str, str]], layer: Mapping[str, int]
) -> tuple[list[list[_Place]], dict[tuple[str, str], list[_Place]]]:
    columns: list[list[_Place]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for name in sizes:
        columns[layer[name]].append((name,))
    chains: dict[tuple[str, str], list[_Place]] = {}
    for a, b in edges:
        between: list[_Place] = [(a, b, str(i)) for i in range(layer[a] + 1, layer[b])]
        for i, place in enumerate(between, layer[a] + 1):
            columns[i].append(place)
        chains[(a, b)] = [(a,), *between, (b,)]
    return columns, chains


def _neighbours(
    chains: Mapping[tuple[str, str], list[_Place]],
) -> dict[_Place, tuple[list[_Place], list[_Place]]]:
    near: dict[_Place, tuple[list[_Place], list[_Place]]] = {}
    for chain in chains.values():
        for left, right in pairwise(chain):
            near.setdefault(left, ([], []))[1].append(right)
            near.setdefault(right, ([], []))[0].append(left)
    return near


def _arrange(columns: list[list[_Place]], near: Mapping[_Place, tuple[list[_Place], list[_Place]]]) -> None:
    """Order each column by the mean position of its neighbours, sweeping right and left in turn."""
    for sweep in range(SWEEPS):
        side = sweep % 2
        for column in columns if side == 0 else reversed(columns):
            spot = {p: i / max(1, len(c) - 1) for c in columns for i, p in enumerate(c)}
            mean = {p: _mean([spot[q] for q in near.get(p, ((), ()))[side]], spot[p]) for p in column}
            column.sort(key=mean.__getitem__)


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _settle(
    columns: list[list[_Place]],
    near: Mapping[_Place, tuple[list[_Place], list[_Place]]],
    height_of: Mapping[_Place, float],
    gap: float,
) -> dict[_Place, float]:
    """The middle of each place: near its neighbours, in the column's order, at least ``gap`` apart."""
    middle: dict[_Place, float] = {}
    for column in columns:
        _stack(column, dict.fromkeys(column, 0.0), height_of, gap, middle)
    for sweep in range(SWEEPS):
        for column in columns if sweep % 2 == 0 else reversed(columns):
            wish = {
                p: _mean([middle[q] for side in near.get(p, ((), ())) for q in side], middle[p])
                for p in column
            }
            _stack(column, wish, height_of, gap, middle)
    return middle


def _stack(
    column: Sequence[_Place],
    wish: Mapping[_Place, float],
    height_of: Mapping[_Place, float],
    gap: float,
    middle: dict[_Place, float],
) -> None:
    """Place a column from above, then shift it whole by the mean of what the wishes are missed by."""
    edge = None
    for place in column:
        half = height_of[place] / 2
        middle[place] = wish[place] if edge is None else max(wish[place], edge + gap + half)
        edge = middle[place] + half
    shift = _mean([wish[p] - middle[p] for p in column], 0.0)
    for place in column:
        middle[place] += shift


def _draw(
    sizes: Mapping[str, Size],
    columns: list[list[_Place]],
    chains: Mapping[tuple[str, str], list[_Place]],
    height_of: Mapping[_Place, float],
    middle: Mapping[_Place, float],
    gap_x: float,
) -> Layout:
    top = min((middle[p] - height_of[p] / 2 for c in columns for p in c), default=0.0)
    left, boxes, span = 0.0, {}, {}
    for column in columns:
        width = max((sizes[p[0]].width for p in column if len(p) == 1), default=0.0)
        for place in column:
            own = sizes[place[0]].width if len(place) == 1 else width
            span[place] = (left, left + own)
            if len(place) == 1:
                y = middle[place] - height_of[place] / 2 - top
                boxes[place[0]] = Box(left, y, own, height_of[place])
        left += width + gap_x
    routes = {}
    for edge, chain in chains.items():
        points = [(span[chain[0]][1], middle[chain[0]] - top)]
        for place in chain[1:-1]:
            points += [(span[place][0], middle[place] - top), (span[place][1], middle[place] - top)]
        routes[edge] = (*points, (span[chain[-1]][0], middle[chain[-1]] - top))
    height = max((b.y + b.height for b in boxes.values()), default=0.0)
    lowest = max((y for points in routes.values() for _, y in points), default=0.0)
    return Layout(boxes, routes, max(0.0, left - gap_x), max(height, lowest))
