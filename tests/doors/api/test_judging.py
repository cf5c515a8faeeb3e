"""Judging over the API: stages, cancelling, what a verdict rests on, and policies tried on the past."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest

from tallystick.core.names import digest_of
from tallystick.core.verdict import Verdict, VerdictState
from tallystick.doors.api import trial
from tallystick.judging import weighed
from tests.fakes.house import add_model, add_run, add_verdict, until

STRICT = '[[rule]]\nname = "accurate"\nmeasure = "clean_accuracy"\nat_least = 0.99\n'


async def ended(house, key):
    await until(lambda: key not in house.tasks)
    return await house.get("verdict", key, Verdict)


async def test_a_verdict_is_reached_kept_and_shown_with_its_evidence(api, house):
    await add_model(house, run=await add_run(house))
    begun = (await api.post("/verdicts", json={"model": "digits"})).json()
    verdict = await ended(house, begun["key"])
    assert (verdict.state, verdict.error) == (VerdictState.PASSED, "")
    assert verdict.figures == {"clean_accuracy": 0.95, "robust_accuracy@0.1": 0.8}
    whole = (await api.get(f"/verdicts/{verdict.key}")).json()
    assert (whole["verdict"]["key"], whole["expired"]) == (verdict.key, "")
    assert [(s["measure"], s["eps"], s["rows"]) for s in whole["imprecise"]] == [
        ("clean_accuracy", None, 100),
        ("robust_accuracy", 0.1, 100),
    ]
    clean, robust = whole["imprecise"]
    assert (clean["rows_needed"], robust["rows_needed"], robust["rows_needed_at_worst"]) == (215, 682, 1064)
    names = [p["name"] for p in whole["evidence"]["probes"]]
    assert names[0] == "clean"
    assert names[-1] == "supply chain"
    assert (await api.get("/verdicts/standing")).json() == {verdict.key: ""}
    house.policy = replace(house.policy, name="another")
    assert (await api.get("/verdicts/standing")).json() == {verdict.key: "was given under another policy"}
    assert (await api.get("/verdicts/none")).status_code == 404


async def test_a_judgement_is_cancelled(api, house):
    started = asyncio.Event()

    async def judge(order, say):
        started.set()
        await asyncio.Event().wait()

    house.sandbox.table["judge"] = judge
    await add_model(house, run=await add_run(house))
    key = (await api.post("/verdicts", json={"model": "digits"})).json()["key"]
    await started.wait()
    answer = await api.post(f"/verdicts/{key}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (200, "failed")
    assert "interrupted; what was probed is kept" in answer.json()["error"]
    assert (await api.post(f"/verdicts/{key}/cancel")).status_code == 409
    assert house.sandbox.alive("judge") == []


async def test_the_policy_in_force_is_told(api, house):
    house.policy_text = "# as it was written"
    found = (await api.get("/policy")).json()
    assert (found["text"], found["digest"]) == ("# as it was written", house.policy.digest)
    assert [r["name"] for r in found["policy"]["rules"]] == ["accurate", "robust"]


async def test_a_policy_is_tried_on_the_evidence_of_the_past(api, house):
    model = await add_model(house)
    for state in (VerdictState.PASSED, VerdictState.REFUSED, VerdictState.FAILED):
        await add_verdict(house, model, state)
    await add_verdict(house, model, evidence_digest=digest_of("gone"))
    await add_verdict(house, model, evidence_digest="")
    before = len(house.ledger.facts)
    found = (await api.post("/policy/test", json={"text": STRICT})).json()
    assert len(house.ledger.facts) == before
    assert (found["changed"], found["without_evidence"], found["in_force"]) == (1, 2, False)
    refused, passed = found["verdicts"]
    assert (refused["before"], refused["after"], refused["changes"]) == ("refused", "refused", False)
    assert (passed["before"], passed["after"], passed["changes"]) == ("passed", "refused", True)
    assert passed["rules"][0].startswith("accurate: accuracy on clean data is 95.0%")
    for text, words in (
        ("=", "not TOML"),
        ("rule = 3", "list of tables"),
        ("a = " + "[" * 20_000, "nested too deep"),
        ("x" * 200_001, "at most 200,000"),
        ("a" + ".a" * 300 + " = 1", "line 1 has over 200 dots"),
        ("\n[" + '"=".' * 300 + "a]", "line 2 has over 200 dots"),
        ("a = " + "9" * 5000, "not TOML"),
        ("a = 2026-13-41", "not TOML"),
    ):
        answer = await api.post("/policy/test", json={"text": text})
        assert (answer.status_code, words in answer.json()["what"]) == (400, True)


async def test_an_endpoint_needs_rows(api, house):
    answer = await api.post("/verdicts", json={"endpoint": "http://127.0.0.1:1/v2/models/m"})
    assert (answer.status_code, answer.json()["where"]) == (400, "data")


class Held:
    """A function that waits in the middle, in whatever thread it is called."""

    def __init__(self, function):
        self.function, self.begun, self.go_on = function, threading.Event(), threading.Event()

    def __call__(self, *given):
        self.begun.set()
        assert self.go_on.wait(60), "nobody else had a turn"
        return self.function(*given)


@pytest.mark.parametrize("what", ["tomllib.loads", "Policy.parse", "weigh", "from_json"])
async def test_the_hub_answers_while_a_policy_is_read_and_weighed(api, house, monkeypatch, what):
    await add_verdict(house, await add_model(house))
    module = weighed if what == "from_json" else trial
    *above, name = what.split(".")
    owner = getattr(module, above[0]) if above else module
    held = Held(getattr(owner, name))
    monkeypatch.setattr(owner, name, held)
    trying = asyncio.create_task(api.post("/policy/test", json={"text": STRICT}))
    await asyncio.to_thread(held.begun.wait, 60)
    another = asyncio.create_task(api.post("/policy/test", json={"text": STRICT}))
    assert (await api.get("/policy")).status_code == 200
    assert not trying.done()
    held.go_on.set()
    assert (await trying).json()["changed"] == (await another).json()["changed"] == 1


async def test_a_trial_that_takes_too_long_is_ended(api, house, monkeypatch):
    await add_verdict(house, await add_model(house))
    monkeypatch.setattr(trial, "TRIAL_S_MAX", -1.0)
    answer = await api.post("/policy/test", json={"text": STRICT})
    assert answer.json()["error"] == "TookTooLong"
    assert "fewer rules" in answer.json()["hint"]
    monkeypatch.undo()
    assert (
        await api.post("/policy/test", json={"text": STRICT})
    ).status_code == 200  # its turn was given back


async def test_a_body_that_is_too_long_for_a_policy(api):
    answer = await api.post("/policy/test", json={"text": "x" * 3_000_000})
    assert (answer.status_code, answer.json()["error"]) == (413, "TooLarge")
