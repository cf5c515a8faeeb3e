"""Plan: admit a pipeline with its parameters, before anything runs, or foresee what a run would come to."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tallystick.core.data import Snapshot
from tallystick.core.errors import BadInput, NotSupported, Refused, TallyError
from tallystick.core.pipeline.check import check_pipeline
from tallystick.core.pipeline.order import components
from tallystick.core.pipeline.params import check_params
from tallystick.core.pipeline.spec import Component, Constant, Dag, FromInput, Importer, Pipeline
from tallystick.core.run.bind import Facts
from tallystick.core.run.events import Began, Run, StartStep, Step, StepEnded, StepState
from tallystick.core.run.foresee import Forecast, Foreseen, Foresight, unknown_in, yet_to_make
from tallystick.core.run.options import Pins, RunOptions
from tallystick.core.values import Values
from tallystick.hub.house import House
from tallystick.hub.house.bounds import check_values
from tallystick.hub.house.cache import StepCache, declared, imported, said_of, stored
from tallystick.hub.house.rows import artifact_at, check_exists, table_of
from tallystick.hub.house.specs import keep_spec
from tallystick.ports.executor import Executor

__all__ = ["check_honoured", "check_told", "foresee", "plan"]

SLOTS = 2**31
"""Foreseen steps take no time, and no room."""


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
    params = await _checked(house, pipeline, given, options)
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


async def foresee(
    house: House, pipeline: Pipeline, given: Mapping[str, Any], options: RunOptions | None = None
) -> list[Forecast]:
    """What each step of a run would come to, were it begun now: the cache is asked, and nothing is written.

    Refused is what :func:`plan` refuses. Steps whose outputs are to be made are taken to succeed.
    """
    options = options or RunOptions()
    params = await _checked(house, pipeline, given, options)
    now = house.clock.now_ms()
    run = Run(house.new_key("run"), pipeline.name, "", params, started_ms=now, options=options)
    shared = str(house.scratch.parent / "workspaces" / run.key) if pipeline.workspace_bytes else ""
    facts = Facts(pipeline.name, run.key, now, root_uri=pipeline.root_uri, workspace_path=shared)
    machine = Foresight(pipeline, params, house.conditions.holds, facts)
    cache, found, makers = StepCache(house, run, Pins()), dict[str, Forecast](), dict[str, str]()
    waiting = deque(machine.apply(Began(now, SLOTS)))
    while waiting:
        start = waiting.popleft()
        if not isinstance(start, StartStep):
            continue
        try:
            forecast, outputs = await _forecast(house, cache, facts, start, makers)
            ended = StepEnded(start.path, StepState.SUCCEEDED, now, start.attempt, outputs)
        except TallyError as wrong:
            forecast = Forecast(start.path, Foreseen.FAILED, str(wrong))
            ended = StepEnded(start.path, StepState.FAILED, now, start.attempt, error=str(wrong))
        found[start.path] = forecast
        waiting.extend(machine.apply(ended))
    return [*(_told(step, found) for step in machine.steps.values()), *machine.open.values()]


async def _forecast(
    house: House, cache: StepCache, facts: Facts, start: StartStep, makers: dict[str, str]
) -> tuple[Forecast, Values]:
    """What is foreseen for a step, and its outputs; ``makers`` are those that are to make something."""
    body, task, path = start.task.body, start.task, start.path
    inputs = declared(body, start.inputs) if isinstance(body, Component) else start.inputs
    if missing := unknown_in(inputs):
        return Forecast(path, Foreseen.UNKNOWN, f"unknown: depends on {missing}"), yet_to_make(task, path)
    snapshot: Snapshot | None = None
    if isinstance(body, Component):
        recipe, *_ = await cache.recipe(body, inputs, path, task.cache.key, facts.of(task.name, path))
    else:
        uri = str(inputs.params.get("uri"))
        if ref := await artifact_at(house, uri):
            return Forecast(path, Foreseen.HIT, "hit: it is there already"), stored(ref, start, facts)
        table_of(uri, f"task {task.name}")
        snapshot, recipe = await cache.snapshot(uri)
    found = await cache.look_up(path, recipe, task.cache.enabled)
    if found.kept is None:
        twin = makers.setdefault(recipe.key, path)
        note = (
            f"{found.note}; {twin} makes the same, so whichever comes first" if twin != path else found.note
        )
        return Forecast(path, Foreseen.MISS, note, recipe.key), yet_to_make(task, path)
    note = f"{found.note}; to be made again, to verify it" if found.verify else found.note
    outputs = found.kept.outputs
    if isinstance(body, Importer) and snapshot:
        outputs = imported(outputs, body, snapshot, said_of(start, facts))
    return Forecast(path, Foreseen.HIT, note, recipe.key), outputs


def _told(step: Step, found: Mapping[str, Forecast]) -> Forecast:
    """A step of which nothing was asked was skipped, or its inputs could not be made."""
    state = Foreseen.SKIPPED if step.state is StepState.SKIPPED else Foreseen.FAILED
    return found.get(step.path) or Forecast(step.path, state, step.error)


async def _checked(
    house: House, pipeline: Pipeline, given: Mapping[str, Any], options: RunOptions
) -> dict[str, Any]:
    """All parameters of a run, nothing about which is known to be wrong."""
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
