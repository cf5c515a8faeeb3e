"""Schedules, and studies with their trials."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request

from tallystick.core.errors import TallyError
from tallystick.core.facts import from_json
from tallystick.core.run.events import Run
from tallystick.core.study import Study, Trial
from tallystick.doors.console.answer import Page, name_in
from tallystick.doors.console.view import View
from tallystick.drawing.trials import trials_chart
from tallystick.routines.recurring import Schedule, next_due

__all__ = ["schedules", "studies", "study"]

TRIALS_SHOWN = 500


async def schedules(view: View, request: Request) -> Page:
    """All schedules that were not removed: when they are due next, and how their last run went."""
    listing = await view.newest(Schedule)
    found = sorted((s for s in listing.values if not s.removed), key=lambda s: -s.created_ms)
    rows = [(s, _next(view, s), await view.find(Run, s.last_run)) for s in found]
    data = {"schedules": [{"schedule": s, "next_ms": at} for s, at, _ in rows], "left_out": listing.left_out}
    live = any(s.active or s.pending for s in found)
    return Page("making/schedules.html", "Schedules", data, {"rows": rows, "listing": listing}, live)


def _next(view: View, schedule: Schedule) -> int:
    """When it is due next; 0 where that is never, or cannot be said here."""
    if not schedule.enabled or (schedule.timing.cron and view.following is None):
        return 0
    try:
        return next_due(schedule, view.following or (lambda *_: None)) or 0
    except TallyError:
        return 0


async def studies(view: View, request: Request) -> Page:
    """All studies, the newest first, with the best value of each."""
    listing = await view.newest(Study)
    found = sorted(listing.values, key=lambda s: -s.started_ms)
    data = {"studies": found, "left_out": listing.left_out}
    live = any(not s.state.ended for s in found)
    return Page("making/studies.html", "Studies", data, {"studies": found, "listing": listing}, live)


async def study(view: View, request: Request) -> Page:
    """One study: its trials as a chart and as a table."""
    found = await view.one(Study, name_in(request, "key"))
    texts = await view.journal.steps(found.tenant, found.key)
    trials = [from_json(Trial, json.loads(text), found.key) for text in texts] or list(found.trials)
    shown: dict[str, Any] = {
        "study": found, "trials": trials[-TRIALS_SHOWN:], "total": len(trials),
        "chart": trials_chart(trials, found.objective, maximize=found.maximize),
    }  # fmt: skip
    data = {"study": found, "trials": trials}
    return Page("making/study.html", found.name or found.key, data, shown, live=not found.state.ended)
