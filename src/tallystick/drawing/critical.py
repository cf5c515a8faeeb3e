"""The critical path of a run: the chain of steps that its length came from. Pure.

It is followed back from the step that ended last: before each step, the one it waited for that ended last.
What a step waits for is what the pipeline says, not that the machine was busy.
"""

from __future__ import annotations

import re

from tallystick.core.pipeline.order import upstream
from tallystick.core.pipeline.spec import Dag, Pipeline, Task
from tallystick.core.run.events import Run, Step

__all__ = ["critical_path"]

_TURN = re.compile(r"\[\d{1,9}\]$", re.ASCII)


def critical_path(run: Run, pipeline: Pipeline | None) -> tuple[str, ...]:
    """The paths of the steps on it, the first first; none of a pipeline that nobody knows."""
    last = _last(run)
    step = last.get("")
    if pipeline is None or step is None:
        return ()
    found: dict[str, None] = {}
    while step is not None and step.path not in found:
        found[step.path] = None
        step = _before(step, pipeline.root, last)
    return tuple(reversed(found))


def _last(run: Run) -> dict[str, Step]:
    """Of each graph, of each turn and each loop, by path, the step that ended last; under ``""`` of all."""
    last: dict[str, Step] = {}
    for step in run.steps:
        if not step.attempt:  # it never ran
            continue
        parts = step.path.split("/")
        around = ["/".join(parts[:i]) for i in range(len(parts) + 1)]
        for key in (*around, *(_TURN.sub("", path) for path in around[1:-1])):
            if key not in last or _end(step) > _end(last[key]):
                last[key] = step
    return last


def _end(step: Step) -> tuple[int, int]:
    """When it ended; what still runs ends after all others."""
    return (step.ended_ms or 2**62, step.started_ms)


def _before(step: Step, root: Dag, last: dict[str, Step]) -> Step | None:
    """Of all that the step waited for, the one that ended last: beside it, or beside a graph around it."""
    parts = step.path.split("/")
    for depth in range(len(parts) - 1, -1, -1):
        inside = "/".join(parts[:depth])
        task = _task(root, [*(_TURN.sub("", part) for part in parts[:depth]), _own(parts, depth)])
        names = upstream(task) if task else ()
        paths = [f"{inside}/{name}" if inside else name for name in names]
        ended = [last[path] for path in paths if path in last]
        if ended:
            return max(ended, key=_end)
    return None


def _own(parts: list[str], depth: int) -> str:
    return parts[depth] if depth == len(parts) - 1 else _TURN.sub("", parts[depth])


def _task(root: Dag, names: list[str]) -> Task | None:
    dag, task = root, None
    for i, name in enumerate(names):
        task = next((t for t in dag.tasks if t.name == name), None)
        if task is None or i == len(names) - 1:
            return task
        if not isinstance(task.body, Dag):
            return None
        dag = task.body
    return task
