"""Graphs of tasks: each task with its body, its inputs, its loop and what it waits for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from tallystick.core.errors import BadInput, TooLarge
from tallystick.core.names import check_name
from tallystick.core.pipeline.check import DEPTH_MAX, TASKS_MAX
from tallystick.core.pipeline.order import task_order
from tallystick.core.pipeline.spec import (
    Binding,
    Component,
    Constant,
    Dag,
    DagOutput,
    FromInput,
    Importer,
    Loop,
    Source,
    Task,
)
from tallystick.doors.kfp.bindings import Scope, read_inputs
from tallystick.doors.kfp.definitions import Interface, read_interface
from tallystick.doors.kfp.executors import read_component, read_importer
from tallystick.doors.kfp.loops import read_loop
from tallystick.doors.kfp.node import Node
from tallystick.doors.kfp.outputs import read_outputs
from tallystick.doors.kfp.platforms import env_of, timeout_of
from tallystick.doors.kfp.policies import read_cache, read_retry, read_trigger

__all__ = ["Graphs"]

_TASK = frozenset(
    {
        "taskInfo", "componentRef", "inputs", "dependentTasks", "cachingOptions", "triggerPolicy",
        "parameterIterator", "artifactIterator", "iteratorPolicy", "retryPolicy",
    }
)  # fmt: skip
_ITERATORS = ("parameterIterator", "artifactIterator")
_COMPONENT = frozenset({"inputDefinitions", "outputDefinitions", "dag", "executorLabel"})
_COMPONENT_REFUSED = {
    "singlePlatformSpecs": "a setting for one platform",
    "taskConfigPassthroughs": "a task's configuration handed through (task_config_passthroughs)",
}
_EXECUTOR_REFUSED = {"resolver": "a resolver", "customJob": "a custom job"}


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
        looped = frozenset(
            name
            for name, task in tasks.items()
            if any(task.mapping().get(iterator) is not None for iterator in _ITERATORS)
        )
        scope = Scope(path, depth, around, absent, siblings, looped)
        body = tuple(self._task(name, task, scope) for name, task in tasks.items())
        dag = Dag(body, read_outputs(fields.get("outputs"), scope))
        try:
            task_order(dag)
        except BadInput as circle:
            raise fields["tasks"].wrong(circle.what) from None
        return dag

    def _component(self, task: Node) -> Node:
        ref = task.need("componentRef")
        ref.fields(frozenset({"name"}))
        name = ref.need("name").text()
        if name not in self._components:
            raise ref.wrong(f"there is no component {name[:80]!r}")
        return self._components[name]

    def _face(self, name: str, task: Node, path: str) -> Interface:
        with naming(path + name):
            try:
                check_name("task", name)
            except BadInput as wrong:
                raise task.wrong(wrong.what, hint=wrong.hint) from None
            component = self._component(task)
            if component.key not in self._faces:
                component.fields(_COMPONENT, _COMPONENT_REFUSED)
                self._faces[component.key] = read_interface(component)
            return self._faces[component.key]

    def _task(self, name: str, node: Node, scope: Scope) -> Task:
        with naming(scope.path + name):
            fields = node.fields(_TASK)
            _check_info(fields.get("taskInfo"))
            face = scope.siblings[name]
            inputs = read_inputs(fields.get("inputs"), face, scope)
            task = Task(
                name,
                Dag(()),
                inputs,
                after=_after(fields.get("dependentTasks"), scope),
                loop=read_loop(fields, inputs, face),
                trigger=read_trigger(fields.get("triggerPolicy")),
                retry=read_retry(fields.get("retryPolicy")),
                cache=read_cache(fields.get("cachingOptions")),
            )
            component = self._component(node)
            parts = component.fields(_COMPONENT, _COMPONENT_REFUSED)
            if ("dag" in parts) == ("executorLabel" in parts):
                raise component.wrong("a component has either a dag or an executorLabel")
            if "executorLabel" in parts:
                if "container" in self._executor(component):
                    _check_given(task, face, node)
                return self._step(task, component, face)
            if task.retry.tries:
                raise fields["retryPolicy"].refuse("a retry of a whole graph", "set it on the tasks inside")
            absent = _fill(inputs, task.loop, face, component)
            dag = self.read(component, face, absent, f"{scope.path}{name}/", scope.depth + 1)
            return replace(task, body=dag)

    def _step(self, task: Task, component: Node, face: Interface) -> Task:
        """A task that a component or an importer does; in a loop, with a graph of its own around it."""
        if task.loop is None:
            return replace(task, body=self._body(component, task.inputs, face))
        seen = {name: FromInput(name) for name in (*task.inputs, task.loop.item)}
        inner = Task(task.name, self._body(component, seen, face), seen, retry=task.retry, cache=task.cache)
        outputs = (*face.out_params, *face.out_artifacts)
        dag = Dag((inner,), tuple(DagOutput(name, (Source(task.name, name),)) for name in outputs))
        outer = {**task.inputs}
        for param in face.params.values():
            if param.default is not None and param.name not in seen:
                outer[param.name] = Constant(param.default)  # the condition may ask for it
        return Task(task.name, dag, outer, task.after, task.loop, task.trigger)

    def _body(self, component: Node, inputs: Mapping[str, Binding], face: Interface) -> Component | Importer:
        executor = self._executor(component)
        settings = self._settings.get(component.need("executorLabel").text())
        timeout_s, told = timeout_of(settings), env_of(settings)
        if "importer" in executor:
            return read_importer(executor["importer"], inputs, face)
        found = read_component(component.key, executor["container"], face, inputs, timeout_s)
        return replace(found, env={**found.env, **told})

    def _executor(self, component: Node) -> dict[str, Node]:
        label = component.need("executorLabel")
        if label.text() not in self._executors:
            raise label.wrong(f"there is no executor {label.text()[:80]!r}")
        node = self._executors[label.text()]
        executor = node.fields(frozenset({"container", "importer"}), _EXECUTOR_REFUSED)
        if len(executor) != 1:
            raise node.wrong("an executor is either a container or an importer")
        return executor


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
        if slot.name not in inputs and not (loop and loop.item == slot.name):
            if not slot.optional:
                raise component.wrong(f"its input artifact {slot.name!r} has no source")
            absent.add(slot.name)
    return frozenset(absent)


def _check_given(task: Task, face: Interface, node: Node) -> None:
    given = {*task.inputs, task.loop.item} if task.loop else {*task.inputs}
    for param in face.params.values():
        if param.name not in given and param.default is None and not param.optional:
            raise node.wrong(f"its parameter {param.name!r} has no value")
    for slot in face.artifacts.values():
        if slot.name not in given and not slot.optional:
            raise node.wrong(f"its input artifact {slot.name!r} has no source")


def _check_info(node: Node | None) -> None:
    """The display name is for eyes only: a task goes by its own name here."""
    if node is not None:
        name = node.fields(frozenset({"name"})).get("name")
        if name is not None:
            name.text()


def _after(node: Node | None, scope: Scope) -> tuple[str, ...]:
    names = node.items() if node else []
    for name in names:
        if name.text() not in scope.siblings:
            raise name.wrong(f"it waits for task {name.text()[:80]!r}, which does not exist")
    return tuple(dict.fromkeys(name.text() for name in names))
