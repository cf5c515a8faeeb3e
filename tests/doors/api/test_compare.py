"""Comparing and reproducing over the API, on a house in memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from tallystick.core.pipeline.spec import Function, Pipeline
from tallystick.core.run.events import Run
from tallystick.core.run.options import RunOptions
from tallystick.doors.api.compare import CHANGES_MAX, routes
from tallystick.hub.execute import execute
from tests.fakes.house import make_house, until
from tests.hub.runs.steps import chain

SAID = ["hello"]
CLOCK = "import time\n\ndef write(text):\n    open(text.path, 'w').write(str(time.time()))\n"


def write(text):
    Path(text.path).write_text(SAID[0])
    text.metadata["said"] = SAID[0]
    return len(SAID[0])


def pipeline(spec: bytes) -> Pipeline:
    """``chain``, whose first step has the source that the file says."""
    first, second = chain().root.tasks
    first = replace(first, body=replace(first.body, code=Function("write", spec.decode())))
    return replace(chain(), root=replace(chain().root, tasks=(first, second)))


@pytest.fixture
async def house(tmp_path):
    SAID[0] = "hello"
    house = make_house(tmp_path, {"write": write, "read": lambda text: 5})
    yield house
    for task in house.tasks.values():
        task.cancel()
    await house.sandbox.close()
    await house.traffic.close()


@pytest.fixture
async def api(house):
    transport = httpx.ASGITransport(Starlette(routes=routes(house, pipeline)))
    async with httpx.AsyncClient(transport=transport, base_url="http://hub/api/tally") as client:
        yield client


async def run_it(house, key: str, spec: str = CLOCK, **options) -> Run:
    file = house.folder("spec") / "it"
    file.write_text(spec)
    digest = (await house.artifacts.put_file(file)).digest
    options = {"cache": False, **options}
    run = Run(key, "p", digest, {}, started_ms=1, options=RunOptions(**options))
    await house.tell("run", key, "planned", run)
    return await execute(house, pipeline(spec.encode()), run)


async def reproduced(house, api, key: str, said: str) -> str:
    """The key of the run that reproduced another, once that has ended; its first step then says ``said``."""
    SAID[0] = said
    begun = await api.post(f"/runs/{key}/reproduce")
    assert begun.status_code == 202, begun.text
    assert begun.json()["notes"] == []
    again = begun.json()["run"]["key"]
    await until(lambda: again not in house.tasks)
    return again


async def test_two_runs_beside_each_other(house, api):
    await run_it(house, "run-1")
    SAID[0] = "another"
    await run_it(house, "run-2")
    found = (await api.get("/compare", params={"before": "run-1", "after": "run-2"})).json()
    assert (found["alike"], found["steps"], found["steps_alike"], found["left_off"]) == (False, 2, 0, {})
    first = found["groups"]["outputs"][0]
    assert (first["where"], first["what"], first["before"], first["after"]) == ("write", "param Output", 5, 7)
    same = (await api.get("/compare", params={"before": "run-1", "after": "run-1"})).json()
    assert (same["alike"], any(same["groups"].values())) == (True, False)


async def test_a_long_list_is_cut_and_says_so(house, api):
    await run_it(house, "run-1")
    many = {f"p{n}": n for n in range(CHANGES_MAX + 5)}
    run = await house.get("run", "run-1", Run)
    await house.tell("run", "run-2", "planned", replace(run, key="run-2", params=many))
    found = (await api.get("/compare", params={"before": "run-1", "after": "run-2"})).json()
    assert len(found["groups"]["params"]) == CHANGES_MAX
    assert found["left_off"] == {"params": 5}


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({}, 400),
        ({"before": "run-1"}, 400),
        ({"before": "run-1", "after": "nobody"}, 404),
        ({"before": "run-1", "after": "run-1", "tolerance": "wide"}, 400),
        ({"before": "run-1", "after": "run-1", "tolerance": "nan"}, 400),
        ({"before": "run-1", "after": "run-1", "tolerance": "-1"}, 400),
        ({"before": "run-1", "after": "run-1", "tolerance": "inf"}, 400),
    ],
)
async def test_what_cannot_be_compared(house, api, query, status):
    await run_it(house, "run-1")
    answer = await api.get("/compare", params=query)
    assert answer.status_code == status, answer.text


async def test_a_run_comes_out_the_same_again(house, api):
    await run_it(house, "run-1")
    again = await reproduced(house, api, "run-1", "hello")
    found = (await api.get(f"/runs/{again}/reproduction")).json()
    assert (found["alike"], found["reproduces"], found["first"], found["why"]) == (True, "run-1", "", [])


async def test_the_first_step_that_came_out_otherwise_is_named_with_reasons(house, api):
    await run_it(house, "run-1")
    again = await reproduced(house, api, "run-1", "other words")
    found = (await api.get(f"/runs/{again}/reproduction")).json()
    assert (found["alike"], found["first"]) == (False, "write")
    assert found["why"] == ["its source reads the clock", "no seed was set"]


@pytest.mark.parametrize(
    ("source", "seed", "why"),
    [
        ("def write(text): ...", 7, "neither its source nor what it ran on says why"),
        ("import random\ndef write(text): ...", 0, "no seed was set, and its source draws lots"),
        ("import random\ndef write(text): ...", 7, "does not take its seed from TALLY_SEED"),
        ("import uuid\ndef write(text): ...", 7, "makes names that never come twice"),
        ("def write(text): list(set('ab'))", 7, "relies on hashes"),
    ],
)
async def test_what_its_source_says_of_chance(house, api, source, seed, why):
    await run_it(house, "run-1", source, seed=seed)
    again = await reproduced(house, api, "run-1", "other words")
    found = (await api.get(f"/runs/{again}/reproduction")).json()
    assert len(found["why"]) == 1
    assert why in found["why"][0]


async def test_a_time_in_an_output_and_other_packages_come_first(house, api):
    SAID[0] = "2026-01-01T10:00:00"
    await run_it(house, "run-1", "def write(text): ...", seed=7)
    house.executor._environment = "another"
    for said, why in (
        (SAID[0], []),
        ("2026-01-02T10:00:00", ["package it was fake, is another", "a time stands in what it put out"]),
    ):
        SAID[0] = said
        begun = (await api.post("/runs/run-1/reproduce")).json()
        assert begun["notes"] == ["write runs on something else now: it was fake, is another"]
        key = begun["run"]["key"]
        await until(lambda key=key: key not in house.tasks)
        found = (await api.get(f"/runs/{key}/reproduction")).json()
        assert (found["alike"], found["why"]) == (not why, why)
        assert [change["what"] for change in found["groups"]["packages"]] == ["package it"]


async def test_what_is_no_reproduction_and_what_has_not_ended(house, api):
    await run_it(house, "run-1")
    answer = await api.get("/runs/run-1/reproduction")
    assert (answer.status_code, answer.json()["hint"]) == (400, "tally reproduce run-1")
    await house.tell("run", "run-2", "planned", Run("run-2", "p", "x", {}, reproduces="run-1"))
    assert (await api.get("/runs/run-2/reproduction")).status_code == 409
    assert (await api.post("/runs/run-2/reproduce")).status_code == 409
    assert (await api.post("/runs/nobody/reproduce")).status_code == 404
