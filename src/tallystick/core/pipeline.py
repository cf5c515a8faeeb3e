"""Pipelines: a graph of tasks, as Kubeflow's PipelineSpec 2.x means it, in our own words.

A task's body is a component (a Python function), an importer (data that exists already) or a graph
of its own, which may run once for each item of a loop. Wire types stay at the door: this module
knows no YAML.
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tallystick.core.errors import BadInput
from tallystick.core.facts import to_json
from tallystick.core.names import digest_of

__all__ = [
    "DEPTH_MAX",
    "TASKS_MAX",
    "Binding",
    "Component",
    "Constant",
    "Dag",
    "DagOutput",
    "FromInput",
    "FromTask",
    "Importer",
    "Loop",
    "Param",
    "ParamType",
    "Pipeline",
    "Slot",
    "Task",
    "check_params",
    "check_pipeline",
    "components",
    "is_param",
    "read_params",
    "task_order",
    "upstream",
]

TASKS_MAX = 10_000
DEPTH_MAX = 20


class ParamType(enum.StrEnum):
    """The parameter types of PipelineSpec 2.x that carry a value."""

    STRING = "STRING"
    INTEGER = "NUMBER_INTEGER"
    DOUBLE = "NUMBER_DOUBLE"
    BOOLEAN = "BOOLEAN"
    LIST = "LIST"
    STRUCT = "STRUCT"


_PYTHON_TYPES: dict[ParamType, type | tuple[type, ...]] = {
    ParamType.STRING: str,
    ParamType.INTEGER: int,
    ParamType.DOUBLE: (int, float),
    ParamType.BOOLEAN: bool,
    ParamType.LIST: list,
    ParamType.STRUCT: dict,
}


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of a pipeline or component; ``default`` None with ``optional`` means it may be absent."""

    name: str
    type: ParamType
    default: Any = None
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Slot:
    """An artifact input or output: its name and schema title, for example ``system.Model``."""

    name: str
    schema: str = "system.Artifact"
    is_list: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that stands in the pipeline itself."""

    value: Any


@dataclass(frozen=True, slots=True)
class FromInput:
    """An input of the graph around the task; ``item_field`` picks one field of a loop item."""

    name: str
    item_field: str = ""


@dataclass(frozen=True, slots=True)
class FromTask:
    """An output of another task of the same graph; of a looped task it is the list of all iterations."""

    task: str
    output: str


Binding = Constant | FromInput | FromTask


@dataclass(frozen=True, slots=True)
class Component:
    """A Python function with its source: what runs, in a process of its own, for one step."""

    name: str
    function: str
    source: str
    packages: tuple[str, ...] = ()
    params: tuple[Param, ...] = ()
    artifacts: tuple[Slot, ...] = ()
    out_params: tuple[Param, ...] = ()
    out_artifacts: tuple[Slot, ...] = ()


@dataclass(frozen=True, slots=True)
class Importer:
    """Brings in data that exists already, by URI (``tally://tables/NAME[@SNAPSHOT]``)."""

    uri: Binding
    schema: str = "system.Dataset"


@dataclass(frozen=True, slots=True)
class Loop:
    """Run the graph once for each of ``items``, bound to the graph's input ``item``.

    ``parallel_max`` 0 means no limit of its own.
    """

    items: Binding
    item: str
    parallel_max: int = 0


@dataclass(frozen=True, slots=True)
class DagOutput:
    """An output of a graph: the output of one of its tasks."""

    name: str
    task: str
    output: str


@dataclass(frozen=True, slots=True)
class Dag:
    """Tasks and the outputs that the graph shows outside."""

    tasks: tuple[Task, ...]
    outputs: tuple[DagOutput, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """One node: its body, where its inputs come from, and what it waits for beyond them."""

    name: str
    body: Component | Importer | Dag
    inputs: Mapping[str, Binding] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    loop: Loop | None = None
    cache: bool = True


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A whole pipeline."""

    name: str
    root: Dag
    params: tuple[Param, ...] = ()
    description: str = ""

    @property
    def digest(self) -> str:
        """The digest of everything that the pipeline says."""
        return digest_of(to_json(self))


def upstream(task: Task) -> tuple[str, ...]:
    """The names of the tasks of the same graph that must end before ``task`` starts, without repeats."""
    names = [b.task for b in _bindings(task) if isinstance(b, FromTask)]
    return tuple(dict.fromkeys([*names, *task.after]))


def _bindings(task: Task) -> list[Binding]:
    bindings: list[Binding] = [*task.inputs.values()]
    if task.loop:
        bindings.append(task.loop.items)
    if isinstance(task.body, Importer):
        bindings.append(task.body.uri)
    return bindings


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
    body = next((task.body for task in dag.tasks if task.name == output.task), None)
    if isinstance(body, Component):
        return any(p.name == output.output for p in body.out_params)
    if isinstance(body, Dag):
        return any(is_param(body, inner) for inner in body.outputs if inner.name == output.output)
    return False


def components(dag: Dag, prefix: str = "") -> Iterator[tuple[str, Component]]:
    """Every component with the path of its task, inner graphs included."""
    for task in dag.tasks:
        path = f"{prefix}{task.name}"
        if isinstance(task.body, Component):
            yield path, task.body
        elif isinstance(task.body, Dag):
            yield from components(task.body, f"{path}/")


def check_params(pipeline: Pipeline, given: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters with their values: the given ones over the defaults.

    BadInput names an unknown parameter, one of the wrong type, or a required one that is missing.
    """
    known = {p.name: p for p in pipeline.params}
    for name in given:
        if name not in known:
            names = ", ".join(known) or "none"
            raise BadInput(f"no parameter {name!r}", where=pipeline.name, hint=f"it has: {names}")
    values: dict[str, Any] = {}
    for param in pipeline.params:
        if param.name in given:
            values[param.name] = _check_value(pipeline.name, param, given[param.name])
        elif param.default is not None or param.optional:
            values[param.name] = param.default
        else:
            raise BadInput(
                f"parameter {param.name!r} has no value", where=pipeline.name, hint=f"say -p {param.name}=..."
            )
    return values


def read_params(pipeline: Pipeline, texts: Mapping[str, str]) -> dict[str, Any]:
    """Values from text, as typed on a command line, read by each parameter's type.

    A STRING is taken as it is, everything else as JSON; BadInput for what cannot be read. Unknown
    names are kept as text for :func:`check_params` to refuse.
    """
    types = {p.name: p.type for p in pipeline.params}
    values: dict[str, Any] = {}
    for name, text in texts.items():
        if types.get(name, ParamType.STRING) is ParamType.STRING:
            values[name] = text
            continue
        try:
            values[name] = json.loads(text)
        except ValueError:
            raise BadInput(f"{text[:80]!r} is not {types[name]}", where=f"parameter {name}") from None
    return values


def _check_value(where: str, param: Param, value: Any) -> Any:
    wanted = _PYTHON_TYPES[param.type]
    wrong_bool = isinstance(value, bool) and param.type is not ParamType.BOOLEAN
    if value is None and param.optional:
        return None
    if not isinstance(value, wanted) or wrong_bool:
        raise BadInput(f"parameter {param.name!r} must be {param.type}, got {str(value)[:80]!r}", where=where)
    if isinstance(value, float) and math.isnan(value):
        raise BadInput(f"parameter {param.name!r} is not a number (NaN)", where=where)
    return value


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
        if output.task not in names:
            raise BadInput(f"output {output.name!r} refers to no task {output.task!r}", where=where)
    if count > TASKS_MAX:
        raise BadInput(f"more than {TASKS_MAX} tasks", where=where)
    task_order(dag, where)
    return count


def _check_task(task: Task, siblings: set[str], inputs: set[str], where: str, depth: int) -> int:
    for other in upstream(task):
        if other not in siblings:
            raise BadInput(f"it needs task {other!r}, which does not exist", where=where)
    for binding in _bindings(task):
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
