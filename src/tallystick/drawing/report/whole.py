"""The report as one HTML file that needs nothing else: no script, no address, pictures inside."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from markupsafe import Markup

from tallystick.drawing.report.content import Report
from tallystick.drawing.report.page import sections
from tallystick.drawing.svg import el

__all__ = ["pictures_of", "self_contained"]

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_EMPTY = "data:,"


def pictures_of(report: Report) -> list[str]:
    """The digests of all pictures that the report may show."""
    probes = report.evidence.probes if report.evidence else ()
    found = [d for p in probes for e in p.examples for d in (e.original, e.magnified, e.noise, e.adversarial)]
    return list(dict.fromkeys(d for d in found if d))


def self_contained(report: Report, pictures: Mapping[str, bytes], css: str, about: str) -> str:
    """The file. ``pictures`` are PNG files by digest, one that is missing is left blank; ``css`` is the
    console's own style sheet, ``about`` a line that says when and by what it was written.
    """

    def where(digest: str) -> str:
        found = pictures.get(digest)
        return f"data:image/png;base64,{base64.b64encode(found).decode()}" if found else _EMPTY

    verdict = report.verdict
    title = f"{verdict.model}: {verdict.state}"
    head = [
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("title", title),
        el("style", Markup(css.replace("</", "<\\/"))),  # noqa: S704 - our own file, and it cannot end the element
    ]
    heading = el("header", el("p", f"Verdict {verdict.key}", class_="kicker"), el("h1", title), class_="head")
    body = el("main", heading, sections(report, where), el("footer", el("p", about)))
    page = el("html", el("head", *head), el("body", body), lang="en")
    return f"<!doctype html>\n{page}\n"
