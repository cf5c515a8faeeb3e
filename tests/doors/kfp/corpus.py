"""The compiled pipelines of these tests, and the core that drives them to their end with outputs made up."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tallystick.core.pipeline.params import check_params
from tallystick.core.pipeline.spec import (
    Command,
    Component,
    Dag,
    Function,
    Importer,
    ParamType,
    Pipeline,
    Task,
)
from tallystick.core.run.bind import Facts
from tallystick.core.run.events import Began, RunState, StartStep, StepEnded, StepState
from tallystick.core.run.machine import Condition, Machine
from tallystick.core.values import ArtifactRef, Values
from tallystick.doors.kfp.reader import read_pipeline

REPO = Path(__file__).parents[3]
HERE = Path(__file__).with_name("pipelines")
READ = [path for folder in ("plain", "flow", "steps") for path in sorted((HERE / folder).glob("*.yaml"))]
KFP_PYTHON = Path(os.environ.get("TALLY_KFP_PYTHON", REPO / ".venv-kfp/bin/python"))

needs_kfp = pytest.mark.skipif(
    not KFP_PYTHON.exists(), reason=f"no kfp SDK at {KFP_PYTHON}: make .venv-kfp, or set TALLY_KFP_PYTHON"
)


def path_of(name: str) -> Path:
    return next(path for path in READ if path.stem == name)


def read(name: str) -> Pipeline:
    return read_pipeline(path_of(name).read_bytes())


def load(name: str) -> Any:
    """The first document of a pipeline that is read, to be changed by hand."""
    return next(iter(yaml.safe_load_all(path_of(name).read_bytes())))


def read_edited(*documents: Any) -> Pipeline:
    return read_pipeline(yaml.safe_dump_all(documents))


def by_name(dag: Dag) -> dict[str, Task]:
    return {task.name: task for task in dag.tasks}


def inner(task: Task) -> dict[str, Task]:
    assert isinstance(task.body, Dag)
    return by_name(task.body)


def component(task: Task) -> Component:
    assert isinstance(task.body, Component)
    return task.body


def function(task: Task) -> Function:
    code = component(task).code
    assert isinstance(code, Function)
    return code


def command(task: Task) -> Command:
    code = component(task).code
    assert isinstance(code, Command)
    return code


def importer(task: Task) -> Importer:
    assert isinstance(task.body, Importer)
    return task.body


def made(path: str, task: Task) -> Values:
    """Outputs of the declared kinds: a number counts for any, and a file says which step made it."""
    if not isinstance(task.body, Component):
        return Values({}, {"artifact": (ArtifactRef("artifact", "imported"),)})
    values = {ParamType.LIST: [{"a": 1}, {"a": 2}], ParamType.STRUCT: {"a": 1}, ParamType.STRING: "s"}
    return Values(
        {p.name: values.get(p.type, 1) for p in task.body.out_params},
        {a.name: (ArtifactRef(a.name, path, a.schema),) for a in task.body.out_artifacts},
    )


@dataclass
class Driven:
    """What started at once, wave by wave, each step's inputs, and where the run ended."""

    machine: Machine
    waves: list[set[str]] = field(default_factory=list)
    inputs: dict[str, Values] = field(default_factory=dict)


def holds(_condition: str, _values: Mapping[str, Any]) -> bool:
    return True


def drive(
    pipeline: Pipeline,
    params: Mapping[str, Any] | None = None,
    outputs: Callable[[str, Task], Values | None] = made,
    condition: Condition = holds,
) -> Driven:
    """Run with outputs made up; a step for which there are none fails."""
    facts = Facts("job", "key", created_ms=0)
    machine = Machine(pipeline, check_params(pipeline, params or {}), condition, facts)
    driven = Driven(machine)
    decided = machine.apply(Began(1, slots=100))
    while starts := [decision for decision in decided if isinstance(decision, StartStep)]:
        driven.waves.append({start.path for start in starts})
        decided = []
        for start in starts:
            driven.inputs[start.path] = start.inputs
            gave = outputs(start.path, start.task)
            state = StepState.FAILED if gave is None else StepState.SUCCEEDED
            event = StepEnded(start.path, state, 2, start.attempt, gave or Values(), "broke")
            decided += machine.apply(event)
    return driven


def finish(pipeline: Pipeline, params: Mapping[str, Any] | None = None) -> Driven:
    """Drive a pipeline that must succeed."""
    driven = drive(pipeline, params)
    assert driven.machine.state is RunState.SUCCEEDED, driven.machine.error
    return driven
