"""Processes that wait for steps to come: how many, made when, and what becomes of them."""

from __future__ import annotations

import asyncio
import os
import signal
import time

from tests.fakes.steps import opened, outcome, step
from tests.tiles.executor.test_zygote import DEADLINE_S, keepers_in, kill, parents, zygotes

BUSY = len(os.sched_getaffinity(0)) + 1
"""How many more are ready than a burst takes: as many as run at once."""
BURST = 6
QUIET_S = 0.3
"""Until no more would be made ready once so many are."""
ONE_BURST = """
from tallystick.crew.steps import stock
stock.QUIET_S = 1.5
"""
"""However busy the machine is, the steps of a burst are taken within that of each other."""
LITTLE_ROOM = """
from tallystick.crew.steps.stock import Keepers
fork = Keepers._fork
def little(keepers, number):
    if len(keepers._all) >= 4: raise BlockingIOError(11, 'Resource temporarily unavailable')
    fork(keepers, number)
Keepers._fork = little
"""
NO_ROOM_AT_FIRST = """
from tallystick.crew.steps import keeper
prepared, before = keeper._prepared, []
def late(*given):
    before.append(given)
    return prepared(*given) if len(before) > 1 else keeper._Step('Resource temporarily unavailable')
keeper._prepared = late
"""
TWO_STEPS_EACH = """
from tallystick.crew.steps import keeper, stock
keeper.STEPS_MAX = 2
stock.AGAIN_S = 10 * 60
"""


class Altered:
    """A sandbox whose zygotes run some code of the test's first."""

    def __init__(self, sandbox, code):
        self._sandbox = sandbox
        self._code = f"{code}\nimport json, sys\nfrom tallystick.crew.steps.zygote import main\n"
        self.strength = sandbox.strength

    async def spawn(self, argv, wall):
        at = argv.index("-m")
        assert argv[at + 1] == "tallystick.crew.steps.zygote"
        code = f"{self._code}sys.exit(main(json.loads(sys.argv[1])))"
        return await self._sandbox.spawn([*argv[:at], "-c", code, *argv[at + 2 :]], wall)


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
    executor = opened(Altered(sandbox, ONE_BURST), tmp_path, step_spares=100)
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
    executor = opened(Altered(sandbox, ONE_BURST), tmp_path, step_spares=100)
    await burst(executor, tmp_path)
    await ready(tmp_path, BURST + BUSY)
    waiting = set(zygotes(tmp_path))
    await burst(executor, tmp_path)
    assert not set(zygotes(tmp_path)) - waiting


async def test_spares_that_are_killed_are_made_again_and_no_step_is_lost(sandbox, tmp_path):
    executor = opened(Altered(sandbox, ONE_BURST), tmp_path, step_spares=100)
    await burst(executor, tmp_path)
    await ready(tmp_path, BURST + BUSY)
    for pid in keepers_in(tmp_path)[1:]:
        os.kill(pid, signal.SIGKILL)
    await ready(tmp_path, BURST + BUSY)
    await burst(executor, tmp_path, 2 * BURST)


async def test_the_process_of_one_that_waits_is_made_again_where_it_has_been_killed(sandbox, tmp_path):
    """Short of memory, the kernel may choose any of them; none has run anything yet."""
    executor = opened(Altered(sandbox, ONE_BURST), tmp_path, step_spares=100)
    await burst(executor, tmp_path)
    await ready(tmp_path, BURST + BUSY)
    keepers = keepers_in(tmp_path)
    kill(pid for pid, parent in parents(tmp_path).items() if parent in keepers)
    async with asyncio.timeout(DEADLINE_S):
        while keepers_in(tmp_path):  # noqa: ASYNC110  other processes' ends set no event here
            await asyncio.sleep(0.01)
    await burst(executor, tmp_path, BURST + BUSY)


async def test_the_process_of_one_that_had_no_room_for_it_is_made_once_it_is_needed(sandbox, tmp_path):
    executor = opened(Altered(sandbox, NO_ROOM_AT_FIRST), tmp_path)
    await burst(executor, tmp_path)


async def test_with_room_for_a_few_processes_steps_share_those(sandbox, tmp_path):
    """More are wanted all the time, and cannot be had."""
    executor = opened(Altered(sandbox, LITTLE_ROOM), tmp_path, step_spares=100)
    async with asyncio.timeout(DEADLINE_S):
        for _ in range(3):
            await burst(executor, tmp_path)
    await ready(tmp_path, 4)


async def test_a_keeper_that_has_had_its_last_step_is_not_counted_on(sandbox, tmp_path):
    """Or it would be missed as one that has ended before its time, for which the next one waits."""
    executor = opened(Altered(sandbox, TWO_STEPS_EACH), tmp_path, step_spares=1)
    async with asyncio.timeout(DEADLINE_S):
        for _ in range(10):
            await burst(executor, tmp_path, 1)


async def test_steps_go_on_while_spares_are_made(sandbox, tmp_path):
    executor = opened(sandbox, tmp_path, step_spares=100)
    for _ in range(5):
        await burst(executor, tmp_path)
        await asyncio.sleep(0.07)  # it has just become quiet
    await executor.close()
    assert zygotes(tmp_path) == []
