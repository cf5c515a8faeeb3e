"""Pipelines of steps for the tests of execute, and an executor whose steps a test holds and lets go."""

from __future__ import annotations

import asyncio

from tallystick.core.errors import Unavailable
from tallystick.core.pipeline.spec import (
    Component,
    Dag,
    DagOutput,
    FromTask,
    Function,
    Param,
    ParamType,
    Pipeline,
    Slot,
    Source,
    Task,
)
from tallystick.core.run.events import Run
from tallystick.core.run.options import RunOptions
from tallystick.ports.executor import Outcome
from tests.fakes.executor import FakeExecutor

__all__ = ["HeldExecutor", "chain", "component", "planned", "side_by_side"]


def component(name: str, **more) -> Component:
    """A component that gives the number ``Output``."""
    return Component(
        name, Function(name, f"def {name}(): ..."), out_params=(Param("Output", ParamType.INTEGER),), **more
    )


def side_by_side(*names: str) -> Pipeline:
    """Steps that do not wait for each other."""
    return Pipeline("p", Dag(tuple(Task(n, component(n)) for n in names)))


def chain() -> Pipeline:
    """``write`` gives the artifact ``text``, ``read`` reads it, and its number is the pipeline's output."""
    write = component("write", out_artifacts=(Slot("text"),))
    read = component("read", artifacts=(Slot("text"),))
    tasks = (Task("write", write), Task("read", read, {"text": FromTask("write", "text")}))
    return Pipeline("p", Dag(tasks, (DagOutput("number", (Source("read", "Output"),)),)))


async def planned(house, pipeline: Pipeline, key: str = "run-1", on: str = "") -> Run:
    """A run of it, recorded."""
    run = Run(key, pipeline.name, "sha256:" + "0" * 64, {}, options=RunOptions(on=on))
    await house.tell("run", key, "planned", run)
    return run


class HeldExecutor(FakeExecutor):
    """Every step waits in ``held`` until the test lets it go with an outcome, or it is cancelled."""

    def __init__(self) -> None:
        super().__init__({})
        self.held: dict[str, asyncio.Future[Outcome]] = {}
        self.cancelled: list[str] = []
        self.began = asyncio.Event()

    async def run(self, job, on_log):
        name = job.component.name
        await job.kept.wait()
        self.held[name] = asyncio.get_running_loop().create_future()
        self.began.set()
        try:
            return await self.held[name]
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise

    async def until(self, *names: str) -> None:
        """Until exactly these steps, of all, have begun."""
        async with asyncio.timeout(60):
            while not set(names) <= self.held.keys():
                self.began.clear()
                await self.began.wait()
        assert set(names) == self.held.keys()

    def let_go(self, name: str, error: str = "") -> None:
        self.held[name].set_result(Outcome(error=error) if error else Outcome({"Output": 1}))

    def break_down(self, name: str) -> None:
        self.held[name].set_exception(Unavailable("the executor is down"))
