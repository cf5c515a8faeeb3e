"""SVG by small pieces: every name and number is escaped here, and nowhere is there a style attribute."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape

__all__ = ["MARKS", "el", "group", "mark", "picture", "text", "title"]

MARKS = {
    "good": "M3.2 8.4l3.2 3.2 6.4-7",
    "bad": "M4 4l8 8M12 4l-8 8",
    "no": "M8 2.2a5.8 5.8 0 100 11.6 5.8 5.8 0 000-11.6M4 4l8 8",
    "busy": "M8 2.2a5.8 5.8 0 105.8 5.8M8 5v3.2l2.4 1.6",
    "kept": "M13 8a5 5 0 11-1.6-3.7M13 2.2v2.9h-2.9",
    "off": "M3 8h10",
    "wait": "M8 2.8a5.2 5.2 0 100 10.4 5.2 5.2 0 000-10.4",
    "warn": "M8 2.4L14.2 13H1.8zM8 6.4v3M8 11v.4",
    "none": "M8 6.6a1.4 1.4 0 100 2.8 1.4 1.4 0 000-2.8",
}
"""A shape for each kind of state (16 by 16), so that colour is never the only sign."""


def el(tag: str, *children: str, **attributes: str | float) -> Markup:
    """``<tag>`` with escaped attributes (``class_`` and ``stroke_width`` as SVG spells them) and children."""
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{_value(value)}"' for name, value in attributes.items()
    )
    inner = "".join(escape(child) for child in children)
    return Markup(f"<{tag}{given}>{inner}</{tag}>")  # noqa: S704 - both parts were escaped just above


def _value(value: str | float) -> str:
    return str(escape(value)) if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")


def title(words: str) -> Markup:
    """What is said of a shape when it is pointed at."""
    return el("title", words)


def text(x: float, y: float, words: str, class_: str = "", anchor: str = "start") -> Markup:
    """Text at a point; ``anchor`` is ``start``, ``middle`` or ``end``."""
    return el("text", words, x=x, y=y, class_=class_, text_anchor=anchor)


def group(x: float, y: float, children: Iterable[str], class_: str = "") -> Markup:
    """Children moved to a point."""
    return el("g", *children, transform=f"translate({_value(float(x))} {_value(float(y))})", class_=class_)


def mark(kind: str, x: float, y: float, size: float = 16) -> Markup:
    """The mark of a kind of state, inside a picture."""
    path = el("path", d=MARKS.get(kind, MARKS["none"]))
    scale = f"translate({_value(float(x))} {_value(float(y))}) scale({_value(size / 16)})"
    return el("g", path, class_=f"mark kind-{kind}", transform=scale)


def picture(
    width: float, height: float, name: str, about: str, children: Iterable[str], *, class_: str = "",
    links: bool = False,
) -> Markup:  # fmt: skip
    """An ``<svg>`` with a name and a description; one with links is a group, so that they stay reachable."""
    return el(
        "svg", title(name), el("desc", about), *children,
        viewBox=f"0 0 {_value(float(width))} {_value(float(height))}", width=width, height=height,
        class_=f"picture {class_}".strip(), role="group" if links else "img", aria_label=name,
    )  # fmt: skip
