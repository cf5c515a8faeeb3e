from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tallystick.core.data import TABLE_URI
from tallystick.core.errors import MissingTile, Unavailable
from tallystick.core.pipeline.spec import Cache, Constant, Dag, Function, Importer, Pipeline, Task
from tallystick.core.run.events import Run, RunState, StepState
from tallystick.hub.execute import execute
from tallystick.hub.house.whole import whole_run
from tests.fakes.executor import FakeExecutor
from tests.fakes.house import add_table, events, until
from tests.hub.runs.steps import HeldExecutor, chain, component, planned, side_by_side

S, C = StepState.SUCCEEDED, StepState.CACHED


def write(text):
    Path(text.path).write_text("hello")
    print("writing")  # noqa: T201  reason: what a step prints is its log
    return 1


def read(text):
    return len(Path(text.path).read_text())


@pytest.fixture
def steps():
    return {"write": write, "read": read}


async def run_it(house, pipeline, key="run-1"):
    return await execute(house, pipeline, await planned(house, pipeline, key))


def states(run):
    return {s.path: s.state for s in run.steps}


async def test_steps_run_in_order_and_pass_on_what_they_make(house):
    run = await run_it(house, chain())
    assert run.state is RunState.SUCCEEDED
    assert run.outputs.params == {"number": 5}
    assert house.executor.ran == ["run-1 write", "run-1 read"]
    assert await whole_run(house, "run-1") == run
    assert await house.get("run", "run-1", Run) == replace(run, steps=())
    assert events(house, "run") == ["planned", "began", "succeeded"]
    assert list(house.scratch.iterdir()) == []
    assert house.inboxes == {}


async def test_the_log_of_a_step_is_kept(house):
    run = await run_it(house, chain())
    assert house.artifacts.blobs[run.step("write").log_digest] == b"writing\n"
    assert house.artifacts.blobs[run.step("read").log_digest] == b""


async def test_as_many_at_once_as_there_are_slots(house):
    house.executor = held = HeldExecutor()
    running = asyncio.create_task(run_it(house, side_by_side("a", "b", "c")))
    await held.until("a", "b")
    assert states(await whole_run(house, "run-1")) == dict.fromkeys("ab", StepState.RUNNING)
    held.let_go("b")
    await held.until("a", "b", "c")
    held.let_go("c")
    held.let_go("a")
    assert (await running).state is RunState.SUCCEEDED


async def test_the_second_time_nothing_runs(house):
    await run_it(house, chain())
    again = await run_it(house, chain(), "run-2")
    assert (again.state, again.outputs.params) == (RunState.SUCCEEDED, {"number": 5})
    assert states(again) == {"write": C, "read": C}
    assert len(house.executor.ran) == 2


async def test_another_environment_runs_all_again(house, steps):
    await run_it(house, chain())
    house.executor = FakeExecutor(steps, "another Python")
    assert states(await run_it(house, chain(), "run-2")) == {"write": S, "read": S}


async def test_another_content_of_an_input_runs_what_reads_it_again(house, steps):
    await run_it(house, chain())

    def write(text):
        Path(text.path).write_text("good evening")
        return 1

    steps["write"] = write
    pipeline = chain()
    changed = replace(pipeline.root.tasks[0].body, code=Function("write", "def write(): 'anew'"))
    tasks = (replace(pipeline.root.tasks[0], body=changed), pipeline.root.tasks[1])
    again = await run_it(house, replace(pipeline, root=replace(pipeline.root, tasks=tasks)), "run-2")
    assert states(again) == {"write": S, "read": S}
    assert again.outputs.params == {"number": 12}


async def test_a_task_that_wants_no_cache_runs_again_but_what_follows_does_not(house):
    await run_it(house, chain())
    pipeline = chain()
    tasks = (replace(pipeline.root.tasks[0], cache=Cache(False)), pipeline.root.tasks[1])
    again = await run_it(house, replace(pipeline, root=replace(pipeline.root, tasks=tasks)), "run-2")
    assert states(again) == {"write": S, "read": C}


async def test_a_cached_artifact_that_is_gone_is_made_again(house):
    first = await run_it(house, chain())
    del house.artifacts.blobs[first.step("write").outputs.artifacts["text"][0].digest]
    again = await run_it(house, chain(), "run-2")
    assert states(again) == {"write": S, "read": C}


async def test_an_import_brings_in_the_rows_of_a_table(house):
    snapshot = await add_table(house)
    pipeline = Pipeline("p", Dag((Task("load", Importer(Constant(f"{TABLE_URI}digits"))),)))
    ref = (await run_it(house, pipeline)).step("load").outputs.artifacts["artifact"][0]
    assert house.artifacts.blobs[ref.digest].startswith(b"PAR1")
    assert (ref.metadata["snapshot"], ref.metadata["snapshot_digest"]) == (snapshot.key, snapshot.digest)
    assert ref.uri == f"{TABLE_URI}{snapshot.key}"


@pytest.mark.parametrize("uri", [7, "s3://bucket/x", f"{TABLE_URI}none"])
async def test_an_import_of_something_else_fails_the_run(house, uri):
    run = await run_it(house, Pipeline("p", Dag((Task("load", Importer(Constant(uri))),))))
    assert (run.state, run.step("load").state) == (RunState.FAILED, StepState.FAILED)
    assert run.error.startswith("load: ")


# ---------------------------------------------------------------------- MLflow's record


async def test_mlflow_has_a_record_that_ends_as_the_run_does(house, steps):
    run = await run_it(house, chain())
    record = house.registry.runs[run.record_id]
    assert (record.status, record.name) == ("FINISHED", "run-1")
    assert record.tags == {"tally.run": "run-1", "tally.spec": run.spec_digest}
    steps["broken"] = lambda: 1 / 0
    failed = await run_it(house, side_by_side("broken"), "run-2")
    assert house.registry.runs[failed.record_id].status == "FAILED"


async def test_steps_are_told_to_which_run_they_belong(house, monkeypatch):
    seen = []
    run = house.executor.run

    async def spied(job, on_log):
        seen.append(job)
        return await run(job, on_log)

    monkeypatch.setattr(house.executor, "run", spied)
    record = (await run_it(house, chain())).record_id
    tags = {"tally.run": "run-1", "tally.step": "write", "mlflow.parentRunId": record}
    assert json.loads(seen[0].env["MLFLOW_RUN_CONTEXT"]) == tags
    assert (seen[0].env["TALLY_RUN"], seen[0].env["TALLY_STEP"]) == ("run-1", "write")
    assert seen[0].env["MLFLOW_EXPERIMENT_ID"] == "1"


async def test_without_mlflow_the_run_has_no_record(house, monkeypatch):
    async def missing(*args):
        raise MissingTile("no MLflow")

    monkeypatch.setattr(house.registry, "begin_run", missing)
    run = await run_it(house, chain())
    assert (run.state, run.record_id) == (RunState.SUCCEEDED, "")


async def test_an_mlflow_that_is_down_fails_the_run_before_any_step(house, monkeypatch):
    async def down(*args):
        raise Unavailable("MLflow is down")

    monkeypatch.setattr(house.registry, "begin_run", down)
    with pytest.raises(Unavailable):
        await run_it(house, chain())
    run = await house.get("run", "run-1", Run)
    assert (run.state, run.error, run.steps) == (RunState.FAILED, "MLflow is down", ())


async def test_an_mlflow_that_goes_down_meanwhile_fails_nothing(house, monkeypatch):
    async def down(*args):
        raise Unavailable("MLflow is down")

    monkeypatch.setattr(house.registry, "end_run", down)
    assert (await run_it(house, chain())).state is RunState.SUCCEEDED


# ---------------------------------------------------------------------- failing steps


async def test_when_one_fails_the_others_finish_and_nothing_new_starts(house):
    house.executor = held = HeldExecutor()
    running = asyncio.create_task(run_it(house, side_by_side("a", "b", "c")))
    await held.until("a", "b")
    held.let_go("a", error="ValueError: no")

    async def a_has_failed():
        return states(await whole_run(house, "run-1"))["a"] is StepState.FAILED

    await until(a_has_failed)
    held.let_go("b")
    run = await running
    assert states(run) == {"a": StepState.FAILED, "b": S, "c": StepState.SKIPPED}
    assert (run.state, run.error) == (RunState.FAILED, "a: ValueError: no")
    assert set(held.held) == {"a", "b"}


async def test_a_failed_step_keeps_its_log_and_is_not_cached(house, steps):
    def broken():
        print("about to")  # noqa: T201  reason: what a step prints is its log
        raise ValueError("no")

    steps["broken"] = broken
    for key in ("run-1", "run-2"):
        run = await run_it(house, side_by_side("broken"), key)
        assert run.step("broken").error == "ValueError: no"
        assert house.artifacts.blobs[run.step("broken").log_digest] == b"about to\n"
    assert house.executor.ran == ["run-1 broken", "run-2 broken"]


async def test_an_executor_that_raises_is_a_failed_step(house):
    house.executor = held = HeldExecutor()
    running = asyncio.create_task(run_it(house, side_by_side("a", "b")))
    await held.until("a", "b")
    held.break_down("a")
    held.held["b"].set_exception(RuntimeError("a bug"))
    run = await running
    assert run.step("a").error == "the executor is down"
    assert run.step("b").error == "RuntimeError: a bug"


async def test_outputs_that_cannot_be_kept_fail_the_step_which_keeps_its_log(house, steps):
    def bad():
        print("the metric is not a number")  # noqa: T201  reason: what a step prints is its log
        return 1

    steps["bad"] = bad
    house.executor._outcome = lambda job, returned, made: _nan()
    run = await run_it(house, Pipeline("p", Dag((Task("bad", component("bad")),))))
    assert run.state is RunState.FAILED
    assert "not JSON" in run.step("bad").error
    assert house.artifacts.blobs[run.step("bad").log_digest] == b"the metric is not a number\n"


def _nan():
    from tallystick.ports.executor import Outcome

    return Outcome({"Output": float("nan")})


async def test_an_output_that_is_not_there_is_named(house, steps, tmp_path):
    from tallystick.ports.executor import Outcome, OutputFile

    steps["bad"] = lambda: 1
    gone = Outcome({}, {"text": OutputFile(tmp_path / "gone", "system.Artifact")})
    house.executor._outcome = lambda job, returned, made: gone
    run = await run_it(house, side_by_side("bad"))
    assert "left nothing for its output 'text'" in run.step("bad").error


async def test_each_step_gets_a_way_to_mlflow_of_its_own_while_it_runs(house, tmp_path):
    doors = []
    jobs = []

    @contextlib.asynccontextmanager
    async def step_door(key):
        doors.append(f"open {key}")
        yield tmp_path / f"s{len(doors)}"
        doors.append(f"shut {key}")

    class Noting(FakeExecutor):
        async def run(self, job, on_log):
            jobs.append((job.key, job.door, len(doors)))
            return await super().run(job, on_log)

    house.step_door = step_door
    house.executor = Noting({"write": write, "read": read})
    assert (await run_it(house, chain())).state is RunState.SUCCEEDED
    first, second = [f"run-1 {name}" for name in ("write", "read")]
    assert doors == [f"open {first}", f"shut {first}", f"open {second}", f"shut {second}"]
    assert jobs == [(first, tmp_path / "s1", 1), (second, tmp_path / "s3", 3)]


async def test_without_mlflow_a_step_has_no_way_to_it(house):
    jobs = []

    class Noting(FakeExecutor):
        async def run(self, job, on_log):
            jobs.append(job.door)
            return await super().run(job, on_log)

    house.executor = Noting({"write": write, "read": read})
    await run_it(house, chain())
    assert jobs == [None, None]


async def test_a_step_whose_way_to_mlflow_cannot_be_made_fails_alone(house):
    @contextlib.asynccontextmanager
    async def step_door(key):
        raise Unavailable("no socket can be made")
        yield

    house.step_door = step_door
    run = await run_it(house, chain())
    assert (run.state, run.step("write").state) == (RunState.FAILED, StepState.FAILED)
    assert "no socket can be made" in run.step("write").error
    assert list(house.scratch.iterdir()) == []
