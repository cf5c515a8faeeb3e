"""Judging in a house of tests, to the end."""

from __future__ import annotations

import asyncio

import pytest

from tallystick.core.verdict import Verdict, VerdictState
from tallystick.judging.judge import begin_judging, finish_judging
from tallystick.judging.weighed import evidence_of
from tests.fakes.house import POLICY, events, until
from tests.fakes.house.judge import judge_script

__all__ = ["answering", "failed_with", "found_by", "interrupted", "judged", "left"]


def answering(house, script=None, **figures):
    """Have the errand ``judge`` play ``script``, or one that finds ``robust`` and ``clean`` of 100."""
    house.sandbox.table["judge"] = script or judge_script(**figures)


async def judged(house, model, data="", again=False, policy=POLICY, label="label"):
    """Judge to the end."""
    verdict, rows = await begin_judging(house, model, data, policy, label, again)
    if verdict.state.ended:
        return verdict
    return await finish_judging(house, verdict, model, rows, policy, label, again)


async def found_by(house, verdict):
    """The evidence of a verdict."""
    return await evidence_of(house.artifacts, verdict)


async def interrupted(house, model, begun):
    """Judge, and cancel it once ``begun`` says so of the verdict; its key."""

    async def judge(order, say):
        say(progress=0.1)
        await asyncio.Event().wait()

    house.sandbox.table["judge"] = judge
    verdict, rows = await begin_judging(house, model, "", POLICY, "label")
    work = asyncio.create_task(finish_judging(house, verdict, model, rows, POLICY, "label"))
    await until(lambda: begun(verdict.key))
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    return verdict.key


def left(house):
    """Folders that are not taken away."""
    return [p for kind in ("judge", "serve", "threats", "keep") for p in house.scratch.glob(f"{kind}-*")]


async def failed_with(house, model):
    verdict = await judged(house, model)
    assert verdict.state is VerdictState.FAILED
    assert verdict.evidence_digest == ""
    assert await house.get("verdict", verdict.key, Verdict) == verdict
    assert events(house, "verdict") == ["began", "failed"]
    assert left(house) == []
    assert house.progress == {}
    return verdict.error
