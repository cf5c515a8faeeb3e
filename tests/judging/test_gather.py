"""Gathering evidence: probe by probe, kept as it comes, taken up again, and believed only so far."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tallystick.core.errors import BadInput, Failed
from tallystick.core.facts import to_json
from tallystick.core.names import digest_of
from tallystick.evidence.domain import Domain, DomainKind
from tallystick.evidence.threats import BASE
from tallystick.judging.gather import cancel_gathering, gather_endpoint, threat_list, threats_of
from tallystick.judging.recall import Kept, fingerprint, keep_threats
from tallystick.judging.rows import rows_for_judging
from tests.fakes.house import POLICY, events, until
from tests.fakes.house.judge import base_part, judge_script, probe_parts, tell
from tests.fakes.house.sandbox import Exit
from tests.judging.gathering import (
    DONE,
    EVASION,
    FAILED,
    INSTALLED,
    NOT,
    THREE,
    content,
    gathered,
    order_file,
    orders,
    states,
    write,
)
from tests.judging.judgements import left

# ---------------------------------------------------------------------- what it comes to


async def test_all_of_it_in_order(three, model):
    evidence = await gathered(three, model)
    assert [p.name for p in evidence.probes] == [BASE, "first", "second", "noise"]
    assert (evidence.model, evidence.model_digest) == (model.key, model.digest)
    assert [(p.eps, p.robust.right, p.noise.right) for p in evidence.curve] == [(0.1, 80, 95)]
    assert evidence.attacked
    assert evidence.threats == THREE.digest() == await threats_of(three, POLICY)
    assert evidence.versions == {"python": "3", "b": "2"}
    assert evidence.seconds == pytest.approx(1.5)
    assert left(three) == []


async def test_the_worker_sees_the_model_the_rows_and_a_folder_of_its_own(three, model):
    seen = {}

    async def look(order, say):
        seen["model"] = content(order["folder"], "model.onnx")
        seen["rows"] = content(order["rows"])
        return await judge_script()(order, say)

    three.sandbox.table["judge"] = look
    await gathered(three, model)
    [played] = three.sandbox.started
    assert seen == {"model": b"digits 1", "rows": b"held out one"}
    assert played.wall.readable == (played.order["rows"], played.order["folder"])
    assert played.wall.writable == (played.order["out"],) == (played.wall.workdir,)
    assert not played.wall.network
    assert played.order["size_bytes"] == sum(len(c) for c in (b"flavors: {onnx: {}}\n", b"digits 1"))
    assert played.order["domain"] == to_json(POLICY.domain("digits"))


async def test_probes_that_a_policy_names_are_carried_out_too(three, model):
    evidence = await gathered(three, model, policy=replace(POLICY, probes=("extra",)))
    assert "extra" in states(evidence)
    with pytest.raises(BadInput, match="no installed tile offers a probe 'other'"):
        await gathered(three, model, policy=replace(POLICY, probes=("other",)))


# ---------------------------------------------------------------------- nothing twice


async def test_nothing_changed_starts_nothing_and_says_the_same(three, model):
    first = await gathered(three, model)
    started = len(three.sandbox.started)
    assert await gathered(three, model, key="verdict-2") == first
    assert len(three.sandbox.started) == started


async def test_again_is_all_of_it_again(three, model):
    await gathered(three, model)
    await gathered(three, model, again=True)
    assert [order["known"] for order in orders(three)] == [{}, {}]


async def test_only_what_is_new_is_carried_out(three, model):
    """Another probe before: those after it start from something else. One beside it: only that."""
    await gathered(three, model)
    newer = replace(THREE.probes[2], version=2)
    await keep_threats(three, INSTALLED, replace(THREE, probes=(*THREE.probes[:2], newer)))
    evidence = await gathered(three, model)
    order = orders(three)[-1]
    assert sorted(map(str, order["known"].values())) == sorted(["None", "None", order_file(order)])
    assert states(evidence)["second"] is DONE
    newest = replace(THREE.probes[1], version=2)
    listed = replace(THREE, probes=(THREE.probes[0], newest, THREE.probes[2]))
    await keep_threats(three, INSTALLED, listed)
    await gathered(three, model)
    assert [v for v in orders(three)[-1]["known"].values() if v is not None] == []


async def test_what_a_later_probe_starts_from_is_handed_over(three, model):
    """The arrays after the last evasion probe that is known, and no others."""
    seen = []

    async def killed(order, say):
        await asyncio.sleep(0)
        tell(order, say, "base.json", base_part(order))
        tell(order, say, "first.json", probe_parts(order)[0])
        say(began="second")
        raise Exit(-9)

    async def look(order, say):
        seen.append(content(order_file(order)))
        return await judge_script()(order, say)

    scripts = [killed, look]

    async def judge(order, say):
        return await scripts.pop(0)(order, say)

    three.sandbox.table["judge"] = judge
    evidence = await gathered(three, model)
    first = next(p for p in evidence.probes if p.name == "first")
    assert seen == [b"arrays of " + first.key.encode()]
    assert order_file(orders(three)[1]) in three.sandbox.started[-1].wall.readable


async def test_other_rows_budget_or_domain_are_other_probes(three, model):
    await gathered(three, model)
    budget = replace(POLICY.budget, seed=8)
    await gathered(three, model, policy=replace(POLICY, budget=budget))
    shaped = replace(POLICY, domains=(("digits", Domain(DomainKind.IMAGE, shape=(1, 2))),))
    await gathered(three, model, policy=shaped)
    assert [order["known"] for order in orders(three)] == [{}] * 3


async def test_what_failed_or_did_not_apply_is_no_result_for_ever(three, model):
    """What failed is tried again each time; what did not apply, once something else is installed."""
    ends = {"first": (FAILED, "it broke off"), "noise": (NOT, "it needs something")}

    async def judge(order, say):
        if order["base"] not in order["known"]:
            tell(order, say, "base.json", base_part(order))
        for place, part in enumerate(probe_parts(order)):
            state, why = ends.get(part["probe"]["name"], (DONE, ""))
            if state is DONE and part["probe"]["threat"] == EVASION:
                continue  # it would start from what `first` found
            probe = {**part["probe"], "state": state, "why": why, "queries": 0}
            tell(order, say, f"{place}.json", {"probe": probe})
        return {}

    three.sandbox.table["judge"] = judge
    evidence = await gathered(three, model)
    assert states(evidence) == {BASE: DONE, "first": FAILED, "second": FAILED, "noise": NOT}
    assert [p.why for p in evidence.probes] == [
        "",
        "it broke off",
        "it was not carried out",
        "it needs something",
    ]
    assert evidence.curve[0].robust.right == 95
    assert not evidence.attacked
    three.sandbox.table["judge"] = judge_script()
    evidence = await gathered(three, model)
    assert states(evidence) == {BASE: DONE, "first": DONE, "second": DONE, "noise": NOT}
    kept = await three.get("probe", evidence.probes[-1].key, Kept)
    await three.tell("probe", evidence.probes[-1].key, "not applicable", replace(kept, installed="other"))
    assert states(await gathered(three, model))["noise"] is DONE


async def test_what_is_no_longer_among_the_artifacts_is_found_out_again(three, model):
    evidence = await gathered(three, model)
    kept = await three.get("probe", evidence.probes[1].key, Kept)
    del three.artifacts.blobs[kept.arrays]
    assert await gathered(three, model) == evidence
    assert len(orders(three)) == 2


# ---------------------------------------------------------------------- broken off


async def test_a_probe_that_ends_its_process_is_given_up_and_the_rest_goes_on(three, model):
    async def judge(order, say):
        if "second" not in order["given_up"]:
            if order["base"] not in order["known"]:
                tell(order, say, "base.json", base_part(order))
                tell(order, say, "first.json", probe_parts(order)[0])
            say(began="second")
            say.err("Killed")
            raise Exit(-9)
        return await without_second(order, say)

    async def without_second(order, say):
        noise = probe_parts(order)[-1]
        tell(order, say, "noise.json", noise)
        return {}

    three.sandbox.table["judge"] = judge
    evidence = await gathered(three, model)
    assert states(evidence) == {BASE: DONE, "first": DONE, "second": FAILED, "noise": DONE}
    why = next(p.why for p in evidence.probes if p.name == "second")
    assert (
        why == "the process ended while it was carried out: judge: the worker was ended by signal 9: Killed"
    )
    assert len(orders(three)) == 2
    assert left(three) == []


async def test_a_worker_that_never_gets_further_is_not_started_for_ever(three, model):
    async def judge(order, say):
        if order["base"] not in order["known"]:
            tell(order, say, "base.json", base_part(order))
        raise Failed("the model does not answer any more: gone", where="model")

    three.sandbox.table["judge"] = judge
    evidence = await gathered(three, model)
    assert len(orders(three)) == 2
    assert states(evidence) == {BASE: DONE, "first": FAILED, "second": FAILED, "noise": FAILED}
    assert {p.why for p in evidence.probes[1:]} == {"model: the model does not answer any more: gone"}


async def test_without_an_answer_about_clean_rows_there_is_no_evidence(three, model):
    async def judge(order, say):
        raise BadInput("no column 'label'", where="rows")

    three.sandbox.table["judge"] = judge
    with pytest.raises(BadInput, match="no column 'label'"):
        await gathered(three, model)
    assert len(orders(three)) == 1


async def test_what_takes_too_long_failed_and_what_was_done_counts(three, model, monkeypatch):
    monkeypatch.setattr("tallystick.judging.probe.WAITS_MAX", 1 / three.limits.judge_cpu_s)

    async def judge(order, say):
        tell(order, say, "base.json", base_part(order))
        tell(order, say, "first.json", probe_parts(order)[0])
        await asyncio.Event().wait()

    three.sandbox.table["judge"] = judge
    evidence = await gathered(three, model)
    assert states(evidence) == {BASE: DONE, "first": DONE, "second": FAILED, "noise": FAILED}
    assert "no evidence within 1 s" in evidence.probes[-1].why
    assert three.sandbox.alive() == []


async def test_a_cancelled_judgement_goes_on_where_it_was(three, model):
    async def judge(order, say):
        tell(order, say, "base.json", base_part(order))
        tell(order, say, "first.json", probe_parts(order)[0])
        await asyncio.Event().wait()

    three.sandbox.table["judge"] = judge
    assert not await cancel_gathering(three, "verdict-1")
    three.start("verdict-1", gathered(three, model))
    await until(lambda: events(three, "probe").count("done") == 2)
    task = three.tasks["verdict-1"]
    assert await cancel_gathering(three, "verdict-1")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert three.sandbox.alive() == []
    assert left(three) == []
    three.sandbox.table["judge"] = judge_script()
    evidence = await gathered(three, model, key="verdict-2")
    assert set(states(evidence).values()) == {DONE}
    assert sorted(map(str, orders(three)[-1]["known"].values()))[1:] == ["None"]
    assert [p["probe"]["name"] for p in probe_parts(orders(three)[-1])] == ["second", "noise"]


# ---------------------------------------------------------------------- the list of threats


async def test_the_list_is_asked_for_once(house, model, monkeypatch):
    monkeypatch.setattr("tallystick.judging.gather.fingerprint", lambda: digest_of("else"))
    house.sandbox.table["judge"] = judge_script(threats=THREE)
    assert await threat_list(house) == THREE
    assert await threat_list(house) == THREE
    assert len(house.sandbox.started) == 1
    assert house.sandbox.started[0].order["list"]


async def test_what_is_installed_is_looked_at_once_a_judgement(three, model, monkeypatch):
    """So that what it finds is kept under the very state that its list of threats is of."""
    looked = [INSTALLED, digest_of("installed meanwhile")]
    monkeypatch.setattr("tallystick.judging.gather.fingerprint", lambda: looked.pop(0))
    evidence = await gathered(three, model)
    kept = await three.get("probe", evidence.probes[-1].key, Kept)
    assert (kept.installed, len(looked)) == (INSTALLED, 1)


async def test_a_list_that_is_none_is_an_error(house, model, monkeypatch):
    monkeypatch.setattr("tallystick.judging.gather.fingerprint", lambda: digest_of("else"))

    async def judge(order, say):
        return {"probes": "all"}

    house.sandbox.table["judge"] = judge
    with pytest.raises(BadInput, match=r"threats\.probes"):
        await threat_list(house)
    assert left(house) == []


def test_the_fingerprint_is_of_what_is_installed(tmp_path, monkeypatch):
    from tests.fakes.attack import as_installed

    before = fingerprint()
    assert fingerprint() == before
    monkeypatch.syspath_prepend(as_installed(tmp_path / "one", "own = own_tile.attack:open_tile"))
    one = fingerprint()
    assert one != before
    (tmp_path / "one" / "own_tile").mkdir()
    (tmp_path / "one" / "own_tile" / "attack.py").write_text("version = 1\n")
    two = fingerprint()
    (tmp_path / "one" / "own_tile" / "attack.py").write_text("version = 22\n")
    assert len({before, one, two, fingerprint()}) == 4


# ---------------------------------------------------------------------- endpoints and twins


async def test_an_endpoint_is_judged_over_the_network_and_opens_no_gate(three, model):
    address = "http://127.0.0.1:8000/v2/models/digits"
    rows = await rows_for_judging(three, model)
    found = [await gather_endpoint(three, key, address, rows, POLICY, "label") for key in ("v-1", "v-2")]
    assert [e.model for e in found] == [address] * 2
    assert len({found[0].model_digest, found[1].model_digest, model.digest}) == 3
    played = three.sandbox.started[-1]
    assert played.wall.network
    assert played.order["endpoint"] == address
    assert "folder" not in played.order
    assert [order["known"] for order in orders(three)] == [{}, {}]


async def test_a_twin_that_was_made_is_handed_over(three, model):
    async def serve(order, say):
        say(ready={})
        await asyncio.Event().wait()

    async def twin(order, say):
        assert order["features"] == 2
        write(order, "twin.onnx", "twin")
        return {"file": "../rows.parquet"}

    three.sandbox.table |= {"serve": serve, "twin": twin}
    coded = replace(model, runtime="pyfunc", runs_code=True)
    assert set(states(await gathered(three, coded)).values()) == {DONE}
    order = orders(three)[-1]
    assert Path(order["twin"]).name == "twin.onnx"
    assert order["twin"] in three.sandbox.started[-1].wall.readable
    assert order["twin"] not in three.sandbox.started[-1].wall.writable


async def test_probe_of_no_twin_says_why(three, model):
    async def serve(order, say):
        say(ready={})
        await asyncio.Event().wait()

    async def twin(order, say):
        raise BadInput("there is no twin for a model of this kind", where="model")

    three.sandbox.table |= {"serve": serve, "twin": twin}
    await gathered(three, replace(model, runtime="pyfunc", runs_code=True))
    order = orders(three)[-1]
    assert order["no_twin"] == "there is no twin for a model of this kind"
    assert "twin" not in order
