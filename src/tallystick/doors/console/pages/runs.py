"""Pipelines and their runs: the graph, the timeline, each step, and what a step printed."""

from __future__ import annotations

import asyncio
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response

from tallystick.core.errors import NotFound, TallyError
from tallystick.core.model import ModelVersion
from tallystick.core.pipeline.spec import Pipeline
from tallystick.core.run.events import Run, Step
from tallystick.core.run.record import read_step
from tallystick.doors.console.answer import HEADERS, Page, error_answer, name_in
from tallystick.doors.console.pages.data import snapshots_read
from tallystick.doors.console.show.chart import timeline
from tallystick.doors.console.show.graph import draw_run
from tallystick.doors.console.view import View
from tallystick.hub.house.whole import ended_with

__all__ = ["LOG_BYTES_SHOWN", "log_text", "pipelines", "run", "run_log", "runs"]

LOG_BYTES_SHOWN = 256 * 1024
STEPS_SHOWN = 500


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
    return Page("making/runs.html", "Runs", data, {"runs": found, "listing": listing}, live)


async def run(view: View, request: Request) -> Page:
    """One run, whole."""
    found = await view.whole(await view.one(Run, name_in(request, "key")))
    pipeline = await _pipeline(view, found)
    models = [m for m in (await view.newest(ModelVersion)).values if m.origin.run == found.key]
    now = view.clock.now_ms()
    shown = {
        "run": found, "pipeline": pipeline, "models": models, "snapshots": snapshots_read(found),
        "graph": draw_run(found, pipeline, now), "timeline": timeline(found, now), "steps_shown": STEPS_SHOWN,
    }  # fmt: skip
    data = {k: shown[k] for k in ("run", "pipeline", "snapshots")} | {"models": [m.key for m in models]}
    return Page("making/run.html", found.key, data, shown, live=not found.state.ended)


async def _pipeline(view: View, found: Run) -> Pipeline | None:
    """The run's pipeline; a spec that is gone or damaged leaves the run's own record to be shown."""
    try:
        return await view.pipelines(found.spec_digest)
    except TallyError:
        return None


async def run_log(view: View, request: Request) -> Page:
    """What a step printed, the end of it when it is long."""
    found, step, path = await _log_of(view, request)
    text, size = await asyncio.to_thread(_tail, path) if path else ("", 0)
    shown = {"run": found, "step": step, "text": text, "size": size, "cut": size > LOG_BYTES_SHOWN}
    data = {"run": found.key, "step": step.path, "state": step.state, "bytes": size, "log": text}
    return Page("making/run_log.html", f"Log of {step.path}", data, shown, live=not found.state.ended)


async def log_text(view: View, request: Request) -> Response:
    """The whole log as plain text."""
    try:
        _, _, path = await _log_of(view, request)
    except TallyError as wrong:
        return error_answer(view, request, wrong)
    kind = "text/plain; charset=utf-8"
    if path is None:
        return PlainTextResponse("", headers=HEADERS)
    return FileResponse(path, media_type=kind, headers=dict(HEADERS))


async def _log_of(view: View, request: Request) -> tuple[Run, Step, Path | None]:
    found = await view.one(Run, str(request.path_params["key"]))
    wanted = request.query_params.get("step", "")
    step = await _step(view, found, wanted)
    if step is None:
        some = ", ".join(s.path for s in (await view.whole(found)).steps[:8]) or "no step has started yet"
        raise NotFound(f"run {found.key} has no step {wanted[:80]!r}", where="log", hint=f"steps: {some}")
    return found, step, await view.artifacts.path_of(step.log_digest) if step.log_digest else None


async def _step(view: View, found: Run, path: str) -> Step | None:
    if found.steps or not path:
        return found.step(path)
    kept = await view.journal.steps(found.tenant, found.key, path)
    return ended_with(found, read_step(kept[0])) if kept else None


def _tail(path: Path) -> tuple[str, int]:
    """The end of a log as text, and the bytes of all of it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - LOG_BYTES_SHOWN))
        return file.read(LOG_BYTES_SHOWN).decode("utf-8", "replace"), size
