"""Charts as inline SVG: traffic, drift. Pure functions of figures."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from markupsafe import Markup

from tallystick.core.signal import ColumnDrift
from tallystick.drawing import words
from tallystick.drawing.svg import el, picture, text, title

__all__ = ["drift_bars", "heat_map", "line", "sparkline", "square_columns", "ticks"]

BARS_MAX = 16


def ticks(high: float, about: int = 5) -> list[float]:
    """Round values from 0 up to at least ``high``, about as many as asked for: steps of 1, 2 or 5."""
    if not math.isfinite(high) or high <= 0:
        return [0.0, 1.0]
    raw = high / about
    scale = 10.0 ** math.floor(math.log10(raw))
    step = next(s * scale for s in (1, 2, 5, 10) if s * scale >= raw * 0.999)
    return [round(i * step, 12) for i in range(math.ceil(high / step - 1e-9) + 1)]


def line(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    """A line through points."""
    return el("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=class_)


def sparkline(per_second: Sequence[int], name: str) -> Markup:
    """Requests in each of the last 60 seconds, oldest first, as bars."""
    counts = list(per_second)[-60:]
    high = max([*counts, 1])
    bars = [el("line", x1=2, x2=358, y1=47, y2=47, class_="axis")]
    for i, count in enumerate(counts):
        if count:
            tall = max(2.0, 40 * count / high)
            bars.append(
                el(
                    "rect",
                    x=2 + 6 * (60 - len(counts) + i),
                    y=46 - tall,
                    width=4.5,
                    height=tall,
                    class_="bar",
                )
            )
    bars.append(text(2, 62, "60 s ago", "tick"))
    bars.append(text(358, 62, "now", "tick", "end"))
    about = (
        f"{sum(counts):,} requests in the last {len(counts)} s, at most {max([*counts, 0]):,} in one second"
    )
    return picture(360, 66, name, about, bars, class_="chart spark")


def drift_bars(columns: Sequence[ColumnDrift], drifted: Sequence[str]) -> Markup:
    """The Kolmogorov-Smirnov statistic of the columns that moved most; drifted ones are marked."""
    worst = sorted(columns, key=lambda c: (-c.ks, c.column))[:BARS_MAX]
    marked, row, left, width = set(drifted), 24.0, 170.0, 300.0
    parts: list[Markup] = []
    bottom = 8 + row * len(worst)
    for share in (0, 0.25, 0.5, 0.75, 1):
        x = left + width * share
        parts.append(el("line", x1=x, x2=x, y1=4, y2=bottom, class_="grid"))
        parts.append(text(x, bottom + 16, f"{share:g}", "tick", "middle"))
    for i, column in enumerate(worst):
        y, moved = 8 + row * i, column.column in marked
        said = f"{column.column}: ks {column.ks:.3f}, psi {column.psi:.3f}, p {column.p_value:.2g}"
        parts.append(text(left - 10, y + 14, words.clip(column.column, 22), "row-name", "end"))
        parts.append(el("rect", title(said), x=left, y=y + 2, width=max(1, width * min(1, max(0, column.ks))),
                        height=row - 8, rx=2, class_="bar drifted" if moved else "bar"))  # fmt: skip
        parts.append(
            text(left + width + 14, y + 14, f"{column.ks:.3f}" + (" drifted" if moved else ""), "tick")
        )
    parts.append(
        text(
            left + width / 2, bottom + 34, "ks: largest distance of the two distributions", "label", "middle"
        )
    )
    about = (
        f"The {len(worst)} of {len(columns)} columns that moved most, the first is {worst[0].column}"
        if worst
        else ""
    )
    return picture(570, bottom + 44, "Drift by column", about, parts, class_="chart")


def square_columns(columns: Sequence[ColumnDrift]) -> list[ColumnDrift] | None:
    """The columns as the pixels of a square, row by row: ``p00`` to ``p63``, for example; None otherwise."""
    side = math.isqrt(len(columns))
    if side < 3 or side > 32 or side * side != len(columns):
        return None
    found = [(re.fullmatch(r"(\D*)(\d{1,6})", c.column), c) for c in columns]
    numbered = sorted((int(m[2]), c) for m, c in found if m) if all(m for m, _ in found) else []
    starts = {m[1] for m, _ in found if m}
    first = numbered[0][0] if numbered else -1
    if (
        len(starts) != 1
        or first not in (0, 1)
        or [n for n, _ in numbered] != list(range(first, first + side * side))
    ):
        return None
    return [c for _, c in numbered]


def heat_map(pixels: Sequence[ColumnDrift], drifted: Sequence[str]) -> Markup:
    """Drift of each pixel of a square image: the darker, the larger ks; drifted ones have a dot."""
    side, marked = math.isqrt(len(pixels)), set(drifted)
    cell = 288 / side
    parts: list[Markup] = []
    for i, pixel in enumerate(pixels):
        x, y = cell * (i % side), cell * (i // side)
        share = min(1.0, max(0.0, pixel.ks))
        said = title(f"{pixel.column}: ks {pixel.ks:.3f}, psi {pixel.psi:.3f}")
        parts.append(el("rect", said, x=x + 1, y=y + 1, width=cell - 2, height=cell - 2, rx=2, class_="cell",
                        fill_opacity=0.06 + 0.94 * share))  # fmt: skip
        if pixel.column in marked:
            parts.append(el("circle", cx=x + cell - 7, cy=y + 7, r=2.5, class_="cell-mark"))
    for i in range(5):
        x = i * 36.0
        parts.append(
            el("rect", x=x, y=302, width=36, height=10, class_="cell", fill_opacity=0.06 + 0.94 * i / 4)
        )
        parts.append(text(x + 18, 328, f"{i / 4:g}", "tick", "middle"))
    parts.append(text(192, 311, "ks; a dot: drifted", "tick"))
    worst = max(pixels, key=lambda p: p.ks)
    about = f"{side} by {side} pixels; the one that moved most is {worst.column} with ks {worst.ks:.3f}"
    return picture(290, 334, "Drift by pixel", about, parts, class_="chart heat")
