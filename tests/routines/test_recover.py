from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial

import pytest

from tallystick.core.endpoint import Endpoint, Wish
from tallystick.core.errors import NotFound, Unavailable
from tallystick.core.names import digest_of
from tallystick.core.remedy import Remedy, RemedyAction, RemedyState
from tallystick.core.run.events import Began, Run, RunState, Step, StepEnded, StepState
from tallystick.core.run.options import KUBEFLOW, RunOptions
from tallystick.core.run.record import write_event, write_step
from tallystick.core.values import Values
from tallystick.core.verdict import Verdict, VerdictState
from tallystick.hub.execute import cancel
from tallystick.hub.house import removal
from tallystick.hub.house.whole import whole_run
from tallystick.ports.runs.journal import Entry
from tallystick.routines import recover as module
from tallystick.routines.recover import end_records, give_up, recover
from tests.fakes.house import add_model, add_run, add_verdict, events, until
from tests.fakes.runs.cluster import FakeCluster
from tests.hub.runs.steps import planned, side_by_side

WHY = "the hub stopped meanwhile"
OLD = (Step("a", StepState.RUNNING),)


async def unread(spec_digest):
    raise NotFound("the pipeline is gone", where="artifacts")


async def test_runs_of_a_tallystick_without_journals_are_ended_with_the_reason(house):
    steps = (Step("a", StepState.SUCCEEDED, ended_ms=5), Step("b", StepState.RUNNING, started_ms=5))
    for state in RunState:
        run = Run(f"run-{state}", "p", digest_of("spec"), {}, state=state, steps=steps)
        await house.tell("run", run.key, "told", run)
    await recover(house, unread)
    for state in RunState:
        run = await house.get("run", f"run-{state}", Run)
        if state.ended:
            assert (run.state, run.steps) == (state, steps)
            continue
        assert (run.state, run.error, run.ended_ms) == (RunState.FAILED, WHY, house.clock.now_ms())
        assert run.steps[0] == steps[0]
        assert run.steps[1] == replace(
            steps[1], state=StepState.CANCELLED, error=WHY, ended_ms=house.clock.now_ms()
        )


async def test_runs_that_had_not_ended_go_on_and_planned_ones_begin(house, steps):
    steps |= {"a": lambda: 1, "b": lambda: 2}
    pipeline, read = side_by_side("a", "b"), []

    async def again(spec_digest):
        read.append(spec_digest)
        return pipeline

    begun = await planned(house, pipeline, "run-1")
    started = [
        Step("a", StepState.SUCCEEDED, 1, outputs=Values({"Output": 7})),
        Step("b", StepState.RUNNING, 1),
    ]
    told = [Began(1, 2), StepEnded("a", StepState.SUCCEEDED, 2, outputs=Values({"Output": 7}))]
    for event, step in zip(told, started, strict=True):
        entry = Entry(write_event(event), [(step.path, write_step(step))])
        await house.journal.record(begun.tenant, begun.key, [entry])
    await house.tell("run", "run-1", "began", begun)
    await planned(house, pipeline, "run-2")
    await add_run(house, key="run-3")
    assert await recover(house, again) == ([], [])
    await until(lambda: not house.tasks)
    assert read == [begun.spec_digest] * 2
    for key in ("run-1", "run-2"):
        run = await whole_run(house, key)
        assert (run.state, [s.path for s in run.steps]) == (RunState.SUCCEEDED, ["a", "b"])
    assert "run-1 a" not in house.executor.ran
    assert events(house, "run", "run-1") == ["planned", "began", "resumed", "succeeded"]
    assert events(house, "run", "run-2") == ["planned", "began", "succeeded"]
    assert events(house, "run", "run-3") == ["succeeded"]


async def test_a_run_that_was_cancelled_meanwhile_ends_as_it_is_taken_up(house, steps):
    pipeline = side_by_side("a")
    await planned(house, pipeline)
    await cancel(house, "run-1")

    async def again(spec_digest):
        return pipeline

    await recover(house, again)
    await until(lambda: not house.tasks)
    assert ((await house.get("run", "run-1", Run)).state, house.executor.ran) == (RunState.CANCELLED, [])


async def test_a_run_whose_pipeline_is_gone_is_given_up(house):
    house.rescue = lambda key, why: give_up(house, key, why)
    await planned(house, side_by_side("a"))
    await recover(house, unread)
    await until(lambda: not house.tasks)
    run = await house.get("run", "run-1", Run)
    assert (run.state, "the pipeline is gone" in run.error) == (RunState.FAILED, True)


async def test_giving_up_keeps_what_the_journal_knows_though_it_be_damaged(house):
    run = await add_run(house, state=RunState.RUNNING, snapshots=(), counts={})
    await give_up(house, run.key, "because")
    ended = await house.get("run", run.key, Run)
    assert (ended.error, len(ended.snapshots), ended.counts) == ("because", 1, {"succeeded": 1})
    run = await add_run(house, state=RunState.RUNNING, snapshots=())
    await house.journal.record(run.tenant, run.key, [Entry("{}", [("x", "no step")])])
    await give_up(house, run.key, "because")
    assert (await house.get("run", run.key, Run)).state is RunState.FAILED


async def test_verdicts_that_were_being_reached_failed(house):
    model = await add_model(house)
    keys = {s: (await add_verdict(house, model, s)).key for s in VerdictState}
    await recover(house, unread)
    found = {s: await house.get("verdict", k, Verdict) for s, k in keys.items()}
    assert (found[VerdictState.JUDGING].state, found[VerdictState.JUDGING].error) == (
        VerdictState.FAILED,
        WHY,
    )
    for state in (VerdictState.PASSED, VerdictState.REFUSED, VerdictState.FAILED):
        assert (found[state].state, found[state].error) == (state, "")


async def test_remedies_that_were_being_carried_out_failed(house):
    for state in RemedyState:
        remedy = Remedy(f"remedy-{state.name}", "s", "digits", RemedyAction.RERUN, "t", "why", state=state)
        await house.tell("remedy", remedy.key, "told", remedy)
    await recover(house, unread)
    states = {s: (await house.get("remedy", f"remedy-{s.name}", Remedy)) for s in RemedyState}
    assert (states[RemedyState.CARRYING].state, states[RemedyState.CARRYING].outcome) == (
        RemedyState.FAILED,
        WHY,
    )
    for state in (RemedyState.PROPOSED, RemedyState.DONE, RemedyState.FAILED):
        assert states[state].state is state


async def test_a_second_time_there_is_nothing_to_say(house):
    run = await add_run(house, state=RunState.RUNNING, steps=OLD)
    await recover(house, unread)
    told = len(house.ledger.facts)
    await recover(house, unread)
    assert len(house.ledger.facts) == told
    assert events(house, "run", run.key) == ["running", "failed"]


async def test_endpoints_are_left_to_settling(house):
    endpoint = Endpoint("digits", Wish(1, "digits@1", digest_of("m")))
    await house.tell("endpoint", "digits", "wished", endpoint)
    await recover(house, unread)
    assert events(house, "endpoint") == ["wished"]


@pytest.mark.parametrize(("left", "cut_off"), [("ingest-digits", True), ("step", False)])
async def test_the_scratch_folder_is_emptied_and_a_cut_off_ingest_is_told(house, left, cut_off):
    folder = house.folder(left)
    (folder / "deep").mkdir()
    (folder / "deep" / "file").write_text("half")
    (folder / "link").symlink_to(house.scratch.parent)
    marks, _ = await recover(house, unread)
    assert marks == ([folder] if cut_off else [])
    assert list(house.scratch.iterdir()) == marks, "marks stay until the catalogue was looked at"
    assert house.scratch.parent.exists()


async def test_a_folder_of_any_depth_does_not_keep_a_home_from_starting(house):
    folder = house.folder("step")
    code = "import os, sys\nos.chdir(sys.argv[1])\nfor _ in range(1500): os.mkdir('d' * 9); os.chdir('d' * 9)"
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code, str(folder)], check=True)
    await recover(house, unread)
    assert list(house.scratch.iterdir()) == []


async def test_what_cannot_be_removed_does_not_keep_a_home_from_starting(house, monkeypatch):
    house.folder("step")

    def refuse(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "rmdir", refuse)
    assert await recover(house, unread) == ([], [])
    assert len(list(house.scratch.iterdir())) == 1


async def test_a_start_does_not_wait_for_what_takes_long_to_remove(house, monkeypatch):
    folder, gone = house.folder("step"), threading.Event()
    monkeypatch.setattr(module, "TIDY_WAIT_S", 0.01)

    def slow(_, stopped):
        end = time.monotonic() + 60
        while not stopped() and time.monotonic() < end:
            time.sleep(0.01)
        gone.set()
        return ""

    monkeypatch.setattr(removal, "rmtree", slow)
    assert await recover(house, unread) == ([], [])
    house.tasks["tidy"].cancel()
    assert await asyncio.to_thread(gone.wait, 5), "a hub that ends does not wait either"
    assert folder.exists()


async def test_mlflows_copies_of_cut_off_runs_are_named_and_ended(house):
    _, record = await house.registry.begin_run("p", "r", {})
    await add_run(house, state=RunState.RUNNING, record_id=record, steps=OLD)
    _, records = await recover(house, unread)
    assert records == [record]
    await end_records(house, [*records, "unknown"])
    assert house.registry.runs[record].status == "KILLED"


async def test_work_that_broke_off_is_given_up_by_its_key(house):
    model = await add_model(house)
    verdict = await add_verdict(house, model, VerdictState.JUDGING)
    other = await add_verdict(house, model, VerdictState.JUDGING)

    async def work() -> None:
        raise OSError(5, "Input/output error")

    house.rescue = lambda key, why: give_up(house, key, why)
    house.start(verdict.key, work())
    await until(lambda: not house.tasks)
    ended = await house.get("verdict", verdict.key, Verdict)
    assert (ended.state, "Input/output error" in ended.error) == (VerdictState.FAILED, True)
    assert (await house.get("verdict", other.key, Verdict)).state is VerdictState.JUDGING


async def test_giving_up_waits_for_a_ledger_that_cannot_be_written(house):
    model = await add_model(house)
    verdict = await add_verdict(house, model, VerdictState.JUDGING)
    house.ledger.broken = Unavailable("the disk is full")
    tries: list[str] = []

    async def rescue(key: str, why: str) -> None:
        tries.append(why)
        if len(tries) == 3:
            house.ledger.broken = None
        await give_up(house, key, why)

    async def work() -> None:
        raise Unavailable("the disk is full")

    house.rescue = rescue
    house.start(verdict.key, work())
    await until(lambda: not house.tasks)
    assert len(tries) == 3
    assert (await house.get("verdict", verdict.key, Verdict)).state is VerdictState.FAILED


async def test_a_run_that_a_cluster_executes_is_followed_and_not_executed(house):
    run = replace(await planned(house, side_by_side("a")), away="id-run-1")
    run = replace(run, options=RunOptions(on=KUBEFLOW, host="http://localhost:1"))
    await house.tell("run", run.key, "submitted", run)
    cluster = FakeCluster()
    cluster.ended["id-run-1"] = RunState.SUCCEEDED
    house.clusters = lambda host: cluster
    await recover(house, unread)
    await until(lambda: not house.tasks)
    assert (await house.get("run", run.key, Run)).state is RunState.SUCCEEDED
    assert (cluster.submitted, house.executor.ran) == ([], [])


async def test_a_run_whose_cluster_may_not_be_called_any_more_is_given_up(house):
    options = RunOptions(on=KUBEFLOW, host="http://localhost:1")
    run = replace(await planned(house, side_by_side("a")), options=options)
    await house.tell("run", run.key, "planned", run)
    house.rescue = partial(give_up, house)
    await recover(house, unread)
    await until(lambda: not house.tasks)
    ended = await house.get("run", run.key, Run)
    assert (ended.state, "hands nothing to clusters" in ended.error) == (RunState.FAILED, True)
