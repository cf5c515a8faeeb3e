"""One step of a run: from the cache, by import, or by the executor behind a wall."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tallystick.core.data import TableRef
from tallystick.core.errors import BadInput, Failed, TallyError
from tallystick.core.facts import to_json
from tallystick.core.pipeline.spec import Command, Component, Importer
from tallystick.core.run.bind import Facts
from tallystick.core.run.events import Run, StartStep, StepEnded, StepState
from tallystick.core.run.recipe import Kept, Recipe, differing, seed_of
from tallystick.core.values import ArtifactRef, Environment, Values
from tallystick.hub.house import House
from tallystick.hub.house.bounds import check_values
from tallystick.hub.house.cache import Found, StepCache, declared, imported, said_of
from tallystick.hub.house.removal import remove
from tallystick.hub.house.rows import export_table, table_of
from tallystick.ports.executor import Door, InputFile, Job, Outcome

__all__ = ["StepContext", "at_once", "run_step"]

LEFT_MAX = 4
"""Folders of steps that have ended and are yet to be removed: they may be large."""


@dataclass(frozen=True, slots=True)
class StepContext:
    """What all steps of a run share: the run itself, added environment, facts for templates, its cache.

    ``tidying`` are removals under way of folders that steps had.
    """

    run: Run
    env: Mapping[str, str]
    facts: Facts
    cache: StepCache
    tidying: set[asyncio.Task[bool]]


async def run_step(house: House, context: StepContext, ready: StartStep) -> StepEnded:
    """Bring about the step's outputs and say how it ended. Cancelling ends its processes."""
    body = ready.task.body
    if isinstance(body, Importer):
        return await _import(house, context, body, ready)
    if not isinstance(body, Component):
        raise BadInput("only components and importers are steps", where=ready.path)
    ready = replace(ready, inputs=declared(body, ready.inputs))
    found, environment, recipe, said = await _looked_up(context, ready, body)
    if found.kept and not found.verify:
        return _taken(house, ready, found.kept, said)
    async with house.step_slots:
        await _keep_environment(house, environment, said["environment"])
        ended = replace(await _execute(house, context, ready, body, environment), **said)
    if ended.state.done and await context.cache.is_other(body, environment):
        return replace(ended, note="not kept: packages were installed or removed meanwhile")
    return _kept(context, recipe, found, ended)


async def at_once(house: House, context: StepContext, ready: StartStep) -> StepEnded | None:
    """How a step ends whose outputs are there, as far as that can be told without any other work."""
    body = ready.task.body
    if not isinstance(body, Component) or not context.cache.knows(body, ready.path):
        return None
    ready = replace(ready, inputs=declared(body, ready.inputs))
    try:
        found, _, _, said = await _looked_up(context, ready, body)
    except TallyError:  # whoever runs the step meets it again, and says so
        return None
    if found.kept and not found.verify:
        return _taken(house, ready, found.kept, said)
    context.cache.looked[ready.path] = found
    return None


async def _looked_up(
    context: StepContext, ready: StartStep, body: Component
) -> tuple[Found, Environment, Recipe, dict[str, Any]]:
    """What was found for a step, what it is to run on, its recipe, and what its end says of these."""
    cache, own = context.cache, ready.task.cache
    facts = context.facts.of(ready.task.name, ready.path) if isinstance(body.code, Command) else {}
    recipe, environment, digest = await cache.recipe(body, ready.inputs, ready.path, own.key, facts)
    found = cache.looked.pop(ready.path, None) or await cache.look_up(ready.path, recipe, own.enabled)
    said = {"cache_key": recipe.key, "environment": digest, "cache_note": found.note}
    return found, environment, recipe, said


def _taken(house: House, ready: StartStep, kept: Kept, said: Mapping[str, Any]) -> StepEnded:
    now = house.clock.now_ms()
    ended = StepEnded(ready.path, StepState.CACHED, now, ready.attempt, kept.outputs)
    return replace(ended, **said)


def _kept(context: StepContext, recipe: Recipe, found: Found, ended: StepEnded) -> StepEnded:
    """Keep what a step made, unless it is kept already, and note what a second making of it showed."""
    if not ended.state.done:
        return ended
    try:
        return replace(ended, note=_keep(context, recipe, found, ended))
    except TallyError as wrong:  # its log is there all the same
        return replace(ended, state=StepState.FAILED, outputs=Values(), error=str(wrong))


def _keep(context: StepContext, recipe: Recipe, found: Found, ended: StepEnded) -> str:
    others = differing(found.kept.outputs, ended.outputs) if found.kept else []
    if not found.kept or others:
        context.cache.keep(ended.path, recipe, ended.outputs)
    if not found.kept:
        return ""
    if not others:
        return "verified: made again, and the same came out"
    return f"verified: made again, and it differs: {', '.join(others)}, from what {found.kept.run} made"


async def _keep_environment(house: House, environment: Environment, digest: str) -> None:
    if digest not in house.environments:
        if await house.ledger.latest(house.tenant, "environment", digest) is None:
            await house.tell("environment", digest, "seen", environment)
        house.environments.add(digest)


async def _import(house: House, context: StepContext, body: Importer, ready: StartStep) -> StepEnded:
    """The rows of a table, at the snapshot that is the table's for all of this run."""
    if given := context.cache.given.imports.get(ready.path):
        note = f"as in {context.run.reproduces}"
        return StepEnded(
            ready.path, StepState.SUCCEEDED, house.clock.now_ms(), ready.attempt, given, note=note
        )
    uri, task = ready.inputs.params.get("uri"), ready.task
    if not isinstance(uri, str):
        raise BadInput(f"an importer needs a URI, got {str(uri)[:80]!r}", where=ready.path)
    table_of(uri, f"task {task.name}")
    snapshot, recipe = await context.cache.snapshot(uri)
    metadata = said_of(ready, context.facts)
    found = await context.cache.look_up(ready.path, recipe, task.cache.enabled)
    taken = found.kept if not found.verify else None
    if taken:
        state, bare = StepState.CACHED, taken.outputs
    else:
        rows = (await export_table(house, TableRef.parse(snapshot.key)))[1]
        state, bare = StepState.SUCCEEDED, Values({}, {"artifact": (ArtifactRef("artifact", rows.artifact),)})
    now, said = house.clock.now_ms(), {"cache_key": recipe.key, "cache_note": found.note}
    ended = StepEnded(ready.path, state, now, ready.attempt, bare, **said)
    if not taken:
        ended = _kept(context, recipe, found, ended)
    outputs = imported(bare, body, snapshot, metadata)
    return replace(ended, outputs=outputs) if ended.state.done else ended


async def _execute(
    house: House, context: StepContext, ready: StartStep, component: Component, environment: Environment
) -> StepEnded:
    folder, live = house.folder("step"), (context.run.key, ready.path)
    options, shared = context.run.options, context.facts.workspace_path
    log = folder / "log.txt"
    try:
        job = Job(
            key=" ".join(live),
            component=component,
            workdir=_made(folder / "work"),
            params=ready.inputs.params,
            artifacts=await _unpack(house, ready.inputs, _made(folder / "in")),
            env={**context.env, **_run_context(context, ready)},
            environment=environment,
            commands=options.commands,
            shared=Path(shared) if shared else None,
            facts=context.facts.of(ready.task.name, ready.path),
        )
        with log.open("w", encoding="utf-8") as lines:
            house.logs[live] = lines
            try:
                async with _step_door(house, job.key) as door:
                    job = replace(job, door=door)
                    executor = house.executor_of(options.on)
                    outcome = await executor.run(job, lambda line: print(line, file=lines))
            finally:
                del house.logs[live]
        log_digest = (await house.artifacts.put_file(log)).digest
        outputs, error = Values(), outcome.error
        if not error:
            try:
                outputs = await _store(house, outcome)
            except TallyError as wrong:  # its log is there all the same
                error = str(wrong)
        state = StepState.FAILED if error else StepState.SUCCEEDED
        return StepEnded(ready.path, state, house.clock.now_ms(), ready.attempt, outputs, error, log_digest)
    finally:
        await _tidy(context, folder)


async def _tidy(context: StepContext, folder: Path) -> None:
    """Remove a step's folder while others go on; with many to remove, the next step waits for one of them."""
    task = asyncio.create_task(remove(folder))
    context.tidying.add(task)
    task.add_done_callback(context.tidying.discard)
    if len(context.tidying) > LEFT_MAX:
        await asyncio.wait(context.tidying, return_when=asyncio.FIRST_COMPLETED)


def _step_door(house: House, key: str) -> AbstractAsyncContextManager[Door | None]:
    """The step's own way to MLflow, for as long as it runs; None where there is no MLflow."""
    return house.step_door(key) if house.step_door else nullcontext()


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    return folder


def _run_context(context: StepContext, ready: StartStep) -> dict[str, str]:
    """Tags for every MLflow run that the step starts with the stock client (MLFLOW_RUN_CONTEXT)."""
    tags = {"tally.run": context.run.key, "tally.step": ready.path}
    if parent := context.env.get("TALLY_PARENT_RUN"):
        tags["mlflow.parentRunId"] = parent
    env = {"MLFLOW_RUN_CONTEXT": json.dumps(tags), "TALLY_RUN": context.run.key, "TALLY_STEP": ready.path}
    seed = seed_of(context.run.options.seed, ready.path)
    return {**env, "TALLY_SEED": seed} if seed else env


async def _unpack(house: House, inputs: Values, folder: Path) -> dict[str, tuple[InputFile, ...]]:
    files: dict[str, tuple[InputFile, ...]] = {}
    for name, refs in inputs.artifacts.items():
        found: list[InputFile] = []
        for i, ref in enumerate(refs):
            path = folder / f"{len(files)}-{i}"
            await house.artifacts.unpack(ref.digest, path)
            found.append(InputFile(path, ref.schema, ref.metadata))
        files[name] = tuple(found)
    return files


async def _store(house: House, outcome: Outcome) -> Values:
    params = dict(to_json(outcome.params))
    metadata = {name: to_json(file.metadata) for name, file in outcome.artifacts.items()}
    await asyncio.to_thread(check_values, "output", params, "write it to an output artifact")
    await asyncio.to_thread(check_values, "metadata of output", metadata, "write it into the artifact itself")
    artifacts: dict[str, tuple[ArtifactRef, ...]] = {}
    for name, file in outcome.artifacts.items():
        if not file.path.exists():
            raise Failed(f"the step left nothing for its output {name!r}", where=name)
        put = house.artifacts.put_folder if file.path.is_dir() else house.artifacts.put_file
        blob = await put(file.path)
        artifacts[name] = (ArtifactRef(name, blob.digest, file.schema, metadata=file.metadata),)
    return Values(params, artifacts)
