"""Schedule: runs that are started when they are due, each due time once, whatever happens to the hub.

A due time is told to the ledger together with the key of its run, before that run is made. A hub that dies in
between makes the run when it starts again, under that key; one that dies afterwards finds it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from tallystick.core.errors import BadInput, NotFound, TallyError, Unavailable
from tallystick.core.pipeline.params import check_params
from tallystick.core.pipeline.spec import Pipeline
from tallystick.core.run.events import Run
from tallystick.hub.house import House
from tallystick.hub.house.bounds import check_values
from tallystick.ports.runs.calendar import Calendar
from tallystick.routines.begin import check_given, check_options
from tallystick.routines.library import DEFAULT, NAME_CHARS_MAX, TEXT_CHARS_MAX, Filed, Library, check_text
from tallystick.routines.recurring import AT_ONCE_MAX, Schedule, due

__all__ = ["change", "keep", "schedule_of", "schedules", "tick", "wish"]

TICK_S = 1.0
_log = logging.getLogger(__name__)


async def wish(library: Library, calendar: Calendar, spec: bytes, asked: Schedule) -> Schedule:
    """Keep a new schedule of the pipeline in ``spec``, with a key and times of its own.

    Refused now, and not when it is due: a pipeline that cannot be read, what cannot be honoured where it is
    to run, parameters that do not fit, a cron expression that is none.
    """
    house = library.house
    timing = asked.timing.check()
    if timing.cron:
        calendar.check(timing.cron)
    if not 1 <= asked.at_once <= AT_ONCE_MAX:
        raise BadInput(f"between 1 and {AT_ONCE_MAX} runs at once", where="max_concurrency")
    check_text(asked.name, "schedule", NAME_CHARS_MAX)
    check_text(asked.description or "-", "description", TEXT_CHARS_MAX)
    check_text(asked.options.experiment or DEFAULT, "experiment", NAME_CHARS_MAX)
    pipeline = await asyncio.to_thread(library.read, spec)
    check_options(house, pipeline, asked.options)
    params = check_params(pipeline, asked.params)
    check_values("parameter", params, "have a step read it")
    await check_given(house, pipeline, params, asked.options, later=True)
    now = house.clock.now_ms()
    made = replace(
        asked,
        key=house.new_key("schedule"),
        spec_digest=await library.keep(spec),
        created_ms=now,
        changed_ms=now,
        tenant=house.tenant,
    )
    await house.tell("schedule", made.key, "made", made, made.name)
    return made


async def schedules(house: House) -> Sequence[Schedule]:
    """All that were not removed, most recently changed first."""
    return [s for s in await house.all("schedule", Schedule) if not s.removed]


async def schedule_of(house: House, key: str) -> Schedule:
    """One of them; NotFound when there is none."""
    found = await house.find("schedule", key, Schedule)
    if found is None or found.removed:
        raise NotFound(f"no schedule {key[:100]!r}", where="schedule")
    return found


async def change(house: House, key: str, event: str, **changes: Any) -> Schedule:
    """Change ``enabled`` or ``removed``; runs that have begun go on."""
    async with house.lock("schedule", key):
        found = await schedule_of(house, key)
        if any(getattr(found, name) is not value for name, value in changes.items()):
            found = replace(found, changed_ms=house.clock.now_ms(), **changes)
            await house.tell("schedule", key, event, found, found.name)
        return found


async def keep(house: House, read: Callable[[bytes], Pipeline], calendar: Calendar) -> None:
    """Start what is due, until this is cancelled. Runs that were left unfinished are taken up before."""
    library = Library(house, read)
    while True:
        try:
            await tick(library, calendar)
        except Exception as wrong:  # noqa: BLE001  reason: whatever it is, the other schedules must go on
            _log.error("schedules: %s", wrong, exc_info=not isinstance(wrong, TallyError))
        await house.clock.sleep(TICK_S)


async def tick(library: Library, calendar: Calendar) -> None:
    """Start what is due now: of each schedule, as many runs as it may have at once."""
    for found in await schedules(library.house):
        try:
            for _ in range(found.at_once):
                if not await _turn(library, calendar, found.key):
                    break
        except TallyError as wrong:
            _log.error("schedule %s: %s", found.name, wrong)


async def _turn(library: Library, calendar: Calendar, key: str) -> bool:
    """Start one run of a schedule, if one is due; whether it did."""
    house = library.house
    async with house.lock("schedule", key):
        found = await house.get("schedule", key, Schedule)
        if found.removed:
            return False
        if not found.pending:
            now = house.clock.now_ms()
            when = due(found, now, calendar.following, calendar.latest) if found.enabled else None
            if when is None:
                return False
            active = [run for run in found.active if await _goes_on(house, run)]
            if len(active) >= found.at_once:
                return False
            found = replace(
                found, pending=house.new_key("run"), due_ms=when, after_ms=when, active=tuple(active)
            )
            await house.tell("schedule", key, "due", found, found.name)
        await _launch(library, found)
        return True


async def _launch(library: Library, found: Schedule) -> None:
    """Make the run that is pending, and say so; or say why it cannot be, and go on with times to come.

    Unavailable (a full disk) is neither: it stays pending.
    """
    house = library.house
    try:
        spec = await library.spec(found.spec_digest)
        await library.start(spec, found.params, found.options, _filing(found), found.pending)
    except Unavailable:
        raise
    except TallyError as wrong:
        said: Mapping[str, Any] = {"pending": "", "error": str(wrong), "after_ms": house.clock.now_ms()}
        await house.tell("schedule", found.key, "failed", replace(found, **said), str(wrong))
        return
    active = (*found.active, found.pending)
    begun = replace(found, pending="", active=active, last_run=found.pending, error="")
    await house.tell("schedule", found.key, "started", begun, found.pending)


def _filing(found: Schedule) -> Filed:
    at = datetime.fromtimestamp(found.due_ms / 1000, UTC)
    name = f"{found.name} {at:%Y-%m-%d %H:%M:%S}"
    return Filed(found.pending, name, schedule=found.key, due_ms=found.due_ms, about=found.about)


async def _goes_on(house: House, run: str) -> bool:
    found = await house.find("run", run, Run)
    return found is not None and not found.state.ended
