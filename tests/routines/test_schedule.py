"""Schedules: each due time has one run, whenever the hub dies."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallystick.core.errors import BadInput, NotFound, NotSupported, Unavailable
from tallystick.core.pipeline.spec import Param, ParamType
from tallystick.core.run.events import Run, RunState
from tallystick.core.run.options import RunOptions
from tallystick.ports.tile import Place
from tallystick.routines.library import Filed, Library
from tallystick.routines.recover import recover
from tallystick.routines.recurring import Schedule, Timing, due, next_due
from tallystick.routines.schedule import change, keep, schedule_of, schedules, tick, wish
from tallystick.tiles.calendar.cron import CronCalendar
from tallystick.tiles.traffic.files import open_tile as open_traffic
from tests.fakes.house import events, make_house, until
from tests.fakes.ledger import MemoryLedger
from tests.hub.runs.steps import HeldExecutor, side_by_side

CALENDAR = CronCalendar()
START = 1_700_000_000_000  # a Tuesday, 22:13:20
MINUTE = 60_000


def read(spec):
    """Every file is the same pipeline but one."""
    if spec == b"none":
        raise BadInput("it is no pipeline")
    return replace(side_by_side("a"), params=(Param("n", ParamType.INTEGER, 1),))


def wished(**more):
    timing = more.pop("timing", Timing(every_s=60))
    return Schedule(key="", name=more.pop("name", "s"), spec_digest="", timing=timing, **more)


@pytest.fixture
def library(house, steps):
    steps["a"] = lambda: 1
    return Library(house, read)


async def started(library, key):
    """The due times for which a schedule has runs, each as often as it has one, oldest first."""
    facts = [f for f in library.house.ledger.facts if f.noun == "experiment" and f.event == "filed"]
    return [f.state["due_ms"] for f in facts if f.state["schedule"] == key]


async def stopped(house):
    """End all that is under way, as a hub that goes away does."""
    await asyncio.sleep(0)  # what has just been started begins first
    tasks = list(house.tasks.values())
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def rest(library):
    """Until every run has ended."""
    await until(lambda: not library.house.tasks)


async def test_a_run_when_it_is_due_and_not_before(library):
    made = await wish(library, CALENDAR, b"p", wished(params={"n": 3}, options=RunOptions(experiment="mine")))
    assert (made.created_ms, made.enabled, next_due(made, CALENDAR.following)) == (
        START,
        True,
        START + MINUTE,
    )
    await tick(library, CALENDAR)
    library.house.clock.advance(59.999)
    await tick(library, CALENDAR)
    assert await started(library, made.key) == []
    library.house.clock.advance(0.001)
    await tick(library, CALENDAR)
    await tick(library, CALENDAR)
    await rest(library)
    found = await schedule_of(library.house, made.key)
    run = await library.house.get("run", found.last_run, Run)
    assert (run.state, run.params, run.options.experiment) == (RunState.SUCCEEDED, {"n": 3}, "mine")
    assert (found.pending, found.error, found.due_ms) == ("", "", START + MINUTE)
    filed = await library.filed(run.key)
    assert (filed.schedule, filed.due_ms, filed.name) == (made.key, START + MINUTE, "s 2023-11-14 22:14:20")
    assert (await library.experiment(filed.experiment)).name == "mine"
    assert events(library.house, "schedule") == ["made", "due", "started"]


async def test_a_cron_expression(library):
    made = await wish(library, CALENDAR, b"p", wished(timing=Timing(cron="30 22 * * *"), catchup=True))
    library.house.clock.advance(3 * 86400)
    for _ in range(5):
        await tick(library, CALENDAR)
        await rest(library)
    first = START - 22 * 3_600_000 - 13 * MINUTE - 20_000 + 22 * 3_600_000 + 30 * MINUTE
    assert await started(library, made.key) == [first, first + 86_400_000, first + 2 * 86_400_000]


@pytest.mark.parametrize(("catchup", "expected"), [(True, [1, 2, 3, 4, 5]), (False, [5])])
async def test_what_was_missed(library, catchup, expected):
    made = await wish(library, CALENDAR, b"p", wished(catchup=catchup))
    library.house.clock.advance(5.5 * 60)
    for _ in range(7):
        await tick(library, CALENDAR)
        await rest(library)
    assert await started(library, made.key) == [START + n * MINUTE for n in expected]


async def test_a_start_and_an_end(library):
    timing = Timing(every_s=60, start_ms=START + 10 * MINUTE, end_ms=START + 12 * MINUTE)
    made = await wish(library, CALENDAR, b"p", wished(timing=timing, catchup=True))
    for _ in range(30):
        library.house.clock.advance(30)
        await tick(library, CALENDAR)
        await rest(library)
    assert await started(library, made.key) == [START + 11 * MINUTE, START + 12 * MINUTE]
    assert next_due(await schedule_of(library.house, made.key), CALENDAR.following) is None


async def test_no_more_at_once_than_allowed(tmp_path):
    held = HeldExecutor()
    house = make_house(tmp_path, executor=held)
    library = Library(house, read)
    made = await wish(library, CALENDAR, b"p", wished(at_once=2, catchup=True))
    house.clock.advance(5 * 60)
    for _ in range(5):
        await tick(library, CALENDAR)
    assert await started(library, made.key) == [START + MINUTE, START + 2 * MINUTE]
    await stopped(house)
    for key in (await schedule_of(house, made.key)).active:
        run = await house.get("run", key, Run)
        await house.tell("run", key, "failed", replace(run, state=RunState.FAILED))
    await tick(library, CALENDAR)
    assert len(await started(library, made.key)) == 4
    await stopped(house)
    await house.traffic.close()


async def test_paused_and_resumed_and_removed(library):
    made = await wish(library, CALENDAR, b"p", wished())
    await change(library.house, made.key, "paused", enabled=False)
    library.house.clock.advance(10 * 60)
    await tick(library, CALENDAR)
    assert await started(library, made.key) == []
    await change(library.house, made.key, "resumed", enabled=True)
    await change(library.house, made.key, "resumed", enabled=True)
    await tick(library, CALENDAR)
    assert await started(library, made.key) == [START + 10 * MINUTE]
    await change(library.house, made.key, "removed", removed=True)
    library.house.clock.advance(10 * 60)
    await tick(library, CALENDAR)
    assert len(await started(library, made.key)) == 1
    assert await schedules(library.house) == []
    with pytest.raises(NotFound):
        await schedule_of(library.house, made.key)
    with pytest.raises(NotFound):
        await change(library.house, made.key, "resumed", enabled=True)
    assert events(library.house, "schedule") == ["made", "paused", "resumed", "due", "started", "removed"]
    await rest(library)


async def test_a_pipeline_that_cannot_be_planned_any_more_says_so_and_the_others_go_on(library, steps):
    bad = await wish(library, CALENDAR, b"p", wished(name="bad", catchup=True))
    good = await wish(library, CALENDAR, b"p", wished(name="good"))
    whole, broken = library.read, {"on": True}

    def sometimes(spec):
        if broken["on"]:
            raise NotSupported("its construct is gone", where="task a")
        return whole(spec)

    library.house.clock.advance(5 * 60)
    await tick(Library(library.house, sometimes), CALENDAR)
    for key in (bad.key, good.key):
        found = await schedule_of(library.house, key)
        assert (found.pending, found.last_run, found.enabled) == ("", "", True)
        assert "its construct is gone" in found.error
    broken["on"] = False
    library.house.clock.advance(60)
    await tick(Library(library.house, sometimes), CALENDAR)
    await rest(library)
    for key in (bad.key, good.key):
        found = await schedule_of(library.house, key)
        assert (found.error, found.due_ms) == ("", START + 6 * MINUTE)


async def test_a_disk_that_is_full_delays_and_loses_nothing(library):
    made = await wish(library, CALENDAR, b"p", wished())
    library.house.clock.advance(60)
    library.house.ledger.broken = Unavailable("the disk is full")
    await tick(library, CALENDAR)
    library.house.ledger.broken = None
    library.house.clock.advance(30)
    await tick(library, CALENDAR)
    await rest(library)
    assert await started(library, made.key) == [START + MINUTE]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"timing": Timing()}, "either a cron expression or an interval"),
        ({"timing": Timing(cron="@daily", every_s=5)}, "either a cron expression or an interval"),
        ({"timing": Timing(every_s=-5)}, "cannot be kept"),
        ({"timing": Timing(every_s=2**60)}, "cannot be kept"),
        ({"timing": Timing(cron="61 * * * *")}, "'61' is no minute"),
        ({"timing": Timing(cron="0 0 30 2 *")}, "never due"),
        ({"timing": Timing(every_s=5, start_ms=9, end_ms=8)}, "ends before it starts"),
        ({"timing": Timing(every_s=5, start_ms=2**60)}, "cannot be"),
        ({"at_once": 0}, "between 1 and 10"),
        ({"at_once": 11}, "between 1 and 10"),
        ({"name": " "}, "is no schedule"),
        ({"name": "a\nb"}, "is no schedule"),
        ({"name": "x" * 257}, "is no schedule"),
        ({"params": {"n": "three"}}, "must be NUMBER_INTEGER"),
        ({"params": {"m": 3}}, "no parameter 'm'"),
        ({"options": RunOptions(seed=-1)}, "a seed"),
        ({"options": RunOptions(experiment="a\nb")}, "is no experiment"),
    ],
)
async def test_what_is_no_schedule(library, more, said):
    with pytest.raises(BadInput, match=said):
        await wish(library, CALENDAR, b"p", wished(**more))
    assert library.house.ledger.facts == []


async def test_what_is_no_pipeline(library):
    with pytest.raises(BadInput, match="it is no pipeline"):
        await wish(library, CALENDAR, b"none", wished())
    assert library.house.ledger.facts == []


async def test_it_goes_on_whatever_happens(library, monkeypatch, caplog):
    """The loop outlives a defect of ours."""
    turns = []

    async def broken(library, calendar):
        turns.append(1)
        if len(turns) > 3:
            raise asyncio.CancelledError
        raise RuntimeError("a defect")

    monkeypatch.setattr("tallystick.routines.schedule.tick", broken)
    with pytest.raises(asyncio.CancelledError):
        await keep(library.house, read, CALENDAR)
    assert library.house.clock.slept == [1.0, 1.0, 1.0]
    assert caplog.text.count("a defect") >= 3


# ---------------------------------------------------------------------------------------------- under crashes


class Died(BaseException):
    """The hub is gone at this point: nothing in it catches that."""


class MortalLedger(MemoryLedger):
    """Dies before or after a fact is durable, when its time has come; what still runs gets no further."""

    def __init__(self) -> None:
        super().__init__()
        self.lives: list[tuple[int, bool]] = []
        self.dead = False
        self._count = 0

    def be_born(self) -> None:
        self.dead, self._count = False, 0

    async def append(self, facts):
        if self.dead:
            raise Died
        self._count += 1
        if not self.lives or self._count <= self.lives[0][0]:
            return await super().append(facts)
        self.dead = True
        if self.lives.pop(0)[1]:
            await super().append(facts)
        raise Died


async def hub_life(home, parts, advances):
    """One life of a hub: what was left is taken up, then time goes on, until it dies or nothing comes."""
    home.mkdir()
    parts["ledger"].be_born()
    house = make_house(home, {"a": lambda: 1}, **parts, traffic=open_traffic(Place(home)))
    library = Library(house, read)

    async def pipeline(digest):
        return read(b"p")

    try:
        await recover(house, pipeline)
        while advances:
            house.clock.advance(advances.pop(0))
            await tick(library, CALENDAR)
            while house.tasks and not parts["ledger"].dead:
                await asyncio.wait(house.tasks.values(), timeout=0.01)
            if parts["ledger"].dead:
                raise Died
    finally:
        await stopped(house)
        await house.traffic.close()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    lives=st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=6),
    advances=st.lists(st.integers(1, 200), min_size=1, max_size=8),
    every=st.integers(20, 90),
    catchup=st.booleans(),
    cron=st.booleans(),
)
def test_never_twice_and_never_missed(lives, advances, every, catchup, cron):
    async def go():
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            first = make_house(home)
            ledger = MortalLedger()
            parts = {"clock": first.clock, "ledger": ledger, "journal": first.journal}
            parts["artifacts"] = first.artifacts
            house = make_house(home / "1", **parts) if (home / "1").mkdir() is None else first
            timing = Timing(cron="*/30 * * * * *") if cron else Timing(every_s=every)
            made = await wish(Library(house, read), CALENDAR, b"p", wished(timing=timing, catchup=catchup))
            ledger.lives = list(lives)
            for life in range(len(lives) + 1):
                with contextlib.suppress(Died):
                    await hub_life(home / f"life-{life}", parts, advances)
            ledger.lives = []
            quiet = [0.0] * 85  # time stands still: whatever is due by now is made up for
            await hub_life(home / "last", parts, quiet)
            now = first.clock.now_ms()
            await first.traffic.close()
            await house.traffic.close()
            return ledger, made, now

    ledger, made, now = asyncio.run(go())
    runs = {f.key for f in ledger.facts if f.noun == "run" and f.event == "planned"}
    planned = Counter(f.key for f in ledger.facts if f.event == "planned")
    assert max(planned.values(), default=1) == 1, "a run was planned twice"
    filed = {f.key: f.state["due_ms"] for f in ledger.facts if f.noun == "experiment" and f.event == "filed"}
    times = sorted(filed.values())
    assert set(filed) == runs, "a run that belongs to no due time"
    assert len(times) == len(set(times)), "a due time that has two runs"
    whole, at = [], made
    while (when := next_due(at, CALENDAR.following)) is not None and when <= now:
        whole.append(when)
        at = replace(at, after_ms=when)
    assert set(times) <= set(whole)
    if catchup:
        assert times == whole, "a due time that has none"
    elif whole:
        assert times[-1] == whole[-1], "the latest one has none"
    states = {f.key: f.state["state"] for f in ledger.facts if f.noun == "run"}
    assert set(states.values()) <= {"succeeded"}


def test_due_says_the_latest_only_where_nothing_is_made_up_for():
    made = replace(wished(timing=Timing(every_s=10)), created_ms=START)
    assert due(made, START + 9_999, CALENDAR.following, CALENDAR.latest) is None
    assert due(made, START + 55_000, CALENDAR.following, CALENDAR.latest) == START + 50_000
    ended = replace(made, timing=Timing(every_s=10, end_ms=START + 25_000))
    assert due(ended, START + 55_000, CALENDAR.following, CALENDAR.latest) == START + 20_000
    cron = replace(made, timing=Timing(cron="0 * * * * *", end_ms=START + 70_000))
    assert due(cron, START + 10**9, CALENDAR.following, CALENDAR.latest) == START + 40_000


async def test_a_run_that_is_filed_shows_how(library):
    await library.start(b"p", {}, RunOptions(), Filed("", "mine"), "run-00000000002a-00000a")
    await library.start(b"p", {}, RunOptions(), Filed("", "mine"), "run-00000000002a-00000a")
    await rest(library)
    assert events(library.house, "run").count("planned") == 1
    assert (await library.filed("run-00000000002a-00000a")).name == "mine"


async def test_a_run_that_cannot_be_filed_is_not_left_behind(library):
    """It would stand as running for ever, and begin when the hub starts again."""
    with pytest.raises(BadInput, match="is no experiment"):
        await library.start(b"p", {}, RunOptions(experiment="x" * 300), Filed(""))
    assert not await library.house.all("run", Run)
