"""Which rows a model is judged on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tallystick.core.data import TABLE_URI
from tallystick.core.errors import BadInput
from tallystick.judging.rows import rows_for_judging
from tests.fakes.house import add_model, add_run, add_table


async def test_a_model_is_judged_on_what_its_run_held_out(house):
    run = await add_run(house)
    model = await add_model(house, run=run)
    assert (await rows_for_judging(house, model)).name == f"{run.key}/test"
    other = await add_table(house, "other")
    assert (await rows_for_judging(house, model, "other")).name == other.key


async def test_a_model_is_not_judged_on_rows_of_what_it_was_made_from(house):
    model = await add_model(house, run=await add_run(house))
    newer = await add_table(house)
    for name in (
        "digits",
        newer.key,
        *model.origin.snapshots,
        f"{TABLE_URI}digits",
        f"{TABLE_URI}{newer.key}",
    ):
        with pytest.raises(BadInput, match="made from rows of table digits"):
            await rows_for_judging(house, model, name)
    stranger = await add_model(house, 2)
    assert (await rows_for_judging(house, stranger, "digits")).name == newer.key


async def test_a_model_is_not_judged_on_what_its_run_says_that_it_was_trained_on(house):
    run = await add_run(house)
    made = run.outputs.artifacts
    both = replace(run.outputs, artifacts={**made, "train": made["test"]})
    await house.tell("run", run.key, "succeeded", replace(run, outputs=both))
    model = await add_model(house, run=run)
    for name in ("", f"{run.key}/train", f"{run.key}/test"):
        with pytest.raises(BadInput, match=r"was trained on run-.*, as its run says"):
            await rows_for_judging(house, model, name)
    assert (await rows_for_judging(house, await add_model(house, 2), f"{run.key}/train")).digest


async def test_otherwise_the_rows_must_be_said(house):
    run = await add_run(house)
    none = replace(run, outputs=replace(run.outputs, artifacts={"model": run.outputs.artifacts["model"]}))
    await house.tell("run", run.key, "succeeded", none)
    gone = await add_model(house, 2, run=replace(run, key="run-gone"))
    for model in (await add_model(house, 1, run=run), gone, await add_model(house, 3)):
        with pytest.raises(BadInput, match=f"tally judge {model.key} --data TABLE"):
            await rows_for_judging(house, model)
