"""The API of studies: begin one, look at it, stop it, let it go on."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.routing import BaseRoute, Route

from tallystick.core.errors import BadInput, NotSupported
from tallystick.core.names import check_name
from tallystick.core.pipeline.check import check_pipeline
from tallystick.core.pipeline.params import read_params
from tallystick.core.pipeline.spec import Pipeline
from tallystick.core.run.options import KUBEFLOW, RunOptions
from tallystick.core.study import Study
from tallystick.doors.api.space import check_space, one_of, read_space
from tallystick.doors.api.wire import (
    answer,
    file_name,
    in_file,
    json_body,
    options_in,
    pipeline_in,
    text,
    texts,
)
from tallystick.hub.house import House
from tallystick.routines.begin import check_given, check_options
from tallystick.routines.tune import Hands, begin_study, resume_study, stop_study, tune, whole_study

__all__ = ["routes"]

DIRECTIONS = ("minimize", "maximize")
SAMPLERS = ("tpe", "cmaes", "random", "grid")
PRUNERS = ("none", "hyperband", "median")
TRIALS_MAX = 100_000
PARALLEL_MAX = 1000
SEED_MAX = 2**31 - 1
METRIC_CHARS_MAX = 250


class _Studies:
    def __init__(self, house: House, hands: Hands, read: Callable[[bytes], Pipeline]) -> None:
        self.house = house
        self.hands = hands
        self.read = read

    async def begin(self, request: Request) -> Any:
        body = await json_body(request)
        options = _options(body)

        def checked(spec: bytes) -> Pipeline:
            pipeline = self.read(spec)
            check_pipeline(pipeline)
            return pipeline

        pipeline, spec = await pipeline_in(body, checked)
        check_options(self.house, pipeline, options)
        draft = replace(self._draft(body, pipeline), options=options)
        searched = {one.name for one in draft.space}
        left = {p.name: p.default for p in pipeline.params if p.name not in searched}
        await check_given(self.house, pipeline, {**left, **draft.params}, options)
        return self._go_on(await begin_study(self.house, draft, spec))

    def _draft(self, body: Mapping[str, Any], pipeline: Pipeline) -> Study:
        said, filename = texts(body, "params_text"), file_name(text(body, "space_filename", ""))
        trials = _count(body, "trials", 20, TRIALS_MAX)
        direction = text(body, "direction", "minimize")
        draft = Study(
            key="",
            name=check_name("study", text(body, "name", "") or pipeline.name),
            pipeline=pipeline.name,
            spec_digest="",
            objective=_metric(text(body, "objective")),
            space=(),
            params=read_params(pipeline, said),
            maximize=one_of(direction, DIRECTIONS, "direction", "direction") == "maximize",
            sampler=one_of(text(body, "sampler", "tpe"), SAMPLERS, "sampler", "sampler"),
            pruner=one_of(text(body, "pruner", "none"), PRUNERS, "pruner", "pruner"),
            seed=_count(body, "seed", secrets.randbelow(SEED_MAX), SEED_MAX, 0),
            trials_max=trials,
            parallel=_count(body, "parallel", 1, PARALLEL_MAX),
            failures_max=_count(body, "failures_max", max(3, trials // 2), TRIALS_MAX, 0),
        )
        try:
            draft = replace(draft, space=read_space(text(body, "space")))
            check_space(draft, pipeline)
        except BadInput as wrong:
            if wrong.where.startswith("["):
                raise in_file(wrong, filename) from wrong
            raise type(wrong)(wrong.what, where=_named(wrong.where, filename), hint=wrong.hint) from wrong
        return draft

    async def one(self, request: Request) -> Any:
        return await whole_study(self.house, request.path_params["key"])

    async def stop(self, request: Request) -> Any:
        return await stop_study(self.house, request.path_params["key"])

    async def resume(self, request: Request) -> Any:
        body, key = await json_body(request), request.path_params["key"]
        trials = _count(body, "trials", 0, TRIALS_MAX, 0)
        parallel = _count(body, "parallel", 0, PARALLEL_MAX, 0)
        ending = (await self.house.get("study", key, Study)).state.ended and self.house.tasks.get(key)
        if ending:  # it has told its end, and only tidies up
            await asyncio.wait([ending])
        return self._go_on(await resume_study(self.house, key, trials, parallel))

    def _go_on(self, study: Study) -> Study:
        """Have it carried on in the background, where it is not yet."""
        if study.key not in self.house.tasks:
            self.house.start(study.key, tune(self.house, study, self.hands))
        return study


def _named(where: str, filename: str) -> str:
    """The space's file in the place of the word for it."""
    return filename if where == "space" and filename else where


def _options(body: Mapping[str, Any]) -> RunOptions:
    """How each trial is to be done; NotSupported where nobody would learn how it fares on the way."""
    options = options_in(body)
    if options.on == KUBEFLOW and text(body, "pruner", "none") != "none":
        what = "a pruner reads what steps log to MLflow here, and steps on a Kubeflow cannot"
        raise NotSupported(what, where="pruner", hint="leave it out")
    if options.experiment or options.parent_record:
        raise BadInput("a study's trials are filed below the study", where="options")
    return options


def _metric(name: str) -> str:
    if len(name) > METRIC_CHARS_MAX or not name.isprintable():
        raise BadInput(f"{name[:80]!r} cannot be a metric's name", where="objective")
    return name


def _count(body: Mapping[str, Any], name: str, default: int, high: int, low: int = 1) -> int:
    value = body.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise BadInput(f"{name!r} must be a whole number from {low} to {high}", where="body")
    return value


def routes(house: House, hands: Hands, read: Callable[[bytes], Pipeline]) -> list[BaseRoute]:
    """Routes under ``/api/tally/studies``; ``read`` makes a pipeline of a file's bytes."""
    api = _Studies(house, hands, read)
    at = "/api/tally/studies"
    return [
        Route(at, answer(api.begin, 202), methods=["POST"]),
        Route(f"{at}/{{key}}", answer(api.one), methods=["GET"]),
        Route(f"{at}/{{key}}/stop", answer(api.stop, 202), methods=["POST"]),
        Route(f"{at}/{{key}}/resume", answer(api.resume, 202), methods=["POST"]),
    ]
