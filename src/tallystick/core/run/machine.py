"""The machine that drives a run: events in, decisions out. It knows no clock, no disk and no process.

The pipeline is laid out as the run comes to it: a :class:`Graph` for the root, for each graph inside and for
each turn of a loop, with a :class:`Node` for each of its tasks. Each event costs as much as what follows from
it, so that a run's cost grows with the number of its steps and no faster.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from tallystick.core.errors import Conflict, TallyError
from tallystick.core.pipeline.order import upstream
from tallystick.core.pipeline.spec import Dag, Pipeline, Retry
from tallystick.core.run.bind import Facts, Sources, bind, items_of
from tallystick.core.run.events import (
    CancelAsked,
    Decision,
    EndRun,
    Event,
    Resumed,
    RetryDue,
    RunState,
    StartStep,
    Step,
    StepEnded,
    StepState,
    StopStep,
    WakeAt,
)
from tallystick.core.run.layout import Graph, Node, collected, ended_as, selected
from tallystick.core.values import Values

__all__ = ["Condition", "Machine"]

Condition = Callable[[str, Mapping[str, Any]], bool]
"""Whether a CEL expression holds, given ``inputs.parameter_values``; BadInput where that cannot be said."""

_KFP_STATES = {StepState.FAILED: "FAILED", StepState.CANCELLED: "CANCELLED", StepState.SKIPPED: "SKIPPED"}
"""Any other is SUCCEEDED to KFP's PipelineTaskFinalStatus."""


class Machine:
    """One run; :meth:`apply` is the only thing that changes it."""

    def __init__(
        self, pipeline: Pipeline, params: Mapping[str, Any], condition: Condition, facts: Facts
    ) -> None:
        self._condition = condition
        self._slots = 0
        self._facts = facts
        self._nodes: dict[str, Node] = {}
        self._ready: deque[Node] = deque()
        self._resting: dict[str, int] = {}
        self._changed: dict[str, Step] = {}
        self._todo: deque[Callable[[], None]] = deque()
        self._decided: list[Decision] = []
        self._cancels = 0
        self._now = 0
        self._running = 0
        self._root = Graph(pipeline.root, "", Values(params=params), None)
        self.state = RunState.RUNNING
        self.began = False
        """Whether :class:`Began` was applied; one who wants a run to end may be before that."""
        self.steps: dict[str, Step] = {}
        """Every step by its path, in the order in which they started or were skipped."""
        self.outputs = Values()
        self.error = ""
        self.ended_ms = 0

    def apply(self, event: Event) -> list[Decision]:
        """What follows from ``event``. Conflict for the end of a step that was not running."""
        if self.state.ended:
            return []
        self._now, self._decided = event.at_ms, []
        if isinstance(event, StepEnded):
            self._step_ended(event)
        elif isinstance(event, CancelAsked):
            self._cancel()
        elif isinstance(event, RetryDue):
            self._retry(event.path)
        elif isinstance(event, Resumed):
            self._slots = event.slots
            self._resume()
        elif not self.began:
            self.began, self._slots = True, event.slots
            self._lay_out(self._root)
        self._settle()
        return self._decided

    def changed(self) -> list[Step]:
        """The steps that are not as they were when this was last asked for, each once."""
        steps, self._changed = list(self._changed.values()), {}
        return steps

    # ----------------------------------------------------------------------------------------------- events

    def _step_ended(self, event: StepEnded) -> None:
        step, node = self.steps.get(event.path), self._nodes.get(event.path)
        if step is None or node is None or (step.state, step.attempt) != (StepState.RUNNING, event.attempt):
            raise Conflict("a step ended that was not running", where=event.path)
        self._running -= 1
        ended = replace(
            step,
            state=event.state,
            outputs=event.outputs,
            error=event.error,
            log_digest=event.log_digest,
            cache_key=event.cache_key or step.cache_key,
            environment=event.environment or step.environment,
            cache_note=event.cache_note or step.cache_note,
            note=event.note,
            ended_ms=self._now,
        )
        retry = node.task.retry
        if event.state is StepState.FAILED and step.attempt <= retry.tries and self._may_go_on(node):
            self._put(replace(ended, state=StepState.BACKING_OFF))
            self._resting[event.path] = self._now + _wait_ms(retry, step.attempt)
            self._decided.append(WakeAt(event.path, self._resting[event.path]))
            return
        self._put(ended)
        self._end(node, event.state, event.outputs, event.error)

    def _cancel(self) -> None:
        self._cancels += 1
        if self.state is RunState.RUNNING:
            self.state, self.error = RunState.CANCELLING, "cancelled by request"
        for path, step in self.steps.items():
            if step.state is StepState.RUNNING and not self._may_go_on(self._nodes[path]):
                self._decided.append(StopStep(path))
        self._give_up_resting()

    def _retry(self, path: str) -> None:
        if path in self._resting:
            del self._resting[path]
            self._ready.append(self._nodes[path])

    def _resume(self) -> None:
        for path, step in self.steps.items():
            if step.state is not StepState.RUNNING:
                continue
            node = self._nodes[path]
            if self._cancels and not self._may_go_on(node):  # it was told to stop, and it is gone
                self._step_ended(
                    StepEnded(path, StepState.CANCELLED, self._now, step.attempt, error="cancelled")
                )
            else:
                self._decided.append(StartStep(path, node.task, step.inputs, step.attempt))
        self._decided += [WakeAt(path, due_ms) for path, due_ms in sorted(self._resting.items())]

    # ----------------------------------------------------------------------------------- from tasks to steps

    def _settle(self) -> None:
        """Do all that follows, until only the world outside can bring news."""
        while True:
            while self._todo:
                self._todo.popleft()()
            if not self._ready or self._running >= self._slots:
                return
            self._start(self._ready.popleft())

    def _lay_out(self, graph: Graph) -> None:
        for node in graph.nodes.values():
            self._nodes[node.path] = node
            if not node.waits:
                self._todo.append(partial(self._consider, node))
        if not graph.nodes:
            self._todo.append(partial(self._finish, graph))

    def _consider(self, node: Node) -> None:
        """All that the task waits for has ended: it starts, or it is skipped."""
        needed = [node.graph.nodes[name] for name in upstream(node.task)]
        regardless = node.task.trigger.regardless
        node.spared = regardless or node.graph.spared or any(other.spared for other in needed)
        unmet = next((other for other in needed if other.state is None or not other.state.done), None)
        if unmet is not None and not regardless:
            self._skip(node, f"{unmet.task.name} {_how(unmet.state)}")
        elif not self._may_go_on(node):
            self._skip(node, f"the run was {self.state}", cut=True)
        else:
            self._enter(node)

    def _enter(self, node: Node) -> None:
        sources = Sources(
            node.graph.scope,
            node.graph.outputs_of,
            partial(self._status, node),
            self._facts.of(node.task.name, node.path),
        )
        try:
            node.inputs = bind(node.task, node.path, sources)
            condition = node.task.trigger.condition
            if condition and not self._condition(condition, node.inputs.params):
                self._skip(node, "its condition is false")
                return
            node.items = items_of(node.task, node.path, sources)
        except TallyError as wrong:
            self._record(node, StepState.FAILED, str(wrong))
            self._end(node, StepState.FAILED, Values(), str(wrong))
            return
        node.state = StepState.RUNNING
        if not isinstance(node.task.body, Dag):
            self._ready.append(node)
        elif node.task.loop:
            node.results = [None] * len(node.items)
            self._turn(node, node.task.body)
        else:
            self._lay_out(Graph(node.task.body, f"{node.path}/", node.inputs, node))

    def _start(self, node: Node) -> None:
        """Start a step that stood in line, unless the run went wrong meanwhile."""
        before = self.steps.get(node.path)
        if not self._may_go_on(node):
            if before:
                self._give_up(node, before)
            else:
                self._skip(node, f"the run was {self.state}", cut=True)
            return
        attempt = before.attempt + 1 if before else 1
        self._put(Step(node.path, StepState.RUNNING, attempt, node.inputs, started_ms=self._now))
        self._running += 1
        self._decided.append(StartStep(node.path, node.task, node.inputs, attempt))

    def _turn(self, node: Node, dag: Dag) -> None:
        """Begin as many turns of a loop as may be under way; without any left, it has ended."""
        loop = node.task.loop
        most = (loop.parallel_max if loop else 0) or len(node.items)
        while node.turns < len(node.items) and node.open < most and self._may_go_on(node):
            scope = node.scope_of(node.turns)
            graph = Graph(dag, f"{node.path}[{node.turns}]/", scope, node, node.turns)
            node.turns += 1
            node.open += 1
            self._lay_out(graph)
        if node.open:
            return
        if node.turns < len(node.items) and node.bad is None:
            node.bad = StepState.CANCELLED, f"the run was {self.state}"
        if node.bad:
            self._end(node, node.bad[0], Values(), node.bad[1])
        else:
            self._end(node, StepState.SUCCEEDED, collected(dag, node.results), "")

    # --------------------------------------------------------------------------------------- how things end

    def _end(self, node: Node, state: StepState, outputs: Values, error: str) -> None:
        node.state, node.outputs, node.error = state, outputs, error
        if state in (StepState.FAILED, StepState.CANCELLED) and self.state is RunState.RUNNING:
            self.state, self.error = RunState.FAILING, f"{node.path}: {error}"
            self._give_up_resting()
        for follower in node.followers:
            follower.waits -= 1
            if not follower.waits:
                self._todo.append(partial(self._consider, follower))
        node.graph.left -= 1
        if not node.graph.left:
            self._todo.append(partial(self._finish, node.graph))

    def _skip(self, node: Node, why: str, *, cut: bool = False) -> None:
        node.cut = cut
        self._record(node, StepState.SKIPPED, why)
        self._end(node, StepState.SKIPPED, Values(), why)

    def _record(self, node: Node, state: StepState, why: str) -> None:
        """A step that ends without ever having run."""
        now = self._now
        self._put(Step(node.path, state, 0, node.inputs, error=why, started_ms=now, ended_ms=now))

    def _put(self, step: Step) -> None:
        self.steps[step.path] = self._changed[step.path] = step

    def _give_up(self, node: Node, step: Step) -> None:
        """A step that will not be tried again ends with the error of its last try."""
        state = StepState.FAILED if self.state is RunState.FAILING else StepState.CANCELLED
        self._put(replace(step, state=state))
        self._end(node, state, Values(), step.error)

    def _give_up_resting(self) -> None:
        for path in sorted(self._resting):
            if not self._may_go_on(self._nodes[path]):
                del self._resting[path]
                self._give_up(self._nodes[path], self.steps[path])

    def _finish(self, graph: Graph) -> None:
        """All tasks of a graph have ended."""
        state, error = ended_as(graph)
        node = graph.owner
        if node is None:
            self._end_run(graph)
        elif not node.task.loop:
            self._end(node, state, selected(graph), error)
        elif isinstance(node.task.body, Dag):
            node.open -= 1
            if state is StepState.SUCCEEDED:
                node.results[graph.turn] = selected(graph)
            elif node.bad is None:
                node.bad = state, error
            self._turn(node, node.task.body)

    def _end_run(self, graph: Graph) -> None:
        if self.state is RunState.RUNNING:
            self.state, self.outputs = RunState.SUCCEEDED, selected(graph)
        else:
            self.state = RunState.FAILED if self.state is RunState.FAILING else RunState.CANCELLED
        self.ended_ms = self._now
        self._decided.append(EndRun(self.state))

    def _may_go_on(self, node: Node) -> bool:
        """Whether a task may still start, or be tried again: in a run that fails only what is spared."""
        return self.state is RunState.RUNNING or (node.spared and self._cancels < 2)

    def _status(self, node: Node, name: str) -> Mapping[str, Any]:
        other = node.graph.nodes[name]
        status = {
            "state": _KFP_STATES.get(other.state or StepState.SKIPPED, "SUCCEEDED"),
            "pipelineJobResourceName": self._facts.resource_name,
            "pipelineTaskName": name,
        }
        return {**status, "error": {"code": 0, "message": other.error}} if other.error else status


def _how(state: StepState | None) -> str:
    return "failed" if state is StepState.FAILED else f"was {state}"


def _wait_ms(retry: Retry, attempt: int) -> int:
    """How long after try number ``attempt`` the next one is due."""
    try:
        wait_s = min(retry.backoff_s * retry.factor ** (attempt - 1), retry.backoff_max_s)
    except OverflowError:
        wait_s = retry.backoff_max_s
    return int(wait_s * 1000)
