"""Reproduce: plan a past run once more, on what it ran on and what it read, and say first what is lacking."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from tallystick.core.data import TABLE_URI, TableRef
from tallystick.core.errors import Conflict, Damaged, NotFound, NotSupported, TallyError
from tallystick.core.pipeline.order import components
from tallystick.core.pipeline.spec import Component, Function, Pipeline
from tallystick.core.run.events import Run
from tallystick.core.run.options import KUBEFLOW, Pins
from tallystick.core.values import ArtifactRef, Environment
from tallystick.hub.house import House
from tallystick.hub.house.removal import remove
from tallystick.hub.house.rows import export_table
from tallystick.hub.house.whole import imported_by, pins_of, whole_run
from tallystick.ports.executor import Executor, Job

__all__ = ["reproduce"]

SHOWN_MAX = 5
"""Packages, or things that are lacking, that are named; of more, how many."""


async def reproduce(
    house: House, read: Callable[[str], Awaitable[Pipeline]], key: str
) -> tuple[Run, Pipeline, Pins, Sequence[str]]:
    """A run that does run ``key`` again, recorded and ready to execute, its pipeline and pins, and what
    cannot be as it was then: sentences for a person to read before it begins.

    Refused before anything runs: a run that has not ended (Conflict), one that a cluster executed
    (NotSupported), and one of which something is not to be had any more (NotFound, naming all of it): its
    pipeline, what an importer brought in, locked packages.
    """
    before = await whole_run(house, key)
    if before.options.on == KUBEFLOW:
        raise NotSupported(
            "a cluster executed it: what its steps ran on, read and put out is not known here, so that there"
            " is nothing to hold another run to",
            where=key,
            hint=f"tally retry {key} submits it to {before.options.host} again, where it failed;"
            " to be reproduced, a run is done without --on kubeflow",
        )
    if not before.state.ended:
        raise Conflict("it has not ended", where=key, hint="wait for it, or cancel it")
    try:
        pipeline = await read(before.spec_digest)
    except (NotFound, Damaged) as wrong:
        raise NotFound(f"its pipeline is not to be had any more: {wrong.what}", where=key) from wrong
    tasks, executor = dict(components(pipeline.root)), house.executor_of(before.options.on)
    for component in tasks.values():
        executor.check(before.options.fitted(component), commands=before.options.commands)
    lost = [await _lost(house, step.path, ref) for step in before.steps for ref in imported_by(step)]
    notes = list[str]()
    for digest, (path, component) in _ran_on(before, tasks).items():
        gone, otherwise = await _lacking(house, executor, path, digest, component)
        lost, notes = [*lost, gone], [*notes, otherwise]
    if any(lost):
        raise NotFound(f"not to be had any more: {_some(lost, '; ')}", where=key)
    options, now = replace(before.options, cache=False, verify_share=0.0), house.clock.now_ms()
    again = Run(house.new_key("run"), before.pipeline, before.spec_digest, before.params, started_ms=now)
    again = replace(again, tenant=house.tenant, options=options, reproduces=key)
    await house.tell("run", again.key, "planned", again, f"reproduces {key}")
    return again, pipeline, await pins_of(house, again), [words for words in notes if words]


def _ran_on(run: Run, tasks: Mapping[str, Component]) -> dict[str, tuple[str, Component]]:
    """Each environment's digest with the first step that ran on it."""
    first: dict[str, tuple[str, Component]] = {}
    for step in run.steps:
        component = tasks.get(re.sub(r"\[\d+\](?=/)", "", step.path))
        if component and (step.environment or step.state.done):
            first.setdefault(step.environment, (step.path, component))
    return first


async def _lost(house: House, path: str, ref: ArtifactRef) -> str:
    """Why what an importer brought in is lost, or nothing: a table's rows are written once more."""
    if await house.artifacts.has(ref.digest):
        return ""
    if not ref.uri.startswith(TABLE_URI):
        return f"what {path} read from {ref.uri}"
    try:
        _, rows = await export_table(house, TableRef.parse(ref.uri))
    except TallyError as wrong:
        return f"the rows that {path} read from {ref.uri} ({wrong.what})"
    same = rows.artifact == ref.digest
    return "" if same else f"what {path} read from {ref.uri}: its file is written otherwise now"


async def _lacking(
    house: House, executor: Executor, path: str, digest: str, component: Component
) -> tuple[str, str]:
    """Why what a step ran on is not to be had any more, and how what is there differs; each may be empty."""
    recorded = await house.find("environment", digest, Environment) if digest else None
    if recorded is None:
        return "", f"what {path} ran on is not recorded: it runs on what is there now"
    try:
        if recorded.lock and isinstance(component.code, Function):
            why = await _tried(house, executor, recorded, component.code)
            return f"what {path} ran on ({why})" if why else "", ""
        now = await executor.environment(component)
    except TallyError as wrong:
        return f"what {path} ran on ({wrong.what})", ""
    one, two = ({"python": e.python, "platform": e.platform, **e.packages} for e in (recorded, now))
    changed = [name for name in one | two if one.get(name) != two.get(name)]
    words = [f"{name} was {one.get(name, 'not there')}, is {two.get(name, 'gone')}" for name in changed]
    return "", f"{path} runs on something else now: {_some(words, ', ')}" if words else ""


async def _tried(house: House, executor: Executor, recorded: Environment, code: Function) -> str:
    """Why nothing can run in an environment, or nothing: it is built, and an empty function runs in it."""
    empty = Component(code.name, replace(code, name="nothing", source="def nothing():\n    pass\n"))
    folder = house.folder("environment")
    try:
        work = folder / "work"
        work.mkdir(mode=0o700)
        job = Job(f"reproduce {code.name}", empty, work, environment=recorded)
        return (await executor.run(job, lambda _: None)).error
    finally:
        await remove(folder)


def _some(words: Sequence[str], between: str) -> str:
    found = [word for word in words if word]
    more = [f"and {len(found) - SHOWN_MAX} more"] if len(found) > SHOWN_MAX else []
    return between.join([*found[:SHOWN_MAX], *more])
