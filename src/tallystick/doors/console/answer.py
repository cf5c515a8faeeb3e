"""Answers: a page as HTML or JSON, errors included, with the headers that every answer carries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from tallystick import __version__
from tallystick.core.errors import NotFound, TallyError
from tallystick.core.facts import NOUNS, to_json
from tallystick.core.names import digest_of
from tallystick.doors.console.view import View
from tallystick.drawing.svg import mark
from tallystick.drawing.words import FILTERS, PLURALS, kind_of

__all__ = ["HEADERS", "HERE", "Page", "PageMaker", "answer_of", "error_answer", "name_in"]

HERE = Path(__file__).parent

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
}


PART = "tally-part"
"""The header by which our script says that it has the page and wants its newest content."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page: ``data`` is what it says as JSON, ``shown`` what its template needs.

    Nouns in ``data`` become JSON only when JSON is asked for: that takes longer than most pages.

    ``live`` pages are asked for again by the script, ``live_ms`` after each answer, as long as they say so.
    """

    template: str
    title: str
    data: Mapping[str, Any]
    shown: Mapping[str, Any] = field(default_factory=dict)
    live: bool = False
    live_ms: int = 1500


PageMaker = Callable[[View, Request], Awaitable[Page]]


def answer_of(view: View, make: PageMaker) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of a page: JSON when its path ends in ``.json``, HTML otherwise."""

    async def answer(request: Request) -> Response:
        try:
            page = await make(view, request)
        except NotFound as wrong:
            return await _literally(view, make, request) or error_answer(view, request, wrong)
        except TallyError as wrong:
            return error_answer(view, request, wrong)
        if request.url.path.endswith(".json"):
            return JSONResponse(to_json(page.data), headers=HEADERS)
        return _html(view, request, page, 200)

    return answer


def name_in(request: Request, what: str) -> str:
    """A part of the path, less the ``.json`` that asks for JSON."""
    name = str(request.path_params[what])
    return name if request.scope.get("tally.literal") else name.removesuffix(".json")


async def _literally(view: View, make: PageMaker, request: Request) -> Response | None:
    """The page of something whose own name ends in ``.json``, where that is what exists."""
    if not request.url.path.endswith(".json"):
        return None
    request.scope["tally.literal"] = True
    try:
        return _html(view, request, await make(view, request), 200)
    except TallyError:
        return None


def error_answer(view: View, request: Request, wrong: TallyError) -> Response:
    """The error as a page that helps on, or as JSON where JSON was asked for."""
    if request.url.path.endswith(".json"):
        return JSONResponse(wrong.as_dict(), wrong.http_status, headers=HEADERS)
    title = "Not found" if isinstance(wrong, NotFound) else "This did not work"
    page = Page("error.html", title, wrong.as_dict(), {"d": wrong.as_dict()})
    return _html(view, request, page, wrong.http_status)


def _html(view: View, request: Request, page: Page, status: int) -> Response:
    """The page; where our script asks again, what is in its ``<main>``, and nothing if that is the same."""
    part = request.headers.get(PART) == "main"
    text = _templates().get_template(page.template).render(
        page=page, now=view.clock.now_ms(), strength=view.strength, base="part.html" if part else "base.html",
        section=request.url.path.split("/")[1], **page.shown,
    )  # fmt: skip
    if not part:
        return HTMLResponse(text, status, headers=HEADERS)
    tag = f'"{digest_of(text.encode()).removeprefix("sha256:")[:20]}"'
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers={**HEADERS, "ETag": tag})
    return HTMLResponse(text, status, headers={**HEADERS, "ETag": tag, "Vary": PART})


@cache
def _templates() -> Environment:
    env = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, auto_reload=False,
    )  # fmt: skip
    env.filters.update(FILTERS)
    env.globals.update(
        badge=badge, NOUNS=NOUNS, PLURALS=PLURALS, version=__version__, static=static_url, mark=mark
    )
    return env


@cache
def static_url(name: str) -> str:
    """The address of a static file, with its content in it so that it can be kept for good."""
    stamp = digest_of((HERE / "static" / name).read_bytes()).removeprefix("sha256:")[:10]
    return f"/static/tally/{name}?v={stamp}"


def badge(state: str, words: str = "") -> Markup:
    """A state with its shape and colour."""
    kind = kind_of(state)
    shape = Markup('<svg class="icon" viewBox="0 0 16 16" aria-hidden="true">{}</svg>').format(
        mark(kind, 0, 0)
    )
    return Markup('<span class="badge kind-{}">{}{}</span>').format(kind, shape, words or state)
