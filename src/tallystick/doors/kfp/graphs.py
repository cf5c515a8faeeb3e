"""Graphs of tasks: each task with its body, its inputs, its loop and what it waits for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tallystick.core.errors import BadInput, TooLarge
from tallystick.core.names import check_name
from tallystick.core.pipeline import (
    DEPTH_MAX,
    TASKS_MAX,
    Binding,
    Component,
    Constant,
    Dag,
    Importer,
    Loop,
    Task,
)
from tallystick.doors.kfp.bindings import (
    Scope,
    read_artifact_binding,
    read_param_binding,
)
from tallystick.doors.kfp.definitions import Interface, read_interface
from tallystick.doors.kfp.executors import read_component, read_importer
from tallystick.doors.kfp.loops import read_loop
from tallystick.doors.kfp.node import Node
from tallystick.doors.kfp.outputs import read_outputs

__all__ = ["Graphs"]

_TASK = frozenset(
    {
        "taskInfo", "componentRef", "inputs", "dependentTasks", "cachingOptions",
        "triggerPolicy", "parameterIterator", "iteratorPolicy",
    }
)  # fmt: skip
_TASK_REFUSED = {
    "retryPolicy": "a retry (set_retry)",
    "artifactIterator": "a loop over artifacts (artifactIterator)",
}
_COMPONENT = frozenset({"inputDefinitions", "outputDefinitions", "dag", "executorLabel"})
_COMPONENT_REFUSED = {
    "singlePlatformSpecs": "a setting for one platform",
    "taskConfigPassthroughs": "a task's configuration handed through (task_config_passthroughs)",
}
_EXECUTOR_REFUSED = {"resolver": "a resolver", "customJob": "a custom job"}
_BUILD = "build text out of parameters inside a component, not in the pipeline"
_SUCCEEDED = ("ALL_UPSTREAM_TASKS_SUCCEEDED", "TRIGGER_STRATEGY_UNSPECIFIED")
_COMPLETED = "running after tasks that failed (dsl.ExitHandler, ignore_upstream_failure)"


@contextmanager
def naming(task: str) -> Iterator[None]:
    """Errors raised inside say which task they are about; the innermost task wins."""
    try:
        yield
    except BadInput as wrong:
        if wrong.where.startswith("task "):
            raise
        where = f"task {task}, {wrong.where}" if wrong.where else f"task {task}"
        raise type(wrong)(wrong.what, where=where, hint=wrong.hint) from None


class Graphs:
    """Reads graphs out of the named ``components`` and ``executors`` of one pipeline.

    ``settings`` holds, by executor, what the platform document asks for.
    """

    def __init__(
        self, components: Mapping[str, Node], executors: Mapping[str, Node], settings: Mapping[str, Node]
    ) -> None:
        self._components = components
        self._executors = executors
        self._settings = settings
        self._faces: dict[str, Interface] = {}
        self._count = 0

    def read(self, component: Node, around: Interface, absent: frozenset[str], path: str, depth: int) -> Dag:
        """The graph that ``component`` holds, with all graphs inside it."""
        if depth > DEPTH_MAX:
            raise TooLarge(f"graphs are nested deeper than {DEPTH_MAX}", where=component.where)
        fields = component.need("dag").fields(frozenset({"tasks", "outputs"}))
        tasks = fields["tasks"].mapping() if "tasks" in fields else {}
        self._count += len(tasks)
        if self._count > TASKS_MAX:
            raise TooLarge(f"the pipeline has more than {TASKS_MAX} tasks", where=component.where)
        siblings = {name: self._face(name, task, path) for name, task in tasks.items()}
        scope = Scope(path, depth, around, absent, siblings)
        body = tuple(self._task(name, task, scope) for name, task in tasks.items())
        return Dag(body, read_outputs(fields.get("outputs"), scope))

    def _component(self, task: Node) -> Node:
        ref = task.need("componentRef")
        ref.fields(frozenset({"name"}))
        name = ref.need("name").text()
        if name not in self._components:
            raise ref.wrong(f"there is no component {name[:80]!r}")
        return self._components[name]

    def _face(self, name: str, task: Node, path: str) -> Interface:
        with naming(path + name):
            check_name("task", name)
            component = self._component(task)
            if component.key not in self._faces:
                component.fields(_COMPONENT, _COMPONENT_REFUSED)
                self._faces[component.key] = read_interface(component)
            return self._faces[component.key]

    def _task(self, name: str, node: Node, scope: Scope) -> Task:
        path = scope.path + name
        with naming(path):
            fields = node.fields(_TASK, _TASK_REFUSED)
            _check_trigger(fields.get("triggerPolicy"))
            _check_info(fields.get("taskInfo"))
            face = scope.siblings[name]
            inputs = _inputs(fields.get("inputs"), face, scope)
            loop = read_loop(fields, inputs, face)
            body = self._body(name, self._component(node), inputs, loop, scope)
            return Task(
                name=name,
                body=body,
                inputs={} if isinstance(body, Importer) else inputs,
                after=_after(fields.get("dependentTasks")),
                loop=loop,
                cache=_cache(fields.get("cachingOptions")),
            )

    def _body(
        self, name: str, component: Node, inputs: dict[str, Binding], loop: Loop | None, scope: Scope
    ) -> Component | Importer | Dag:
        fields, face = component.fields(_COMPONENT, _COMPONENT_REFUSED), scope.siblings[name]
        if ("dag" in fields) == ("executorLabel" in fields):
            raise component.wrong("a component has either a dag or an executorLabel")
        if "dag" in fields:
            absent = _fill(inputs, loop, face, component)
            return self.read(component, face, absent, f"{scope.path}{name}/", scope.depth + 1)
        if loop:
            raise component.refuse("a loop around a single component")
        label = fields["executorLabel"].text()
        if label not in self._executors:
            raise fields["executorLabel"].wrong(f"there is no executor {label[:80]!r}")
        if label in self._settings:
            raise self._settings[label].refuse(f"the platform setting {self._settings[label].key!r}")
        executor = self._executors[label].fields(frozenset({"container", "importer"}), _EXECUTOR_REFUSED)
        if len(executor) != 1:
            raise self._executors[label].wrong("an executor is either a container or an importer")
        if "importer" in executor:
            return read_importer(executor["importer"], inputs, face)
        return read_component(executor["container"], face)


def _inputs(node: Node | None, face: Interface, scope: Scope) -> dict[str, Binding]:
    if node is None:
        return {}
    fields = node.fields(frozenset({"parameters", "artifacts"}))
    found: dict[str, Binding | None] = {}
    for name, source in (fields["parameters"].mapping() if "parameters" in fields else {}).items():
        if name not in face.params:
            # So kfp writes an f-string of parameters: as a placeholder, and the parameter beside it.
            raise source.refuse(f"the input {name[:80]!r}, which the component does not declare,", _BUILD)
        found[name] = read_param_binding(source, face.params[name], scope)
    for name, source in (fields["artifacts"].mapping() if "artifacts" in fields else {}).items():
        if name not in face.artifacts:
            raise source.wrong(f"the component has no input artifact {name[:80]!r}")
        found[name] = read_artifact_binding(source, face.artifacts[name], scope)
    return {name: binding for name, binding in found.items() if binding is not None}


def _fill(inputs: dict[str, Binding], loop: Loop | None, face: Interface, component: Node) -> frozenset[str]:
    """Give a graph's inputs their defaults; the names of the optional ones that have none."""
    absent = set()
    for param in face.params.values():
        if param.name in inputs or (loop and loop.item == param.name):
            continue
        if param.default is not None:
            inputs[param.name] = Constant(param.default)
        elif param.optional:
            absent.add(param.name)
        else:
            raise component.wrong(f"its parameter {param.name!r} has no value")
    for slot in face.artifacts.values():
        if slot.name not in inputs:
            if not slot.optional:
                raise component.wrong(f"its input artifact {slot.name!r} has no source")
            absent.add(slot.name)
    return frozenset(absent)


def _check_trigger(node: Node | None) -> None:
    if node is None:
        return
    fields = node.fields(
        frozenset({"strategy"}), {"condition": "a condition (dsl.If, dsl.Elif, dsl.Else, dsl.Condition)"}
    )
    if "strategy" in fields and fields["strategy"].text() not in _SUCCEEDED:
        raise fields["strategy"].refuse(_COMPLETED)


def _check_info(node: Node | None) -> None:
    """The display name is for eyes only: a task goes by its own name here."""
    if node is not None:
        name = node.fields(frozenset({"name"})).get("name")
        if name is not None:
            name.text()


def _after(node: Node | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.text() for name in node.items())) if node else ()


def _cache(node: Node | None) -> bool:
    """Off unless it says on: so PipelineSpec has it, and kfp's compiler writes ``{}`` for off."""
    if node is None:
        return False
    fields = node.fields(frozenset({"enableCache"}), {"cacheKey": "a cache key of one's own"})
    return fields["enableCache"].flag() if "enableCache" in fields else False
