"""One step: what went in and came out, what it ran on, why it was cached or not, and what it printed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response

from tallystick.core.errors import NotFound, TallyError
from tallystick.core.run.events import Run, Step
from tallystick.core.run.record import read_step
from tallystick.core.values import Environment
from tallystick.doors.console.answer import HEADERS, Page, error_answer
from tallystick.doors.console.view import View
from tallystick.drawing.plain import plain
from tallystick.hub.house.whole import ended_with
from tallystick.ports.runs.records import child_id

__all__ = ["LOG_BYTES_SHOWN", "log_text", "run_log", "step"]

LOG_BYTES_SHOWN = 256 * 1024
LOG_BYTES_BESIDE = 32 * 1024
LIVE_MS = 1000


async def step(view: View, request: Request) -> Page:
    """One step, whole, with the end of its log."""
    found, one = await _find(view, request, request.query_params.get("path", ""))
    environment = await view.find(Environment, one.environment)
    log = await _log(view, found, one, LOG_BYTES_BESIDE)
    record = child_id(found, one) if found.record_id else ""
    shown = {"run": found, "step": one, "environment": environment, "record": record, **log}
    data = {"run": found.key, "step": one, "environment": environment, "record": record}
    return Page("runs/step.html", one.path, data, shown, not found.state.ended, LIVE_MS)


async def run_log(view: View, request: Request) -> Page:
    """What a step printed, the end of it when it is long; while it runs, the script follows it."""
    found, one = await _find(view, request, request.query_params.get("step", ""))
    log = await _log(view, found, one, LOG_BYTES_SHOWN)
    shown = {"run": found, "step": one, **log}
    data = {"run": found.key, "step": one.path, "state": one.state, "bytes": log["size"], "log": log["text"]}
    return Page("runs/run_log.html", f"Log of {one.path}", data, shown, not found.state.ended, LIVE_MS)


async def log_text(view: View, request: Request) -> Response:
    """The whole log as plain text, as the step printed it."""
    try:
        _, one = await _find(view, request, request.query_params.get("step", ""))
        path = await view.artifacts.path_of(one.log_digest) if one.log_digest else None
    except TallyError as wrong:
        return error_answer(view, request, wrong)
    if path is None:
        return PlainTextResponse("", headers=HEADERS)
    return FileResponse(path, media_type="text/plain; charset=utf-8", headers=dict(HEADERS))


async def _find(view: View, request: Request, wanted: str) -> tuple[Run, Step]:
    found = await view.one(Run, str(request.path_params["key"]))
    one = await _step(view, found, wanted)
    if one is None:
        some = ", ".join(s.path for s in (await view.whole(found)).steps[:8]) or "no step has started yet"
        raise NotFound(f"run {found.key} has no step {wanted[:80]!r}", where="step", hint=f"steps: {some}")
    return found, one


async def _step(view: View, found: Run, path: str) -> Step | None:
    if found.steps or not path:
        return found.step(path)
    kept = await view.journal.steps(found.tenant, found.key, path)
    return ended_with(found, read_step(kept[0])) if kept else None


async def _log(view: View, found: Run, one: Step, most: int) -> dict[str, Any]:
    """The end of a step's log; ``follow`` is where the script asks for it while the step runs."""
    text, size = "", 0
    if one.log_digest:
        text, size = await asyncio.to_thread(_tail, await view.artifacts.path_of(one.log_digest), most)
    runs = not one.state.ended and not one.log_digest
    follow = f"/api/tally/runs/{found.key}/log?{urlencode({'path': one.path})}" if runs else ""
    return {"text": text, "size": size, "cut": size > most, "follow": follow}


def _tail(path: Path, most: int) -> tuple[str, int]:
    """The end of a log as text that does nothing, and the bytes of all of it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - most))
        return plain(file.read(most).decode("utf-8", "replace")), size
