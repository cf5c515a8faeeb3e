"""The verb judge: what is gathered is weighed and told, the same again is not judged again."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tallystick.core.errors import BadInput, NotFound
from tallystick.core.verdict import Verdict, VerdictState
from tallystick.evidence.policy import Policy, Rule
from tallystick.judging.judge import begin_judging, finish_judging
from tests.fakes.house import POLICY, add_model, add_table, events, until
from tests.fakes.house.judge import judge_script
from tests.fakes.house.sandbox import Exit
from tests.judging.judgements import answering, failed_with, found_by, interrupted, judged, left

PASSED, REFUSED, FAILED = VerdictState.PASSED, VerdictState.REFUSED, VerdictState.FAILED


async def test_evidence_that_holds_passes(house, model):
    answering(house)
    verdict = await judged(house, model)
    assert (verdict.state, verdict.reasons, verdict.error) == (PASSED, (), "")
    evidence = await found_by(house, verdict)
    assert evidence.model_digest == model.digest
    assert evidence.dataset.endswith("/test")
    assert evidence.budget == POLICY.budget
    assert await house.get("verdict", verdict.key, Verdict) == verdict
    assert events(house, "verdict") == ["began", "passed"]
    assert left(house) == []


async def test_evidence_that_does_not_hold_refuses_with_the_reasons(house, model):
    answering(house, robust=20)
    verdict = await judged(house, model)
    assert verdict.state is REFUSED
    assert len(verdict.reasons) == 1
    assert "robust: accuracy under attack at eps 0.1 is 20.0%" in verdict.reasons[0]
    assert house.ledger.facts[-1].note == verdict.reasons[0]


async def test_progress_is_told_while_it_lasts(house, model):
    seen = asyncio.Event()

    async def judge(order, say):
        say(progress=0.25, text="half a quarter")
        await seen.wait()
        return await judge_script()(order, say)

    house.sandbox.table["judge"] = judge
    verdict, rows = await begin_judging(house, model, "", POLICY, "label")
    work = asyncio.create_task(finish_judging(house, verdict, model, rows, POLICY, "label"))
    await until(lambda: verdict.key in house.progress)
    assert house.progress[verdict.key] == (0.25, "half a quarter")
    seen.set()
    await work
    assert house.progress == {}


# ---------------------------------------------------------------------- the same again


async def test_the_same_files_rows_and_policy_give_the_verdict_that_was_reached(house, model):
    answering(house)
    first = await judged(house, model)
    assert await judged(house, model) == first
    assert len(house.sandbox.started) == 1
    again = await judged(house, model, again=True)
    assert (again.state, again.key != first.key) == (PASSED, True)
    assert len(house.sandbox.started) == 2


async def test_a_verdict_that_rests_on_a_signature_is_weighed_anew_once_that_is_gone(house, model):
    answering(house)
    signed = Policy("signed", (*POLICY.rules, Rule("signed", "signature_valid", 1.0)), POLICY.budget)
    first = await judged(house, model, policy=signed)
    assert first.state is VerdictState.REFUSED
    evidence = await found_by(house, first)
    vouched = replace(
        first, state=PASSED, key="verdict-signed"
    )  # as if it had been signed when it was judged
    await house.tell("verdict", vouched.key, "passed", vouched)
    again = await judged(house, model, policy=signed)
    assert (again.state, again.key in (first.key, vouched.key)) == (VerdictState.REFUSED, False)
    assert (await found_by(house, again)).clean == evidence.clean
    assert len(house.sandbox.started) == 1  # nothing is probed again for it


async def test_other_rows_policy_or_files_are_judged_anew(house, model):
    answering(house)
    first = await judged(house, model)
    await add_table(house, "more")
    keys = {first.key, (await judged(house, model, "more")).key}
    keys.add((await judged(house, model, policy=replace(POLICY, name="other"))).key)
    keys.add((await judged(house, replace(model, digest=(await add_model(house, 2)).digest))).key)
    assert len(keys) == 4


async def test_another_label_is_judged_anew(house, model):
    answering(house)
    first = await judged(house, model)
    other = await judged(house, model, label="other")
    assert (await found_by(house, first)).label == "label"
    assert (await found_by(house, other)).label == "other"
    assert first.key != other.key
    assert [p.order["label"] for p in house.sandbox.started] == ["label", "other"]
    assert await judged(house, model, label="other") == other
    assert (await judged(house, model)).key == first.key


async def test_a_verdict_that_failed_is_not_one_that_was_reached(house, model):
    async def nothing(order, say):
        return {}

    answering(house, nothing)
    failed = await judged(house, model)
    assert failed.state is FAILED
    answering(house)
    assert (await judged(house, model)).key != failed.key


# ---------------------------------------------------------------------- rows


async def test_rows_can_be_a_table_a_snapshot_or_an_output(house, model):
    answering(house)
    run = model.origin.run
    snapshot = (await add_table(house, "more")).key
    found = [await found_by(house, await judged(house, model, d)) for d in ("more", snapshot, f"{run}/test")]
    names = [evidence.dataset for evidence in found]
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


async def test_a_model_whose_files_are_damaged_or_gone_is_a_failed_verdict(house, model):
    answering(house)
    del house.artifacts.blobs[model.digest]
    assert "no artifact" in await failed_with(house, model)
    assert house.sandbox.started == []


async def test_an_interrupted_judgement_is_a_failed_verdict_and_its_worker_ends(house, model):
    key = await interrupted(house, model, lambda key: key in house.progress)
    assert "the judgement was interrupted" in (await house.get("verdict", key, Verdict)).error
    assert [p.ended_by_hub for p in house.sandbox.started] == [True]
    assert left(house) == []


async def test_no_stage_is_production_where_rules_differ_by_stage(house, model):
    strict = replace(POLICY.rules[1], name="strict", stages=("Production",))
    policy = replace(POLICY, rules=(*POLICY.rules, strict))
    verdict, _ = await begin_judging(house, model, "", policy, "label", stage="")
    assert verdict.stage == "Production"
