"""Runs over the API: foreseen, with options, looked on at, and their logs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tallystick.core.run.events import Run, RunState
from tallystick.core.run.options import RunOptions
from tests.fakes.executor import FakeExecutor
from tests.fakes.house import until
from tests.fakes.runs.cluster import FakeCluster
from tests.hub.runs.steps import HeldExecutor


async def finished(house):
    await until(lambda: not house.tasks)


async def begin(api, **more):
    answer = await api.post("/runs", json={"spec": "chain", **more})
    assert answer.status_code == 202, answer.text
    return answer.json()["key"]


async def test_a_run_is_foreseen_and_nothing_is_written(api, house):
    answer = await api.post("/runs", json={"spec": "chain", "dry_run": True})
    assert answer.status_code == 200
    said = answer.json()
    assert (said["pipeline"], [step["path"] for step in said["steps"]]) == ("p", ["write", "read"])
    assert [step["state"] for step in said["steps"]] == ["miss", "unknown"]
    assert [step["note"] for step in said["steps"]] == ["miss: never made", "unknown: depends on write"]
    assert (house.ledger.facts, house.tasks) == ([], {})
    await begin(api)
    await finished(house)
    again = (await api.post("/runs", json={"spec": "chain", "dry_run": True})).json()
    assert [step["state"] for step in again["steps"]] == ["hit", "hit"]


async def test_options_are_recorded_with_the_run_and_each_step_says_why(api, house):
    await begin(api)
    await finished(house)
    key = await begin(api, options={"cache": False, "seed": 7})
    await finished(house)
    assert (await house.get("run", key, Run)).options == RunOptions(cache=False, seed=7)
    shown = (await api.get(f"/nouns/run/{key}")).json()
    assert {step["cache_note"] for step in shown["steps"]} == {"miss: the run takes nothing"}
    assert (shown["options"]["seed"], shown["steps"][0]["environment"][:7]) == (7, "sha256:")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"options": []}, "'options' must be an object"),
        ({"options": {"chache": True}}, "there is no option 'chache'"),
        ({"options": {"seed": "7"}}, "expected int"),
        ({"options": {"verify_share": 2}}, "between 0 and 1"),
        ({"options": {"on": "mars"}}, "there is no executor 'mars'"),
        ({"dry_run": "yes"}, "'dry_run' must be true or false"),
        ({"dry_run": True, "params": {"x": 1}}, "no parameter 'x'"),
    ],
)
async def test_options_that_cannot_be(api, house, more, words):
    answer = await api.post("/runs", json={"spec": "chain", **more})
    assert answer.status_code in (400, 501)
    assert words in answer.text
    assert house.ledger.facts == []


async def test_who_looks_on_gets_what_changed(api, house):
    house.executor = held = HeldExecutor()
    key = await begin(api)
    await held.until("write")
    first = (await api.get(f"/nouns/run/{key}?since=0")).json()
    assert [step["path"] for step in first["steps"]] == ["write"]
    second = (await api.get(f"/nouns/run/{key}?since={first['mark']}")).json()
    assert (second["steps"], second["mark"], second["state"]) == ([], first["mark"], "running")
    assert "mark" not in (await api.get(f"/nouns/run/{key}")).json()
    assert (await api.get(f"/nouns/run/{key}?since=x")).status_code == 400
    held.let_go("write", error="no")
    await finished(house)
    last = (await api.get(f"/nouns/run/{key}?since={first['mark']}")).json()
    assert [step["state"] for step in last["steps"]] == ["failed", "skipped"]


async def test_a_log_as_it_comes(api, house):
    go_on = asyncio.Event()

    class Saying(HeldExecutor):
        async def run(self, job, on_log):
            on_log("one")
            self.held[job.component.name] = asyncio.get_running_loop().create_future()
            self.began.set()
            await go_on.wait()
            on_log("two")
            raise RuntimeError("it ends badly")

    house.executor = held = Saying()
    key = await begin(api)
    await held.until("write")
    said = (await api.get(f"/runs/{key}/log", params={"path": "write"})).json()
    assert said == {"text": "one\n", "next": 4, "attempt": 1, "ended": False}
    go_on.set()
    await finished(house)
    answer = await api.get(f"/runs/{key}/log", params={"path": "write", "from": 4})
    assert (answer.status_code, "it ends badly" in answer.text) == (404, True)
    assert (await api.get(f"/runs/{key}/log")).status_code == 404
    assert (await api.get("/runs/none/log?path=a")).status_code == 404
    assert (await api.get(f"/runs/{key}/log?path=write&from=-1")).status_code == 400


async def test_a_run_that_failed_is_done_again(api, house):
    held = HeldExecutor()
    house.executor = held
    key = await begin(api)
    await held.until("write")
    early = await api.post(f"/runs/{key}/retry")
    assert early.json()["what"].startswith("only what failed or was cancelled")
    await api.post(f"/runs/{key}/cancel")
    await finished(house)
    steps = {"write": lambda text: Path(text.path).write_text("x"), "read": lambda text: 5}
    house.executor = FakeExecutor(steps)
    answer = await api.post(f"/runs/{key}/retry")
    assert answer.status_code == 202
    again = answer.json()["key"]
    assert again != key
    await finished(house)
    assert (await house.get("run", again, Run)).state is RunState.SUCCEEDED


async def test_a_run_on_a_cluster_is_not_foreseen(api, house):
    house.clusters = lambda host: FakeCluster()
    options = {"on": "kubeflow", "host": "http://localhost:1"}
    answer = await api.post("/runs", json={"spec": "chain", "options": options, "dry_run": True})
    assert (answer.status_code, answer.json()["where"]) == (501, "dry_run")
