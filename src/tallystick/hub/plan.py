"""Plan: admit a pipeline with its parameters, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tallystick.core.errors import BadInput, NotSupported, Refused
from tallystick.core.pipeline.check import check_pipeline
from tallystick.core.pipeline.order import components
from tallystick.core.pipeline.params import check_params
from tallystick.core.pipeline.spec import Component, Constant, Dag, FromInput, Importer, Pipeline
from tallystick.core.run.events import Run
from tallystick.core.run.options import RunOptions
from tallystick.hub.house import House
from tallystick.hub.house.bounds import check_values
from tallystick.hub.house.rows import artifact_at, check_exists, table_of
from tallystick.hub.house.specs import keep_spec
from tallystick.ports.executor import Executor

__all__ = ["check_honoured", "check_told", "checked", "plan"]


async def plan(
    house: House,
    pipeline: Pipeline,
    spec: bytes,
    given: Mapping[str, Any],
    options: RunOptions | None = None,
    *,
    key: str = "",
) -> Run:
    """A run of ``pipeline``, recorded and ready to execute; ``spec`` is the file as it was handed in.

    ``key``, of which there must be no run yet, is made where none is given.

    Refused before anything is written: references to nothing, parameters of the wrong type or of over
    256 KiB together (TooLarge), a condition that is none, a component that the executor cannot run, a table
    that does not exist, options that cannot be.
    """
    options = options or RunOptions()
    params = await checked(house, pipeline, given, options)
    run = Run(
        key=key or house.new_key("run"),
        pipeline=pipeline.name,
        spec_digest=await keep_spec(house, spec),
        params=params,
        started_ms=house.clock.now_ms(),
        tenant=house.tenant,
        options=options,
    )
    await house.tell("run", run.key, "planned", run, f"pipeline {pipeline.name}")
    return run


async def checked(
    house: House, pipeline: Pipeline, given: Mapping[str, Any], options: RunOptions
) -> dict[str, Any]:
    """All parameters of a run, about which nothing is known to be wrong; refused is what ``plan`` refuses."""
    check_honoured(house, pipeline, options)
    params = check_params(pipeline, given)
    check_values("parameter", params, "ingest it, or have a step read it")
    await check_told(house, pipeline, params, options)
    return params


def check_honoured(house: House, pipeline: Pipeline, options: RunOptions) -> None:
    """Refused is what no run of ``pipeline`` can have, whatever its parameters, naming task and construct.

    What the parameters tell is for :func:`check_told`.
    """
    options.check()
    check_pipeline(pipeline)
    _check_conditions(house, pipeline.root, "")
    executor = house.executor_of(options.on)
    for path, component in components(pipeline.root):
        _check_component(executor, path, options.fitted(component), options)


def _check_component(executor: Executor, path: str, component: Component, options: RunOptions) -> None:
    try:
        executor.check(component, commands=options.commands)
    except (NotSupported, Refused) as wrong:
        raise type(wrong)(wrong.what, where=f"task {path}", hint=wrong.hint) from wrong


async def check_told(
    house: House, pipeline: Pipeline, params: Mapping[str, Any], options: RunOptions, *, later: bool = False
) -> None:
    """Refused is what ``params``, some of the pipeline's, tell and no run can have: resources that the
    executor lacks, what cannot be imported. With ``later`` a table need not be there yet.
    """
    _check_amounts(house, pipeline, params, options)
    for path, uri in _imported(pipeline.root, params, ""):
        if await artifact_at(house, uri) is None:
            table = table_of(uri, f"task {path}")
            if not later:
                await check_exists(house, table)


def _check_amounts(house: House, pipeline: Pipeline, params: Mapping[str, Any], options: RunOptions) -> None:
    for task in pipeline.root.tasks:
        body = task.body
        if not (isinstance(body, Component) and body.resources.later):
            continue
        told = {name: params.get(b.name) for name, b in task.inputs.items() if isinstance(b, FromInput)}
        later = tuple(pair for pair in body.resources.later if told.get(pair[1]) is not None)
        known = replace(body, resources=replace(body.resources, later=later))
        try:
            fitted = options.fitted(known, told)
        except BadInput as wrong:
            raise type(wrong)(wrong.what, where=f"task {task.name}", hint=wrong.hint) from wrong
        _check_component(house.executor_of(options.on), task.name, fitted, options)


def _check_conditions(house: House, dag: Dag, prefix: str) -> None:
    """BadInput for a condition that is none, naming its task."""
    for task in dag.tasks:
        path = prefix + task.name
        if task.trigger.condition:
            try:
                house.conditions.check(task.trigger.condition)
            except BadInput as wrong:
                raise BadInput(wrong.what, where=f"task {path}", hint=wrong.hint) from wrong
        if isinstance(task.body, Dag):
            _check_conditions(house, task.body, f"{path}/")


def _imported(dag: Dag, params: Mapping[str, Any], prefix: str) -> list[tuple[str, str]]:
    """Paths and URIs of importers, as far as these are known before: constants and pipeline parameters."""
    uris: list[tuple[str, str]] = []
    for task in dag.tasks:
        if isinstance(task.body, Importer):
            binding = task.body.uri
            value = params.get(binding.name) if isinstance(binding, FromInput) else None
            value = binding.value if isinstance(binding, Constant) else value
            if isinstance(value, str):
                uris.append((prefix + task.name, value))
        elif isinstance(task.body, Dag):
            uris += _imported(task.body, {}, f"{prefix}{task.name}/")
    return uris
