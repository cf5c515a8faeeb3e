"""The routes of runs: begin one or foresee it, look at it, read its steps' logs, cancel it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tallystick.core.errors import BadInput, NotSupported
from tallystick.core.facts import from_json, to_json
from tallystick.core.pipeline.params import read_params
from tallystick.core.pipeline.spec import Pipeline
from tallystick.core.run.options import KUBEFLOW, RunOptions
from tallystick.doors.api.logs import read_log
from tallystick.doors.api.wire import answer, file_name, flag, in_file, json_body, number, text, texts
from tallystick.hub.execute import cancel, execute
from tallystick.hub.house import House
from tallystick.hub.house.whole import run_since, whole_run
from tallystick.hub.plan import foresee, plan
from tallystick.ports.runs.cluster import Cluster
from tallystick.routines.mirror import hand_over, mirror

__all__ = ["Clusters", "no_cluster", "routes", "shown_run"]

FAR = 2**62
Clusters = Callable[[str], Cluster]
"""The cluster at a host; Refused for one that the settings do not name."""


def no_cluster(host: str) -> Cluster:
    """There is none."""
    raise NotSupported("this hub hands nothing to clusters", where=host)


class _Runs:
    def __init__(self, house: House, read: Callable[[bytes], Pipeline], clusters: Clusters) -> None:
        self.house = house
        self.read = read
        self.clusters = clusters

    async def begin(self, request: Request) -> Any:
        """Begin a run, or with ``dry_run`` only foresee what it would come to."""
        body = await json_body(request)
        spec, filename = text(body, "spec").encode(), file_name(text(body, "filename", ""))
        params = body.get("params", {})
        if not isinstance(params, dict):
            raise BadInput("'params' must be an object", where="body")
        said = texts(body, "params_text")
        options = _options(body.get("options", {}))
        request.state.dry_run = flag(body, "dry_run")
        try:
            pipeline = await asyncio.to_thread(self.read, spec)
        except BadInput as wrong:
            raise in_file(wrong, filename) from wrong
        given = {**params, **read_params(pipeline, said)}
        if options.on == KUBEFLOW:
            return await self._elsewhere(pipeline, spec, given, options, request.state.dry_run)
        if request.state.dry_run:
            return {"pipeline": pipeline.name, "steps": await foresee(self.house, pipeline, given, options)}
        planned = await plan(self.house, pipeline, spec, given, options)
        self.house.start(planned.key, execute(self.house, pipeline, planned))
        return planned

    async def _elsewhere(
        self, pipeline: Pipeline, spec: bytes, given: Mapping[str, Any], options: RunOptions, dry: bool
    ) -> Any:
        """Hand the run to a cluster, and follow it."""
        if dry:
            raise NotSupported("what a cluster has in its cache is not known here", where="dry_run")
        cluster = self.clusters(options.host)
        run = await hand_over(self.house, pipeline, spec, given, options)
        self.house.start(run.key, mirror(self.house, cluster, run))
        return run

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


def _options(said: Any) -> RunOptions:
    known = RunOptions.__dataclass_fields__
    if not isinstance(said, Mapping):
        raise BadInput("'options' must be an object", where="body")
    if strange := sorted(set(said) - set(known)):
        raise BadInput(f"there is no option {strange[0][:100]!r}", where="options", hint=", ".join(known))
    return from_json(RunOptions, said, "options").check()


def routes(house: House, read: Callable[[bytes], Pipeline], clusters: Clusters) -> list[BaseRoute]:
    """``read`` makes a pipeline of a file's bytes, and ``clusters`` gives the one at a host."""
    runs = _Runs(house, read, clusters)

    async def begin(request: Request) -> Response:
        answered = await answer(runs.begin, 202)(request)
        if answered.status_code == 202 and request.state.dry_run:
            answered.status_code = 200
        return answered

    return [
        Route("/api/tally/runs", begin, methods=["POST"]),
        Route("/api/tally/runs/{key}/cancel", answer(runs.cancel, 202), methods=["POST"]),
        Route("/api/tally/runs/{key}/log", answer(runs.log), methods=["GET"]),
    ]
