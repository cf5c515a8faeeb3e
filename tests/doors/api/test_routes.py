"""Every route once as it is meant, and as it answers to what does not exist."""

from __future__ import annotations

import asyncio

import pytest

from tallystick.core.endpoint import Endpoint
from tallystick.core.facts import from_json
from tallystick.core.run.events import Run, RunState
from tallystick.core.signal import ColumnDrift, Drift, Signal
from tallystick.core.verdict import Verdict, VerdictState
from tallystick.doors.api import app as module
from tallystick.hub.house.whole import whole_run
from tallystick.ports.traffic import Exchange
from tests.fakes.house import add_model, add_run, add_table, add_verdict, until

DRIFT = Drift("digits@1", "sha256:0", 10, 200, (ColumnDrift("a", 1.0, 0.9, 0.0),))


async def finished(house):
    """Until no work is under way."""
    await until(lambda: not house.tasks)


async def refused(asked, status, words):
    """The error that an answer is: all four of its fields are texts."""
    answer = await asked
    assert answer.status_code == status, answer.text
    said = answer.json()
    assert set(said) == {"error", "what", "where", "hint"}
    assert words in " ".join(said.values())


# ---------------------------------------------------------------------- looking


async def test_status_counts_and_says_what_is_under_way(api, house):
    await add_model(house)
    await add_table(house)
    go = asyncio.Event()
    house.start("run-1", go.wait())
    said = (await api.get("/status")).json()
    assert (said["version"], said["url"], said["under_way"]) == ("0", "http://hub", ["run-1"])
    assert said["counts"]["model"] == said["counts"]["data"] == 1
    assert said["counts"]["remedy"] == 0


async def test_the_log_newest_first_and_narrowed(api, house):
    for version in (1, 2):
        await add_model(house, version)
    await add_table(house)
    said = (await api.get("/log")).json()
    assert [f["noun"] for f in said] == ["data", "model", "model"]
    assert [f["key"] for f in (await api.get("/log?noun=model&limit=1")).json()] == ["digits@2"]
    assert [f["key"] for f in (await api.get("/log?key=digits@1")).json()] == ["digits@1"]
    assert [f["seq"] for f in (await api.get("/log?before=2")).json()] == [1]
    await refused(api.get("/log?noun=cake"), 400, "one of data, pipeline")


@pytest.mark.parametrize("query", ["limit=-1", "limit=x", "limit=1001", "before=1e3", "before=" + "9" * 5000])
async def test_numbers_of_a_query_are_whole_and_bounded(api, query):
    await refused(api.get(f"/log?{query}"), 400, "must be a whole number from 0")


async def test_nouns_by_list_and_by_key_with_their_progress(api, house):
    await add_model(house, 1)
    await add_model(house, 2)
    house.progress["digits@2"] = (0.5, "half way")
    listed = (await api.get("/nouns/model")).json()
    assert [m["version"] for m in listed] == [2, 1]
    assert listed[0]["under_way"] == {"share": 0.5, "text": "half way"}
    assert len((await api.get("/nouns/model?limit=1")).json()) == 1
    one = (await api.get("/nouns/model/digits@1")).json()
    assert one["version"] == 1
    assert "under_way" not in one
    assert (await api.get("/nouns/run")).json() == []


@pytest.mark.parametrize(
    "path", ["/nouns/cake", "/nouns/cake/1", "/nouns/model/digits@9", "/nouns/model/%00%ff"]
)
async def test_what_does_not_exist_is_not_found(api, path):
    await refused(api.get(path), 404, "no ")


async def test_traffic(api, house):
    house.traffic.record("default", "digits", Exchange(house.clock.now_ms(), 1, 200, 2.5, b"{}"))
    said = (await api.get("/traffic/digits")).json()
    assert (said["requests"], said["errors"], said["latency_ms_p50"]) == (1, 0, 2.5)
    assert len(said["per_second"]) == 60
    assert (await api.get("/traffic/other")).json()["requests"] == 0
    await refused(api.get("/traffic/..%20"), 400, "valid endpoint name")


# ---------------------------------------------------------------------- data and runs


async def test_ingest(api, house):
    answer = await api.post("/ingest?table=digits&filename=/home/me/d.csv", content=b"a,label\n1,0\n")
    assert answer.status_code == 201
    said = answer.json()
    assert (said["table"], said["rows"], said["source"]["name"]) == ("digits", 1, "d.csv")
    assert list(house.scratch.iterdir()) == []


async def test_a_run_from_its_plan_to_its_end(api, house):
    answer = await api.post("/runs", json={"spec": "chain", "params": {}, "params_text": {}})
    assert answer.status_code == 202
    key = answer.json()["key"]
    assert answer.json()["state"] == "running"
    await finished(house)
    assert (await api.get(f"/nouns/run/{key}")).json()["state"] == "succeeded"
    answer = await api.post(f"/runs/{key}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "succeeded")


async def test_a_run_that_cannot_be_planned(api, house):
    await refused(api.post("/runs", json={"spec": "cake"}), 400, "it is not a pipeline")
    await refused(api.post("/runs", json={"spec": "chain", "params": {"x": 1}}), 400, "no parameter 'x'")
    await refused(
        api.post("/runs", json={"spec": "chain", "params_text": {"x": "1"}}), 400, "no parameter 'x'"
    )
    await refused(api.post("/runs/run-none/cancel"), 404, "no run 'run-none'")
    assert house.ledger.facts == []


async def test_cancelling_a_run_under_way(api, house):
    go = asyncio.Event()

    async def run(job, on_log):
        await go.wait()

    house.executor.run = run
    key = (await api.post("/runs", json={"spec": "chain"})).json()["key"]

    async def begun():
        return (await whole_run(house, key)).steps

    await until(begun)
    assert (await api.post(f"/runs/{key}/cancel")).status_code == 202
    await finished(house)
    assert (await house.get("run", key, Run)).state is RunState.CANCELLED
    shown = (await api.get(f"/nouns/run/{key}")).json()
    assert [(s["path"], s["state"]) for s in shown["steps"]] == [("write", "cancelled"), ("read", "skipped")]
    [listed] = (await api.get("/nouns/run")).json()
    assert (listed["steps"], listed["counts"]) == ([], {"cancelled": 1, "skipped": 1})


# ---------------------------------------------------------------------- models, verdicts, endpoints


async def test_register(api, house):
    run = await add_run(house)
    wish = {"name": "digits", "run": run.key, "output": "model"}
    answer = await api.post("/models", json=wish)
    assert (answer.status_code, answer.json()["version"]) == (201, 1)
    await refused(api.post("/models", json={**wish, "run": "run-none"}), 404, "no run")
    await refused(api.post("/models", json={**wish, "output": "test"}), 400, "it has: model")
    await refused(api.post("/models", json={**wish, "name": "a/b"}), 400, "valid model name")


async def test_admit(api, house):
    await add_model(house, 2)
    assert (await api.post("/models/admit", json={"model": "digits@2"})).json()["version"] == 2
    await refused(api.post("/models/admit", json={"model": "digits@3"}), 404, "registered: digits@2")
    await refused(api.post("/models/admit", json={"model": "digits@x"}), 400, "not a model version")


async def test_judge_deploy_and_withdraw(api, house):
    model = await add_model(house, run=await add_run(house))
    deploy = {"model": model.key, "name": "front"}
    await refused(api.post("/endpoints", json=deploy), 403, "has no verdict")
    answer = await api.post("/verdicts", json={"model": "digits"})
    assert (answer.status_code, answer.json()["state"]) == (202, "judging")
    await finished(house)
    verdict = await house.get("verdict", answer.json()["key"], Verdict)
    assert verdict.state is VerdictState.PASSED
    assert (await api.post("/verdicts", json={"model": "digits"})).json()["state"] == "passed"
    assert (await api.post("/verdicts", json={"model": "digits", "again": True})).json()["state"] == "judging"
    await finished(house)
    answer = await api.post("/endpoints", json=deploy)
    assert (answer.status_code, answer.json()["wished"]["model"]) == (202, "digits@1")
    answer = await api.post("/endpoints/front/withdraw")
    assert (answer.status_code, answer.json()["wished"]["model"]) == (202, "")
    await refused(api.post("/endpoints/other/withdraw"), 404, "there is front")
    await refused(api.post("/endpoints", json={**deploy, "name": "a b"}), 400, "valid endpoint name")


async def test_the_label_is_the_hubs_unless_one_is_said(api, house):
    await add_model(house, run=await add_run(house))
    for body in ({}, {"label": "digit", "again": True}):
        await api.post("/verdicts", json={"model": "digits", **body})
        await finished(house)
    assert [p.order["label"] for p in house.sandbox.started] == ["label", "digit"]


async def test_a_verdict_needs_a_model_and_rows(api, house):
    await refused(api.post("/verdicts", json={"model": "digits"}), 404, "none yet")
    await add_model(house)
    await refused(api.post("/verdicts", json={"model": "digits"}), 400, "say on which rows")
    await refused(api.post("/verdicts", json={"model": "digits", "data": "none"}), 404, "no table 'none'")


# ---------------------------------------------------------------------- signals and remedies


async def raised(house):
    model = await add_model(house)
    await add_verdict(house, model)
    endpoint = await module.deploy(house, model, "front")
    signal = Signal("signal-1", endpoint.name, model.key, 1.0, ("a",), "drifted", DRIFT)
    await house.tell("signal", signal.key, "raised", signal)
    return signal


async def test_observe_tells_drift_signal_and_remedy(api, house, monkeypatch):
    signal = await raised(house)
    asked = []

    async def observe(house, name, label):
        asked.append((name, label))
        return DRIFT, signal if label == "label" else None

    monkeypatch.setattr(module, "observe", observe)
    said = (await api.post("/endpoints/front/observe", json={})).json()
    assert from_json(Drift, said["drift"]) == DRIFT
    assert said["signal"]["key"] == "signal-1"
    assert said["remedy"]["action"] == "label data"
    said = (await api.post("/endpoints/front/observe", json={"label": "other"})).json()
    assert (said["signal"], said["remedy"]) == (None, None)
    assert asked == [("front", "label"), ("front", "other")]


async def test_observing_what_is_not_there(api, house):
    await refused(api.post("/endpoints/front/observe", json={}), 404, "no endpoint 'front'")
    await refused(api.post("/endpoints/a%20b/observe", json={}), 400, "valid endpoint name")


async def test_a_remedy_is_proposed_and_carried_out(api, house):
    await raised(house)
    answer = await api.post("/remedies", json={"signal": "signal-1"})
    assert (answer.status_code, answer.json()["state"]) == (201, "proposed")
    key = answer.json()["key"]
    assert (await api.post("/remedies", json={"signal": "signal-1"})).json()["key"] == key
    answer = await api.post(f"/remedies/{key}/carry")
    assert (answer.status_code, answer.json()["state"]) == (202, "carrying out")
    await refused(api.post(f"/remedies/{key}/carry"), 409, "is being carried out already")
    await finished(house)
    assert (await api.get(f"/nouns/remedy/{key}")).json()["state"] == "failed"
    await refused(api.post("/remedies", json={"signal": "signal-9"}), 404, "there is signal-1")
    await refused(api.post("/remedies/remedy-none/carry"), 404, f"there is {key}")
    assert (await house.get("endpoint", "front", Endpoint)).wished.model == "digits@1"
