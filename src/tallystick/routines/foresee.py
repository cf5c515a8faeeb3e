"""Foresee: what a run would come to, were it begun now; nothing is run, and nothing is written."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from tallystick.core.data import Snapshot
from tallystick.core.errors import TallyError
from tallystick.core.pipeline.spec import Component, Importer, Pipeline
from tallystick.core.run.bind import Facts
from tallystick.core.run.events import Began, Run, StartStep, Step, StepEnded, StepState
from tallystick.core.run.foresee import Forecast, Foreseen, Foresight, unknown_in, yet_to_make
from tallystick.core.run.options import Pins, RunOptions
from tallystick.core.values import Values
from tallystick.hub.house import House
from tallystick.hub.house.cache import StepCache, declared, imported, said_of, stored
from tallystick.hub.house.rows import artifact_at, table_of
from tallystick.hub.plan import checked

__all__ = ["foresee"]

SLOTS = 2**31
"""Foreseen steps take no time, and no room."""


async def foresee(
    house: House, pipeline: Pipeline, given: Mapping[str, Any], options: RunOptions | None = None
) -> list[Forecast]:
    """What each step of a run would come to, were it begun now: the cache is asked, and nothing is written.

    Refused is what :func:`tallystick.hub.plan.plan` refuses. Steps whose outputs are to be made are taken to
    succeed.
    """
    options = options or RunOptions()
    params = await checked(house, pipeline, given, options)
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
        if isinstance(body, Importer) and body.optional and inputs.params.get("uri") is None:
            return Forecast(path, Foreseen.HIT, "hit: nothing was given"), Values()
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
