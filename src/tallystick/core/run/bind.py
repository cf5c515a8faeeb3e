"""What a task's inputs are, once what they come from exists."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from tallystick.core.errors import BadInput
from tallystick.core.names import canonical_json
from tallystick.core.pipeline.params import check_value
from tallystick.core.pipeline.spec import (
    Binding,
    Component,
    Constant,
    FinalStatus,
    FromInput,
    FromTask,
    Importer,
    ParamType,
    Task,
    Template,
)
from tallystick.core.values import ArtifactRef, Values

__all__ = ["PLACEHOLDERS", "Facts", "NotYet", "Sources", "Unknown", "bind", "filled", "items_of"]

PLACEHOLDERS = re.compile(r"\{\{\$\.(?:inputs\.parameters\[(?:'([^']*)'|\"([^\"]*)\")\]|([a-z_]+))\}\}")
"""What a template may hold: an input of its task, or one of :class:`Facts`."""
ITEMS_MAX = 100_000
"""Items of one loop."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a run from the beginning, for templates; times in milliseconds since 1970.

    ``workspace_bytes`` is what its workspace may hold, or 0.
    """

    name: str = ""
    key: str = ""
    created_ms: int = 0
    scheduled_ms: int = 0
    root_uri: str = ""
    workspace_path: str = ""
    workspace_bytes: int = 0

    @property
    def resource_name(self) -> str:
        """The run's name as Kubeflow makes it: the pipeline's, and what makes it the only one."""
        return f"{self.name}-{self.key}" if self.name else self.key

    def of(self, task: str, path: str) -> dict[str, str]:
        """The placeholders of PipelineSpec by name, for one step."""
        return {
            "pipeline_job_name": self.name,
            "pipeline_job_resource_name": self.resource_name,
            "pipeline_job_uuid": self.key,
            "pipeline_job_create_time_utc": _utc(self.created_ms),
            "pipeline_job_schedule_time_utc": _utc(self.scheduled_ms or self.created_ms),
            "pipeline_task_name": task,
            "pipeline_task_uuid": f"{self.key}/{path}",
            **({"pipeline_root": self.root_uri} if self.root_uri else {}),
            **({"workspace_path": self.workspace_path} if self.workspace_path else {}),
        }


@dataclass(frozen=True, slots=True)
class Unknown:
    """Stands for an output that the step at ``path`` is yet to make, where a run is only foreseen."""

    path: str


class NotYet(Exception):
    """Something depends on an :class:`Unknown`; ``path`` is that of the step which is to make it."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


@dataclass(frozen=True, slots=True)
class Sources:
    """Where one task's inputs come from: the graph around it, and what other tasks of that gave.

    ``outputs`` raises KeyError for a task that gave none: it was skipped, or failed. ``status`` is KFP's
    PipelineTaskFinalStatus of a task that has ended.
    """

    scope: Values
    outputs: Callable[[str], Values]
    status: Callable[[str], Mapping[str, Any]]
    facts: Mapping[str, str]


def bind(task: Task, path: str, sources: Sources) -> Values:
    """The inputs of ``task``; BadInput names what is missing.

    An input that has nothing to come from, and need not, is left out: the component's default is then used.
    """
    params, artifacts = dict[str, Any](), dict[str, tuple[ArtifactRef, ...]]()
    if isinstance(task.body, Component):
        params |= {p.name: p.default for p in task.body.params if p.default is not None}
    wanted = dict(task.inputs)
    if isinstance(task.body, Importer):
        wanted["uri"] = task.body.uri
    spared = _spared(task)
    templates = {name: b.value for name, b in wanted.items() if isinstance(b, Template)}
    for name, binding in wanted.items():
        if name in templates:
            continue
        value = _value(binding, path, sources, missing_is_fine=name in spared)
        if isinstance(value, tuple):
            artifacts[name] = value
        elif value is not _ABSENT and (value is not None or name not in params):
            params[name] = value
    params |= {name: _filled_in(value, sources.facts, params, path) for name, value in templates.items()}
    return Values(_typed(task, path, params), artifacts)


def _typed(task: Task, path: str, params: dict[str, Any]) -> dict[str, Any]:
    """Each parameter as its component declares it; what is declared a text becomes one, as in Kubeflow."""
    declared = task.body.params if isinstance(task.body, Component) else ()
    for param in declared:
        value = params.get(param.name)
        if value is None or isinstance(value, Unknown):
            continue
        if param.type is ParamType.STRING and not isinstance(value, str):
            value = _text(value)
        elif param.type is ParamType.INTEGER and isinstance(value, float) and value.is_integer():
            value = int(value)
        params[param.name] = check_value(path, param, value)
    return params


def items_of(task: Task, path: str, sources: Sources) -> list[Any] | tuple[Any, ...]:
    """The items of a task's loop: a list of values, or a tuple of artifacts. BadInput for anything else."""
    if task.loop is None:
        return []
    items = _value(task.loop.items, path, sources, missing_is_fine=False)
    if isinstance(task.loop.items, Template):
        items = filled(items, sources.facts, {}, path)
    if isinstance(items, Unknown):
        raise NotYet(items.path)
    if not isinstance(items, tuple if task.loop.artifacts else list):
        raise BadInput(f"the loop needs a list, got {str(items)[:80]!r}", where=path)
    if len(items) > ITEMS_MAX:
        raise BadInput(f"the loop has {len(items)} items, the limit is {ITEMS_MAX}", where=path)
    return items


_ABSENT = object()


def _spared(task: Task) -> set[str]:
    """The inputs that may be absent: optional ones, those with a default, and those that nobody declared."""
    if not isinstance(task.body, Component):
        return set(task.inputs)
    body = task.body
    needed = {p.name for p in body.params if p.default is None and not p.optional}
    return set(task.inputs) - needed - {s.name for s in body.artifacts if not s.optional}


def _value(binding: Binding, path: str, sources: Sources, *, missing_is_fine: bool) -> Any:
    """A parameter, a tuple of artifacts, or ``_ABSENT``."""
    if isinstance(binding, Constant | Template):
        return binding.value
    if isinstance(binding, FinalStatus):
        return dict(sources.status(binding.task))
    if isinstance(binding, FromInput):
        found, name = sources.scope, binding.name
    else:
        name = binding.output
        try:
            found = sources.outputs(binding.task)
        except KeyError:
            found = Values()
    if name in found.artifacts:
        return found.artifacts[name]
    if name in found.params:
        value = found.params[name]
        return _pick(value, binding.item_field, path) if binding.item_field else value
    if not missing_is_fine:
        who = f"task {binding.task!r} gave no output" if isinstance(binding, FromTask) else "nobody gave"
        raise BadInput(f"{who} {name!r}", where=path)
    return _ABSENT


def _pick(value: Any, name: str, path: str) -> Any:
    if isinstance(value, Unknown):
        return value
    if not isinstance(value, Mapping) or name not in value:
        raise BadInput(f"the loop item has no field {name!r}", where=path)
    return value[name]


def _filled_in(value: Any, facts: Mapping[str, str], params: Mapping[str, Any], path: str) -> Any:
    try:
        return filled(value, facts, params, path)
    except NotYet as not_yet:
        return Unknown(not_yet.path)


def filled(value: Any, facts: Mapping[str, str], params: Mapping[str, Any], path: str) -> Any:
    """``value`` with each placeholder replaced; a text that is nothing else becomes what that stands for.

    BadInput, naming ``path``, for a placeholder that stands for nothing here.
    """

    def told(found: re.Match[str]) -> Any:
        name = found[1] or found[2]
        known: Mapping[str, Any] = params if name else facts
        name = name or found[3]
        if name not in known:
            raise BadInput(f"there is nothing to put in for {found[0]}", where=path)
        if isinstance(known[name], Unknown):
            raise NotYet(known[name].path)
        return known[name]

    def fill(part: Any) -> Any:
        if isinstance(part, str):
            whole = PLACEHOLDERS.fullmatch(part)
            return told(whole) if whole else PLACEHOLDERS.sub(lambda found: _text(told(found)), part)
        if isinstance(part, Mapping):
            return {fill(key): fill(inner) for key, inner in part.items()}
        return [fill(inner) for inner in part] if isinstance(part, list) else part

    return fill(value)


def _text(value: Any) -> str:
    """A parameter within a text, as Kubeflow writes it: whole numbers without a point, the rest as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return canonical_json(value)


@lru_cache(maxsize=64)
def _utc(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
