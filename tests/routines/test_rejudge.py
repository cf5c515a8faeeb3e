"""Judging again what serves: what is new, on its rows and its traffic, with a signal where it is refused."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tallystick.core.errors import BadInput, Failed
from tallystick.core.signal import Signal
from tallystick.core.verdict import Verdict, VerdictState
from tallystick.hub.house.route import Live
from tallystick.judging.deploy import deploy, let_in
from tallystick.ports.tile import Place
from tallystick.routines.rejudge import LIVE, OWN_ANSWER, REFUSED_NOW, keep_rejudging, rejudge
from tallystick.routines.served.heal import propose_remedy
from tallystick.tiles.calendar.cron import open_tile
from tests.fakes.house import add_model, add_run, add_verdict, events, until
from tests.fakes.house.judge import judge_script

DAY_MS = 86_400_000


def sampling(house, rows=500):
    """Traffic of so many rows, as the errand would find it."""

    def write(order):
        Path(order["out"]).write_bytes(f"{rows} rows labelled {order['label']}".encode())

    async def sample(order, say):
        if rows:
            write(order)
        return {"rows": rows, "skipped": 0}

    house.sandbox.table["measure.sample"] = sample


@pytest.fixture
async def served(house, tmp_path):
    """An endpoint that serves a model which passed."""
    model = await add_model(house, run=await add_run(house))
    await add_verdict(house, model)
    house.sandbox.table["judge"] = judge_script()
    sampling(house, rows=0)
    await deploy(house, model, "digits")
    house.routes.put("digits", Live(tmp_path / "s" / "m", 1, "digits", "1"))
    return model


async def test_a_model_that_still_passes_is_judged_once_and_raises_nothing(house, served):
    (verdict,) = await rejudge(house, "label")
    assert (verdict.state, verdict.model) == (VerdictState.PASSED, served.key)
    assert await rejudge(house, "label") == []  # nothing has changed since
    assert events(house, "signal") == []
    assert house.tasks == {}


async def test_a_model_that_is_refused_now_raises_one_signal(house, served):
    house.sandbox.table["judge"] = judge_script(robust=20)
    (verdict,) = await rejudge(house, "label")
    assert verdict.state is VerdictState.REFUSED
    (signal,) = await house.all("signal", Signal)
    assert (signal.kind, signal.endpoint, signal.model, signal.generation) == (
        REFUSED_NOW,
        "digits",
        served.key,
        1,
    )
    assert signal.text.startswith(
        f"digits@1, which endpoint digits serves, is refused now on {verdict.dataset}: robust"
    )
    assert (await propose_remedy(house, signal)).signal == signal.key
    house.policy = replace(house.policy, name="new")
    assert len(await rejudge(house, "label")) == 1
    assert len(await house.all("signal", Signal)) == 1


async def test_what_it_is_asked_is_judged_with_its_own_answers_and_opens_no_gate(house, served):
    sampling(house)
    on_rows, on_traffic = await rejudge(house, "label")
    assert (on_rows.stage, on_rows.label) == ("", "label")
    assert (on_traffic.stage, on_traffic.label) == (LIVE, OWN_ANSWER)
    assert on_traffic.dataset == "traffic of endpoint digits"
    assert (await let_in(house, served)).key == on_rows.key
    house.sandbox.table["judge"] = judge_script(robust=1)
    sampling(house, rows=600)
    (refused,) = await rejudge(house, "label")
    assert (refused.state, refused.stage) == (VerdictState.REFUSED, LIVE)
    (signal,) = await house.all("signal", Signal)
    assert "is refused now on what it is asked" in signal.text
    assert (await let_in(house, served)).key == on_rows.key


async def test_too_little_traffic_says_nothing(house, served):
    sampling(house, rows=house.drift.rows_min - 1)
    assert [v.stage for v in await rejudge(house, "label")] == [""]


async def test_one_that_cannot_be_judged_keeps_no_other_from_it(house, served, tmp_path):
    other = await add_model(house, 2)
    await add_verdict(house, other, dataset="no such table")
    await deploy(house, other, "another")  # nobody knows its rows any more, and nothing answers there
    (verdict,) = await rejudge(house, "label")
    assert verdict.model == served.key


async def test_a_judgement_that_fails_is_told_and_raises_nothing(house, served):
    async def judge(order, say):
        raise Failed("the model hangs", where="model")

    house.sandbox.table["judge"] = judge
    (verdict,) = await rejudge(house, "label")
    assert (verdict.state, "the model hangs" in verdict.error) == (VerdictState.FAILED, True)
    assert events(house, "signal") == []
    assert list(house.scratch.glob("sample-*")) == []


async def test_it_is_done_when_it_is_due_and_again_the_next_night(house, served):
    calendar = open_tile(Place(house.scratch))
    keeping = asyncio.create_task(keep_rejudging(house, calendar, "0 3 * * *", "label"))
    try:
        for nights in (1, 2):
            await until(lambda nights=nights: len(_reached(house)) > nights)
            house.policy = replace(house.policy, name=f"changed {nights}")
    finally:
        keeping.cancel()
    hours = [
        f.at_ms % DAY_MS / 3_600_000 for f in house.ledger.facts if f.noun == "verdict" and f.event == "began"
    ]
    assert all(3 <= hour < 3.1 for hour in hours)


def _reached(house):
    return [f for f in house.ledger.facts if f.noun == "verdict" and f.event in ("passed", "refused")]


async def test_without_a_time_it_is_never_done_and_a_wrong_one_is_refused(house, served):
    calendar = open_tile(Place(house.scratch))
    await keep_rejudging(house, calendar, "", "label")
    assert [v.key for v in await house.all("verdict", Verdict)] != []
    with pytest.raises(BadInput):
        await keep_rejudging(house, calendar, "at night", "label")
