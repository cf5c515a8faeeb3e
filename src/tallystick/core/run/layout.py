"""A run's graphs and tasks, as far as they are laid out, and what a graph comes to in the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tallystick.core.pipeline.order import is_param, upstream
from tallystick.core.pipeline.spec import Dag, Task
from tallystick.core.run.events import StepState
from tallystick.core.values import ArtifactRef, Values

__all__ = ["Graph", "Node", "collected", "ended_as", "selected"]


class Graph:
    """One laying out of a graph: for the pipeline, for a task, or for one turn of a loop."""

    __slots__ = ("dag", "left", "nodes", "owner", "prefix", "scope", "spared", "turn")

    def __init__(self, dag: Dag, prefix: str, scope: Values, owner: Node | None, turn: int = 0) -> None:
        self.dag = dag
        self.prefix = prefix
        self.scope = scope
        self.owner = owner
        self.turn = turn
        self.spared = owner is not None and owner.spared
        self.left = len(dag.tasks)
        self.nodes = {task.name: Node(task, self) for task in dag.tasks}
        for node in self.nodes.values():
            needed = upstream(node.task)
            node.waits = len(needed)
            for name in needed:
                self.nodes[name].followers.append(node)

    def outputs_of(self, name: str) -> Values:
        """What task ``name`` gave; KeyError when it did not succeed."""
        node = self.nodes[name]
        if node.state is None or not node.state.done:
            raise KeyError(name)
        return node.outputs


class Node:
    """One task in one graph.

    ``state`` is None until it starts or is skipped; ``waits`` counts the tasks that it waits for; ``spared``
    ones start in a run that fails, too; ``cut`` ones were skipped for that reason. Of a loop there are
    ``items``, ``turns`` that began, ``open`` ones, their ``results``, and how the first ``bad`` one ended.
    """

    __slots__ = (
        "bad", "cut", "error", "followers", "graph", "inputs", "items", "open", "outputs", "path", "results",
        "spared", "state", "task", "turns", "waits",
    )  # fmt: skip

    def __init__(self, task: Task, graph: Graph) -> None:
        self.task = task
        self.graph = graph
        self.path = graph.prefix + task.name
        self.state: StepState | None = None
        self.inputs = self.outputs = Values()
        self.error = ""
        self.waits = 0
        self.followers: list[Node] = []
        self.spared = self.cut = False
        self.items: Sequence[Any] = ()
        self.turns = self.open = 0
        self.results: list[Values | None] = []
        self.bad: tuple[StepState, str] | None = None

    def scope_of(self, turn: int) -> Values:
        """What the graph of one turn of the loop sees around it."""
        loop, item = self.task.loop, self.items[turn]
        if loop is None:
            return self.inputs
        if loop.artifacts:
            return replace(self.inputs, artifacts={**self.inputs.artifacts, loop.item: (item,)})
        return replace(self.inputs, params={**self.inputs.params, loop.item: item})


def ended_as(graph: Graph) -> tuple[StepState, str]:
    """How a graph ended, all of whose tasks have: as the first that failed, was cancelled or was cut off."""
    for state in (StepState.FAILED, StepState.CANCELLED):
        for node in graph.nodes.values():
            if node.state is state:
                return state, f"{node.task.name}: {node.error}"
    if any(node.cut for node in graph.nodes.values()):
        return StepState.CANCELLED, "the run ended before it was done"
    return StepState.SUCCEEDED, ""


def selected(graph: Graph) -> Values:
    """The outputs that a graph shows; one whose sources were all skipped is left out."""
    params: dict[str, Any] = {}
    artifacts: dict[str, tuple[ArtifactRef, ...]] = {}
    for output in graph.dag.outputs:
        for source in output.sources:
            node = graph.nodes[source.task]
            if node.state is None or not node.state.done:
                continue
            if source.output in node.outputs.params:
                params[output.name] = node.outputs.params[source.output]
            elif source.output in node.outputs.artifacts:
                artifacts[output.name] = node.outputs.artifacts[source.output]
            break
    return Values(params, artifacts)


def collected(dag: Dag, results: Sequence[Values | None]) -> Values:
    """The outputs of all turns in order: lists of parameters, and artifacts one after the other.

    A turn in which the output's task was skipped has none, and none stands for it.
    """
    turns = [values or Values() for values in results]
    params: dict[str, Any] = {}
    artifacts: dict[str, tuple[ArtifactRef, ...]] = {}
    for output in dag.outputs:
        if is_param(dag, output):
            params[output.name] = [v.params[output.name] for v in turns if output.name in v.params]
        else:
            artifacts[output.name] = tuple(
                ref for values in turns for ref in values.artifacts.get(output.name, ())
            )
    return Values(params, artifacts)
