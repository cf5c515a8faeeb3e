"""Plan: admit a pipeline with its parameters, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tallystick.core.errors import BadInput, NotSupported
from tallystick.core.pipeline.check import check_pipeline
from tallystick.core.pipeline.order import components
from tallystick.core.pipeline.params import check_params
from tallystick.core.pipeline.spec import Constant, Dag, FromInput, Importer, Pipeline
from tallystick.core.run.events import Run
from tallystick.hub.house import House
from tallystick.hub.house.bounds import check_values
from tallystick.hub.house.removal import remove
from tallystick.hub.house.rows import check_exists, table_of

__all__ = ["plan"]


async def plan(house: House, pipeline: Pipeline, spec: bytes, given: Mapping[str, Any]) -> Run:
    """A run of ``pipeline``, recorded and ready to execute; ``spec`` is the file as it was handed in.

    Refused before anything is written: references to nothing, parameters of the wrong type or of over
    256 KiB together (TooLarge), a condition that is none, a component that the executor cannot run, a table
    that does not exist.
    """
    check_pipeline(pipeline)
    params = check_params(pipeline, given)
    check_values("parameter", params, "ingest it, or have a step read it")
    _check_conditions(house, pipeline.root, "")
    for path, component in components(pipeline.root):
        try:
            house.executor.check(component)
        except NotSupported as wrong:
            raise NotSupported(wrong.what, where=f"task {path}", hint=wrong.hint) from wrong
    for uri in _imported(pipeline.root, params):
        await check_exists(house, table_of(uri))
    folder = house.folder("plan")
    try:
        file = folder / "pipeline.yaml"
        file.write_bytes(spec)
        blob = await house.artifacts.put_file(file)
    finally:
        await remove(folder)
    run = Run(
        key=house.new_key("run"),
        pipeline=pipeline.name,
        spec_digest=blob.digest,
        params=params,
        started_ms=house.clock.now_ms(),
        tenant=house.tenant,
    )
    await house.tell("run", run.key, "planned", run, f"pipeline {pipeline.name}")
    return run


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


def _imported(dag: Dag, params: Mapping[str, Any]) -> list[str]:
    """URIs of importers as far as they are known before the run: constants and pipeline parameters."""
    uris: list[str] = []
    for task in dag.tasks:
        if isinstance(task.body, Importer):
            binding = task.body.uri
            value = params.get(binding.name) if isinstance(binding, FromInput) else None
            value = binding.value if isinstance(binding, Constant) else value
            if isinstance(value, str):
                uris.append(value)
        elif isinstance(task.body, Dag):
            uris += _imported(task.body, {})
    return uris
