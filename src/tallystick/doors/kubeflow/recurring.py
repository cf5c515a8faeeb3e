"""Recurring runs: schedules, as Kubeflow says them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from tallystick.core.errors import BadInput
from tallystick.core.run.options import RunOptions
from tallystick.doors.kubeflow.answer import UNKNOWN, body_of, flag, text
from tallystick.doors.kubeflow.asked import read_asked, shown_source
from tallystick.doors.kubeflow.pages import Field, page_of
from tallystick.doors.kubeflow.shelf import listed
from tallystick.doors.kubeflow.wire import id_of, key_of, millis, when
from tallystick.ports.runs.calendar import Calendar
from tallystick.routines.library import DEFAULT, Library
from tallystick.routines.recurring import Schedule, Timing
from tallystick.routines.schedule import change, schedule_of, schedules, wish

__all__ = ["RecurringRuns"]

OWN = {"trigger", "max_concurrency", "mode", "no_catchup", "namespace"}
_MODES = {"ENABLE": True, "DISABLE": False, "MODE_UNSPECIFIED": False, "": False}
_WHOLE = 2**53


@dataclass(frozen=True)
class RecurringRuns:
    """``/recurringruns``."""

    library: Library
    calendar: Calendar

    async def create(self, request: Request) -> Any:
        """Keep a new schedule."""
        body = await body_of(request)
        asked = await read_asked(self.library, body, OWN)
        mode = text(body, "mode")
        if mode not in _MODES:
            raise BadInput(f"{mode[:40]!r} is no mode", where="mode", hint="ENABLE or DISABLE")
        made = await wish(
            self.library,
            self.calendar,
            asked.spec,
            Schedule(
                key="",
                name=asked.name,
                spec_digest="",
                timing=_timing(body.get("trigger")),
                params=asked.params,
                options=RunOptions(experiment=asked.experiment),
                description=asked.description,
                at_once=_whole(body, "max_concurrency", 1),
                catchup=not flag(body, "no_catchup"),
                enabled=_MODES[mode],
                about=asked.about,
            ),
        )
        return await self._described(made, await self._ids(), whole=True)

    async def all(self, request: Request) -> Any:
        """A page of schedules."""
        scope = request.query_params.get("experiment_id", "")
        wanted = (await self.library.experiment(key_of("experiment", scope))).key if scope else ""
        ids = await self._ids()
        fields: Mapping[str, Field[Schedule]] = {
            "created_at": lambda s: s.created_ms,
            "updated_at": lambda s: s.changed_ms,
            "display_name": lambda s: s.name,
            "description": lambda s: s.description,
            "status": _status,
            "experiment_id": lambda s: ids.get(_experiment(s), ""),
            "recurring_run_id": lambda s: id_of(s.key),
        }
        found = await schedules(self.library.house)
        rows = [s for s in found if not wanted or ids.get(_experiment(s)) == id_of(wanted)]
        shown, total, token = page_of(request, rows, fields, lambda s: s.key, wanted)
        return listed(
            "recurringRuns", [await self._described(s, ids, whole=False) for s in shown], total, token
        )

    async def one(self, request: Request) -> Any:
        """A schedule, with what it runs."""
        found = await schedule_of(self.library.house, _key(request))
        return await self._described(found, await self._ids(), whole=True)

    async def enable(self, request: Request) -> Any:
        """Go on; with catch-up, what was due meanwhile is made up for."""
        await change(self.library.house, _key(request), "resumed", enabled=True)
        return {}

    async def disable(self, request: Request) -> Any:
        """Start no more runs until it is enabled again."""
        await change(self.library.house, _key(request), "paused", enabled=False)
        return {}

    async def remove(self, request: Request) -> Any:
        """Remove a schedule; its runs stay."""
        await change(self.library.house, _key(request), "removed", removed=True)
        return {}

    async def _ids(self) -> dict[str, str]:
        return {e.name: id_of(e.key) for e in await self.library.experiments()}

    async def _described(self, found: Schedule, ids: Mapping[str, str], *, whole: bool) -> dict[str, Any]:
        said = {
            "recurring_run_id": id_of(found.key),
            "display_name": found.name,
            "description": found.description,
            "experiment_id": ids.get(_experiment(found)),
            "max_concurrency": str(found.at_once),
            "mode": "ENABLE" if found.enabled else "DISABLE",
            "status": _status(found),
            "no_catchup": not found.catchup,
            "created_at": when(found.created_ms),
            "updated_at": when(found.changed_ms),
            "trigger": _trigger(found.timing),
            "error": {"code": UNKNOWN, "message": found.error} if found.error else None,
            **await shown_source(self.library, found.about, found.spec_digest, found.params, whole=whole),
        }
        return {name: value for name, value in said.items() if value is not None}


def _experiment(found: Schedule) -> str:
    return found.options.experiment or DEFAULT


def _status(found: Schedule) -> str:
    return "ENABLED" if found.enabled else "DISABLED"


def _key(request: Request) -> str:
    return key_of("schedule", request.path_params["recurring_run"])


def _timing(trigger: Any) -> Timing:
    """When it is due; a cron expression as Kubeflow reads it."""
    if not isinstance(trigger, Mapping):
        raise BadInput("it must be an object", where="trigger")
    said = {name: value for name, value in trigger.items() if value is not None}
    if len(said) != 1 or next(iter(said)) not in ("cron_schedule", "periodic_schedule"):
        raise BadInput("it has either a cron_schedule or a periodic_schedule", where="trigger")
    [(name, inner)] = said.items()
    if not isinstance(inner, Mapping):
        raise BadInput(f"{name} must be an object", where="trigger")
    start, end = millis(inner.get("start_time"), "start_time"), millis(inner.get("end_time"), "end_time")
    if name == "cron_schedule":
        return Timing(cron=_cron(text(inner, "cron")), start_ms=start, end_ms=end)
    every = _whole(inner, "interval_second", 0)
    if every < 1:
        raise BadInput("an interval is at least a second", where="interval_second")
    return Timing(every_s=every, start_ms=start, end_ms=end)


def _cron(given: str) -> str:
    """Kubeflow's form (robfig/cron): the second comes first, always, and the weekday may be left out."""
    if given.strip().startswith("@every"):
        raise BadInput("@every is an interval", where="cron", hint="say interval_second")
    words = given.split()
    if len(words) not in (5, 6) and not given.startswith("@"):
        hint = "six, with the second first; for example '0 0 3 * * *'"
        raise BadInput(f"{given[:60]!r} has {len(words)} fields", where="cron", hint=hint)
    return " ".join([*words, "*"] if len(words) == 5 else words)


def _trigger(timing: Timing) -> dict[str, Any]:
    times = {"start_time": when(timing.start_ms), "end_time": when(timing.end_ms)}
    said = {name: value for name, value in times.items() if value}
    if timing.cron:
        return {"cron_schedule": {**said, "cron": timing.cron}}
    return {"periodic_schedule": {**said, "interval_second": str(timing.every_s)}}


def _whole(body: Mapping[str, Any], name: str, default: int) -> int:
    """A whole number; as protobuf has it, one of 64 bits may come as text."""
    value = body.get(name)
    if value in (None, ""):
        return default
    try:
        number = int(value) if isinstance(value, str) and len(value) < 20 else value
    except ValueError:
        number = None
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= _WHOLE:
        raise BadInput(f"{str(value)[:40]!r} is no whole number", where=name)
    return number
