"""How many steps run at once on a cluster: as many as it has places for, whatever this machine would take."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio

from tallystick.core.errors import BadInput
from tallystick.core.pipeline.spec import Constant, Dag, Param, ParamType, Pipeline, Task
from tallystick.core.run.events import RunState
from tallystick.core.run.options import RunOptions
from tallystick.hub.execute import execute
from tallystick.hub.house import Limits
from tallystick.hub.plan import plan
from tallystick.ports.tile import Place
from tallystick.tiles.artifacts.local import open_tile as open_artifacts
from tallystick.tiles.clock.system import open_tile as open_clock
from tallystick.tiles.ray.executor import open_tile
from tallystick.tiles.sandbox import process
from tests.fakes.executor import FakeExecutor
from tests.fakes.house import make_house
from tests.tiles.ray.parts import STRING, Opened, cluster_of, step

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]
DEADLINE_S = 120
CPUS = 7
"""Of the three nodes together."""
TOGETHER = """
import os, pathlib, time
(pathlib.Path(folder) / str(number)).touch()
end = time.monotonic() + 60
while len(list(pathlib.Path(folder).iterdir())) < wanted:
    assert time.monotonic() < end, 'the others never came'
    time.sleep(0.02)
return os.environ['TALLY_NODE']
"""
"""Waits until as many have begun as are wanted: none ends before all of them run at the same time."""
PARAMS = (
    Param("folder", ParamType.STRING), Param("number", ParamType.INTEGER), Param("wanted", ParamType.INTEGER),
)  # fmt: skip


@pytest.fixture(scope="module")
def cluster():
    with cluster_of("one 1 0", "two 2 0", "four 4 0") as cluster:
        yield cluster


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opened(cluster, tmp_path_factory):
    everywhere = [str(tmp_path_factory.getbasetemp())]
    folder = tmp_path_factory.mktemp("a")
    # Without a wall, steps see each other's files: that is how they know of each other.
    opened = Opened(folder, wall=process, ray_address=cluster.address, step_folders=everywhere)
    yield opened
    await opened.close()


def side_by_side(folder, count):
    code = step(TOGETHER, arguments="folder: str, number: int, wanted: int", params=PARAMS, **STRING)
    given = {"folder": Constant(str(folder)), "wanted": Constant(count)}
    tasks = (Task(f"t{n}", code, {**given, "number": Constant(n)}) for n in range(count))
    return Pipeline("wide", Dag(tuple(tasks)))


async def test_a_cluster_s_own_places_decide_and_not_this_machine_s(opened, tmp_path):
    meet = tmp_path / "meet"
    meet.mkdir()
    house = make_house(
        tmp_path / "home",
        artifacts=open_artifacts(Place(tmp_path / "home")),
        clock=open_clock(Place(tmp_path / "home")),
        executors={"ray": opened.executor},
        limits=Limits(steps_at_once=1),
    )
    pipeline, options = side_by_side(meet, CPUS), RunOptions(on="ray")
    try:
        async with asyncio.timeout(DEADLINE_S):
            run = await execute(house, pipeline, await plan(house, pipeline, b"", {}, options))
    finally:
        await house.traffic.close()
    assert run.state is RunState.SUCCEEDED, run.error
    nodes = sorted(one.outputs.params["Output"] for one in run.steps)
    assert nodes == ["four"] * 4 + ["one"] + ["two"] * 2, "each CPU had one of them"


async def test_how_many_there_may_be_is_an_option(opened, tmp_path):
    parts = {"sandbox": opened.sandbox, "process_sandbox": opened.process, "executor": FakeExecutor({})}
    assert opened.executor.steps_at_once == 256
    assert open_tile(Place(tmp_path, {"ray_steps_at_once": 9}, parts)).steps_at_once == 9
    for wrong in (0, 1.5, -1, True):
        with pytest.raises(BadInput):
            open_tile(Place(tmp_path, {"ray_steps_at_once": wrong}, parts))
