"""The frontier of a run: from what has ended, which steps can start, and with which inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tallystick.core.errors import BadInput
from tallystick.core.pipeline import (
    Binding,
    Component,
    Constant,
    Dag,
    FromInput,
    Importer,
    Pipeline,
    Task,
    is_param,
    task_order,
    upstream,
)
from tallystick.core.values import ArtifactRef, Values

__all__ = ["ITEMS_MAX", "Ready", "frontier"]

ITEMS_MAX = 1000
"""Items of one loop: each state of a run is recorded whole, until runs have a journal of their own."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A step whose inputs all exist."""

    path: str
    task: Task
    inputs: Values


def frontier(
    pipeline: Pipeline, params: Mapping[str, Any], started: Mapping[str, Values | None]
) -> tuple[tuple[Ready, ...], Values | None]:
    """The steps that could start now, in order, and the pipeline's outputs once nothing is left.

    ``started`` holds the path of every step that was started, with its outputs, or None as long as
    (or because) there are none.

    A pure function of what has ended, so that a run can always be taken up again from its record.
    """
    walker = _Walker(started)
    outputs = walker.walk(pipeline.root, "", Values(params=params))
    return tuple(walker.ready), outputs


class _Walker:
    """Walks the graph from the top, collecting ready steps and the outputs of what is complete."""

    def __init__(self, started: Mapping[str, Values | None]) -> None:
        self.started = started
        self.ready: list[Ready] = []

    def walk(self, dag: Dag, prefix: str, scope: Values) -> Values | None:
        done: dict[str, Values] = {}
        for task in task_order(dag):
            if all(name in done for name in upstream(task)):
                outputs = self._task(task, prefix + task.name, scope, done)
                if outputs is not None:
                    done[task.name] = outputs
        if len(done) < len(dag.tasks):
            return None
        return _select(dag, done)

    def _task(self, task: Task, path: str, scope: Values, done: Mapping[str, Values]) -> Values | None:
        inputs = _resolve_all(task, path, scope, done)
        if isinstance(task.body, Dag):
            if task.loop:
                return self._loop(task, task.body, path, inputs, _items(task, path, scope, done))
            return self.walk(task.body, f"{path}/", inputs)
        if path in self.started:
            return self.started[path]
        self.ready.append(Ready(path, task, inputs))
        return None

    def _loop(self, task: Task, dag: Dag, path: str, inputs: Values, items: list[Any]) -> Values | None:
        loop = task.loop
        if loop is None:
            return None
        outputs: list[Values] = []
        open_iterations = 0
        for i, item in enumerate(items):
            if loop.parallel_max and open_iterations >= loop.parallel_max:
                return None
            scope = replace(inputs, params={**inputs.params, loop.item: item})
            result = self.walk(dag, f"{path}[{i}]/", scope)
            if result is None:
                open_iterations += 1
            else:
                outputs.append(result)
        if open_iterations:
            return None
        return _collect(dag, outputs)


def _collect(dag: Dag, outputs: Sequence[Values]) -> Values:
    """The outputs of all iterations, in order: lists of parameters, and artifacts one after the other."""
    params: dict[str, Any] = {}
    artifacts: dict[str, tuple[ArtifactRef, ...]] = {}
    for output in dag.outputs:
        if is_param(dag, output):
            params[output.name] = [v.params.get(output.name) for v in outputs]
        else:
            artifacts[output.name] = tuple(ref for v in outputs for ref in v.artifacts.get(output.name, ()))
    return Values(params, artifacts)


def _select(dag: Dag, done: Mapping[str, Values]) -> Values:
    params: dict[str, Any] = {}
    artifacts: dict[str, tuple[ArtifactRef, ...]] = {}
    for output in dag.outputs:
        values = done[output.task]
        if output.output in values.params:
            params[output.name] = values.params[output.output]
        elif output.output in values.artifacts:
            artifacts[output.name] = values.artifacts[output.output]
    return Values(params, artifacts)


def _resolve_all(task: Task, path: str, scope: Values, done: Mapping[str, Values]) -> Values:
    params: dict[str, Any] = {}
    artifacts: dict[str, tuple[ArtifactRef, ...]] = {}
    if isinstance(task.body, Component):
        params |= {p.name: p.default for p in task.body.params if p.default is not None}
    for name, binding in task.inputs.items():
        _resolve(name, binding, path, scope, done, params, artifacts)
    if isinstance(task.body, Importer):
        _resolve("uri", task.body.uri, path, scope, done, params, artifacts)
    return Values(params, artifacts)


def _resolve(
    name: str,
    binding: Binding,
    path: str,
    scope: Values,
    done: Mapping[str, Values],
    params: dict[str, Any],
    artifacts: dict[str, tuple[ArtifactRef, ...]],
) -> None:
    """Put the value that ``binding`` means under ``name``, as a parameter or as artifacts."""
    if isinstance(binding, Constant):
        params[name] = binding.value
        return
    source = scope if isinstance(binding, FromInput) else done[binding.task]
    key = binding.name if isinstance(binding, FromInput) else binding.output
    if key in source.artifacts:
        artifacts[name] = source.artifacts[key]
    elif key in source.params:
        value = source.params[key]
        if isinstance(binding, FromInput) and binding.item_field:
            value = _pick(value, binding.item_field, path)
        if value is not None or name not in params:  # an absent optional leaves the component's default
            params[name] = value
    elif not isinstance(binding, FromInput):
        raise BadInput(f"task {binding.task!r} gave no output {key!r}", where=path)


def _pick(value: Any, name: str, path: str) -> Any:
    if not isinstance(value, Mapping) or name not in value:
        raise BadInput(f"the loop item has no field {name!r}", where=path)
    return value[name]


def _items(task: Task, path: str, scope: Values, done: Mapping[str, Values]) -> list[Any]:
    params: dict[str, Any] = {}
    if task.loop:
        _resolve("items", task.loop.items, path, scope, done, params, {})
    items = params.get("items")
    if not isinstance(items, list):
        raise BadInput(f"the loop needs a list, got {str(items)[:80]!r}", where=path)
    if len(items) > ITEMS_MAX:
        raise BadInput(f"the loop has {len(items)} items, the limit is {ITEMS_MAX}", where=path)
    return items
