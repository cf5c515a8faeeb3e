"""A step with packages of its own is run again on the very same ones, or it is said that they are gone."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from tallystick.core.errors import NotFound
from tallystick.core.pipeline.spec import Dag, Param, ParamType, Pipeline, Task
from tallystick.core.run.events import Run, RunState
from tallystick.hub.execute import execute
from tallystick.ports.tile import Place
from tallystick.routines.reproduce import reproduce
from tallystick.tiles.environments import local as environments
from tallystick.tiles.executor import local
from tallystick.tiles.sandbox import process
from tests.fakes.house import make_house
from tests.fakes.steps import place_on, step
from tests.tiles.environments.index import Index, served, wheel

BODY = "import tinyone\nreturn tinyone.version"


@pytest.fixture
def index(monkeypatch):
    index = Index(wheel("tinyone", "1.0"))
    with served(index) as url:
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "UV_FIND_LINKS", "UV_INDEX"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("UV_DEFAULT_INDEX", url)
        yield index


@pytest.fixture
async def house(tmp_path, index):
    home = tmp_path / "home"
    home.mkdir()
    sandbox = process.open_tile(Place(home))
    built = environments.open_tile(Place(home, {"package_lock_age_s": 1}, {"process_sandbox": sandbox}))
    place = place_on(sandbox, home, {"step_folders": [tmp_path]}, environments=built)
    house = make_house(tmp_path, executor=local.open_tile(place))
    yield house
    await sandbox.close()
    await house.sandbox.close()
    await house.traffic.close()


def pipeline() -> Pipeline:
    what = step(BODY, returns="str", out_params=(Param("Output", ParamType.STRING),))
    what = replace(what, code=replace(what.code, packages=("tinyone",)))
    return Pipeline("p", Dag((Task("it", what),)))


async def read(_: str) -> Pipeline:
    return pipeline()


async def test_locked_packages_come_again_or_are_said_to_be_gone(house, index, tmp_path):
    run = Run("run-1", "p", "sha256:" + "0" * 64, {})
    await house.tell("run", "run-1", "planned", run)
    before = await execute(house, pipeline(), run)
    assert before.step("it").outputs.params == {"Output": "1.0"}, before.step("it").error

    index.add(*wheel("tinyone", "2.0"))
    again, _, pins, notes = await reproduce(house, read, "run-1")
    ended = await execute(house, pipeline(), again, pins)
    assert (ended.state, notes) == (RunState.SUCCEEDED, [])
    assert ended.step("it").outputs == before.step("it").outputs
    assert ended.step("it").environment == before.step("it").environment

    index.files["tinyone"].pop("tinyone-1.0-py3-none-any.whl")
    shutil.rmtree(tmp_path / "home" / "environments")
    with pytest.raises(NotFound, match=r"what it ran on .*tinyone==1\.0"):
        await reproduce(house, read, "run-1")
    runs = await house.ledger.listing(house.tenant, "run")
    assert {fact.key for fact in runs} == {"run-1", again.key}
