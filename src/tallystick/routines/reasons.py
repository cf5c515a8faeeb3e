"""Why a run that was done again may have come out otherwise: first what is known, then what is likely."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tallystick.core.facts import to_json
from tallystick.core.names import canonical_json
from tallystick.core.pipeline.order import components
from tallystick.core.pipeline.spec import Function
from tallystick.core.run.events import Step, StepState
from tallystick.routines.differ import Difference, Side, environment_changes, task_path

__all__ = ["first_of", "reasons"]

CHANGES_MAX = 5
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d")
_RANDOM = re.compile(r"random|shuffle|\bsample\b|\b(?:torch|tensorflow|sklearn|xgboost|lightgbm|jax)\b")
_CHANCE = (
    (r"\b(?:time|datetime|perf_counter|monotonic)\b", "its source reads the clock"),
    (r"\b(?:uuid\d?|secrets|urandom|getpid|mkdtemp)\b", "its source makes names that never come twice"),
    (r"\b(?:set|frozenset|hash|id)\(", "its source relies on hashes, and their order changes"),
    (r"\b(?:Thread|Pool|ProcessPoolExecutor|ThreadPoolExecutor|n_jobs)\b", "its source works in parallel"),
    (r"\b(?:TALLY_RUN|pipeline_job)", "its source reads the run's own key"),
)


def first_of(difference: Difference, before: Side) -> str:
    """The path of the first step, in the order in which they started, that came out otherwise; or nothing."""
    groups = (difference.groups.get(name, ()) for name in ("data", "outputs", "metrics", "states"))
    wrong = dict.fromkeys(change.where for changes in groups for change in changes if change.where)
    return next((step.path for step in before.run.steps if step.path in wrong), next(iter(wrong), ""))


def reasons(difference: Difference, before: Side, after: Side, path: str) -> list[str]:
    """Why the step at ``path`` may have come out otherwise; one sentence each, and at least one."""
    one, two = before.run.step(path), after.run.step(path)
    if one is None or two is None:
        return ["it is a step of only one of the two runs"]
    changes = difference.groups.get("inputs", ())
    found = [*_ran_on(before, after, one, two)]
    found += [f"its input {change.what} differs" for change in changes if change.where == path]
    values = [
        c for name in ("outputs", "metrics") for c in difference.groups.get(name, ()) if c.where == path
    ]
    if any(_TIME.search(str(c.before)) and _TIME.search(str(c.after)) for c in values):
        found.append("a time stands in what it put out")
    if one.state is StepState.CACHED:
        found.append("its outputs came from the cache then: another run had made them")
    found += _chances(before, path)
    return found or ["neither its source nor what it ran on says why"]


def _ran_on(before: Side, after: Side, one: Step, two: Step) -> Iterator[str]:
    old, new = before.environments.get(one.environment), after.environments.get(two.environment)
    if old is None or new is None:
        if one.environment or two.environment:
            yield "what it ran on is not known of both runs"
        return
    changes = environment_changes(old, new)
    yield from (f"{c.what} was {c.before}, is {c.after}" for c in changes[:CHANGES_MAX])
    if len(changes) > CHANGES_MAX:
        yield f"{len(changes) - CHANGES_MAX} more packages differ"


def _chances(side: Side, path: str) -> Iterator[str]:
    """What the source of a step says of chance in it."""
    found = dict(components(side.pipeline.root)) if side.pipeline else {}
    component = found.get(task_path(path))
    if component is None:
        return
    code = component.code
    source = code.source if isinstance(code, Function) else canonical_json(to_json(code))
    yield from (words for pattern, words in _CHANCE if re.search(pattern, source))
    draws = _RANDOM.search(source)
    if not side.run.options.seed:
        yield "no seed was set, and its source draws lots" if draws else "no seed was set"
    elif draws and "TALLY_SEED" not in source:
        yield "its source draws lots, and does not take its seed from TALLY_SEED"
