"""One step of a run: from the cache, by import, or by the executor behind a wall."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
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
from tallystick.hub.house.cache import Found, Looked, StepCache, declared, imported, said_of, stored
from tallystick.hub.house.log import StepLog
from tallystick.hub.house.rows import artifact_at, export_table, table_of
from tallystick.ports.executor import Door, InputFile, Job, Outcome

__all__ = ["StepContext", "at_once", "run_step"]

LEFT_MAX = 8
"""Folders of steps that have ended and are yet to be removed: they may be large."""
FEW = 100
"""Output parameters, and characters of one, that are looked at without a thread, as that takes longer."""


@dataclass(frozen=True, slots=True)
class StepContext:
    """What all steps of a run share: the run itself, added environment, facts for templates, its cache.

    ``tidying`` are removals under way of folders that steps had. See ``kept`` of :class:`Job`.
    """

    run: Run
    env: Mapping[str, str]
    facts: Facts
    cache: StepCache
    tidying: set[asyncio.Future[bool]]
    kept: asyncio.Event | None = None


async def run_step(house: House, context: StepContext, ready: StartStep) -> StepEnded:
    """Bring about the step's outputs and say how it ended. Cancelling ends its processes."""
    body = ready.task.body
    if isinstance(body, Importer):
        if context.kept:
            await context.kept.wait()
        return await _import(house, context, body, ready)
    if not isinstance(body, Component):
        raise BadInput("only components and importers are steps", where=ready.path)
    fitted = context.run.options.fitted(body, ready.inputs.params)
    looked = context.cache.looked.pop(ready.path, None) or await _looked_up(context, ready, body)
    ready, found, recipe, environment, said = looked
    if found.kept and not found.verify:
        return _taken(house, ready, found.kept, said)
    async with house.slots_of(context.run.options.on)[0]:
        await _keep_environment(house, environment, said["environment"])
        ended = replace(await _execute(house, context, ready, fitted, environment), **said)
    if ended.state.done and await context.cache.is_other(body, environment):
        return replace(ended, note="not kept: packages were installed or removed meanwhile")
    return _kept(context, recipe, found, ended)


async def at_once(house: House, context: StepContext, ready: StartStep) -> StepEnded | None:
    """How a step ends whose outputs are there, as far as that can be told without any other work."""
    body = ready.task.body
    if not isinstance(body, Component) or not context.cache.knows(body, ready.path):
        return None
    try:
        looked = await _looked_up(context, ready, body)
    except TallyError:  # whoever runs the step meets it again, and says so
        return None
    if looked.found.kept and not looked.found.verify:
        return _taken(house, ready, looked.found.kept, looked.said)
    context.cache.looked[ready.path] = looked
    return None


async def _looked_up(context: StepContext, ready: StartStep, body: Component) -> Looked:
    cache, own = context.cache, ready.task.cache
    ready = replace(ready, inputs=declared(body, ready.inputs))
    facts = context.facts.of(ready.task.name, ready.path) if isinstance(body.code, Command) else {}
    recipe, environment, digest = await cache.recipe(body, ready.inputs, ready.path, own.key, facts)
    found = await cache.look_up(ready.path, recipe, own.enabled)
    said = {"cache_key": recipe.key, "environment": digest, "cache_note": found.note}
    return Looked(ready, found, recipe, environment, said)


def _taken(house: House, ready: StartStep, kept: Kept, said: Mapping[str, Any]) -> StepEnded:
    now = house.clock.now_ms()
    return StepEnded(ready.path, StepState.CACHED, now, ready.attempt, kept.outputs, **said)


def _kept(context: StepContext, recipe: Recipe, found: Found, ended: StepEnded) -> StepEnded:
    """Keep what a step made, unless it is kept already, and note what a second making of it showed."""
    if not ended.state.done:
        return ended
    try:
        note = _keep(context, recipe, found, ended)
        return replace(ended, note=note) if note else ended
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
    """A stored artifact, or the rows of a table at the snapshot that is the table's for all of this run."""
    if given := context.cache.given.imports.get(ready.path):
        note = f"as in {context.run.reproduces}"
        return StepEnded(
            ready.path, StepState.SUCCEEDED, house.clock.now_ms(), ready.attempt, given, note=note
        )
    uri, task = ready.inputs.params.get("uri"), ready.task
    if uri is None and body.optional:
        now = house.clock.now_ms()
        return StepEnded(ready.path, StepState.SUCCEEDED, now, ready.attempt, note="nothing was given")
    if not isinstance(uri, str):
        raise BadInput(f"an importer needs a URI, got {str(uri)[:80]!r}", where=ready.path)
    if ref := await artifact_at(house, uri):
        outputs, now = stored(ref, ready, context.facts), house.clock.now_ms()
        return StepEnded(ready.path, StepState.SUCCEEDED, now, ready.attempt, outputs)
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
    given, log = folder.with_suffix(".in"), StepLog(folder.with_suffix(".log"))
    try:
        job = Job(
            key=" ".join(live),
            component=component,
            workdir=folder,
            params=ready.inputs.params,
            artifacts=await _unpack(house, ready.inputs, given),
            env={**context.env, **_run_context(context, ready)},
            environment=environment,
            commands=options.commands,
            shared=Path(shared) if shared else None,
            shared_bytes=context.facts.workspace_bytes,
            facts=context.facts.of(ready.task.name, ready.path),
            kept=context.kept,
        )
        with log:
            house.logs[live] = log
            try:
                async with _step_door(house, job.key) as door:
                    job = replace(job, door=door)
                    executor = house.executor_of(options.on)
                    outcome = await executor.run(job, log.say)
            finally:
                del house.logs[live]
        log_digest = await _kept_log(house, log)
        outputs, error = Values(), outcome.error
        if not error:
            try:
                outputs = await _store(house, outcome)
            except TallyError as wrong:  # its log is there all the same
                error = str(wrong)
        state = StepState.FAILED if error else StepState.SUCCEEDED
        return StepEnded(ready.path, state, house.clock.now_ms(), ready.attempt, outputs, error, log_digest)
    finally:
        left = [folder, *([given] if ready.inputs.artifacts else []), *([log.path] if log.begun else [])]
        await _tidy(house, context, left)


async def _kept_log(house: House, log: StepLog) -> str:
    """The digest of what a step printed, once it is among the artifacts; nothing at all is put there once."""
    if log.begun:
        return (await house.artifacts.put_file(log.path)).digest
    if not house.empty_log:
        with log:
            log.begin()
        house.empty_log = (await house.artifacts.put_file(log.path)).digest
    return house.empty_log


async def _tidy(house: House, context: StepContext, left: Sequence[Path]) -> None:
    """Remove what a step had while others go on; with many to remove, the next step waits for one of them."""
    removal = house.remover.removing(*left)
    context.tidying.add(removal)
    removal.add_done_callback(context.tidying.discard)
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
    if inputs.artifacts:
        _made(folder)
    for name, refs in inputs.artifacts.items():
        found: list[InputFile] = []
        for i, ref in enumerate(refs):
            # Its name says what it is, for an importer that is told this path (see artifact_at).
            path = folder / f"{len(files)}-{i}-{ref.digest.removeprefix('sha256:')}"
            await house.artifacts.unpack(ref.digest, path)
            found.append(InputFile(path, ref.schema, ref.metadata))
        files[name] = tuple(found)
    return files


def _is_short(value: Any) -> bool:
    """Whether it takes no time to look at."""
    return len(value) <= FEW if isinstance(value, str) else isinstance(value, int | float)


def _check_outputs(params: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    check_values("output", params, "write it to an output artifact")
    check_values("metadata of output", metadata, "write it into the artifact itself")


async def _store(house: House, outcome: Outcome) -> Values:
    params = dict(to_json(outcome.params))
    metadata = {name: to_json(file.metadata) for name, file in outcome.artifacts.items()}
    if len(params) <= FEW and all(map(_is_short, params.values())) and not any(metadata.values()):
        _check_outputs(params, metadata)
    else:  # up to 16 MiB of JSON
        await asyncio.to_thread(_check_outputs, params, metadata)
    artifacts: dict[str, tuple[ArtifactRef, ...]] = {}
    for name, file in outcome.artifacts.items():
        if not file.path.exists():
            raise Failed(f"the step left nothing for its output {name!r}", where=name)
        put = house.artifacts.put_folder if file.path.is_dir() else house.artifacts.put_file
        blob = await put(file.path)
        artifacts[name] = (ArtifactRef(name, blob.digest, file.schema, metadata=file.metadata),)
    return Values(params, artifacts)
