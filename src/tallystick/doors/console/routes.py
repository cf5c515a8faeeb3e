"""All addresses of the console."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from tallystick.core.errors import NotFound
from tallystick.doors.console.answer import PageMaker, answer_of, error_answer
from tallystick.doors.console.pages import (
    data,
    diff,
    endpoints,
    files,
    home,
    lists,
    models,
    runs,
    steps,
    verdicts,
)
from tallystick.doors.console.view import View

__all__ = ["console_missing", "console_routes"]

_PAGES: tuple[tuple[str, PageMaker], ...] = (
    ("/data", data.tables),
    ("/data/{table}", data.table),
    ("/pipelines", runs.pipelines),
    ("/runs", runs.runs),
    ("/runs/{key}", runs.run),
    ("/runs/{key}/timeline", runs.timeline),
    ("/runs/{key}/steps", runs.steps),
    ("/runs/{key}/step", steps.step),
    ("/runs/{key}/log", steps.run_log),
    ("/runs/{key}/diff", diff.choose),
    ("/runs/{key}/diff/{other}", diff.diff),
    ("/schedules", lists.schedules),
    ("/studies", lists.studies),
    ("/studies/{key}", lists.study),
    ("/models", models.models),
    ("/models/{name}", models.model_name),
    ("/models/{name}/{version}", models.model),
    ("/verdicts", verdicts.verdicts),
    ("/verdicts/{key}", verdicts.verdict),
    ("/endpoints", endpoints.endpoints),
    ("/endpoints/{name}", endpoints.endpoint),
    ("/signals", endpoints.signals),
    ("/signals/{key}", endpoints.signal),
    ("/remedies", endpoints.remedies),
    ("/remedies/{key}", endpoints.remedy),
    ("/log", home.log),
)


def console_routes(view: View) -> list[BaseRoute]:
    """Every page of the console, its JSON, artifacts and static files."""
    first = answer_of(view, home.home)
    routes: list[BaseRoute] = [
        *(Route(path, first) for path in ("/", "/.json", "/index.json")),
        Route("/runs/{key}/log.txt", _with(view, steps.log_text)),
        Route("/verdicts/{key}/report.html", _with(view, verdicts.whole_file)),
        Route("/verdicts/{key}/card.md", _with(view, verdicts.card)),
        Route("/artifacts/{digest}", _with(view, files.artifact)),
        Route("/static/tally/{name}", files.static),
    ]
    for path, make in _PAGES:
        answer = answer_of(view, make)
        routes.append(Route(path, answer))
        if not path.endswith("}"):
            routes.append(Route(path + ".json", answer))
    return routes


def _with(
    view: View, make: Callable[[View, Request], Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return await make(view, request)

    return answer


def console_missing(view: View) -> Callable[[Request, Exception], Awaitable[Response]]:
    """A handler for addresses that no door has: a page that helps for people, JSON for programs."""

    async def answer(request: Request, wrong: Exception) -> Response:
        lost = NotFound(
            "there is nothing at this address", where=request.url.path[:200], hint="start from the overview"
        )
        if "text/html" in request.headers.get("accept", ""):
            return error_answer(view, request, lost)
        status = wrong.status_code if isinstance(wrong, HTTPException) else 404
        return JSONResponse(lost.as_dict(), status)

    return answer
