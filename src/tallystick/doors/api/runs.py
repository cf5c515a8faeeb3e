"""The routes of runs: begin one or foresee it, look at it, read its steps' logs, cancel it, retry it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tallystick.core.errors import BadInput, NotSupported
from tallystick.core.facts import to_json
from tallystick.core.pipeline.params import read_params
from tallystick.core.pipeline.spec import Pipeline
from tallystick.core.run.options import KUBEFLOW, RunOptions
from tallystick.doors.api.logs import read_log
from tallystick.doors.api.wire import answer, flag, json_body, number, options_in, pipeline_in, texts
from tallystick.hub.execute import cancel
from tallystick.hub.house import House
from tallystick.hub.house.whole import run_since, whole_run
from tallystick.routines.begin import carry_on, planned
from tallystick.routines.foresee import foresee
from tallystick.routines.library import Library

__all__ = ["routes", "shown_run"]

FAR = 2**62


class _Runs:
    def __init__(self, house: House, read: Callable[[bytes], Pipeline]) -> None:
        self.house = house
        self.read = read

    async def begin(self, request: Request) -> Any:
        """Begin a run, or with ``dry_run`` only foresee what it would come to."""
        body = await json_body(request)
        params = body.get("params", {})
        if not isinstance(params, dict):
            raise BadInput("'params' must be an object", where="body")
        said, options = texts(body, "params_text"), options_in(body)
        request.state.dry_run = flag(body, "dry_run")
        pipeline, spec = await pipeline_in(body, self.read)
        given = {**params, **read_params(pipeline, said)}
        if request.state.dry_run:
            return await self._foreseen(pipeline, given, options)
        run = await planned(self.house, pipeline, spec, given, options)
        carry_on(self.house, pipeline, run)
        return run

    async def _foreseen(self, pipeline: Pipeline, given: Mapping[str, Any], options: RunOptions) -> Any:
        if options.on == KUBEFLOW:
            raise NotSupported("what a cluster has in its cache is not known here", where="dry_run")
        return {"pipeline": pipeline.name, "steps": await foresee(self.house, pipeline, given, options)}

    async def retry(self, request: Request) -> Any:
        """Do a run again that failed or was cancelled, where it was done."""
        return await Library(self.house, self.read).retry(request.path_params["key"])

    async def cancel(self, request: Request) -> Any:
        return await cancel(self.house, request.path_params["key"])

    async def log(self, request: Request) -> Any:
        """A piece of a step's log, ``from`` a byte on."""
        path, start = request.query_params.get("path", ""), number(request, "from", 0, FAR)
        return await read_log(self.house, request.path_params["key"], path, start)


async def shown_run(house: House, key: str, request: Request) -> dict[str, Any]:
    """A run with its steps; with ``since``, those that changed after it, and in ``mark`` what to ask next."""
    if "since" not in request.query_params:
        return dict(to_json(await whole_run(house, key)))
    run, mark = await run_since(house, key, number(request, "since", 0, FAR))
    return {**to_json(run), "mark": mark}


def routes(house: House, read: Callable[[bytes], Pipeline]) -> list[BaseRoute]:
    """``read`` makes a pipeline of a file's bytes."""
    runs = _Runs(house, read)

    async def begin(request: Request) -> Response:
        answered = await answer(runs.begin, 202)(request)
        if answered.status_code == 202 and request.state.dry_run:
            answered.status_code = 200
        return answered

    return [
        Route("/api/tally/runs", begin, methods=["POST"]),
        Route("/api/tally/runs/{key}/cancel", answer(runs.cancel, 202), methods=["POST"]),
        Route("/api/tally/runs/{key}/retry", answer(runs.retry, 202), methods=["POST"]),
        Route("/api/tally/runs/{key}/log", answer(runs.log), methods=["GET"]),
    ]
