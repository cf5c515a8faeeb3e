"""The hands of a remedy: whole verbs, waited for."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tallystick.core.data import TABLE_URI, TableRef
from tallystick.core.endpoint import EndpointState
from tallystick.core.errors import BadInput, Conflict, Failed, NotFound, NotSupported, Refused
from tallystick.core.model import ModelRef
from tallystick.core.pipeline.spec import Dag, FromInput, Importer, Param, ParamType, Pipeline, Task
from tallystick.core.run.events import RunState
from tallystick.core.run.options import KUBEFLOW, RunOptions
from tallystick.core.verdict import VerdictState
from tallystick.hub.plan import plan
from tallystick.judging.deploy import deploy, withdraw
from tallystick.routines.served.settle import Settler
from tallystick.wiring import hands as module
from tallystick.wiring.hands import VerbHands
from tests.fakes.house import SEEN, add_model, add_run, add_table, add_verdict, make_house, until
from tests.fakes.house.judge import judge_script

PARAMS = tuple(Param(n, ParamType.STRING, f"{TABLE_URI}{n}") for n in ("digits", "other"))
PIPELINE = Pipeline(
    "p", Dag(tuple(Task(f"load-{p.name}", Importer(FromInput(p.name))) for p in PARAMS)), PARAMS
)


@pytest.fixture
async def house(tmp_path, monkeypatch):
    async def inspect(order, say):
        return SEEN

    async def serve(order, say):
        say(ready={})
        await asyncio.Event().wait()

    monkeypatch.setattr(module, "read_pipeline", lambda spec: PIPELINE)
    house = make_house(tmp_path, errands={"judge": judge_script(), "inspect": inspect, "serve": serve})
    settler = Settler(house)
    settling = asyncio.create_task(settler.run())
    yield house
    settling.cancel()
    await asyncio.gather(settling, return_exceptions=True)
    await settler.close()
    await house.traffic.close()


@pytest.fixture
def hands(house):
    return VerbHands(house, "label")


async def test_running_again_moves_the_one_table_and_leaves_the_rest(house, hands):
    await add_table(house)
    await add_table(house, "other")
    run = await plan(house, PIPELINE, b"spec", {})
    newer = await add_table(house)
    again = await hands.rerun(run, TableRef.parse(newer.key))
    assert again.state is RunState.SUCCEEDED
    assert again.params == {"digits": f"{TABLE_URI}{newer.key}", "other": f"{TABLE_URI}other"}
    assert again.spec_digest == run.spec_digest


async def test_a_run_that_a_cluster_executed_is_not_run_again(house, hands):
    snapshot = await add_table(house)
    await add_table(house, "other")
    run = await plan(house, PIPELINE, b"spec", {})
    away = replace(run, options=RunOptions(on=KUBEFLOW, host="http://localhost:1"))
    with pytest.raises(NotSupported, match="what it puts out does not come here") as refused:
        await hands.rerun(away, TableRef.parse(snapshot.key))
    assert refused.value.hint.startswith("run p without --on kubeflow")


async def test_a_run_that_names_no_such_table_cannot_run_on_it_again(house, hands):
    for name in ("digits", "other", "third"):
        snapshot = await add_table(house, name)
    run = await plan(house, PIPELINE, b"spec", {})
    with pytest.raises(BadInput, match="names table third"):
        await hands.rerun(run, TableRef.parse(snapshot.key))
    house.artifacts.blobs.clear()
    with pytest.raises(NotFound):
        await hands.rerun(run, TableRef("digits"))


async def test_register_judge_and_find(house, hands):
    run = await add_run(house)
    model = await hands.register("digits", run.key, "model")
    verdict = await hands.judge(model)
    assert verdict.state is VerdictState.PASSED
    assert (await hands.judge(model)).key == verdict.key
    assert [p.order["label"] for p in house.sandbox.started if p.name == "judge"] == ["label"]
    assert await hands.find(ModelRef("digits")) == model


async def test_deploying_waits_until_it_answers(house, hands):
    model = await add_model(house)
    with pytest.raises(Refused):
        await hands.deploy(model, "front")
    await add_verdict(house, model)
    endpoint = await hands.deploy(model, "front")
    assert (endpoint.state, endpoint.wished.model) == (EndpointState.READY, "digits@1")
    assert await hands.deploy(model, "front") == endpoint


async def test_deploying_what_does_not_start_fails(house, hands):
    async def broken(order, say):
        raise BadInput("no such operator")

    house.sandbox.table["serve"] = broken
    model = await add_model(house)
    await add_verdict(house, model)
    with pytest.raises(Failed, match="no such operator"):
        await hands.deploy(model, "front")


@pytest.mark.parametrize("by", ["another model", "nothing"])
async def test_deploying_that_is_overtaken_by_a_newer_wish_did_not_do_it(house, hands, by):
    async def never_ready(order, say):
        await asyncio.Event().wait()

    house.sandbox.table["serve"] = never_ready
    one, two = await add_model(house, 1), await add_model(house, 2)
    for model in (one, two):
        await add_verdict(house, model)
    waiting = asyncio.create_task(hands.deploy(one, "front"))
    await until(house.sandbox.alive)
    await (deploy(house, two, "front") if by == "another model" else withdraw(house, "front"))
    with pytest.raises(Conflict, match="a newer wish"):
        await waiting
