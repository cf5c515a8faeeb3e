"""What gathering believes, of what a worker tells or a run says of its rows: no more than it can check."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from tallystick.core.errors import Failed, TallyError
from tallystick.core.facts import to_json
from tallystick.core.names import digest_of
from tallystick.core.run.events import Step, StepState
from tallystick.core.values import ArtifactRef, Values
from tallystick.evidence.probe import Example, Threat
from tallystick.evidence.threats import Listed
from tallystick.judging.recall import keep_threats
from tallystick.judging.sought import UNPROVEN
from tests.fakes.house import POLICY, add_model, add_run
from tests.fakes.house.judge import base_part, judge_script, probe_parts, tell
from tests.fakes.house.nouns import keep_steps
from tests.judging.gathering import (
    DONE,
    EVASION,
    FAILED,
    INSTALLED,
    THREE,
    content,
    gathered,
    link,
    orders,
    states,
    write,
)
from tests.judging.judgements import left

# ---------------------------------------------------------------------- what it goes on from


async def test_a_probe_that_is_tried_again_starts_from_what_those_before_it_found(three, model):
    """Though a later one is known: else what the first ones turned would be forgotten, and robust again."""
    policy = replace(POLICY, probes=("extra",))
    seen = []

    async def broken(order, say):
        tell(order, say, "base.json", base_part(order))
        first, second, _, noise = probe_parts(order)
        without = [p for p in order["probes"] if p["name"] != "second"]
        extra = probe_parts({**order, "probes": without})[1]
        failed = {**second["probe"], "state": FAILED, "why": "it broke off"}
        for place, part in enumerate((first, {"probe": failed}, {**extra, "arrays": "extra.npz"}, noise)):
            tell(order, say, f"{place}.json", part)
        return {}

    async def look(order, say):
        seen.extend(content(file) for file in order["known"].values() if file)
        return await judge_script()(order, say)

    three.sandbox.table["judge"] = broken
    keys = {p.name: p.key for p in (await gathered(three, model, policy=policy)).probes}
    three.sandbox.table["judge"] = look
    evidence = await gathered(three, model, policy=policy)
    assert seen == [b"arrays of " + keys[name].encode() for name in ("first", "extra")]
    assert states(evidence) == dict.fromkeys(("clean", "first", "second", "extra", "noise"), DONE)


# ---------------------------------------------------------------------- what it believes


def breaks(part):
    """Parts of a worker that says more than it may, each with what is said of it."""
    probe = part["probe"]
    return {
        "other key": ({**part, "probe": {**probe, "key": digest_of("x")}}, "nobody asked for"),
        "other name": ({**part, "probe": {**probe, "name": "none"}}, "nobody asked for"),
        "base as well": ({**part, "base": {"clean": {"right": 1, "total": 1}}}, "part.base"),
        "no probe": ({}, "'probe' is missing"),
        "robust": ({**part, "robust": "all"}, "expected"),
        "more than were right": ({**part, "robust": [101]}, "does not go with the budget"),
        "of another budget": ({**part, "robust": [80, 70]}, "does not go with the budget"),
        "no curve": ({**part, "robust": []}, "does not go with the budget"),
        "no arrays": ({**part, "arrays": ""}, "does not go with the budget"),
        "path": ({**part, "arrays": "../rows.parquet"}, "not a valid"),
        "gone": ({**part, "arrays": "gone.npz"}, ""),
    }


@pytest.mark.parametrize("kind", list(breaks({"probe": {}})))
async def test_parts_that_are_none_are_no_evidence(three, model, kind):
    """They end the judgement, or the probe that they are of; never is there a figure of them."""

    async def judge(order, say):
        if order["base"] not in order["known"]:
            tell(order, say, "base.json", base_part(order))
        part, _ = breaks(probe_parts(order)[0])[kind]
        write(order, "x.json", json.dumps(part))
        write(order, "000.npz", "a")
        write(order, "001.npz", "a")
        say(began="first")
        say(part="x.json")
        await asyncio.Event().wait()

    three.sandbox.table["judge"] = judge
    three.limits = replace(three.limits, judge_cpu_s=1)
    words = breaks({"probe": {}})[kind][1]
    evidence = await gathered(three, model)
    assert states(evidence)["first"] is FAILED
    assert words in evidence.probes[1].why
    assert not evidence.attacked
    assert left(three) == []
    three.sandbox.table["judge"] = judge_script()
    assert states(await gathered(three, model))["first"] is DONE  # and none of it is remembered


@pytest.mark.parametrize(
    "name", ["../x.json", "/etc/hostname", "", "a\0b", "missing.json", "link.json", "big.json"]
)
async def test_a_part_is_a_file_of_its_folder_or_none(three, model, name, monkeypatch):
    monkeypatch.setattr("tallystick.judging.sought.PART_BYTES_MAX", 3000)

    async def judge(order, say):
        link(order)
        write(order, "big.json", json.dumps(base_part(order)) + " " * 3000)
        say(part=name)
        await asyncio.Event().wait()

    three.sandbox.table["judge"] = judge
    with pytest.raises(TallyError):
        await gathered(three, model)
    assert left(three) == []


async def test_pictures_are_kept_as_artifacts(three, model):
    async def judge(order, say):
        tell(order, say, "base.json", base_part(order))
        first, *rest = probe_parts(order)
        example = Example("first", 3, "1", "1", "7", original="a.png", adversarial="b.png")
        write(order, "a.png", "before")
        write(order, "b.png", "after")
        first["probe"]["examples"] = [to_json(example)]
        for place, part in enumerate([first, *rest]):
            tell(order, say, f"{place}.json", part)
        return {}

    three.sandbox.table["judge"] = judge
    [example] = (await gathered(three, model)).probes[1].examples
    assert three.artifacts.blobs[example.adversarial] == b"after"
    assert (example.original, example.noise) == (digest_of(b"before"), "")
    [again] = (await gathered(three, model)).probes[1].examples
    assert again == example


async def test_a_link_that_the_worker_leaves_is_never_written_through(three, model, tmp_path):
    """Whatever it calls its files: what the hub writes down lies elsewhere."""
    (tmp_path / "precious").write_text("precious")

    async def judge(order, say):
        for name in ("record.json", "value.json", "rows.parquet"):
            link(order, name, tmp_path / "precious")
        return await judge_script()(order, say)

    three.sandbox.table["judge"] = judge
    assert states(await gathered(three, model))["first"] is DONE
    assert (tmp_path / "precious").read_text() == "precious"


# ---------------------------------------------------------------------- whom it trusts, and how long


async def test_rows_of_training_are_handed_to_those_that_need_them(house, monkeypatch):
    monkeypatch.setattr("tallystick.judging.gather.fingerprint", lambda: INSTALLED)
    run = await add_run(house)
    rows = house.folder("given") / "train"
    rows.parent.mkdir(parents=True, exist_ok=True)
    rows.write_bytes(b"trained on")
    train = ArtifactRef("train", (await house.artifacts.put_file(rows)).digest, "system.Dataset")
    outputs = replace(run.outputs, artifacts={**run.outputs.artifacts, "train": (train,)})
    run = replace(run, outputs=outputs)
    await house.tell("run", run.key, "succeeded", run)
    model = await add_model(house, run=run)
    listed = (*THREE.probes, Listed("c", "member", Threat.INFERENCE, 1, train=True))
    await keep_threats(house, INSTALLED, replace(THREE, probes=listed))
    house.sandbox.table["judge"] = judge_script()
    assert states(await gathered(house, model))["member"] is DONE
    [order] = orders(house)
    assert order["train_digest"] == f"{train.digest} {UNPROVEN}"
    assert order["trained_on"] is False
    assert order["train"] in house.sandbox.started[-1].wall.readable
    await made_from(house, run, model, ArtifactRef("other", digest_of("rows of others")))
    await gathered(house, model, again=True)
    assert orders(house)[-1]["trained_on"] is False
    await made_from(house, run, model, train)
    await gathered(house, model)
    assert orders(house)[-1]["trained_on"] is True
    assert orders(house)[-1]["train_digest"] == train.digest
    kept = {name for name, probe in states(await gathered(house, model)).items() if probe is DONE}
    assert "member" in kept
    assert len(orders(house)) == 3  # what was probed of rows that are a run's word was probed again, once


async def made_from(house, run, model, *inputs):
    """Have the record say that a step took these in and put the model's files out."""
    files = ArtifactRef("model", model.digest, "system.Model")
    taken = Values(artifacts={ref.name: (ref,) for ref in inputs})
    step = Step("train", StepState.SUCCEEDED, inputs=taken, outputs=Values(artifacts={"model": (files,)}))
    await keep_steps(house, run, step)


async def test_only_a_model_that_may_have_a_twin_is_asked_itself_beside_it(house, model, monkeypatch):
    monkeypatch.setattr("tallystick.judging.gather.fingerprint", lambda: INSTALLED)
    itself = Listed("a", "itself", EVASION, 1, itself=True)
    await keep_threats(house, INSTALLED, replace(THREE, probes=(itself, *THREE.probes)))
    house.sandbox.table["judge"] = judge_script()
    assert "itself" not in states(await gathered(house, model))
    named = await gathered(house, model, policy=replace(POLICY, probes=("itself",)))
    assert "itself" in states(named)

    async def serve(order, say):
        say(ready={})
        await asyncio.Event().wait()

    async def twin(order, say):
        raise Failed("no twin", where="model")

    house.sandbox.table |= {"serve": serve, "twin": twin}
    coded = replace(model, runtime="pyfunc", runs_code=True)
    asked = [p.name for p in (await gathered(house, coded, again=True)).probes if p.threat is EVASION]
    assert asked == ["first", "second", "itself"]  # from what the others found


async def test_a_probe_that_does_not_end_by_itself_is_stopped_and_the_others_go_on(three, model, monkeypatch):
    """However it keeps itself busy: its process is ended, and another begins with the next probe."""
    monkeypatch.setattr("tallystick.judging.probe.LATE_S", 0.2)
    three.limits = replace(three.limits, probe_s=0.1)

    async def stuck(order, say):
        if "first" in order["given_up"]:
            rest = [p for p in order["probes"] if p["name"] != "first"]
            tell(order, say, "gone.json", {"probe": gone(order)})
            return await judge_script()({**order, "probes": rest}, say)
        tell(order, say, "base.json", base_part(order))
        say(began="first")
        await asyncio.Event().wait()
        return None

    def gone(order):
        first = probe_parts(order)[0]["probe"]
        return {**first, "state": FAILED, "why": order["given_up"]["first"]}

    three.sandbox.table["judge"] = stuck
    evidence = await gathered(three, model)
    first, second = evidence.probes[1:3]
    assert (first.state, second.state) == (FAILED, DONE)
    assert "stopped after 0.3 s, as it did not end by itself" in first.why
    assert "the process ended" not in first.why
    assert orders(three)[0]["probe_s"] == 0.1
    assert three.sandbox.alive() == []
