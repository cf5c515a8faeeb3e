"""What differs between two runs, change by change. What looks like a secret is hidden.

Steps are compared path by path, turns of loops by their index.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tallystick.core.facts import to_json
from tallystick.core.names import canonical_json, digest_of
from tallystick.core.pipeline.spec import Dag, Pipeline
from tallystick.core.run.events import Run, Step, StepState
from tallystick.core.values import ArtifactRef, Environment, Values

__all__ = [
    "HIDDEN",
    "TOLERANCE",
    "Change",
    "Difference",
    "Side",
    "alike",
    "compare",
    "environment_changes",
    "redact",
    "task_path",
]

TOLERANCE = 1e-9
"""How far apart two floats may be, relative to the larger, and still be alike."""
SHOWN_CHARS_MAX = 500
"""Characters of one value; of a longer one that many are shown, and how long it is."""
HIDDEN = "(hidden)"

_NOTHING = object()
_TURN = re.compile(r"\[\d+\](?=/)")
_ORIGIN = ("uri", "snapshot", "snapshot_digest", "rows")
_SECRET_NAME = re.compile(
    r"(?i)pass(?:wd|word|phrase)|secret|token(?!iz|s_|s$)|credential|(?:api|access|private)[_-]?key"
    r"|auth(?!or(?!iz))|cookie|dsn"
)
_SECRETS = re.compile(
    r"(?P<url>://)[^/\s:@]{0,200}:[^/\s@]{1,200}(?=@)"
    r"|(?P<named>(?i:password|passwd|secret|token|api_?key|access_?key)\w{0,40}[\"']?\s{0,9}[=:]\s{0,9})"
    r"(?:\"[^\"\n]{1,2000}\"|'[^'\n]{1,2000}')"
    r"|(?P<option>--?[\w-]{0,40}(?i:password|passwd|secret|token|key)[\w-]{0,40}=)\S{1,2000}"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{12,40}\b|\b(?:gh[pousr]_|glpat-|hf_|sk-|xox[abprs]-)[\w-]{10,200}"
    r"|\beyJ[\w-]{10,2000}\.[\w-]{1,2000}\.?[\w-]{0,2000}"
    r"|-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?:[^-]{0,20000}-----END [A-Z ]{0,40}KEY-----)?"
)

_Known = dict[tuple[str, str], Any]


@dataclass(frozen=True, slots=True)
class Side:
    """All that is known of one run: it with its steps, and what the rest of the house holds of it.

    ``pipeline`` is None where its file cannot be read any more. ``environments`` are by digest; ``metrics``
    and ``logged`` params are those of its record in MLflow.
    """

    run: Run
    pipeline: Pipeline | None = None
    environments: Mapping[str, Environment] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    logged: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """``what`` is not alike at ``where``: the path of a task or step, or empty for the run itself.

    None stands for nothing there. ``more``: of so many other steps the same is true. ``diff`` takes the place
    of both values where lines were compared.
    """

    where: str
    what: str
    before: Any = None
    after: Any = None
    more: int = 0
    diff: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """Every change from one run to another, in ``groups``: code, packages, params, data, inputs, outputs,
    metrics, states, and ``course``: how it went (time, tries, cache, errors), which makes no difference.

    ``steps_alike`` of ``steps`` have no change that does.
    """

    before: str
    after: str
    groups: Mapping[str, tuple[Change, ...]] = field(default_factory=dict)
    steps: int = 0
    steps_alike: int = 0

    @property
    def alike(self) -> bool:
        """Whether nothing makes a difference."""
        return not any(changes for name, changes in self.groups.items() if name != "course")


def compare(before: Side, after: Side, tolerance: float = TOLERANCE) -> Difference:
    """Every single change from ``before`` to ``after``; floats count as equal within ``tolerance``."""
    sides = (before, after)
    one, two = ({step.path: step for step in side.run.steps} for side in sides)
    both = [(step, two[path]) for path, step in one.items() if path in two]

    def of(known: Iterable[_Known], told: Callable[[Step], Iterator[tuple[str, Any]]] | None = None) -> Any:
        first, second = known
        for side, mine in zip((first, second), zip(*both, strict=True), strict=False):
            side.update({(s.path, what): value for s in mine if told for what, value in told(s)})
        return _changes(first, second, tolerance)

    groups: dict[str, tuple[Change, ...]] = {
        "code": of(_code(before.pipeline, after.pipeline)),
        "packages": _packages(before, after, both),
        "params": of(_given(side.run) for side in sides),
        "data": of(({}, {}), _brought),
        "inputs": of(({}, {}), lambda step: _values(step.inputs)),
        "outputs": of(({("", w): v for w, v in _values(side.run.outputs)} for side in sides), _made),
        "metrics": of(map(_recorded, sides), _measured),
        "states": of(_states(side.run) for side in sides),
    }
    touched = {change.where for changes in groups.values() for change in changes}
    same = [a.path for a, b in both if a.environment == b.environment and a.path not in touched]
    groups["course"] = of(({("", "ms"): side.run.ended_ms - side.run.started_ms} for side in sides), _course)
    alike_steps = sum(task_path(path) not in touched for path in same)
    return Difference(before.run.key, after.run.key, groups, len(one | two), alike_steps)


def alike(one: Any, two: Any, tolerance: float = TOLERANCE) -> bool:
    """Whether two JSON values are the same, floats within ``tolerance``; NaN is like NaN."""
    if isinstance(one, bool) or isinstance(two, bool) or (isinstance(one, int) and isinstance(two, int)):
        return type(one) is type(two) and bool(one == two)
    if isinstance(one, int | float) and isinstance(two, int | float):
        try:
            return math.isclose(one, two, rel_tol=tolerance) or (math.isnan(one) and math.isnan(two))
        except OverflowError:  # a whole number beyond every float
            return False
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        return one.keys() == two.keys() and all(alike(one[name], two[name], tolerance) for name in one)
    if isinstance(one, list | tuple) and isinstance(two, list | tuple):
        return len(one) == len(two) and all(alike(a, b, tolerance) for a, b in zip(one, two, strict=True))
    return type(one) is type(two) and bool(one == two)


def redact(text: str) -> str:
    """``text`` with whatever looks like a secret in it hidden."""
    return _SECRETS.sub(lambda found: (found[found.lastgroup] if found.lastgroup else "") + HIDDEN, text)


def task_path(path: str) -> str:
    """The path of the task of a step: the same for each turn of its loops."""
    return _TURN.sub("", path)


def environment_changes(before: Environment, after: Environment) -> tuple[Change, ...]:
    """What differs between two environments."""
    one, two = (
        {("", "python"): e.python, ("", "platform"): e.platform}
        | {("", f"package {name}"): version for name, version in e.packages.items()}
        for e in (before, after)
    )
    lock = {("", "lock"): digest_of(before.lock)}, {("", "lock"): digest_of(after.lock)}
    return _changes(one, two, 0) or _changes(*lock, 0)


def _changes(before: _Known, after: _Known, tolerance: float) -> tuple[Change, ...]:
    return tuple(
        Change(*key, _shown(key[1], before.get(key)), _shown(key[1], after.get(key)))
        for key in before | after
        if not alike(before.get(key, _NOTHING), after.get(key, _NOTHING), tolerance)
    )


def _shown(name: str, value: Any) -> Any:
    """A value as a person may see it: without secrets, and but for sources not too long."""
    own = not name.startswith(("artifact ", "package "))  # else its value is a digest or a version
    value = _hidden(name if own else "", value)
    text = canonical_json(value) if isinstance(value, list | dict) else str(value)
    if len(text) <= SHOWN_CHARS_MAX or name == "source":
        return value
    return f"{text[:SHOWN_CHARS_MAX]}... ({len(text)} characters)"


def _hidden(name: str, value: Any) -> Any:
    if value is not None and _SECRET_NAME.search(name):
        return HIDDEN
    if isinstance(value, Mapping):
        return {key: _hidden(key, inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):  # after an option's name stands its value
        names = ("", *(str(v) if str(v).startswith("-") else "" for v in value))
        return [_hidden(name, inner) for name, inner in zip(names, value, strict=False)]
    return redact(value) if isinstance(value, str) else value


# ---------------------------------------------------------------------------------- what is known of a run


def _code(before: Pipeline | None, after: Pipeline | None) -> tuple[_Known, _Known]:
    if before is None or after is None:
        one, two = (pipeline and pipeline.digest for pipeline in (before, after))
        return {("", "pipeline file"): one}, {("", "pipeline file"): two}
    one_tasks, two_tasks = dict(_tasks(before.root)), dict(_tasks(after.root))
    return _said(before, one_tasks, two_tasks), _said(after, two_tasks, one_tasks)


def _said(pipeline: Pipeline, tasks: Mapping[str, Any], others: Mapping[str, Any]) -> _Known:
    """All of tasks that both pipelines have; of the others only that they are there."""
    whole = to_json(replace(pipeline, root=Dag((), pipeline.root.outputs)))
    known: _Known = {("", what): value for what, value in _flat(whole)}
    known |= {(path, "task"): "there" for path in tasks}
    return known | {(p, what): v for p, task in tasks.items() if p in others for what, v in _flat(task)}


def _tasks(dag: Dag, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for task in dag.tasks:
        path, body = prefix + task.name, task.body
        yield path, to_json(replace(task, body=Dag((), body.outputs)) if isinstance(body, Dag) else task)
        if isinstance(body, Dag):
            yield from _tasks(body, f"{path}/")


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a JSON object under dotted names; a list of named things counts as an object of them."""
    if isinstance(value, list) and value and all(isinstance(v, dict) and "name" in v for v in value):
        value = {v["name"]: {k: inner for k, inner in v.items() if k != "name"} for v in value}
    if value is not None and not isinstance(value, dict):
        yield name, value
    for key, inner in value.items() if isinstance(value, dict) else ():
        plain = key in ("body", "code") or (not name and key == "root")
        yield from _flat(inner, name if plain else f"{name}.{key}".lstrip("."))


def _packages(before: Side, after: Side, both: Iterable[tuple[Step, Step]]) -> tuple[Change, ...]:
    """What differs between environments, each pair of them once, at the first step that ran on it."""
    pairs: dict[tuple[str, str], list[str]] = {}
    for one, two in both:
        if one.environment != two.environment:
            pairs.setdefault((one.environment, two.environment), []).append(one.path)
    found: list[Change] = []
    for (one_digest, two_digest), paths in pairs.items():
        old, new = before.environments.get(one_digest), after.environments.get(two_digest)
        unknown = (Change("", "environment", one_digest or None, two_digest or None),)
        changes = environment_changes(old, new) if old and new else unknown
        found += [replace(change, where=paths[0], more=len(paths) - 1) for change in changes]
    return tuple(found)


def _given(run: Run) -> _Known:
    known: _Known = {("", f"param {name}"): value for name, value in to_json(run.params).items()}
    return known | {("", "option seed"): run.options.seed, ("", "option on"): run.options.on}


def _values(values: Values) -> Iterator[tuple[str, Any]]:
    yield from ((f"param {name}", value) for name, value in values.params.items())
    yield from ((f"artifact {name}", [r.digest for r in refs]) for name, refs in values.artifacts.items())


def _refs(step: Step) -> Iterator[tuple[str, ArtifactRef]]:
    for name, refs in step.outputs.artifacts.items():
        yield from ((name if len(refs) == 1 else f"{name}[{i}]", ref) for i, ref in enumerate(refs))


def _brought(step: Step) -> Iterator[tuple[str, Any]]:
    """What an importer brought in: only its one output has a URI."""
    for _, ref in _refs(step):
        yield from (("content", ref.digest), ("uri", ref.uri)) if ref.uri else ()


def _made(step: Step) -> Iterator[tuple[str, Any]]:
    yield from ((f"param {name}", value) for name, value in step.outputs.params.items())
    for name, ref in _refs(step):
        if not ref.uri:
            yield f"artifact {name}", ref.digest
        yield f"schema of {name}", ref.schema
        if "Metrics" not in ref.schema:
            said = {k: v for k, v in to_json(ref.metadata).items() if not ref.uri or k not in _ORIGIN}
            yield from ((f"metadata {name}.{key}", value) for key, value in said.items())


def _measured(step: Step) -> Iterator[tuple[str, Any]]:
    for name, ref in _refs(step):
        if "Metrics" in ref.schema:
            yield from ((f"{name}.{key}", value) for key, value in to_json(ref.metadata).items())


def _recorded(side: Side) -> _Known:
    known: _Known = {("", f"logged metric {name}"): value for name, value in side.metrics.items()}
    return known | {("", f"logged param {name}"): value for name, value in side.logged.items()}


def _states(run: Run) -> _Known:
    known: _Known = {("", "state"): run.state.value}
    done = StepState.SUCCEEDED.value
    return known | {(s.path, "state"): done if s.state.done else s.state.value for s in run.steps}


def _course(step: Step) -> Iterator[tuple[str, Any]]:
    yield from (("ms", step.ended_ms - step.started_ms), ("tries", step.attempt), ("error", step.error))
    yield "from the cache", step.state is StepState.CACHED
