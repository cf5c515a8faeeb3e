"""Where runs are done: those of schedules and those that are done again, here or on a cluster."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tallystick.core.errors import BadInput, NotFound, NotSupported, Refused
from tallystick.core.pipeline.spec import (
    Command,
    Component,
    Dag,
    FromInput,
    Importer,
    Param,
    ParamType,
    Pipeline,
    Resources,
    Task,
)
from tallystick.core.run.events import Run, RunState
from tallystick.core.run.options import KUBEFLOW, RunOptions
from tallystick.routines.library import Filed, Library
from tallystick.routines.recover import recover
from tallystick.routines.recurring import Schedule, Timing
from tallystick.routines.reproduce import reproduce
from tallystick.routines.schedule import schedule_of, schedules, tick, wish
from tallystick.tiles.calendar.cron import CronCalendar
from tests.fakes.executor import FakeExecutor
from tests.fakes.house import until
from tests.fakes.runs.cluster import FakeCluster
from tests.hub.runs.steps import side_by_side

CALENDAR = CronCalendar()
HOST = "http://localhost:1"
AWAY = RunOptions(on=KUBEFLOW, host=HOST)
COMMAND = Pipeline("c", Dag((Task("shell", Component("shell", Command("image", ("sh",)))),)))
FILES = {b"a": side_by_side("a"), b"command": COMMAND}


@pytest.fixture
def cluster(house):
    made = FakeCluster()

    def at(host):
        if host != HOST:
            raise Refused("the hub may not call it", where=host)
        return made

    house.clusters = at
    yield made
    for task in house.tasks.values():
        task.cancel()


@pytest.fixture
def library(house, steps, cluster):
    steps["a"] = lambda: 1
    return Library(house, FILES.__getitem__)


def wished(options, **more):
    return Schedule(key="", name="s", spec_digest="", timing=Timing(every_s=60), options=options, **more)


async def begun(library, made):
    """The run of a schedule, once that is due."""
    library.house.clock.advance(60)
    await tick(library, CALENDAR)
    found = await schedule_of(library.house, made.key)
    assert found.error == ""
    return await library.house.get("run", found.last_run, Run)


async def test_a_schedule_runs_on_the_executor_that_it_names(library):
    house, other = library.house, FakeExecutor({"a": lambda: 2})
    house.executors["other"] = other
    made = await wish(library, CALENDAR, b"a", wished(RunOptions(on="other")))
    run = await begun(library, made)
    await until(lambda: not house.tasks)
    assert (made.options.on, run.options.on, len(other.ran), house.executor.ran) == ("other", "other", 1, [])


async def test_a_schedule_hands_its_runs_to_a_cluster(library, cluster):
    house = library.house
    run = await begun(library, await wish(library, CALENDAR, b"a", wished(AWAY)))
    await until(lambda: cluster.submitted)
    assert (cluster.submitted, run.options, house.executor.ran) == ([run.key], AWAY, [])
    cluster.ended[f"id-{run.key}"] = RunState.SUCCEEDED
    await until(lambda: not house.tasks)
    assert (await house.get("run", run.key, Run)).state is RunState.SUCCEEDED
    assert (await library.filed(run.key)).schedule


async def test_a_run_on_a_cluster_that_a_schedule_began_is_handed_over_once(library, cluster):
    """The hub may die between telling that a time is due and handing its run over, or after that."""
    house = library.house
    cluster.away = True
    run = await begun(library, await wish(library, CALENDAR, b"a", wished(AWAY)))
    await until(lambda: house.clock.slept)
    house.tasks[run.key].cancel()
    await until(lambda: not house.tasks)
    cluster.away = False
    await recover(house, None)
    await until(lambda: cluster.submitted)
    await tick(library, CALENDAR)
    cluster.ended[f"id-{run.key}"] = RunState.SUCCEEDED
    await until(lambda: not house.tasks)
    assert cluster.submitted == [run.key]


@pytest.mark.parametrize(
    ("spec", "options", "kind", "where"),
    [
        (b"command", RunOptions(), NotSupported, "task shell"),
        (b"a", RunOptions(on="nowhere"), NotSupported, "on"),
        (b"a", replace(AWAY, host="http://elsewhere"), Refused, "http://elsewhere"),
        (b"a", replace(AWAY, seed=1), NotSupported, "seed"),
        (b"a", RunOptions(on=KUBEFLOW), BadInput, "host"),
    ],
)
async def test_what_cannot_be_honoured_is_refused_as_it_is_scheduled(library, spec, options, kind, where):
    with pytest.raises(kind) as refused:
        await wish(library, CALENDAR, spec, wished(options))
    assert refused.value.where == where
    assert await schedules(library.house) == []


async def test_what_only_a_cluster_can_do_is_scheduled_for_one(library):
    made = await wish(library, CALENDAR, b"command", wished(AWAY))
    assert made.options == AWAY


async def test_what_reproduces_another_is_reproduced_and_not_retried(library):
    failed = Run("run-2", "a", "sha256:" + "0" * 64, {}, RunState.FAILED, reproduces="run-1")
    await library.house.tell("run", failed.key, "failed", failed)
    with pytest.raises(BadInput, match="did run-1 again") as refused:
        await library.retry(failed.key)
    assert refused.value.hint == "tally reproduce run-1"


async def test_a_run_on_a_cluster_that_failed_is_submitted_to_it_again(library, cluster):
    house = library.house
    first = await library.start(b"a", {}, AWAY, Filed(""))
    with pytest.raises(BadInput, match="only what failed"):
        await library.retry(first.key)
    cluster.ended[f"id-{first.key}"] = RunState.FAILED
    await until(lambda: not house.tasks)
    second = await library.retry(first.key)
    await until(lambda: len(cluster.submitted) == 2)
    assert cluster.submitted == [first.key, second.key]
    assert (second.options, second.spec_digest) == (AWAY, first.spec_digest)
    cluster.ended[f"id-{second.key}"] = RunState.FAILED
    await until(lambda: not house.tasks)
    third = await library.retry(second.key)
    assert (await library.filed(first.key)).attempts == (second.key, third.key), "whichever of them was named"


async def test_a_run_on_a_cluster_is_not_reproduced(library, cluster):
    house = library.house
    run = await library.start(b"a", {}, AWAY, Filed(""))
    cluster.ended[f"id-{run.key}"] = RunState.FAILED
    await until(lambda: not house.tasks)

    async def read(digest):
        raise NotFound("nobody asks for it")

    with pytest.raises(NotSupported, match="nothing to hold") as refused:
        await reproduce(house, read, run.key)
    assert refused.value.hint.startswith(f"tally retry {run.key} submits it to {HOST} again")


def asking(spec):
    """It imports what its parameter names, with as much memory as another one says."""
    component = replace(
        side_by_side("a").root.tasks[0].body, resources=Resources(later=(("memory_bytes", "m"),))
    )
    tasks = (
        Task("import", Importer(FromInput("uri"))),
        Task("a", component, inputs={"m": FromInput("m")}),
    )
    params = (Param("uri", ParamType.STRING), Param("m", ParamType.STRING, "1Gi"))
    return replace(side_by_side("a"), root=replace(side_by_side("a").root, tasks=tasks), params=params)


@pytest.mark.parametrize(
    ("params", "wrong", "said"),
    [
        ({"uri": "/etc/passwd"}, NotSupported, "task import: cannot import from"),
        ({"uri": "tally://runs/run-1/out"}, NotFound, "no run 'run-1'"),
        ({"uri": "tally://tables/later", "m": "much"}, BadInput, "task a: 'much' is not a quantity"),
    ],
)
async def test_what_no_run_of_it_could_have_is_refused_now(library, params, wrong, said):
    with pytest.raises(wrong, match=said):
        await wish(replace(library, read=asking), CALENDAR, b"p", wished(RunOptions(), params=params))
    assert library.house.ledger.facts == []


async def test_a_table_may_be_made_after_the_schedule(library):
    made = await wish(
        replace(library, read=asking),
        CALENDAR,
        b"p",
        wished(RunOptions(), params={"uri": "tally://tables/later"}),
    )
    assert [one.key for one in await schedules(library.house)] == [made.key]
