from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tallystick.core.errors import BadInput, NotFound
from tallystick.core.facts import to_json
from tallystick.core.names import digest_of
from tallystick.core.verdict import Verdict, VerdictState
from tallystick.hub.judge import begin_judging, gather
from tests.fakes.house import POLICY, add_model, add_run, add_table, events, evidence, until
from tests.fakes.house.sandbox import Exit
from tests.hub.judging import answering, failed_with, interrupted, judged, left

PASSED, REFUSED, FAILED = VerdictState.PASSED, VerdictState.REFUSED, VerdictState.FAILED


@pytest.fixture
async def model(house):
    return await add_model(house, run=await add_run(house))


async def test_evidence_that_holds_passes(house, model):
    answering(house, evidence())
    verdict = await judged(house, model)
    assert (verdict.state, verdict.reasons, verdict.error) == (PASSED, (), "")
    assert verdict.evidence.model_digest == model.digest
    assert verdict.evidence.dataset.endswith("/test")
    assert verdict.evidence.budget == POLICY.budget
    assert await house.get("verdict", verdict.key, Verdict) == verdict
    assert events(house, "verdict") == ["began", "passed"]
    assert left(house) == []


async def test_evidence_that_does_not_hold_refuses_with_the_reasons(house, model):
    answering(house, evidence(robust=20))
    verdict = await judged(house, model)
    assert verdict.state is REFUSED
    assert len(verdict.reasons) == 1
    assert "robust: accuracy under attack at eps 0.1 is 20.0%" in verdict.reasons[0]
    assert house.ledger.facts[-1].note == verdict.reasons[0]


async def test_the_worker_sees_the_model_the_rows_and_a_folder_for_pictures(house, model):
    seen = {}

    def answer(order):
        seen["model"] = (Path(order["folder"]) / "model.onnx").read_bytes()
        seen["rows"] = Path(order["rows"]).read_bytes()
        return evidence()

    answering(house, answer)
    await judged(house, model)
    [played] = house.sandbox.started
    assert seen == {"model": b"digits 1", "rows": b"held out one"}
    assert played.wall.readable == (played.order["folder"], played.order["rows"])
    assert played.wall.writable == (played.order["pictures"],)
    assert played.order["label"] == "label"
    assert played.order["budget"] == to_json(POLICY.budget)


async def test_progress_is_told_while_it_lasts(house, model):
    seen = asyncio.Event()

    async def judge(order, say):
        say(progress=0.25, text="half a quarter")
        await seen.wait()
        return evidence()

    house.sandbox.table["judge"] = judge
    verdict, rows = await begin_judging(house, model, "", POLICY, "label")
    work = asyncio.create_task(gather(house, verdict, model, rows, POLICY, "label"))
    await until(lambda: verdict.key in house.progress)
    assert house.progress[verdict.key] == (0.25, "half a quarter")
    seen.set()
    await work
    assert house.progress == {}


# ---------------------------------------------------------------------- the same again


async def test_the_same_files_rows_and_policy_give_the_verdict_that_was_reached(house, model):
    answering(house, evidence())
    first = await judged(house, model)
    assert await judged(house, model) == first
    assert len(house.sandbox.started) == 1
    again = await judged(house, model, again=True)
    assert (again.state, again.key != first.key) == (PASSED, True)


async def test_other_rows_policy_or_files_are_judged_anew(house, model):
    answering(house, evidence())
    first = await judged(house, model)
    await add_table(house, "more")
    keys = {first.key, (await judged(house, model, "more")).key}
    keys.add((await judged(house, model, policy=replace(POLICY, name="other"))).key)
    keys.add((await judged(house, replace(model, digest=(await add_model(house, 2)).digest))).key)
    assert len(keys) == 4


async def test_another_label_is_judged_anew(house, model):
    answering(house, evidence())
    first = await judged(house, model)
    other = await judged(house, model, label="other")
    assert (first.evidence.label, other.evidence.label) == ("label", "other")
    assert first.key != other.key
    assert [p.order["label"] for p in house.sandbox.started] == ["label", "other"]
    assert await judged(house, model, label="other") == other
    assert (await judged(house, model)).key == first.key


async def test_a_verdict_that_failed_is_not_one_that_was_reached(house, model):
    answering(house, {})
    failed = await judged(house, model)
    answering(house, evidence())
    assert (await judged(house, model)).key != failed.key


# ---------------------------------------------------------------------- rows


async def test_rows_can_be_a_table_a_snapshot_or_an_output(house, model):
    answering(house, evidence())
    run = model.origin.run
    snapshot = (await add_table(house, "more")).key
    names = [(await judged(house, model, d)).evidence.dataset for d in ("more", snapshot, f"{run}/test")]
    assert names == [snapshot, snapshot, f"{run}/test"]


async def test_rows_that_the_model_was_made_from_begin_no_verdict(house, model):
    [snapshot] = model.origin.snapshots
    newer = await add_table(house)
    for name in ("digits", snapshot, newer.key, f"tally://tables/{snapshot}"):
        with pytest.raises(BadInput, match="digits@1 was made from rows of table digits") as refused:
            await begin_judging(house, model, name, POLICY, "label")
        assert "leave --data out" in refused.value.hint
    assert events(house, "verdict") == []


@pytest.mark.parametrize(
    ("data", "kind"),
    [("none", NotFound), ("none@9", NotFound), ("run-9/test", NotFound), ("a b", BadInput)],
)
async def test_rows_that_are_not_there_begin_no_verdict(house, model, data, kind):
    with pytest.raises(kind):
        await begin_judging(house, model, data, POLICY, "label")
    assert events(house, "verdict") == []


async def test_a_model_of_no_run_needs_rows_to_be_said(house):
    model = await add_model(house)
    with pytest.raises(BadInput, match="tally judge digits@1 --data TABLE"):
        await begin_judging(house, model, "", POLICY, "label")
    assert events(house, "verdict") == []


# ---------------------------------------------------------------------- no verdict without evidence


async def test_an_error_of_the_worker_is_a_failed_verdict(house, model):
    async def judge(order, say):
        raise BadInput("no column 'label'", where="rows")

    house.sandbox.table["judge"] = judge
    assert await failed_with(house, model) == "rows: no column 'label'"


async def test_a_worker_that_dies_is_a_failed_verdict(house, model):
    async def judge(order, say):
        say.err("MemoryError")
        raise Exit(-9)

    house.sandbox.table["judge"] = judge
    assert await failed_with(house, model) == "judge: the worker was ended by signal 9: MemoryError"


@pytest.mark.parametrize(
    ("forged", "words"),
    [
        ({}, "'clean' is missing"),
        ({**evidence(), "clean": {"right": 2, "total": 1}}, "2 of 1 is not a rate"),
        ({**evidence(), "curve": "none"}, "evidence.curve"),
        ({**evidence(), "seconds": float("nan")}, "not its protocol"),
        ({**evidence(), "pictures": 7}, "evidence.pictures"),
        ({**evidence(), "pictures": [{"original": "a"}]}, "is missing"),
        ({**evidence(), "attacks": [{"name": "a", "library": "\ud800"}]}, "not its protocol"),
    ],
)
async def test_evidence_that_is_none_is_a_failed_verdict(house, model, forged, words):
    answering(house, forged)
    assert words in await failed_with(house, model)


async def test_evidence_about_another_model_counts_for_the_one_that_was_asked_about(house, model):
    answering(house, {**evidence(), "model_digest": digest_of("other"), "dataset_digest": digest_of("x")})
    found = (await judged(house, model)).evidence
    assert found.model_digest == model.digest
    assert found.dataset_digest != digest_of("x")


async def test_evidence_too_large_to_keep_is_a_failed_verdict(house, model, monkeypatch):
    monkeypatch.setattr("tests.fakes.ledger.FACT_BYTES_MAX", 4000)
    answering(house, {**evidence(), "versions": {"python": "3" * 5000}})
    assert "FACT_BYTES_MAX" in await failed_with(house, model)


async def test_a_model_whose_files_are_damaged_or_gone_is_a_failed_verdict(house, model):
    answering(house, evidence())
    del house.artifacts.blobs[model.digest]
    assert "no artifact" in await failed_with(house, model)
    assert house.sandbox.started == []


async def test_an_interrupted_judgement_is_a_failed_verdict_and_its_worker_ends(house, model):
    key = await interrupted(house, model, lambda key: key in house.progress)
    assert (await house.get("verdict", key, Verdict)).error == "the judgement was interrupted"
    assert [p.ended_by_hub for p in house.sandbox.started] == [True]
    assert left(house) == []


async def test_evidence_without_an_attack_that_was_carried_out_refuses(house, model):
    nothing = [{"name": "square", "library": "test", "queries": 0, "skipped": "too few queries"}]
    answering(house, {**evidence(robust=100), "attacks": nothing})
    verdict = await judged(house, model)
    assert verdict.state is REFUSED
    assert verdict.reasons == ("robust: no attack was carried out: square: too few queries",)


# ---------------------------------------------------------------------- pictures


def picture(**files):
    labels = {"truth": "1", "label_original": "1", "label_noise": "1", "label_adversarial": "7", "eps": 0.1}
    names = {kind: f"00-{kind}.png" for kind in ("original", "noise", "adversarial")}
    return {**labels, **names, **files}


def drawing(order):
    for kind in ("original", "noise", "adversarial"):
        (Path(order["pictures"]) / f"00-{kind}.png").write_bytes(kind.encode())


async def test_pictures_are_kept_as_artifacts(house, model):
    def answer(order):
        drawing(order)
        return {**evidence(), "pictures": [picture()]}

    answering(house, answer)
    [kept] = (await judged(house, model)).evidence.pictures
    assert house.artifacts.blobs[kept.adversarial] == b"adversarial"
    assert (kept.label_adversarial, kept.original) == ("7", digest_of(b"original"))


@pytest.mark.parametrize(
    "name", ["../rows.parquet", "/etc/hostname", "..", "", "a\0b", "missing.png", "link.png"]
)
async def test_a_picture_is_a_file_of_its_folder_or_none(house, model, name):
    def answer(order):
        drawing(order)
        (Path(order["pictures"]) / "link.png").symlink_to(order["rows"])
        return {**evidence(), "pictures": [picture(noise=name)]}

    answering(house, answer)
    assert await failed_with(house, model)
