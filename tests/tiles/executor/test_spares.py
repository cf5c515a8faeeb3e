"""Processes that wait for steps to come: how many, made when, and what becomes of them."""

from __future__ import annotations

import asyncio
import os
import signal
import time

from tests.fakes.steps import opened, outcome, step
from tests.tiles.executor.test_zygote import DEADLINE_S, keepers_in, zygotes

BUSY = len(os.sched_getaffinity(0)) + 1
"""How many more are ready than a burst takes: as many as run at once."""
BURST = 6
QUIET_S = 0.3
"""Far longer than it takes until it counts as quiet."""


async def burst(executor, tmp_path, count=BURST):
    done = await asyncio.gather(*(outcome(executor, tmp_path, step("pass")) for _ in range(count)))
    assert {one.error for one in done} == {""}


async def ready(tmp_path, count):
    """Once so many keepers have a step's process that waits; AssertionError when it is another number."""
    end = time.monotonic() + DEADLINE_S
    while len(found := keepers_in(tmp_path)) != count:
        assert time.monotonic() < end, f"{len(found)} are ready, not {count}"
        await asyncio.sleep(0.02)
    await asyncio.sleep(QUIET_S)
    assert len(keepers_in(tmp_path)) == count, "and it stays so"


async def test_as_many_wait_as_the_largest_burst_has_taken(sandbox, tmp_path):
    executor = opened(sandbox, tmp_path, step_spares=100)
    await burst(executor, tmp_path, 1)
    await ready(tmp_path, 1 + BUSY)
    await burst(executor, tmp_path)
    await ready(tmp_path, BURST + BUSY)
    await burst(executor, tmp_path, 2)
    await ready(tmp_path, BURST + BUSY)


async def test_no_more_wait_than_are_asked_for(sandbox, tmp_path):
    executor = opened(sandbox, tmp_path, step_spares=BUSY)
    for _ in range(3):
        await burst(executor, tmp_path)
        await ready(tmp_path, BUSY)


async def test_one_waits_however_few_are_asked_for(sandbox, tmp_path):
    executor = opened(sandbox, tmp_path, step_spares=1)
    await burst(executor, tmp_path)
    await ready(tmp_path, 1)


async def test_those_that_wait_are_who_the_next_steps_are_given_to(sandbox, tmp_path):
    """Whoever is at work or rests makes nothing ready as long as enough are."""
    executor = opened(sandbox, tmp_path, step_spares=100)
    await burst(executor, tmp_path)
    await ready(tmp_path, BURST + BUSY)
    waiting = set(zygotes(tmp_path))
    await burst(executor, tmp_path)
    assert not set(zygotes(tmp_path)) - waiting


async def test_spares_that_are_killed_are_made_again_and_no_step_is_lost(sandbox, tmp_path):
    executor = opened(sandbox, tmp_path, step_spares=100)
    await burst(executor, tmp_path)
    await ready(tmp_path, BURST + BUSY)
    for pid in keepers_in(tmp_path)[1:]:
        os.kill(pid, signal.SIGKILL)
    await ready(tmp_path, BURST + BUSY)
    await burst(executor, tmp_path, 2 * BURST)


async def test_steps_go_on_while_spares_are_made(sandbox, tmp_path):
    executor = opened(sandbox, tmp_path, step_spares=100)
    for _ in range(5):
        await burst(executor, tmp_path)
        await asyncio.sleep(0.07)  # it has just become quiet
    await ready(tmp_path, BURST + BUSY)
    await executor.close()
    assert zygotes(tmp_path) == []
