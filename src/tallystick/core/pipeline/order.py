"""What comes before what in a graph, and what its outputs are."""

from __future__ import annotations

from collections.abc import Iterator

from tallystick.core.errors import BadInput
from tallystick.core.pipeline.spec import (
    Binding,
    Component,
    Dag,
    DagOutput,
    FinalStatus,
    FromTask,
    Importer,
    Task,
)

__all__ = ["bindings", "components", "is_param", "task_order", "upstream"]


def upstream(task: Task) -> tuple[str, ...]:
    """The names of the tasks of the same graph that must end before ``task`` starts, without repeats."""
    names = [b.task for b in bindings(task) if isinstance(b, FromTask | FinalStatus)]
    return tuple(dict.fromkeys([*names, *task.after]))


def bindings(task: Task) -> list[Binding]:
    """Every place that a task takes something from."""
    found: list[Binding] = [*task.inputs.values()]
    if task.loop:
        found.append(task.loop.items)
    if isinstance(task.body, Importer):
        found.append(task.body.uri)
    return found


def task_order(dag: Dag, where: str = "pipeline") -> tuple[Task, ...]:
    """The graph's tasks with each after all that it waits for; BadInput names the tasks of a cycle."""
    by_name = {task.name: task for task in dag.tasks}
    waiting = {task.name: len(upstream(task)) for task in dag.tasks}
    followers: dict[str, list[str]] = {}
    for task in dag.tasks:
        for needed in upstream(task):
            followers.setdefault(needed, []).append(task.name)
    order = [task for task in dag.tasks if not waiting[task.name]]
    for task in order:
        for name in followers.get(task.name, ()):
            waiting[name] -= 1
            if not waiting[name]:
                order.append(by_name[name])
    if len(order) < len(by_name):
        stuck = sorted(by_name.keys() - {task.name for task in order})
        raise BadInput("tasks wait for each other: " + ", ".join(stuck[:10]), where=where)
    return tuple(order)


def is_param(dag: Dag, output: DagOutput) -> bool:
    """Whether an output of a graph is a parameter, as declared, however deep it comes from."""
    source = output.sources[0]
    body = next((task.body for task in dag.tasks if task.name == source.task), None)
    if isinstance(body, Component):
        return any(p.name == source.output for p in body.out_params)
    if isinstance(body, Dag):
        return any(is_param(body, inner) for inner in body.outputs if inner.name == source.output)
    return False


def components(dag: Dag, prefix: str = "") -> Iterator[tuple[str, Component]]:
    """Every component with the path of its task, inner graphs included."""
    for task in dag.tasks:
        path = f"{prefix}{task.name}"
        if isinstance(task.body, Component):
            yield path, task.body
        elif isinstance(task.body, Dag):
            yield from components(task.body, f"{path}/")
