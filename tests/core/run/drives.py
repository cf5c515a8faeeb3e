"""Pipelines in few words, and a machine that is told what happens, with what it decided each time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tallystick.core.errors import BadInput
from tallystick.core.pipeline.check import check_pipeline
from tallystick.core.pipeline.spec import (
    Binding,
    Component,
    Constant,
    Dag,
    DagOutput,
    FromInput,
    FromTask,
    Function,
    Loop,
    Param,
    ParamType,
    Pipeline,
    Retry,
    Slot,
    Source,
    Task,
    Trigger,
)
from tallystick.core.run.bind import Facts
from tallystick.core.run.events import (
    Began,
    CancelAsked,
    Decision,
    EndRun,
    Event,
    Resumed,
    RetryDue,
    StartStep,
    StepEnded,
    StepState,
    StopStep,
    WakeAt,
)
from tallystick.core.run.machine import Machine
from tallystick.core.values import Values

__all__ = ["ALWAYS", "LEAF", "Drive", "dag", "each", "exit_of", "leaf", "out"]

LEAF = Component(
    "leaf",
    Function("leaf", "def leaf(): ..."),
    params=(Param("x", ParamType.INTEGER, 0),),
    artifacts=(Slot("data", is_list=True, optional=True),),
    out_params=(Param("out", ParamType.INTEGER),),
    out_artifacts=(Slot("made", optional=True),),
)
ALWAYS = Trigger(regardless=True)


def leaf(name: str, *after: str, tries: int = 0, when: str = "", **inputs: Binding) -> Task:
    """A step that comes after ``after``."""
    return Task(name, LEAF, inputs, after, trigger=Trigger(when), retry=Retry(tries, 1.0, 2.0, 5.0))


def exit_of(name: str, *after: str, **inputs: Binding) -> Task:
    """A step that runs however ``after`` ended."""
    return Task(name, LEAF, inputs, after, trigger=ALWAYS)


def out(task: str, name: str = "out", *others: str) -> DagOutput:
    """The output ``name`` of a graph: that of ``task``, or else of the first of ``others``."""
    return DagOutput(name, tuple(Source(each, name) for each in (task, *others)))


def dag(name: str, *tasks: Task, after: tuple[str, ...] = (), when: str = "", **more: Any) -> Task:
    """A graph as a task, with the outputs and inputs in ``more``."""
    body = Dag(tasks, more.pop("outputs", ()))
    return Task(name, body, more, after, trigger=Trigger(when))


def each(name: str, items: Binding | list[Any], *tasks: Task, most: int = 0, **more: Any) -> Task:
    """A loop over ``items``, each of them ``item`` inside."""
    body = Dag(tasks, more.pop("outputs", ()))
    over = Constant(items) if isinstance(items, list) else items
    loop = Loop(over, "item", most, more.pop("artifacts", False))
    return Task(name, body, more.pop("inputs", {}), more.pop("after", ()), loop)


ITEM = FromInput("item")
OF = FromTask


class Drive:
    """One run. ``started``, ``stopped``, ``wakes`` and ``ends`` are what was decided by the last event."""

    def __init__(self, *tasks: Task, slots: int = 9, outputs: tuple[DagOutput, ...] = (), **params: Any):
        said = tuple(Param(name, ParamType.STRUCT, optional=True) for name in params)
        self.pipeline = check_pipeline(Pipeline("p", Dag(tasks, outputs), said))
        self.params, self.slots, self.now = params, slots, 0
        self.journal: list[Event] = []
        self.asked = 0
        self.machine = self._machine()

    def _machine(self) -> Machine:
        return Machine(self.pipeline, self.params, self._holds, Facts("p", "run-1"))

    def _holds(self, text: str, params: Mapping[str, Any]) -> bool:
        """A condition is the name of a parameter, perhaps with ``not`` before it."""
        self.asked += 1
        name = text.removeprefix("not ")
        if name not in params:
            raise BadInput(f"there is no {name!r}", where="condition")
        return bool(params[name]) is (name == text)

    def tell(self, event: Event) -> list[Decision]:
        """Have it applied; the time is the event's own."""
        self.journal.append(event)
        decided = self.machine.apply(event)
        self.starts = [d for d in decided if isinstance(d, StartStep)]
        self.started = [d.path for d in self.starts]
        self.stopped = [d.path for d in decided if isinstance(d, StopStep)]
        self.wakes = [(d.path, d.at_ms) for d in decided if isinstance(d, WakeAt)]
        self.ends = [d.state for d in decided if isinstance(d, EndRun)]
        return decided

    def begin(self) -> list[str]:
        """What starts first."""
        self.tell(Began(self.now, self.slots))
        return self.started

    def done(self, path: str, state: StepState = StepState.SUCCEEDED, **outputs: Any) -> list[str]:
        """The step succeeded; tuples among its outputs are artifacts. What starts then."""
        params = {n: v for n, v in outputs.items() if not isinstance(v, tuple)}
        artifacts = {n: v for n, v in outputs.items() if isinstance(v, tuple)}
        return self._ended(path, state, Values(params, artifacts))

    def fail(self, path: str, error: str = "boom") -> list[str]:
        """The step failed; what starts then."""
        return self._ended(path, StepState.FAILED, Values(), error)

    def halt(self, path: str) -> list[str]:
        """The step was stopped; what starts then."""
        return self._ended(path, StepState.CANCELLED, Values(), "stopped")

    def _ended(self, path: str, state: StepState, outputs: Values, error: str = "") -> list[str]:
        self.now += 10
        attempt = self.machine.steps[path].attempt if path in self.machine.steps else 1
        self.tell(StepEnded(path, state, self.now, attempt, outputs, error))
        return self.started

    def cancel(self) -> list[str]:
        """Somebody asks for the end; what is to be stopped."""
        self.now += 10
        self.tell(CancelAsked(self.now))
        return self.stopped

    def due(self, path: str) -> list[str]:
        """It is time to try a step again; what starts then."""
        self.now += 10
        self.tell(RetryDue(path, self.now))
        return self.started

    def crash(self, slots: int = 0) -> list[str]:
        """The hub dies and another takes the run up from its journal; what it starts."""
        old, self.machine = self.machine, self._machine()
        for event in self.journal:
            self.machine.apply(event)
        assert (self.machine.steps, self.machine.state) == (old.steps, old.state)
        self.now += 1000
        self.tell(Resumed(self.now, slots or self.slots))
        return self.started

    def states(self) -> dict[str, str]:
        """Every step's state by its path."""
        return {path: str(step.state) for path, step in self.machine.steps.items()}

    @property
    def state(self) -> str:
        """The run's."""
        return str(self.machine.state)

    def inputs(self, path: str) -> Mapping[str, Any]:
        """The parameters with which a step was started last."""
        return self.machine.steps[path].inputs.params
