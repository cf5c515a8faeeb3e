"""Foreseeing a run: the machine that drives it, driven with what is known beforehand, and nothing done."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tallystick.core.pipeline.order import is_param, upstream
from tallystick.core.pipeline.spec import Component, Dag, Pipeline, Task
from tallystick.core.run.bind import Facts, NotYet, Unknown
from tallystick.core.run.events import StepState
from tallystick.core.run.layout import Node
from tallystick.core.run.machine import Condition, Machine
from tallystick.core.values import ArtifactRef, Values

__all__ = ["Forecast", "Foreseen", "Foresight", "unknown_in", "yet_to_make"]

WHETHER, HOW_OFTEN = "whether it runs", "how often it runs"
UNKNOWN = "unknown:"
"""How the digest begins of an artifact that is yet to be made; the step's path follows."""


class Foreseen(enum.StrEnum):
    """What a step will come to: outputs taken, outputs made, nobody can say yet, nothing, or an error."""

    HIT = "hit"
    MISS = "miss"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Forecast:
    """What was foreseen for the step at ``path``, and in ``note`` why."""

    path: str
    state: Foreseen
    note: str = ""
    cache_key: str = ""


def yet_to_make(task: Task, path: str) -> Values:
    """The outputs of a task that the step at ``path`` is yet to make."""
    body, unknown = task.body, Unknown(path)
    if isinstance(body, Component):
        params, slots = [p.name for p in body.out_params], [s.name for s in body.out_artifacts]
    elif isinstance(body, Dag):
        params = [output.name for output in body.outputs if is_param(body, output)]
        slots = [output.name for output in body.outputs if output.name not in params]
    else:
        params, slots = [], ["artifact"]
    refs = {name: (ArtifactRef(name, UNKNOWN + path),) for name in slots}
    return Values(dict.fromkeys(params, unknown), refs)


def unknown_in(value: Any) -> str:
    """The path of a step that is yet to make some of ``value``; empty where all of it is known."""
    if isinstance(value, Unknown):
        return value.path
    if isinstance(value, ArtifactRef):
        return value.digest.removeprefix(UNKNOWN) if value.digest.startswith(UNKNOWN) else ""
    if isinstance(value, Values):
        return unknown_in([*value.params.values(), *value.artifacts.values()])
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return next((path for path in map(unknown_in, inner) if path), "")


class Foresight(Machine):
    """A machine in which outputs may be unknown. What depends on them without being a step is in ``open``:
    a condition that cannot be decided yet, a loop whose items are not there.
    """

    def __init__(
        self, pipeline: Pipeline, params: Mapping[str, Any], condition: Condition, facts: Facts
    ) -> None:
        def holds(expression: str, given: Mapping[str, Any]) -> bool:
            missing = unknown_in([value for name, value in given.items() if name in expression])
            if missing:
                raise NotYet(missing)
            return condition(expression, given)

        super().__init__(pipeline, params, holds, facts)
        self.open: dict[str, Forecast] = {}
        self._unsure: dict[str, str] = {}

    def _consider(self, node: Node) -> None:
        """What follows something that may not run may not run either."""
        before = (
            [] if node.task.trigger.regardless else map(node.graph.nodes.__getitem__, upstream(node.task))
        )
        unsure = next((self._unsure[other.path] for other in before if other.path in self._unsure), "")
        if unsure:
            self._leave_open(node, WHETHER, unsure)
        else:
            super()._consider(node)

    def _enter(self, node: Node) -> None:
        try:
            super()._enter(node)
        except NotYet as not_yet:
            self._leave_open(node, WHETHER if node.task.trigger.condition else HOW_OFTEN, not_yet.path)

    def _leave_open(self, node: Node, what: str, path: str) -> None:
        self.open[node.path] = Forecast(node.path, Foreseen.UNKNOWN, f"unknown: {what} depends on {path}")
        if what is WHETHER:
            self._unsure[node.path] = path
        self._end(node, StepState.SUCCEEDED, yet_to_make(node.task, path), "")

    def _end(self, node: Node, state: StepState, outputs: Values, error: str) -> None:
        """A list with something unknown in it is unknown: nothing that reads it looks inside."""
        missing = {name: unknown_in(value) for name, value in outputs.params.items()}
        params = {n: Unknown(missing[n]) if missing[n] else value for n, value in outputs.params.items()}
        super()._end(node, state, Values(params, outputs.artifacts), error)
