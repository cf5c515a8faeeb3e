"""The routes that compare two runs, do a past run again, and say how that came out."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.routing import BaseRoute, Route

from tallystick.core.errors import BadInput, Conflict
from tallystick.core.facts import to_json
from tallystick.core.pipeline.spec import Pipeline
from tallystick.core.run.events import Run
from tallystick.doors.api.wire import answer
from tallystick.hub.execute import execute
from tallystick.hub.house import House
from tallystick.hub.house.specs import spec_of
from tallystick.routines.differ import TOLERANCE, Difference
from tallystick.routines.reasons import first_of, reasons
from tallystick.routines.reproduce import reproduce
from tallystick.routines.sides import compare_runs, compare_sides, side_of

__all__ = ["routes"]

CHANGES_MAX = 1000
"""Changes of one group in one answer; ``left_off`` says how many more there are."""
RESULTS = ("data", "inputs", "outputs", "metrics", "states")
"""What must be alike for a run to be reproduced; that it came out so on other packages is no failing."""


class _Compare:
    def __init__(self, house: House, read: Callable[[bytes], Pipeline]) -> None:
        self.house = house
        self.read = read

    async def pipeline(self, spec_digest: str) -> Pipeline:
        """The pipeline that a run was made from."""
        return await asyncio.to_thread(self.read, await spec_of(self.house, spec_digest))

    async def compare(self, request: Request) -> Any:
        keys = [request.query_params.get(name, "") for name in ("before", "after")]
        if not all(keys):
            raise BadInput("say which runs: ?before=RUN&after=RUN", where="compare")
        tolerance = _tolerance(request)
        return _shown(await compare_runs(self.house, self.pipeline, keys[0], keys[1], tolerance))

    async def begin(self, request: Request) -> Any:
        again, pipeline, pins, notes = await reproduce(self.house, self.pipeline, request.path_params["key"])
        self.house.start(again.key, execute(self.house, pipeline, again, pins))
        return {"run": again, "notes": notes}

    async def ended(self, request: Request) -> Any:
        key, tolerance = request.path_params["key"], _tolerance(request)
        run = await self.house.get("run", key, Run)
        if not run.reproduces:
            raise BadInput("it reproduces no other run", where=key, hint=f"tally reproduce {key}")
        if not run.state.ended:
            raise Conflict("it has not ended", where=key, hint=f"it reproduces {run.reproduces}")
        before, after = [await side_of(self.house, self.pipeline, k) for k in (run.reproduces, key)]
        difference = await compare_sides(before, after, tolerance)
        first = first_of(difference, before)
        why = reasons(difference, before, after, first) if first else []
        same = not any(difference.groups.get(name) for name in RESULTS)
        told = {"run": run.key, "reproduces": run.reproduces, "first": first, "why": why, "alike": same}
        return {**_shown(difference), **told}


def _shown(difference: Difference) -> Mapping[str, Any]:
    """A difference as JSON: whether there is none, and of each group so much as one wants to read."""
    groups = difference.groups
    left = {name: len(found) - CHANGES_MAX for name, found in groups.items() if len(found) > CHANGES_MAX}
    some = replace(difference, groups={name: found[:CHANGES_MAX] for name, found in groups.items()})
    return {"alike": difference.alike, **to_json(some), "left_off": left}


def _tolerance(request: Request) -> float:
    given = request.query_params.get("tolerance", "")
    try:
        tolerance = float(given or TOLERANCE)
    except ValueError:
        tolerance = math.nan
    if not 0 <= tolerance < 1:
        raise BadInput(f"{given[:40]!r} is no tolerance", where="tolerance", hint="0, or a share like 1e-9")
    return tolerance


def routes(house: House, read: Callable[[bytes], Pipeline]) -> list[BaseRoute]:
    """Under ``/api/tally``: ``GET compare``, ``POST runs/KEY/reproduce``, ``GET runs/KEY/reproduction``."""
    api = _Compare(house, read)
    return [
        Route("/api/tally/compare", answer(api.compare), methods=["GET"]),
        Route("/api/tally/runs/{key}/reproduce", answer(api.begin, 202), methods=["POST"]),
        Route("/api/tally/runs/{key}/reproduction", answer(api.ended), methods=["GET"]),
    ]
