"""Pipelines and their runs: the graph as it goes on, the timeline, and the steps."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import quote

from starlette.requests import Request

from tallystick.core.errors import BadInput
from tallystick.core.model import ModelVersion
from tallystick.core.run.events import Run, Step, StepState
from tallystick.doors.console.answer import Page, name_in
from tallystick.doors.console.pages.data import snapshots_read
from tallystick.doors.console.view import View
from tallystick.drawing.graph import FOLDS_MAX, Folds, draw_run
from tallystick.drawing.timeline import draw_timeline

__all__ = ["pipelines", "run", "runs", "steps", "timeline"]

STEPS_SHOWN = 60
STEPS_PER_PAGE = 100
LIVE_MS = 1000


async def pipelines(view: View, request: Request) -> Page:
    """The pipelines that ran here, by name."""
    listing = await view.newest(Run)
    by_name: dict[str, list[Run]] = {}
    for item in listing.values:
        by_name.setdefault(item.pipeline, []).append(item)
    for group in by_name.values():
        group.sort(key=lambda r: -r.started_ms)
    data = {
        "pipelines": [{"pipeline": n, "runs": [r.key for r in g], "specs": sorted({r.spec_digest for r in g})}
                      for n, g in by_name.items()],
    }  # fmt: skip
    return Page("making/pipelines.html", "Pipelines", data, {"pipelines": by_name, "listing": listing})


async def runs(view: View, request: Request) -> Page:
    """All runs, most recently started first."""
    listing = await view.newest(Run)
    found = sorted(listing.values, key=lambda r: -r.started_ms)
    live = any(not r.state.ended for r in found)
    found = [r if r.state.ended else await view.whole(r) for r in found]
    data = {"runs": found, "left_out": listing.left_out}
    return Page("runs/runs.html", "Runs", data, {"runs": found, "listing": listing}, live)


async def run(view: View, request: Request) -> Page:
    """One run, with its graph; ``?open=`` and ``?fold=`` say which graphs inside are unfolded."""
    found = await view.whole(await view.one(Run, name_in(request, "key")))
    pipeline = await view.pipeline(found.spec_digest)
    models = [m for m in (await view.newest(ModelVersion)).values if m.origin.run == found.key]
    opened, folded = (frozenset(request.query_params.getlist(n)[:FOLDS_MAX]) for n in ("open", "fold"))
    folds = Folds(f"/runs/{quote(found.key, safe='')}", opened, folded)
    shown = {
        "run": found, "pipeline": pipeline, "models": models, "snapshots": snapshots_read(found),
        "graph": await asyncio.to_thread(draw_run, found, pipeline, view.clock.now_ms(), folds),
        "some": _notable(found.steps), "folds": folds,
    }  # fmt: skip
    data = {k: shown[k] for k in ("run", "pipeline", "snapshots")} | {"models": [m.key for m in models]}
    live = not found.state.ended
    return Page("runs/run.html", found.key, data, shown, live, LIVE_MS)


def _notable(steps: Sequence[Step]) -> list[Step]:
    """All steps where they are few; else those that failed, those under way and the last that began."""
    if len(steps) <= STEPS_SHOWN:
        return list(steps)
    third = STEPS_SHOWN // 3
    bad = [s for s in steps if s.state in (StepState.FAILED, StepState.CANCELLED)][:third]
    busy = [s for s in steps if not s.state.ended][:third]
    return [*bad, *busy, *(s for s in steps[-third:] if s not in bad and s not in busy)]


async def timeline(view: View, request: Request) -> Page:
    """When what ran."""
    found = await view.whole(await view.one(Run, str(request.path_params["key"])))
    pipeline, now = await view.pipeline(found.spec_digest), view.clock.now_ms()
    drawn = await asyncio.to_thread(draw_timeline, found, pipeline, now)
    begun = {
        s.path: {"began_ms": s.started_ms, "ended_ms": s.ended_ms, "state": s.state} for s in found.steps
    }
    data = {"run": found.key, "critical": drawn.critical if drawn else (), "steps": begun}
    title, live = f"Timeline of {found.key}", not found.state.ended
    return Page("runs/timeline.html", title, data, {"run": found, "timeline": drawn}, live, LIVE_MS)


async def steps(view: View, request: Request) -> Page:
    """The steps of a run, page by page; ``?state=`` and ``?under=`` (how their path begins) choose some."""
    found = await view.whole(await view.one(Run, str(request.path_params["key"])))
    asked = request.query_params
    state, under, page = asked.get("state", ""), asked.get("under", ""), asked.get("page", "1")
    if not (page.isascii() and page.isdigit() and len(page) < 9 and int(page)):
        raise BadInput(f"{page[:40]!r} is no page", where="steps", hint="pages count from 1")
    if state and state not in set(StepState):
        raise BadInput(f"{state[:40]!r} is no state", where="steps", hint="one of " + ", ".join(StepState))
    chosen = [s for s in found.steps if s.path.startswith(under) and state in ("", s.state)]
    first = STEPS_PER_PAGE * (int(page) - 1)
    some = chosen[first : first + STEPS_PER_PAGE]
    more = len(chosen) > first + STEPS_PER_PAGE
    shown = {
        "run": found, "some": some, "total": len(chosen), "first": first, "state": state, "under": under,
        "page_number": int(page), "more": more,
    }  # fmt: skip
    data = {"run": found.key, "total": len(chosen), "steps": some}
    return Page("runs/steps.html", f"Steps of {found.key}", data, shown, live=not found.state.ended)
