"""What a run does once for many steps, and what it spares those that need it not."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tallystick.core.pipeline.spec import (
    Cache,
    Constant,
    Dag,
    FromTask,
    Param,
    ParamType,
    Pipeline,
    Slot,
    Task,
)
from tallystick.core.run.events import StepState
from tallystick.hub.execute import execute
from tests.hub.runs.steps import component, planned

NUMBER = Param("n", ParamType.INTEGER)
COUNT = 12


def add(n):
    return n + 1


@pytest.fixture
def steps():
    return {"add": add}


def long_chain(*, cache=True):
    """Steps one after the other, each with a component of its own that is equal to the others'."""
    tasks = [Task("add-0", component("add", params=(NUMBER,)), {"n": Constant(0)})]
    for n in range(1, COUNT):
        given = {"n": FromTask(f"add-{n - 1}", "Output")}
        tasks.append(Task(f"add-{n}", component("add", params=(NUMBER,)), given))
    return Pipeline("p", Dag(tuple(replace(task, cache=Cache(cache)) for task in tasks)))


def counted(monkeypatch, part, name):
    """The arguments of each call of a part's method."""
    real, calls = getattr(part, name), []

    async def call(*given, **named):
        calls.append(given)
        return await real(*given, **named)

    monkeypatch.setattr(part, name, call)
    return calls


async def run_it(house, pipeline, key):
    return await execute(house, pipeline, await planned(house, pipeline, key))


async def test_a_chain_that_was_made_before_is_told_at_once(house, monkeypatch):
    await run_it(house, long_chain(), "run-1")
    recorded = counted(monkeypatch, house.journal, "record")
    asked = counted(monkeypatch, house.executor, "environment")
    run = await run_it(house, long_chain(), "run-2")
    assert [s.state for s in run.steps] == [StepState.CACHED] * COUNT
    assert [len(entries) for _, _, entries in recorded] == [1, COUNT]  # that it began, and the rest
    assert len(asked) == 1


async def test_one_look_says_whether_and_why(house, monkeypatch):
    await run_it(house, long_chain(), "run-1")
    latest, several = (counted(monkeypatch, house.ledger, name) for name in ("latest", "latest_of"))
    run = await run_it(house, long_chain(), "run-2")
    assert (len(latest), len(several)) == (0, COUNT)
    assert {s.cache_note.partition(" by")[0] for s in run.steps} == {"hit: made"}
    several.clear()
    await run_it(house, long_chain(cache=False), "run-3")
    assert len(several) == 1  # at its end: what was the newest of each path before


async def test_what_prints_nothing_is_kept_once(house, steps, monkeypatch):
    put = counted(monkeypatch, house.artifacts, "put_file")
    run = await run_it(house, long_chain(), "run-1")
    assert len(put) == 1
    await run_it(house, long_chain(cache=False), "run-2")
    assert len(put) == 1
    (digest,) = {s.log_digest for s in run.steps}
    assert (await house.artifacts.path_of(digest)).read_bytes() == b""
    steps["add"] = lambda n: print("żółw", n) or n + 1  # noqa: T201  reason: the step's log
    run = await run_it(house, long_chain(cache=False), "run-3")
    assert len(put) == 1 + COUNT
    printed = await house.artifacts.path_of(run.steps[1].log_digest)
    assert printed.read_text(encoding="utf-8") == "żółw 1\n"


async def test_a_step_has_no_folder_but_what_it_needs(house, steps):
    seen = {}

    def look(name, text=None):
        seen[name] = sorted(path.name.partition(".")[2] for path in house.scratch.iterdir())
        if text:
            assert Path(text.path).read_text() == "hello"
        return 1

    def write(text):
        Path(text.path).write_text("hello")
        return look("write")

    steps |= {"write": write, "read": lambda text: look("read", text)}
    write_it = component("write", out_artifacts=(Slot("text"),))
    read_it = component("read", artifacts=(Slot("text"),))
    tasks = (Task("write", write_it), Task("read", read_it, {"text": FromTask("write", "text")}))
    await run_it(house, Pipeline("p", Dag(tasks)), "run-1")
    assert "in" not in seen["write"]
    assert "in" in seen["read"]
    assert not list(house.scratch.iterdir())


async def test_a_log_can_be_followed_from_its_first_line(house, steps):
    """Before that there is no file."""
    looked, loop = [], asyncio.get_running_loop()

    def look():
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(10)  # what was printed is there
        log = house.logs["run-1", "add-0"]
        log.flush()
        looked.append(Path(log.name).exists() and Path(log.name).read_text())

    def printing(n):
        look()
        print("first")  # noqa: T201  reason: the step's log
        look()
        return n

    steps["add"] = printing
    pipeline = long_chain()
    await run_it(house, replace(pipeline, root=Dag(pipeline.root.tasks[:1])), "run-1")
    assert looked == [False, "first\n"]
