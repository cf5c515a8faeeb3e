"""Judging in a house of tests, to the end."""

from __future__ import annotations

import asyncio

import pytest

from tallystick.core.verdict import Verdict, VerdictState
from tallystick.hub.judge import begin_judging, gather
from tests.fakes.house import POLICY, events, until

__all__ = ["answering", "failed_with", "interrupted", "judged", "left"]


def answering(house, answer):
    async def judge(order, say):
        say(progress=0.4, text="square at eps 0.1")
        return answer(order) if callable(answer) else answer

    house.sandbox.table["judge"] = judge


async def judged(house, model, data="", again=False, policy=POLICY, label="label"):
    """Judge to the end."""
    verdict, rows = await begin_judging(house, model, data, policy, label, again)
    if verdict.state.ended:
        return verdict
    return await gather(house, verdict, model, rows, policy, label)


async def interrupted(house, model, begun):
    """Judge, and cancel it once ``begun`` says so of the verdict; its key."""

    async def judge(order, say):
        say(progress=0.1)
        await asyncio.Event().wait()

    house.sandbox.table["judge"] = judge
    verdict, rows = await begin_judging(house, model, "", POLICY, "label")
    work = asyncio.create_task(gather(house, verdict, model, rows, POLICY, "label"))
    await until(lambda: begun(verdict.key))
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    return verdict.key


def left(house):
    """Folders that are not taken away."""
    return [*house.scratch.glob("judge-*"), *house.scratch.glob("serve-*")]


async def failed_with(house, model):
    verdict = await judged(house, model)
    assert verdict.state is VerdictState.FAILED
    assert verdict.evidence is None
    assert await house.get("verdict", verdict.key, Verdict) == verdict
    assert events(house, "verdict") == ["began", "failed"]
    assert left(house) == []
    assert house.progress == {}
    return verdict.error
