"""One step of a run: from the cache, by import, or by the executor behind a wall."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from tallystick.core.errors import BadInput, Failed, TallyError
from tallystick.core.facts import to_json
from tallystick.core.pipeline.spec import Component, Importer
from tallystick.core.run.events import StartStep, StepEnded, StepState
from tallystick.core.values import ArtifactRef, Values, cache_key
from tallystick.hub.house import House
from tallystick.hub.house.bounds import check_values
from tallystick.hub.house.removal import remove
from tallystick.hub.house.rows import export_table, table_of
from tallystick.ports.executor import InputFile, Job, Outcome

__all__ = ["StepContext", "run_step"]


@dataclass(frozen=True, slots=True)
class StepContext:
    """What all steps of a run share: its key, added environment, and the executor's environment digest."""

    run: str
    env: Mapping[str, str]
    environment: str


async def run_step(house: House, context: StepContext, ready: StartStep) -> StepEnded:
    """Bring about the step's outputs and say how it ended. Cancelling ends its processes."""
    body = ready.task.body
    if isinstance(body, Importer):
        return await _import(house, body, ready)
    if not isinstance(body, Component):
        raise BadInput("only components and importers are steps", where=ready.path)
    ready = replace(ready, inputs=_declared(body, ready.inputs))
    cache = ready.task.cache
    key = cache_key(body, ready.inputs, context.environment, cache.key)
    if cache.enabled:
        kept = await _kept(house, key)
        if kept:
            now = house.clock.now_ms()
            return StepEnded(ready.path, StepState.CACHED, now, ready.attempt, kept, cache_key=key)
    async with house.step_slots:
        return await _execute(house, context, ready, body, key)


def _declared(component: Component, inputs: Values) -> Values:
    """What the component knows of a task's inputs; the others were there for its condition and templates."""
    params, slots = {p.name for p in component.params}, {s.name for s in component.artifacts}
    return Values(
        {name: value for name, value in inputs.params.items() if name in params},
        {name: refs for name, refs in inputs.artifacts.items() if name in slots},
    )


async def _import(house: House, body: Importer, ready: StartStep) -> StepEnded:
    uri = ready.inputs.params.get("uri")
    if not isinstance(uri, str):
        raise BadInput(f"an importer needs a URI, got {str(uri)[:80]!r}", where=ready.path)
    snapshot, rows = await export_table(house, table_of(uri))
    ref = ArtifactRef(
        name="artifact",
        digest=rows.artifact,
        schema=body.schema,
        uri=f"tally://tables/{snapshot.key}",
        metadata={
            "uri": f"tally://tables/{snapshot.key}",
            "snapshot": snapshot.key,
            "snapshot_digest": snapshot.digest,
            "rows": snapshot.rows,
        },
    )
    outputs = Values(artifacts={"artifact": (ref,)})
    return StepEnded(ready.path, StepState.SUCCEEDED, house.clock.now_ms(), ready.attempt, outputs)


async def _kept(house: House, key: str) -> Values | None:
    """Outputs kept under a cache key, if every artifact of them is still there."""
    kept = await house.find("step", key, Values)
    if kept is None:
        return None
    for refs in kept.artifacts.values():
        for ref in refs:
            if not await house.artifacts.has(ref.digest):
                return None
    return kept


async def _execute(
    house: House, context: StepContext, ready: StartStep, component: Component, key: str
) -> StepEnded:
    folder = house.folder("step")
    log = folder / "log.txt"
    try:
        job = Job(
            key=f"{context.run} {ready.path}",
            component=component,
            workdir=_made(folder / "work"),
            params=ready.inputs.params,
            artifacts=await _unpack(house, ready.inputs, _made(folder / "in")),
            env={**context.env, **_run_context(context, ready)},
        )
        with log.open("w", encoding="utf-8") as lines:
            async with _step_door(house, job.key) as socket:
                job = replace(job, hub_socket=socket)
                outcome = await house.executor.run(job, lambda line: print(line, file=lines))
        log_digest = (await house.artifacts.put_file(log)).digest
        outputs, error = Values(), outcome.error
        if not error:
            try:
                outputs = await _store(house, outcome)
                await house.tell("step", key, "made", outputs, f"{context.run} {ready.path}")
            except TallyError as wrong:  # its log is there all the same
                outputs, error = Values(), str(wrong)
        state = StepState.FAILED if error else StepState.SUCCEEDED
        now = house.clock.now_ms()
        return StepEnded(ready.path, state, now, ready.attempt, outputs, error, log_digest, key)
    finally:
        await remove(folder)


def _step_door(house: House, key: str) -> AbstractAsyncContextManager[Path | None]:
    """The step's own way to MLflow, for as long as it runs; None where there is no MLflow."""
    return house.step_door(key) if house.step_door else nullcontext()


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    return folder


def _run_context(context: StepContext, ready: StartStep) -> dict[str, str]:
    """Tags for every MLflow run that the step starts with the stock client (MLFLOW_RUN_CONTEXT)."""
    tags = {"tally.run": context.run, "tally.step": ready.path}
    if parent := context.env.get("TALLY_PARENT_RUN"):
        tags["mlflow.parentRunId"] = parent
    return {"MLFLOW_RUN_CONTEXT": json.dumps(tags), "TALLY_RUN": context.run, "TALLY_STEP": ready.path}


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
