"""Judging a model that may run code of its own: two processes, and only scores go from one to the other."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tallystick.core.endpoint import wish
from tallystick.core.errors import BadInput, Failed, NotSupported
from tallystick.core.verdict import VerdictState
from tallystick.routines.served.settle import Settler
from tests.fakes.house.sandbox import Exit
from tests.judging.judgements import answering, failed_with, interrupted, judged, left

PASSED = VerdictState.PASSED


@pytest.fixture
async def coded(house, model):
    """A model that may run code, and a process that serves it until it is ended."""

    async def serve(order, say):
        say(ready={})
        await asyncio.Event().wait()

    async def twin(order, say):
        raise NotSupported("there is no twin for a model of this kind", where="model")

    house.sandbox.table |= {"serve": serve, "twin": twin}
    return replace(model, runtime="pyfunc", runs_code=True)


async def test_a_model_that_runs_code_is_served_by_a_process_of_its_own(house, coded):
    answering(house)
    assert (await judged(house, coded)).state is PASSED
    serving, twin, judging = house.sandbox.started
    assert twin.name == "twin"
    assert (serving.name, judging.name) == ("serve", "judge")
    folder = str(Path(serving.order["socket"]).parent)
    assert serving.wall.readable == (serving.order["folder"],)
    assert serving.wall.writable == (folder,) == (serving.wall.workdir,)
    assert serving.order["name"] == judging.order["name"] == coded.name
    assert judging.order["socket"] == serving.order["socket"]
    assert judging.wall.writable == (judging.order["out"], folder)
    assert twin.wall.readable == (twin.order["folder"],)
    assert twin.wall.writable == (twin.order["out"],) == (twin.wall.workdir,)
    for hidden in ("rows", "out"):
        shown = (*serving.wall.readable, *serving.wall.writable)
        assert not any(judging.order[hidden].startswith(path) for path in shown)
    assert not {"rows", "label", "budget", "probes"} & (serving.order.keys() | twin.order.keys())
    assert serving.ended_by_hub
    assert house.sandbox.alive() == []
    assert left(house) == []


async def test_it_is_served_as_at_an_endpoint(house, coded):
    """Nothing that it is told tells it that it is judged: order and wall are those of an endpoint."""
    answering(house)
    await judged(house, coded)
    judging = house.sandbox.started[0]
    endpoint = wish(None, coded.name, coded.key, coded.digest, "v", 1, house.tenant)
    await house.tell("endpoint", endpoint.name, "wished", endpoint)
    settler = Settler(house)
    await settler.settle_one(endpoint.name)
    serving = house.sandbox.started[-1]
    await settler.close()

    def plain(played):
        mark = Path(played.order["folder"]).parent.name
        assert mark.startswith("serve-")
        return repr((played.order, played.wall)).replace(mark, "folder")

    assert plain(judging) == plain(serving)


async def test_a_model_that_is_only_data_has_no_process_of_its_own(house, model):
    answering(house)
    await judged(house, model)
    assert [p.name for p in house.sandbox.started] == ["judge"]
    assert "socket" not in house.sandbox.started[0].order


async def test_what_the_serving_process_says_is_no_evidence(house, coded):
    """It ends when it says a result: nothing is weighed, and the gate stays shut."""

    async def serve(order, say):
        say(ready={})
        return {"clean": {"right": 100, "total": 100}}

    async def judge(order, say):
        await asyncio.Event().wait()

    house.sandbox.table |= {"serve": serve, "judge": judge}
    assert "the serving process ended" in await failed_with(house, coded)
    assert house.sandbox.alive() == []


async def never_ready(order, say):
    await asyncio.Event().wait()


async def not_loading(order, say):
    raise BadInput("the model says nothing about its inputs", where="model")


async def gone_at_once(order, say):
    say.err("Killed")
    raise Exit(-9)


@pytest.mark.parametrize(
    ("serve", "words"),
    [
        (never_ready, "not ready within 0.05 s"),
        (not_loading, "says nothing about its inputs"),
        (gone_at_once, "signal 9: Killed"),
    ],
)
async def test_a_model_that_cannot_be_served_is_a_failed_verdict(house, coded, serve, words):
    house.limits = replace(house.limits, start_s=0.05 if serve is never_ready else 60)
    answering(house)
    house.sandbox.table["serve"] = serve
    assert words in await failed_with(house, coded)
    assert [p.name for p in house.sandbox.started] == ["serve"]
    assert house.sandbox.alive() == []


async def test_a_model_that_goes_away_is_named_as_the_reason(house, coded):
    asked = asyncio.Event()

    async def serve(order, say):
        say(ready={})
        await asked.wait()
        say.err("MemoryError")
        raise Exit(-9)

    async def judge(order, say):
        asked.set()
        raise Failed("it cannot be asked", where="model")

    house.sandbox.table |= {"serve": serve, "judge": judge}
    assert "signal 9: MemoryError" in await failed_with(house, coded)


async def test_an_error_of_the_judge_ends_the_serving_process_too(house, coded):
    async def judge(order, say):
        raise BadInput("no column 'label'", where="rows")

    house.sandbox.table["judge"] = judge
    assert await failed_with(house, coded) == "rows: no column 'label'"
    assert [p.ended_by_hub for p in house.sandbox.started if p.name == "serve"] == [True]


async def test_an_interrupted_judgement_ends_both_processes(house, coded):
    await interrupted(house, coded, lambda _: len(house.sandbox.alive()) == 2)
    assert house.sandbox.alive() == []
    assert left(house) == []


async def test_a_judgement_that_lasts_too_long_is_given_up(house, coded, monkeypatch):
    monkeypatch.setattr("tallystick.judging.probe.WAITS_MAX", 1e-5)

    async def judge(order, say):
        await asyncio.Event().wait()

    house.sandbox.table["judge"] = judge
    assert "no evidence within" in await failed_with(house, coded)
    assert house.sandbox.alive() == []
