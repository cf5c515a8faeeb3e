"""What the console sees beside a whole life: a schedule, a study, an environment; and a view of it all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tallystick.core.facts import Fact, to_json
from tallystick.core.names import DEFAULT_TENANT, digest_of
from tallystick.core.pipeline.spec import Component, Constant, Dag, Function, Loop, Pipeline, Task
from tallystick.core.run.events import Began, Run, RunState, Step, StepState
from tallystick.core.run.options import RunOptions
from tallystick.core.run.record import write_event, write_step
from tallystick.core.study import Dimension, Kind, Study, StudyState, Trial, TrialState
from tallystick.core.values import Environment
from tallystick.doors.console import View
from tallystick.ports.runs.journal import Entry
from tallystick.routines.differ import Difference, Side
from tallystick.routines.recurring import Schedule, Timing
from tallystick.routines.sides import compare_sides
from tests.fakes.life import EVIL, NOW_MS, Life, build_life

__all__ = ["GOOD", "STUDY", "component", "done", "keep_run", "lived", "long_chain", "looping", "view_of"]

GOOD, STUDY = "run-019c2f7a1b00-4f1a2c", "study-019c2fa00000-7ea5e1"
RAN_ON = Environment(
    "3.11.9", f"linux x86_64 {EVIL}", {"numpy": "2.4.6", EVIL: "1.0", "scikit-learn": "1.9.0"}
)


def view_of(life: Life) -> View:
    """A view that compares runs with the real verb, and knows one time of every cron expression."""
    view = View(
        life.ledger, life.journal, life.traffic, life.artifacts, life.clock, "process: nothing", life.pipeline
    )

    async def side(key: str) -> Side:
        run = await view.whole(await view.one(Run, key))
        return Side(run, await view.pipeline(run.spec_digest))

    async def compare(before: str, after: str) -> Difference:
        return await compare_sides(await side(before), await side(after))

    return replace(view, compare=compare, following=lambda cron, after: NOW_MS + 3_600_000)


async def lived(home: Path) -> Life:
    """A whole life with all that pipelines add to it."""
    life = await build_life(home)
    step = life.steps[GOOD][1]
    noted = replace(step, environment=RAN_ON.digest, cache_note=f"miss: package numpy was 2.4.5 {EVIL}")
    life.steps[GOOD] = (life.steps[GOOD][0], noted, *life.steps[GOOD][2:])
    await life.journal.record(
        DEFAULT_TENANT, GOOD, [Entry(write_event(Began(2, 2)), [(step.path, write_step(noted))])]
    )
    spec = digest_of("a pipeline")
    nightly = Schedule(
        "schedule-1", f"nightly {EVIL}", spec, Timing("0 3 * * *"), last_run=GOOD, created_ms=NOW_MS - 10**8
    )
    hourly = Schedule(
        "schedule-2", "hourly", spec, Timing(every_s=3600), options=RunOptions(on=f"ray {EVIL}"),
        enabled=False, error=f"gone {EVIL}",
    )  # fmt: skip
    trials = _trials()
    study = Study(
        STUDY, f"depth {EVIL}", "digits", spec, "accuracy", (Dimension("depth", Kind.INT, 1, 9),),
        maximize=True, options=RunOptions(on="ray"),
        state=StudyState.SUCCEEDED, best=trials[2], started_ms=NOW_MS - 10**6, ended_ms=NOW_MS,
    )  # fmt: skip
    states = [("schedule", nightly.key, nightly), ("schedule", hourly.key, hourly), ("study", STUDY, study),
              ("environment", RAN_ON.digest, RAN_ON)]  # fmt: skip
    await life.ledger.append([Fact(n, k, "made", to_json(s), at_ms=NOW_MS) for n, k, s in states])
    told = [(f"{t.number:06d}", _text(t)) for t in trials]
    await life.journal.record(DEFAULT_TENANT, STUDY, [Entry('{"event":"trial"}', told)])
    return life


def _trials() -> list[Trial]:
    good, bad = TrialState.SUCCEEDED, TrialState.FAILED
    return [
        Trial(
            0, {"depth": 3, "note": EVIL}, GOOD, good, 0.91, started_ms=NOW_MS - 9000, ended_ms=NOW_MS - 8000
        ),
        Trial(1, {"depth": 5}, GOOD, bad, why=f"it broke {EVIL}"),
        Trial(2, {"depth": 8}, GOOD, good, 0.97, started_ms=NOW_MS - 8000, ended_ms=NOW_MS - 7000),
        Trial(3, {"depth": 9}, GOOD, TrialState.PRUNED, 0.5),
    ]


def _text(trial: Trial) -> str:
    return json.dumps(to_json(trial))


# -------------------------------------------------------------------------------------------- larger runs


def component(name: str) -> Component:
    return Component(name, Function(name, "def f(): ..."))


def long_chain(count: int) -> Pipeline:
    """So many tasks, each after the one before."""
    tasks = (
        Task(f"step-{i}", component("work"), after=(f"step-{i - 1}",) if i else ()) for i in range(count)
    )
    return Pipeline("chain", Dag(tuple(tasks)))


def looping(count: int) -> Pipeline:
    """One task, then two in a loop of ``count`` turns, then one."""
    body = Dag((Task("train", component("train")), Task("score", component("score"), after=("train",))))
    return Pipeline("looping", Dag((
        Task("begin", component("begin")),
        Task("each", body, after=("begin",), loop=Loop(Constant(list(range(count))), "item")),
        Task("end", component("end"), after=("each",)),
    )))  # fmt: skip


async def keep_run(
    life: Life, key: str, pipeline: Pipeline, steps: Sequence[Step], state: RunState = RunState.RUNNING
) -> None:
    """A run of ``pipeline`` with its steps in the journal."""
    spec = digest_of(f"spec of {key}")
    life.pipelines[spec] = pipeline
    run = Run(key, pipeline.name, spec, {}, state, started_ms=NOW_MS - 60_000)
    if state.ended:
        run = replace(run, ended_ms=NOW_MS)
    await life.ledger.append([Fact("run", key, "began", to_json(run), at_ms=NOW_MS)])
    told = [(step.path, write_step(step)) for step in steps]
    await life.journal.record(DEFAULT_TENANT, key, [Entry(write_event(Began(1, 2)), told)])


def done(path: str, start: int, took: int, state: StepState = StepState.SUCCEEDED) -> Step:
    """A step that began ``start`` ms after the run and took so many."""
    at = NOW_MS - 60_000 + start
    return Step(path, state, started_ms=at, ended_ms=at + took)
