"""Whether a pipeline holds together: references lead somewhere, and nothing waits for itself."""

from __future__ import annotations

from collections.abc import Mapping

from tallystick.core.errors import BadInput
from tallystick.core.pipeline.order import bindings, task_order, upstream
from tallystick.core.pipeline.spec import Binding, Component, Dag, FromInput, Pipeline, Task

__all__ = ["DEPTH_MAX", "TASKS_MAX", "check_pipeline"]

TASKS_MAX = 10_000
DEPTH_MAX = 20


def check_pipeline(pipeline: Pipeline) -> Pipeline:
    """The pipeline, if every reference in it has something to refer to and nothing waits for itself."""
    count = _check_dag(pipeline.root, {p.name for p in pipeline.params}, pipeline.name, 0)
    if count == 0:
        raise BadInput("the pipeline has no task", where=pipeline.name)
    return pipeline


def _check_dag(dag: Dag, inputs: set[str], where: str, depth: int) -> int:
    if depth > DEPTH_MAX:
        raise BadInput(f"graphs are nested deeper than {DEPTH_MAX}", where=where)
    names: set[str] = set()
    for task in dag.tasks:
        if task.name in names:
            raise BadInput(f"two tasks are named {task.name!r}", where=where)
        names.add(task.name)
    count = 0
    for task in dag.tasks:
        count += _check_task(task, names, inputs, f"{where}/{task.name}", depth)
    for output in dag.outputs:
        for source in output.sources:
            if source.task not in names:
                raise BadInput(f"output {output.name!r} refers to no task {source.task!r}", where=where)
    if count > TASKS_MAX:
        raise BadInput(f"more than {TASKS_MAX} tasks", where=where)
    task_order(dag, where)
    return count


def _check_task(task: Task, siblings: set[str], inputs: set[str], where: str, depth: int) -> int:
    for other in upstream(task):
        if other not in siblings:
            raise BadInput(f"it needs task {other!r}, which does not exist", where=where)
    for binding in bindings(task):
        if isinstance(binding, FromInput) and binding.name not in inputs:
            raise BadInput(f"it reads input {binding.name!r}, which does not exist", where=where)
    if task.loop and not isinstance(task.body, Dag):
        raise BadInput("only a graph can be looped over", where=where)
    if isinstance(task.body, Dag):
        inner = set(task.inputs) | ({task.loop.item} if task.loop else set())
        return _check_dag(task.body, inner, where, depth + 1)
    if isinstance(task.body, Component):
        _check_inputs(task.body, task.inputs, where)
    return 1


def _check_inputs(component: Component, inputs: Mapping[str, Binding], where: str) -> None:
    for param in component.params:
        if param.name not in inputs and param.default is None and not param.optional:
            raise BadInput(f"its parameter {param.name!r} has no value", where=where)
    for slot in component.artifacts:
        if slot.name not in inputs and not slot.optional:
            raise BadInput(f"its input artifact {slot.name!r} has no source", where=where)
