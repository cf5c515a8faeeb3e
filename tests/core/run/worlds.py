"""Random pipelines, and a world around the machine that lets steps end as it likes and the hub die."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from tallystick.core.pipeline.order import upstream
from tallystick.core.pipeline.spec import (
    Component,
    Constant,
    Dag,
    DagOutput,
    FinalStatus,
    FromInput,
    FromTask,
    Function,
    Loop,
    Param,
    ParamType,
    Pipeline,
    Retry,
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
from tallystick.core.run.record import read_event, read_step, write_event, write_step
from tallystick.core.values import Values

__all__ = ["World", "condition", "machine_of", "pipelines"]

OUT = Param("out", ParamType.INTEGER)
LEAF = Component("leaf", Function("leaf", ""), out_params=(OUT,), params=(Param("x", ParamType.INTEGER, 0),))
ENDS = (StepState.SUCCEEDED, StepState.SUCCEEDED, StepState.SUCCEEDED, StepState.CACHED, StepState.FAILED)


def condition(text: str, params: Mapping[str, Any]) -> bool:
    """``yes`` or ``no``."""
    return text == "yes"


@st.composite
def _tasks(draw: st.DrawFn, depth: int) -> tuple[Task, ...]:
    tasks: list[Task] = []
    for n in range(draw(st.integers(1, 4))):
        before = [task.name for task in tasks]
        after = draw(st.lists(st.sampled_from(before), unique=True, max_size=2)) if before else []
        trigger = Trigger(draw(st.sampled_from(["", "", "", "yes", "no"])), draw(st.integers(0, 5)) == 0)
        inputs: dict[str, Any] = {}
        if before and draw(st.integers(0, 2)) == 0:
            inputs["x"] = FromTask(draw(st.sampled_from(before)), "out")
        elif before and draw(st.integers(0, 4)) == 0:
            inputs["status"] = FinalStatus(draw(st.sampled_from(before)))
        kind = draw(st.sampled_from(["leaf", "leaf", "dag", "loop"])) if depth < 2 else "leaf"
        body: Component | Dag = LEAF
        loop = None
        if kind != "leaf":
            inner = draw(_tasks(depth + 1))
            sources = tuple(Source(task.name, "out") for task in inner)
            body = Dag(inner, (DagOutput("out", sources[-1:]), DagOutput("any", sources)))
        if kind == "loop":
            items = list(range(draw(st.integers(0, 4))))
            loop = Loop(Constant(items), "x", draw(st.integers(0, 2)))
        retry = Retry(draw(st.integers(0, 2)), 0.5) if kind == "leaf" else Retry()
        tasks.append(Task(f"t{n}", body, inputs, tuple(after), loop, trigger, retry))
    return tuple(tasks)


pipelines = _tasks(0).map(lambda tasks: Pipeline("p", Dag(tasks), (Param("x", ParamType.INTEGER, 1),)))


def machine_of(pipeline: Pipeline) -> Machine:
    """A machine that nothing has happened to."""
    return Machine(pipeline, {"x": 1}, condition, Facts("p", "run-1"))


@dataclass
class World:
    """Carries decisions out, in an order and with ends that ``lots`` decide, and looks at each."""

    pipeline: Pipeline
    slots: int
    lots: random.Random
    cancels: int = 0
    crashes: bool = True
    journal: list[str] = field(default_factory=list)
    told: dict[str, str] = field(default_factory=dict)
    running: dict[str, int] = field(default_factory=dict)
    stopping: set[str] = field(default_factory=set)
    waking: set[str] = field(default_factory=set)
    starts: list[StartStep] = field(default_factory=list)
    ends: list[EndRun] = field(default_factory=list)

    def live(self) -> Machine:
        """From the beginning to the end of the run."""
        self.machine = machine_of(self.pipeline)
        self._tell(Began(0, self.slots))
        for _ in range(5000):
            if self.ends:
                return self.machine
            if self.crashes and self.lots.random() < 0.1:
                self._crash()
            else:
                self._tell(self._next())
        raise AssertionError("the run does not end")

    def _next(self) -> Event:
        now = len(self.journal)
        if self.cancels and self.lots.random() < 0.1:
            self.cancels -= 1
            return CancelAsked(now)
        choices = [*sorted(self.running), *sorted(self.waking)]
        assert choices, "nothing runs, nothing is waited for, and the run has not ended"
        path = self.lots.choice(choices)
        if path in self.waking:
            self.waking.remove(path)
            return RetryDue(path, now)
        attempt = self.running.pop(path)
        if path in self.stopping:
            return StepEnded(path, StepState.CANCELLED, now, attempt, error="stopped")
        state = self.lots.choice(ENDS)
        outputs = Values({"out": now}) if state.done else Values()
        return StepEnded(path, state, now, attempt, outputs, error="" if state.done else "it broke")

    def _tell(self, event: Event) -> None:
        """The journal holds text, as it does on a disk; so do the steps that are said to have changed."""
        self.journal.append(write_event(event))
        for decision in self.machine.apply(event):
            self._take(decision)
        self.told |= {step.path: write_step(step) for step in self.machine.changed()}
        assert [read_step(text) for text in self.told.values()] == list(self.machine.steps.values())

    def _take(self, decision: Decision) -> None:
        if isinstance(decision, StartStep):
            assert decision.path not in self.running, "it runs already"
            assert not self.ends
            self.starts.append(decision)
            self.running[decision.path] = decision.attempt
            assert len(self.running) <= self.slots
            self._check_start(decision)
        elif isinstance(decision, StopStep):
            assert decision.path in self.running
            self.stopping.add(decision.path)
        elif isinstance(decision, WakeAt):
            self.waking.add(decision.path)
        else:
            self.ends.append(decision)

    def _check_start(self, decision: StartStep) -> None:
        """No step starts before what it waits for has ended, and its inputs exist."""
        prefix = decision.path[: -len(decision.task.name)]
        for name in upstream(decision.task):
            path = prefix + name
            below = [
                s
                for p, s in self.machine.steps.items()
                if p == path or p.startswith((path + "/", path + "["))
            ]
            assert all(step.state.ended for step in below), f"{decision.path} before {path}"
            done = path not in self.machine.steps or self.machine.steps[path].state.done
            assert done or decision.task.trigger.regardless, (
                f"{decision.path} after {path}, which gave nothing"
            )
        for name, binding in decision.task.inputs.items():
            if isinstance(binding, Constant | FinalStatus):
                assert name in decision.inputs.params
            elif isinstance(binding, FromInput):
                assert binding.name

    def _crash(self) -> None:
        """The hub dies, and another takes the run up from its journal."""
        old, self.machine = self.machine, machine_of(self.pipeline)
        for text in self.journal:
            self.machine.apply(read_event(text))
        self.machine.changed()
        assert self.machine.steps == old.steps
        assert (self.machine.state, self.machine.error) == (old.state, old.error)
        stopping, self.running, self.stopping, self.waking = self.stopping, {}, set(), set()
        slots = self.lots.randint(1, 4)  # another hub may have other settings
        self.slots = max(self.slots, slots)
        self._tell(Resumed(len(self.journal), slots))
        assert not stopping & self.running.keys(), "it was being stopped, and is started again"
