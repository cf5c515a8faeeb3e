"""The cache of steps: hits, and why there was none, by content, age and verification."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tallystick.core.data import TABLE_URI
from tallystick.core.pipeline.spec import (
    Command,
    Component,
    Constant,
    Dag,
    FromInput,
    FromTask,
    Function,
    Importer,
    Param,
    ParamType,
    Pipeline,
    Slot,
    Task,
    Template,
)
from tallystick.core.run.events import RunState, StepState
from tallystick.core.run.options import Pins, RunOptions
from tallystick.core.run.recipe import Kept
from tallystick.core.values import Environment, Values
from tallystick.hub.execute import execute
from tallystick.hub.house.cache import StepCache
from tallystick.ports.executor import Outcome
from tests.fakes.executor import FakeExecutor
from tests.fakes.house import add_table
from tests.hub.runs.steps import HeldExecutor, chain, component, planned, side_by_side

S, C = StepState.SUCCEEDED, StepState.CACHED
HOUR_MS = 3_600_000


def write(text):
    Path(text.path).write_text("hello")
    return 1


def read(text):
    return len(Path(text.path).read_text())


@pytest.fixture
def steps():
    return {"write": write, "read": read}


async def run_it(house, pipeline, key="run-1", **options):
    run = replace(await planned(house, pipeline, key), options=RunOptions(**options))
    return await execute(house, pipeline, run)


def states(run):
    return {s.path: s.state for s in run.steps}


def notes(run):
    return {s.path: s.cache_note for s in run.steps}


def changed(pipeline, **more):
    """``chain`` with another source of ``write``."""
    first, *rest = pipeline.root.tasks
    body = replace(first.body, code=Function("write", "def write(): 'anew'"), **more)
    return replace(pipeline, root=replace(pipeline.root, tasks=(replace(first, body=body), *rest)))


async def test_a_step_says_why_it_came_from_the_cache_or_not(house):
    first = await run_it(house, chain())
    assert notes(first) == {"write": "miss: never made", "read": "miss: never made"}
    again = await run_it(house, chain(), "run-2")
    assert notes(again)["write"] == "hit: made by run-1 write, less than 1 s ago"
    third = await run_it(house, changed(chain()), "run-3")
    assert notes(third)["write"] == "miss: source changed since run-1"


async def test_the_parts_that_changed_are_named(house, steps):
    steps["add"] = lambda a, b: a + b
    add = component("add", params=(Param("a", ParamType.INTEGER), Param("b", ParamType.INTEGER)))

    def adding(a, b, **more):
        task = Task("add", replace(add, **more), {"a": Constant(a), "b": Constant(b)})
        return Pipeline("p", Dag((task,)))

    await run_it(house, adding(1, 2))
    again = await run_it(house, adding(5, 2, env={"A": "1"}), "run-2")
    assert notes(again) == {"add": "miss: env, param a (1 -> 5) changed since run-1"}
    house.executor = FakeExecutor(steps, "another Python")
    assert notes(await run_it(house, adding(1, 2), "run-3"))["add"].startswith("miss: packages, env")


async def test_an_identical_result_stops_what_follows_from_running_again(house):
    await run_it(house, chain())
    again = await run_it(house, changed(chain()), "run-2")
    assert states(again) == {"write": S, "read": C}, "write ran anew, and gave the same"


async def test_another_pipeline_takes_the_same_outputs(house):
    await run_it(house, chain())
    other = replace(chain(), name="other")
    tasks = tuple(replace(t, body=replace(t.body, name=t.body.name)) for t in other.root.tasks)
    again = await run_it(house, replace(other, root=replace(other.root, tasks=tasks)), "run-2")
    assert set(states(again).values()) == {C}
    assert notes(again)["write"].startswith("hit: made by run-1 write")


async def test_without_the_cache_all_runs_and_is_kept(house):
    await run_it(house, chain())
    again = await run_it(house, chain(), "run-2", cache=False)
    assert states(again) == {"write": S, "read": S}
    assert set(notes(again).values()) == {"miss: the run takes nothing"}
    third = await run_it(house, chain(), "run-3")
    assert notes(third)["write"].startswith("hit: made by run-2 write")


async def test_what_is_too_old_is_made_again(house):
    await run_it(house, chain())
    house.clock.advance(3 * HOUR_MS / 1000)
    fresh = await run_it(house, chain(), "run-2", cache_age_ms_max=4 * HOUR_MS)
    assert notes(fresh)["write"] == "hit: made by run-1 write, 3 h ago"
    again = await run_it(house, chain(), "run-3", cache_age_ms_max=2 * HOUR_MS)
    assert states(again) == {"write": S, "read": S}
    assert notes(again)["write"] == "miss: made by run-1 write, 3 h ago, which is too old"


async def test_what_is_verified_is_made_again_and_compared(house, steps):
    first = await run_it(house, chain())
    again = await run_it(house, chain(), "run-2", verify_share=1.0)
    assert states(again) == {"write": S, "read": S}
    assert {s.note for s in again.steps} == {"verified: made again, and the same came out"}
    kept = await house.get("step", again.step("write").cache_key, Kept)
    assert kept.run == first.key, "what came out the same is not kept anew"

    def other(text):
        Path(text.path).write_text("good evening")
        return 1

    steps["write"] = other
    third = await run_it(house, chain(), "run-3", verify_share=1.0)
    assert third.step("write").note == "verified: made again, and it differs: text, from what run-1 made"
    assert third.outputs.params == {"number": 12}, "the run goes on with what is fresh"
    assert third.step("read").state is S
    assert third.step("read").cache_note == "miss: input text changed since run-1"


async def test_the_same_share_is_verified_each_time(house, steps):
    names = [f"s{n}" for n in range(40)]
    steps |= {name: lambda: 1 for name in names}
    await run_it(house, side_by_side(*names))
    again = await run_it(house, side_by_side(*names), "run-2", verify_share=0.5)
    verified = sum(state is S for state in states(again).values())
    assert 5 < verified < 35


async def test_outputs_of_an_older_tallystick_are_taken(house):
    run = await run_it(house, chain())
    key, outputs = run.step("write").cache_key, run.step("write").outputs
    house.ledger.facts = [f for f in house.ledger.facts if f.key != key]
    await house.tell("step", key, "made", outputs, "run-old write")
    again = await run_it(house, chain(), "run-2")
    assert notes(again)["write"] == "hit: made by run-old write, less than 1 s ago"


async def test_what_a_step_ran_on_is_recorded_once(house):
    run = await run_it(house, chain())
    digest = run.step("read").environment
    assert await house.get("environment", digest, Environment) == Environment("3.11", "here", {"it": "fake"})
    assert sum(fact.noun == "environment" for fact in house.ledger.facts) == 1
    assert (await run_it(house, chain(), "run-2")).step("read").environment == digest


async def test_a_seed_reaches_each_step_and_is_a_part_of_its_key(house, steps):
    seeds = {}

    class Noting(FakeExecutor):
        async def run(self, job, on_log):
            seeds.setdefault(job.component.name, []).append(job.env.get("TALLY_SEED"))
            return await super().run(job, on_log)

    house.executor = Noting(steps)
    for n, seed in enumerate((0, 7, 7, 8)):
        await run_it(house, chain(), f"run-{n}", seed=seed)
    assert [seed is None for seed in seeds["write"]] == [True, False, False], "the third time it was a hit"
    assert seeds["write"][1] != seeds["write"][2]
    assert seeds["write"][1] != seeds["read"][1]


async def test_a_run_that_reproduces_another_gets_its_environments_and_imports(house):
    first = await run_it(house, chain())
    then = Environment("3.9", "there", {"it": "old"}, "it==1")
    await house.tell("environment", then.digest, "seen", then)
    run = replace(await planned(house, chain(), "run-2"), reproduces=first.key)
    pins = Pins({"write": then.digest})
    again = await execute(house, chain(), run, pins)
    assert again.step("write").environment == then.digest
    assert again.step("read").environment == first.step("read").environment
    await add_table(house)
    importing = Pipeline("p", Dag((Task("load", Importer(Constant(f"{TABLE_URI}digits"))),)))
    given = Values({}, {"artifact": first.step("write").outputs.artifacts["text"]})
    run = replace(await planned(house, importing, "run-3"), reproduces=first.key)
    step = (await execute(house, importing, run, Pins({}, {"load": given}))).step("load")
    assert (step.outputs, step.note) == (given, "as in run-1")


# ---------------------------------------------------------------------- what importers bring in


def importing(uri, **more):
    return Pipeline("p", Dag((Task("load", Importer(Constant(uri), **more)),)))


async def test_rows_that_were_imported_before_are_taken(house):
    await add_table(house)
    first = await run_it(house, importing(f"{TABLE_URI}digits"))
    assert states(first) == {"load": S}
    again = await run_it(house, importing(f"{TABLE_URI}digits"), "run-2")
    assert states(again) == {"load": C}
    assert again.step("load").outputs == first.step("load").outputs
    verified = await run_it(house, importing(f"{TABLE_URI}digits"), "run-3", verify_share=1.0)
    assert verified.step("load").note == "verified: made again, and the same came out"
    assert verified.step("load").outputs == first.step("load").outputs


async def test_new_rows_are_another_import(house):
    await add_table(house)
    first = await run_it(house, importing(f"{TABLE_URI}digits"))
    await add_table(house)
    again = await run_it(house, importing(f"{TABLE_URI}digits"), "run-2")
    refs = [run.step("load").outputs.artifacts["artifact"][0] for run in (first, again)]
    assert refs[0].uri != refs[1].uri
    assert states(again) == {"load": S}


async def test_a_table_is_one_snapshot_for_all_of_a_run(house, steps):
    """Rows that come in between two importers of the same table are for the next run."""
    more = []

    async def grow():
        more.append(await add_table(house))

    loop = asyncio.get_running_loop()

    def growing():
        asyncio.run_coroutine_threadsafe(grow(), loop).result(10)
        return 1

    steps["grow"] = growing
    before = await add_table(house)
    load = Importer(Constant(f"{TABLE_URI}digits"))
    tasks = (
        Task("first", load), Task("grow", component("grow"), after=("first",)),
        Task("second", load, after=("grow",)),
    )  # fmt: skip
    run = await run_it(house, Pipeline("p", Dag(tasks)))
    assert run.state is RunState.SUCCEEDED
    uris = [run.step(name).outputs.artifacts["artifact"][0].uri for name in ("first", "second")]
    assert uris == [f"{TABLE_URI}{before.key}"] * 2
    assert more[0].key != before.key


async def test_what_an_importer_says_of_its_rows_is_filled_in(house):
    await add_table(house)
    metadata = {
        "{{$.inputs.parameters['k']}}": "by {{$.pipeline_job_name}}",
        "n": ["{{$.inputs.parameters['n']}}"],
    }
    task = Task(
        "load", Importer(Constant(f"{TABLE_URI}digits"), "system.Dataset", metadata),
        {"k": Constant("who"), "n": Constant(5)},
    )  # fmt: skip
    ref = (await run_it(house, Pipeline("p", Dag((task,))))).step("load").outputs.artifacts["artifact"][0]
    assert (ref.metadata["who"], ref.metadata["n"], ref.schema) == ("by p", [5], "system.Dataset")
    assert ref.metadata["rows"] > 0


@pytest.mark.parametrize("uri", ["file:///etc/passwd", "s3://bucket/x", "gs://b/x", "/etc/passwd"])
async def test_an_import_from_elsewhere_names_its_task(house, uri):
    task = Task("load", Importer(Template(uri)))
    run = await run_it(house, Pipeline("p", Dag((task,))))
    assert f"task load: cannot import from '{uri}', only from tables" in run.step("load").error
    assert "tally ingest" in run.step("load").error


async def test_what_is_looked_up_stays_small(house, steps):
    """A long loop asks once what its step was before."""
    run = await planned(house, chain())
    cache = StepCache(house, run, Pins())
    for turn in range(50):
        path = f"loop[{turn}]/write"
        recipe, *_ = await cache.recipe(component("write"), Values({"x": turn}), path, "", {})
        await cache.look_up(f"loop[{turn}]/write", recipe, True)
    assert len(cache._before) == 1


async def test_an_importers_uri_from_a_parameter(house):
    await add_table(house)
    params = (Param("table", ParamType.STRING, f"{TABLE_URI}digits"),)
    pipeline = Pipeline("p", Dag((Task("load", Importer(FromInput("table"))),)), params)
    run = replace(await planned(house, pipeline), params={"table": f"{TABLE_URI}digits"})
    assert (await execute(house, pipeline, run)).state is RunState.SUCCEEDED


async def test_an_artifact_of_metrics_counts_by_what_it_says(house, steps):
    """The file of metrics is empty: what they say is metadata."""

    def measure(score, metrics):
        Path(metrics.path).touch()
        metrics.log_metric("accuracy", score)
        return 1

    steps |= {"measure": measure, "report": lambda metrics: int(metrics.metadata["accuracy"] * 10)}
    made = component(
        "measure",
        params=(Param("score", ParamType.DOUBLE),),
        out_artifacts=(Slot("metrics", "system.Metrics"),),
    )
    told = component("report", artifacts=(Slot("metrics", "system.Metrics"),))
    for key, score in (("run-1", 0.5), ("run-2", 0.9)):
        tasks = (
            Task("measure", made, {"score": Constant(score)}),
            Task("report", told, {"metrics": FromTask("measure", "metrics")}),
        )
        run = await run_it(house, Pipeline("p", Dag(tasks)), key)
        assert run.step("report").outputs.params == {"Output": int(score * 10)}


class Words(FakeExecutor):
    """A command that puts out what its words name of the run."""

    async def run(self, job, on_log):
        name = job.component.code.command[1].strip("{$.}")
        return Outcome({"Output": job.facts.get(name, "none")})


@pytest.mark.parametrize("fact", ["pipeline_task_name", "pipeline_job_uuid"])
async def test_a_command_counts_by_what_its_placeholders_stand_for(house, fact):
    house.executor = Words({})
    out = (Param("Output", ParamType.STRING),)
    body = Component("tell", Command("image", ("echo", "{{$." + fact + "}}")), out_params=out)
    pipeline = Pipeline("p", Dag((Task("a", body), Task("b", body, after=("a",)))))
    for key in ("run-1", "run-2"):
        run = await run_it(house, pipeline, key, commands=True)
        told = {s.path: s.outputs.params["Output"] for s in run.steps}
        assert told == ({"a": "a", "b": "b"} if fact == "pipeline_task_name" else {"a": key, "b": key})
    assert states(run) == dict.fromkeys("ab", C if fact == "pipeline_task_name" else S)


async def test_what_ran_as_packages_were_installed_is_not_kept(house):
    """It may have run on either: an older Python's outputs must not be found for the newer one, or back."""
    house.executor = held = HeldExecutor()
    house.executor._environment = "1.0"
    pipeline = side_by_side("a")
    going = asyncio.create_task(run_it(house, pipeline))
    await held.until("a")
    held._environment = "2.0"
    held.let_go("a")
    run = await going
    assert run.step("a").note == "not kept: packages were installed or removed meanwhile"
    house.executor = FakeExecutor({"a": lambda: 2}, environment="1.0")
    assert states(await run_it(house, pipeline, "run-2")) == {"a": S}
    assert states(await run_it(house, pipeline, "run-3")) == {"a": C}
