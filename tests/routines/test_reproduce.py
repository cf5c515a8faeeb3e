"""A past run is run again as it was, and what is not as it was then is said before anything runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tallystick.core.data import TABLE_URI
from tallystick.core.errors import Conflict, NotFound, NotSupported, Unavailable
from tallystick.core.pipeline.spec import (
    Constant,
    Dag,
    DagOutput,
    FromTask,
    Importer,
    Loop,
    Pipeline,
    Slot,
    Source,
    Task,
)
from tallystick.core.run.events import Run, RunState, StepState
from tallystick.core.run.options import Pins, RunOptions
from tallystick.core.values import Environment
from tallystick.hub.execute import execute
from tallystick.hub.house.whole import pins_of, whole_run
from tallystick.ports.executor import Outcome
from tallystick.routines.recover import recover
from tallystick.routines.reproduce import reproduce
from tallystick.routines.sides import compare_runs
from tests.fakes.executor import FakeExecutor
from tests.fakes.house import add_table, until
from tests.hub.runs.steps import component

SPEC = "sha256:" + "0" * 64
LOCKED = Environment("3.11", "here", {"it": "1"}, lock="it==1 --hash=sha256:00")


def looped() -> Pipeline:
    """``load`` brings in a table, ``length`` measures it, and each of two turns gives 1."""
    load = Task("load", Importer(Constant(f"{TABLE_URI}digits")))
    rows = component("read", artifacts=(Slot("rows"),))
    length = Task("length", rows, {"rows": FromTask("load", "artifact")})
    loop = Loop(Constant([1, 2]), "item")
    turns = Task("loop", Dag((Task("one", component("one")),)), after=("length",), loop=loop)
    return Pipeline("p", Dag((load, length, turns), (DagOutput("n", (Source("length", "Output"),)),)))


@pytest.fixture
def steps():
    return {"read": lambda rows: len(Path(rows.path).read_bytes()), "one": lambda: 1}


async def read(spec_digest: str) -> Pipeline:
    assert spec_digest == SPEC
    return looped()


async def past(house, **more) -> Run:
    """A run of it that has ended."""
    await add_table(house)
    run = replace(Run("run-1", "p", SPEC, {}, options=RunOptions(seed=7, verify_share=0.5)), **more)
    await house.tell("run", run.key, "planned", run)
    return await execute(house, looped(), run)


async def test_nothing_is_taken_from_the_cache_and_the_same_comes_out(house):
    before = await past(house)
    again, pipeline, pins, notes = await reproduce(house, read, "run-1")
    assert again.options == RunOptions(cache=False, seed=7)
    assert (again.reproduces, again.state, again.params) == ("run-1", RunState.RUNNING, before.params)
    assert await house.get("run", again.key, Run) == again
    assert list(notes) == []
    house.executor.ran.clear()
    ended = await execute(house, pipeline, again, pins)
    assert ended.state is RunState.SUCCEEDED
    assert len(house.executor.ran) == 3
    assert all(step.state is StepState.SUCCEEDED for step in ended.steps)
    assert (await compare_runs(house, read, "run-1", again.key)).alike


async def test_a_table_that_has_grown_is_read_as_it_was(house):
    before = await past(house)
    await add_table(house, rows="a,b,label\n5,1,0\n")
    again, pipeline, pins, notes = await reproduce(house, read, "run-1")
    ended = await execute(house, pipeline, again, pins)
    assert list(notes) == []
    assert ended.snapshots == before.snapshots
    assert ended.outputs == before.outputs


async def test_rows_that_are_not_kept_any_more_are_written_once_more(house):
    before = await past(house)
    (ref,) = before.step("load").outputs.artifacts["artifact"]
    await add_table(house, rows="a,b,label\n5,1,0\n")
    content = house.artifacts.blobs.pop(ref.digest)
    await reproduce(house, read, "run-1")
    assert house.artifacts.blobs[ref.digest] == content


async def test_what_is_gone_is_said_before_anything_runs(house, monkeypatch):
    before = await past(house)
    (ref,) = before.step("load").outputs.artifacts["artifact"]
    house.artifacts.blobs.pop(ref.digest)

    async def expired(*_):
        raise NotFound("the snapshot has expired", where="digits")

    monkeypatch.setattr(house.catalogue, "export", expired)
    house.executor.ran.clear()
    with pytest.raises(
        NotFound, match=r"rows that load read from tally://tables/digits@.* \(the snapshot has"
    ):
        await reproduce(house, read, "run-1")
    assert house.executor.ran == []
    assert [fact.key for fact in await house.ledger.listing(house.tenant, "run")] == ["run-1"]


async def test_rows_that_are_written_otherwise_now_are_not_the_same_input(house, monkeypatch):
    before = await past(house)
    (ref,) = before.step("load").outputs.artifacts["artifact"]
    house.artifacts.blobs.pop(ref.digest)
    export = house.catalogue.export

    async def otherwise(wanted, path):
        found = await export(wanted, path)
        path.write_bytes(path.read_bytes() + b"!")
        return found

    monkeypatch.setattr(house.catalogue, "export", otherwise)
    with pytest.raises(NotFound, match="written otherwise"):
        await reproduce(house, read, "run-1")


async def test_other_packages_are_said_before_it_runs(house):
    await past(house)
    house.executor._environment = "another"
    again, _, pins, notes = await reproduce(house, read, "run-1")
    assert list(notes) == ["length runs on something else now: it was fake, is another"]
    assert pins.environments == {}
    ended = await execute(house, looped(), again, pins)
    difference = await compare_runs(house, read, "run-1", ended.key)
    assert [c.what for c in difference.groups["packages"]] == ["package it"]


async def test_what_a_step_ran_on_may_never_have_been_recorded(house):
    await past(house)
    newest = house.ledger._newest
    for place in [place for place in newest if place[1] == "environment"]:
        del newest[place]
    _, _, pins, notes = await reproduce(house, read, "run-1")
    assert list(notes) == ["what length ran on is not recorded: it runs on what is there now"]
    assert pins.environments == {}


class LockedExecutor(FakeExecutor):
    """Resolves packages to ``now``, and builds what it is told to, unless ``broken`` says why not."""

    now = LOCKED
    broken = ""

    def __init__(self, table) -> None:
        super().__init__(table)
        self.on: list[Environment] = []

    async def environment(self, component):
        return self.now

    async def run(self, job, on_log):
        self.on.append(job.environment)
        if self.broken.startswith("!"):
            raise Unavailable(self.broken)
        if self.broken or job.component.code.name == "nothing":
            return Outcome(error=self.broken)
        return await super().run(job, on_log)


@pytest.fixture
def locked(house, steps):
    house.executor = LockedExecutor(steps)
    return house.executor


async def test_locked_packages_are_pinned_however_they_would_resolve_now(house, locked):
    await past(house)
    locked.now = replace(LOCKED, packages={"it": "2"}, lock="it==2")
    locked.on.clear()
    again, pipeline, pins, notes = await reproduce(house, read, "run-1")
    assert list(notes) == []
    assert locked.on == [LOCKED], "it was tried once, before anything runs"
    assert pins.environments == dict.fromkeys(("length", "loop[0]/one", "loop[1]/one"), LOCKED.digest)
    await execute(house, pipeline, again, pins)
    assert locked.on == [LOCKED] * 4
    assert (await compare_runs(house, read, "run-1", again.key)).alike
    assert list(house.scratch.glob("environment-*")) == []


@pytest.mark.parametrize("why", ["the wheel it-1.whl is gone", "!no index can be reached"])
async def test_locked_packages_that_cannot_be_had_are_said_before_anything_runs(house, locked, why):
    await past(house)
    locked.broken = why
    with pytest.raises(NotFound, match=why):
        await reproduce(house, read, "run-1")
    assert len(await house.ledger.listing(house.tenant, "run")) == 1


async def test_pins_are_found_again_after_a_crash(house, locked):
    before = await past(house)
    again, _, pins, _ = await reproduce(house, read, "run-1")
    assert await pins_of(house, await house.get("run", again.key, Run)) == pins
    assert pins.imports == {"load": before.step("load").outputs}
    assert await pins_of(house, before) == Pins()


async def test_a_run_that_failed_fails_again(house, steps):
    def bad(rows):
        raise ValueError("no")

    steps["read"] = bad
    assert (await past(house)).state is RunState.FAILED
    again, pipeline, pins, _ = await reproduce(house, read, "run-1")
    assert (await execute(house, pipeline, again, pins)).state is RunState.FAILED
    difference = await compare_runs(house, read, "run-1", again.key)
    assert not difference.groups["states"]


async def test_a_hub_that_died_meanwhile_still_reads_what_was_read(house):
    before = await past(house)
    again, *_ = await reproduce(house, read, "run-1")
    await add_table(house, rows="a,b,label\n5,1,0\n")
    await recover(house, read)
    await until(lambda: again.key not in house.tasks)
    ended = await whole_run(house, again.key)
    assert (ended.state, ended.outputs, ended.snapshots) == (before.state, before.outputs, before.snapshots)


async def test_what_has_not_ended_cannot_be_reproduced(house):
    await house.tell("run", "run-1", "planned", Run("run-1", "p", SPEC, {}))
    with pytest.raises(Conflict, match="has not ended"):
        await reproduce(house, read, "run-1")
    with pytest.raises(NotFound):
        await reproduce(house, read, "run-2")


async def test_a_pipeline_that_is_gone(house):
    async def gone(_):
        raise NotFound("it was never stored")

    await past(house)
    with pytest.raises(NotFound, match="its pipeline is not to be had"):
        await reproduce(house, gone, "run-1")


async def test_what_cannot_run_here_any_more_is_refused(house, monkeypatch):
    await past(house)

    def refuse(component, **_):
        raise NotSupported("not here", where=component.name)

    monkeypatch.setattr(house.executor, "check", refuse)
    with pytest.raises(NotSupported, match="not here"):
        await reproduce(house, read, "run-1")
    assert len((await whole_run(house, "run-1")).steps) == 4
