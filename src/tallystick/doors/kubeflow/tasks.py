"""A run's steps as Kubeflow's task details: a tree, with the graphs that the steps lie in as tasks too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tallystick.core.data import ARTIFACT_URI
from tallystick.core.run.events import Run, RunState, Step, StepState
from tallystick.core.values import ArtifactRef, Values
from tallystick.doors.kubeflow.answer import CANCELLED, UNKNOWN
from tallystick.doors.kubeflow.wire import id_of, task_id, when

__all__ = ["STATES", "error_of", "history", "task_details"]

STATES = {
    RunState.RUNNING: "RUNNING",
    RunState.FAILING: "RUNNING",
    RunState.CANCELLING: "CANCELING",
    RunState.SUCCEEDED: "SUCCEEDED",
    RunState.FAILED: "FAILED",
    RunState.CANCELLED: "FAILED",
}
"""A run that was terminated is FAILED with the code CANCELLED, as Kubeflow with Argo has it.

``kfp.Client.wait_for_run_completion`` does not know CANCELED for an end, and would wait for ever.
"""
_STEPS = {
    StepState.RUNNING: "RUNNING",
    StepState.BACKING_OFF: "PENDING",
    StepState.SUCCEEDED: "SUCCEEDED",
    StepState.CACHED: "SUCCEEDED",
    StepState.SKIPPED: "SKIPPED",
    StepState.FAILED: "FAILED",
    StepState.CANCELLED: "CANCELED",
}
_TYPES = {
    "system.Model": "Model",
    "system.Dataset": "Dataset",
    "system.HTML": "HTML",
    "system.Markdown": "Markdown",
    "system.Metrics": "Metric",
    "system.ClassificationMetrics": "ClassificationMetric",
    "system.SlicedClassificationMetrics": "SlicedClassificationMetric",
}
"""Kubeflow's kinds of artifacts; any other is an Artifact."""
_WORST = ("RUNNING", "PENDING", "FAILED", "CANCELED", "SUCCEEDED", "SKIPPED")
"""What a graph's state is: the first of these that one of its tasks is in."""


@dataclass(slots=True)
class _Task:
    path: str
    name: str
    step: Step | None = None
    under: dict[str, _Task] = field(default_factory=dict)
    state: str = "RUNNING"
    started_ms: int = 0
    ended_ms: int = 0


def task_details(run: Run, asked: str) -> list[dict[str, Any]]:
    """Every task of ``run``, the root first, under the run id that was ``asked`` for."""
    root = _Task("", "root")
    for step in run.steps:
        at, parts = root, step.path.split("/")
        for i, part in enumerate(parts):
            at = at.under.setdefault(part, _Task("/".join(parts[: i + 1]), part))
        at.step = step
    _settle(root)
    root.state = STATES[run.state]
    root.started_ms, root.ended_ms = run.started_ms, run.ended_ms
    return list(_shown(run, root, None, asked))


def _settle(task: _Task) -> None:
    """State and times of a task: its step's, or those of the tasks under it."""
    for one in task.under.values():
        _settle(one)
    below = list(task.under.values())
    if task.step is not None:
        task.state = _STEPS[task.step.state]
        task.started_ms, task.ended_ms = task.step.started_ms, task.step.ended_ms
    elif below:
        task.state = next(state for state in _WORST if any(one.state == state for one in below))
        task.started_ms = min((one.started_ms for one in below if one.started_ms), default=0)
        going = task.state in ("RUNNING", "PENDING")
        task.ended_ms = 0 if going else max(one.ended_ms for one in below)


def _shown(run: Run, task: _Task, parent: str | None, asked: str) -> Iterable[dict[str, Any]]:
    own = task_id(run.key, task.path)
    ended = None if task.state in ("RUNNING", "PENDING", "CANCELING") else when(task.ended_ms)
    detail: dict[str, Any] = {
        "run_id": asked,
        "task_id": own,
        "display_name": task.name,
        "create_time": when(task.started_ms),
        "start_time": when(task.started_ms),
        "end_time": ended,
        "state": task.state,
        "parent_task_id": parent,
        "child_tasks": [{"task_id": task_id(run.key, one.path)} for one in task.under.values()],
        "state_history": history(task.state, task.started_ms, task.ended_ms if ended else 0),
    }
    made = run.outputs if parent is None else task.step.outputs if task.step is not None else Values()
    if made.params or made.artifacts:
        detail["outputs"] = _outputs(made)
    if task.step is not None and task.step.error:
        code = CANCELLED if task.step.state is StepState.CANCELLED else UNKNOWN
        detail["error"] = {"code": code, "message": task.step.error}
    yield {name: value for name, value in detail.items() if value not in (None, [])}
    for one in task.under.values():
        yield from _shown(run, one, own, asked)


def _outputs(made: Values) -> dict[str, Any]:
    """As Kubeflow has it since it keeps tasks by itself (PipelineTaskDetail.InputOutputs)."""
    params = [{"parameter_key": n, "value": value, "type": "OUTPUT"} for n, value in made.params.items()]
    artifacts = [
        {
            "artifact_key": name,
            "type": "OUTPUT",
            "artifacts": [one for ref in refs for one in _artifacts(name, ref)],
        }
        for name, refs in made.artifacts.items()
    ]
    return {"parameters": params, "artifacts": artifacts}


def _artifacts(name: str, ref: ArtifactRef) -> Iterator[dict[str, Any]]:
    """An artifact; of metrics, one for each number, as they have it."""
    kind = _TYPES.get(ref.schema, "Artifact")
    one = {
        "artifact_id": ref.digest,
        "type": kind,
        "uri": f"{ARTIFACT_URI}{ref.digest}" if ref.digest else ref.uri,
    }
    if kind != "Metric":
        yield {**one, "name": name, "metadata": ref.metadata}
        return
    for metric, number in ref.metadata.items():
        if type(number) in (int, float) and abs(number) < float("inf"):
            yield {**one, "name": metric, "number_value": number}


def history(state: str, started_ms: int, ended_ms: int) -> list[dict[str, Any]]:
    """The states that something was in, each with the time since when."""
    first = [{"update_time": when(started_ms), "state": "RUNNING"}] if started_ms else []
    return [*first, {"update_time": when(ended_ms), "state": state}] if ended_ms else first


def error_of(run: Run) -> dict[str, Any] | None:
    """Why a run did not succeed, as ``google.rpc.Status``; id and steps say more."""
    if run.state is RunState.CANCELLED:
        return {"code": CANCELLED, "message": run.error or f"run {id_of(run.key)} was cancelled"}
    return {"code": UNKNOWN, "message": run.error} if run.error else None
