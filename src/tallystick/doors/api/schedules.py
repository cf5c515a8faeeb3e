"""Schedules in the commands' JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.routing import BaseRoute, Route

from tallystick.core.errors import BadInput
from tallystick.core.facts import to_json
from tallystick.core.pipeline.params import read_params
from tallystick.core.pipeline.spec import Pipeline
from tallystick.core.run.events import Run
from tallystick.doors.api.wire import answer, flag, json_body, options_in, pipeline_in, text, texts
from tallystick.hub.house import House
from tallystick.ports.runs.calendar import Calendar
from tallystick.routines.library import Library
from tallystick.routines.recurring import Schedule, Timing, next_due
from tallystick.routines.schedule import change, schedule_of, schedules, wish

__all__ = ["routes"]


class _Schedules:
    def __init__(self, library: Library, calendar: Calendar) -> None:
        self.library = library
        self.calendar = calendar

    async def add(self, request: Request) -> Any:
        body = await json_body(request)
        said, every_s = texts(body, "params_text"), body.get("every_s", 0)
        at_once = body.get("at_once", 1)
        for name, value in (("every_s", every_s), ("at_once", at_once)):
            if not isinstance(value, int) or isinstance(value, bool):
                raise BadInput(f"{name!r} must be a whole number", where="body")
        options = options_in(body)
        pipeline, spec = await pipeline_in(body, self.library.read)
        asked = Schedule(
            key="",
            name=text(body, "name", "") or pipeline.name,
            spec_digest="",
            timing=Timing(cron=text(body, "cron", ""), every_s=every_s),
            params=read_params(pipeline, said),
            options=options,
            at_once=at_once,
            catchup=flag(body, "catchup"),
        )
        return await self._shown(await wish(self.library, self.calendar, spec, asked))

    async def all(self, _: Request) -> Any:
        return [await self._shown(found) for found in await schedules(self.library.house)]

    async def one(self, request: Request) -> Any:
        return await self._shown(await schedule_of(self.library.house, request.path_params["key"]))

    async def pause(self, request: Request) -> Any:
        return await self._changed(request, "paused", enabled=False)

    async def resume(self, request: Request) -> Any:
        return await self._changed(request, "resumed", enabled=True)

    async def remove(self, request: Request) -> Any:
        return await self._changed(request, "removed", removed=True)

    async def _changed(self, request: Request, event: str, **changes: bool) -> Any:
        key = request.path_params["key"]
        return await self._shown(await change(self.library.house, key, event, **changes))

    async def _shown(self, found: Schedule) -> dict[str, Any]:
        """The schedule, when it is due next (0: no more), and the state of its last run."""
        run = await self.library.house.find("run", found.last_run, Run) if found.last_run else None
        due = next_due(found, self.calendar.following) if found.enabled and not found.removed else None
        return {**to_json(found), "next_due_ms": due or 0, "last_state": run.state if run else ""}


def routes(house: House, read: Callable[[bytes], Pipeline], calendar: Calendar) -> list[BaseRoute]:
    """Routes under ``/api/tally/schedules``; ``read`` makes a pipeline of a file's bytes."""
    api, root = _Schedules(Library(house, read), calendar), "/api/tally/schedules"
    return [
        Route(root, answer(api.add, 201), methods=["POST"]),
        Route(root, answer(api.all), methods=["GET"]),
        Route(root + "/{key}", answer(api.one), methods=["GET"]),
        Route(root + "/{key}/pause", answer(api.pause), methods=["POST"]),
        Route(root + "/{key}/resume", answer(api.resume), methods=["POST"]),
        Route(root + "/{key}/remove", answer(api.remove), methods=["POST"]),
    ]
