"""What Kubeflow says of a run, in our words (v2beta1 Run, RuntimeState and PipelineTaskDetail)."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tallystick.core.names import canonical_json
from tallystick.core.run.events import RunState, Step, StepState
from tallystick.core.values import ArtifactRef, Values
from tallystick.ports.runs.cluster import Seen

__all__ = ["seen_in"]

ERROR_CHARS_MAX = 500
OUTPUTS_BYTES_MAX = 64 * 1024
"""Of one task's parameters and metrics, as JSON: what is over it is left out."""
NAME_CHARS_MAX = 250
NUMBER_MAX = 1e308
"""JSON has whole numbers that no float can hold."""
DEPTH_MAX = 50
_RUNS = {
    "SUCCEEDED": RunState.SUCCEEDED,
    "SKIPPED": RunState.SUCCEEDED,
    "FAILED": RunState.FAILED,
    "CANCELED": RunState.CANCELLED,
    "CANCELING": RunState.CANCELLING,
}
"""Any other, and none, is running."""
_STEPS = {
    "RUNNING": StepState.RUNNING,
    "PAUSED": StepState.RUNNING,
    "SUCCEEDED": StepState.SUCCEEDED,
    "CACHED": StepState.CACHED,
    "SKIPPED": StepState.SKIPPED,
    "FAILED": StepState.FAILED,
    "CANCELED": StepState.CANCELLED,
    "CANCELING": StepState.RUNNING,
}
"""One that has none of these waits for its turn, and is no step of ours yet."""


def seen_in(run: Mapping[str, Any]) -> Seen:
    """How a run stands, of the JSON of ``GET /apis/v2beta1/runs/ID``; what does not fit is left out."""
    details = run.get("run_details")
    tasks = _objects(details, "task_details") or _objects(run, "tasks")  # the latter since the store of tasks
    roots = (task for task in tasks if _name(task) == "root")
    return Seen(
        state=_RUNS.get(str(run.get("state")), RunState.RUNNING),
        steps=_steps(tasks),
        outputs=_outputs(next(roots, {})),
        error=_error(run),
        started_ms=_ms(run.get("created_at")),
        ended_ms=_ms(run.get("finished_at")),
    )


def _steps(tasks: Sequence[Mapping[str, Any]]) -> list[Step]:
    """Each task that does something, by its place in the graph; drivers and executors are Kubeflow's own."""
    by_id = {str(task.get("task_id")): task for task in tasks}
    parents = dict(_parents(tasks))
    steps: dict[str, Step] = {}
    turns = Counter[str]()
    for task in tasks:
        state = _STEPS.get(str(task.get("state")))
        path = _path(str(task.get("task_id")), by_id, parents)
        if state is None or not path:
            continue
        place = path
        while place in steps:
            turns[path] += 1
            place = f"{path}[{turns[path]}]"
        steps[place] = Step(
            place,
            state,
            error=_error(task),
            started_ms=_ms(task.get("start_time")) or _ms(task.get("create_time")),
            ended_ms=_ms(task.get("end_time")) if state.ended else 0,
            outputs=_outputs(task),
        )
    return list(steps.values())


def _parents(tasks: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for task in tasks:
        own = str(task.get("task_id"))
        if parent := task.get("parent_task_id"):
            yield own, str(parent)
        children = task.get("child_tasks")
        for child in children if isinstance(children, Sequence) else ():
            if isinstance(child, Mapping) and child.get("task_id"):
                yield str(child["task_id"]), own


def _path(task_id: str, by_id: Mapping[str, Mapping[str, Any]], parents: Mapping[str, str]) -> str:
    names: list[str] = []
    here = task_id
    for _ in range(DEPTH_MAX):
        task = by_id.get(here)
        if task is None:
            break
        name = _name(task)
        if name == "executor" or name.endswith("-driver"):
            return ""
        if name != "root":
            names.append(name.replace("/", "_")[:200])
        if here not in parents:
            break
        here = parents[here]
    return "/".join(reversed(names))


def _name(task: Mapping[str, Any]) -> str:
    return _printable(str(task.get("display_name") or task.get("name") or ""))


def _objects(said: Any, name: str) -> list[Mapping[str, Any]]:
    """The objects in a list."""
    found = said.get(name) if isinstance(said, Mapping) else None
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def _outputs(task: Mapping[str, Any]) -> Values:
    """What a task put out, of parameters and metrics (PipelineTaskDetail.InputOutputs, Artifact).

    Kubeflow tells it since it keeps tasks by itself; of those before, nothing is known: their map of ids of
    ML Metadata was never filled (kubeflow/pipelines#9858).
    """
    told, left = task.get("outputs"), OUTPUTS_BYTES_MAX
    given = _objects(told, "parameters")
    found = [("", str(one.get("parameter_key") or ""), one.get("value")) for one in given]
    for one in _objects(told, "artifacts"):
        key = str(one.get("artifact_key") or "metrics")[:NAME_CHARS_MAX]
        pairs = (pair for artifact in _objects(one, "artifacts") for pair in _metrics(artifact))
        found += [(key, name, number) for name, number in pairs]
    params, metrics = dict[str, Any](), dict[str, dict[str, Any]]()
    for key, name, value in found:
        size = _size(value) + len(name)
        if size <= left and 0 < len(name) <= NAME_CHARS_MAX and name.isprintable() and key.isprintable():
            left -= size
            (metrics.setdefault(key, {}) if key else params)[name] = value
    refs = {key: (ArtifactRef(key, "", "system.Metrics", metadata=said),) for key, said in metrics.items()}
    return Values(params, refs)


def _metrics(artifact: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The finite numbers of a metric: its own, under its name, or those of its metadata."""
    if artifact.get("type") not in ("Metric", 6):
        return []
    said = artifact.get("metadata")
    pairs = [*said.items()] if isinstance(said, Mapping) else []
    if artifact.get("number_value") is not None:
        pairs = [(str(artifact.get("name") or ""), artifact["number_value"])]
    return [(name, n) for name, n in pairs if type(n) in (int, float) and -NUMBER_MAX < n < NUMBER_MAX]


def _size(value: Any) -> int:
    """Of a value as JSON; more than there may be of one that is none."""
    try:
        return len(canonical_json(value).encode())
    except (ValueError, TypeError, RecursionError):
        return OUTPUTS_BYTES_MAX + 1


def _error(said: Mapping[str, Any]) -> str:
    error = said.get("error")
    message = error.get("message") if isinstance(error, Mapping) else None
    return _printable(" ".join(str(message).split())[:ERROR_CHARS_MAX]) if message else ""


def _printable(text: str) -> str:
    """What a cluster says is shown on terminals as well: nothing in it may act there."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def _ms(text: Any) -> int:
    """Milliseconds since 1970 of an RFC 3339 time; 0 for none, and for year 1, which stands for none."""
    try:
        at = datetime.datetime.fromisoformat(str(text))
    except ValueError:
        return 0
    if at.tzinfo is None:
        at = at.replace(tzinfo=datetime.UTC)
    return max(0, int(at.timestamp() * 1000))
