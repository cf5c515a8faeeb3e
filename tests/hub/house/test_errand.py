from __future__ import annotations

import asyncio
import json
import threading

import pytest

from tallystick.core.errors import BadInput, Failed, MissingTile, TallyError, Unavailable
from tallystick.core.wall import Wall
from tallystick.hub.house import errand as module
from tallystick.hub.house.errand import Errand, run_errand
from tests.fakes.house.sandbox import Exit, ScriptedSandbox

WALL = Wall("/tmp")  # noqa: S108  reason: a scripted sandbox opens no folder


@pytest.fixture
async def sandbox():
    sandbox = ScriptedSandbox(line_bytes_max=2**16)
    yield sandbox
    await sandbox.close()


async def have_done(sandbox, script, progress=None, order=None):
    sandbox.table["work"] = script
    async with asyncio.timeout(60):
        return await run_errand(sandbox, "work", order or {}, WALL, progress)


async def fails_with(sandbox, script, kind=Failed):
    with pytest.raises(kind) as caught:
        await have_done(sandbox, script)
    assert sandbox.alive() == []
    return str(caught.value)


async def test_an_order_in_and_a_result_out(sandbox):
    async def work(order, say):
        return {"double": order["number"] * 2}

    assert await have_done(sandbox, work, order={"number": 21}) == {"double": 42}
    [played] = sandbox.started
    assert (played.name, played.status, played.wall) == ("work", 0, WALL)


async def test_progress_is_handed_on_within_its_bounds(sandbox):
    async def work(order, say):
        for share in (0.5, 7, -1, "half", None, [1]):
            say(progress=share, text="x" * 600)
        say(progress=1)
        say(else_=1)
        return {}

    heard = []
    await have_done(sandbox, work, lambda share, text: heard.append((share, len(text))))
    assert heard == [(0.5, 500), (1.0, 500), (0.0, 500), (1.0, 0)]


async def test_an_error_of_the_worker_comes_as_it_was(sandbox):
    async def work(order, say):
        raise BadInput("no column 'label'", where="rows", hint="name it")

    assert await fails_with(sandbox, work, BadInput) == "rows: no column 'label' (name it)"


async def test_an_error_of_an_unknown_kind(sandbox):
    async def work(order, say):
        say(error={"error": "SystemExit", "what": "leave"})

    assert await fails_with(sandbox, work, TallyError) == "leave"


@pytest.mark.parametrize(
    "kind", ["Refused", "Unavailable", "Damaged", "TallyError", "SystemExit", "", 7, None]
)
async def test_a_worker_speaks_for_no_gate_disk_or_ledger(sandbox, kind):
    async def work(order, say):
        say(error={"error": kind, "what": "no"})

    with pytest.raises(Failed) as caught:
        await have_done(sandbox, work)
    assert type(caught.value) is Failed


@pytest.mark.parametrize("kind", module.KINDS)
async def test_kinds_of_error_that_a_worker_may_tell(sandbox, kind):
    async def work(order, say):
        raise kind("no")

    with pytest.raises(kind) as caught:
        await have_done(sandbox, work)
    assert type(caught.value) is kind


@pytest.mark.parametrize(("name", "hint"), [("inspect", ""), ("serve", ""), ("judge", "pip install x")])
async def test_who_runs_a_strangers_code_gives_no_hints(sandbox, name, hint):
    async def work(order, say):
        raise MissingTile("it needs x", where="tile", hint="pip install x")

    sandbox.table[name] = work
    with pytest.raises(MissingTile) as caught:
        await run_errand(sandbox, name, {}, WALL)
    assert (caught.value.what, caught.value.where, caught.value.hint) == ("it needs x", "tile", hint)


async def test_what_a_worker_says_cannot_play_with_a_terminal_or_fill_it(sandbox):
    evil = "a\x1b]0;title\x07\x9b31m\x00\r\nb\u202ec" + "x" * 1000
    heard = []

    async def work(order, say):
        say(progress=0.5, text=evil)
        raise BadInput(evil, where=evil, hint=evil)

    with pytest.raises(BadInput) as caught:
        await have_done(sandbox, work, lambda share, text: heard.append(text))
    for text in (caught.value.what, caught.value.where, caught.value.hint, *heard):
        assert text.isprintable()
        assert text.startswith("a ]0;title  31m   b cxxx")
        assert len(text) == 500

    async def dies(order, say):
        say.err(evil)
        raise Exit(1)

    assert (await fails_with(sandbox, dies)).isprintable()


async def test_words_that_are_no_text(sandbox):
    async def work(order, say):
        say(error={"error": "BadInput", "what": {"a": 1}, "where": [2], "hint": None})

    assert await fails_with(sandbox, work, BadInput) == "unknown error"


@pytest.mark.parametrize(
    "said", [{"progress": 0.5, "text": "x" * 5000}, {"ready": {"x": "y" * 5000}}, {"a": "b" * 5000}]
)
async def test_only_an_ending_may_be_long(sandbox, said):
    async def work(order, say):
        say(**said)
        await asyncio.Event().wait()

    assert "said too much" in await fails_with(sandbox, work)


async def test_lines_without_end_end_it(sandbox, monkeypatch):
    monkeypatch.setattr(module, "WORDS_MAX", 100)
    others = []

    async def work(order, say):
        say.raw(b"{}\n" * 1000)
        await asyncio.Event().wait()

    async def other():
        while True:
            others.append(1)
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    assert "said too much" in await fails_with(sandbox, work)
    beside.cancel()
    assert len(others) >= 100, "whoever else has something to do gets on meanwhile"


async def test_a_long_result_is_read_in_a_thread(monkeypatch):
    threads, loads = [], json.loads

    def seen(line):
        threads.append(threading.current_thread() is threading.main_thread())
        return loads(line)

    async def work(order, say):
        say(progress=0.5)
        return {"long": "x" * (module.ASIDE_BYTES + 1)}

    sandbox = ScriptedSandbox()
    sandbox.table["work"] = work
    monkeypatch.setattr(module.json, "loads", seen)
    assert len((await have_done(sandbox, work))["long"]) == module.ASIDE_BYTES + 1
    assert threads[-2:] == [True, False]
    await sandbox.close()


@pytest.mark.parametrize(
    "line",
    [
        b"Traceback (most recent call last)\n",
        b"7\n",
        b'["result"]\n',
        b"\xff\xfe\n",
        b'{"result": 7}\n',
        b'{"result": null}\n',
        b'{"error": "went wrong"}\n',
        b'{"result": {"a": NaN}}\n',
        b'{"result": {"a": 1e999}}\n',
        b'{"result": {"a": "\\ud800"}}\n',
        b"[" * 50_000 + b"\n",
        b'{"result": {"cut": "off"',
    ],
)
async def test_what_is_not_the_protocol_ends_it(sandbox, line):
    async def work(order, say):
        say.raw(line)
        if not line.endswith(b"\n"):
            raise Exit(0)
        await asyncio.Event().wait()

    assert "not its protocol" in await fails_with(sandbox, work)


async def test_a_line_over_the_limit_ends_it(sandbox):
    async def work(order, say):
        say(result={"long": "x" * 2**17})

    assert "a line of over" in await fails_with(sandbox, work)


async def test_silence_with_a_status(sandbox):
    async def work(order, say):
        raise Exit(0)

    assert await fails_with(sandbox, work) == "work: the worker ended with status 0: it printed nothing"


async def test_a_signal_and_the_last_that_was_printed(sandbox):
    async def work(order, say):
        say.err("loading")
        say.err("MemoryError")
        say.err("   ")
        raise Exit(-9)

    assert await fails_with(sandbox, work) == "work: the worker was ended by signal 9: MemoryError"


async def test_however_much_is_printed_only_the_end_is_kept(sandbox):
    async def work(order, say):
        for _ in range(100):
            say.err("x" * 5000)
            await asyncio.sleep(0)
        say.err("y" * 2**17)
        say.err("the end")
        raise Exit(3)

    assert await fails_with(sandbox, work) == "work: the worker ended with status 3: the end"


async def test_one_that_falls_silent_but_lives_on_is_ended(sandbox, monkeypatch):
    monkeypatch.setattr(module, "LEAVE_S", 0.01)

    async def work(order, say):
        say.close()
        await asyncio.Event().wait()

    assert "signal 15" in await fails_with(sandbox, work)


async def test_cancelling_ends_the_process(sandbox):
    begun = asyncio.Event()

    async def work(order, say):
        begun.set()
        await asyncio.Event().wait()

    doing = asyncio.create_task(have_done(sandbox, work))
    await begun.wait()
    doing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await doing
    assert [p.ended_by_hub for p in sandbox.started] == [True]
    assert sandbox.alive() == []


async def test_cancelling_while_the_order_is_handed_over_ends_the_process(sandbox, monkeypatch):
    writing = asyncio.Event()

    async def drain(self):
        writing.set()
        await asyncio.Event().wait()

    async def work(order, say):
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.StreamWriter, "drain", drain)
    doing = asyncio.create_task(have_done(sandbox, work))
    await writing.wait()
    doing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await doing
    assert sandbox.alive() == []


async def test_a_process_that_died_before_its_order_says_why(sandbox, monkeypatch):
    async def drain(self):
        raise ConnectionResetError

    async def work(order, say):
        say.err("no such library")
        raise Exit(127)

    monkeypatch.setattr(asyncio.StreamWriter, "drain", drain)
    assert "status 127: no such library" in await fails_with(sandbox, work)


async def test_a_sandbox_that_does_not_work(sandbox):
    sandbox.broken = Unavailable("no user namespaces")
    with pytest.raises(Unavailable):
        await have_done(sandbox, None)


async def test_one_that_goes_on_serving(sandbox):
    async def work(order, say):
        say(ready={"port": 1})
        await asyncio.Event().wait()

    sandbox.table["work"] = work
    errand = await Errand.start(sandbox, "work", {"a": 1}, WALL)
    lines = errand.lines()
    assert await anext(lines) == {"ready": {"port": 1}}
    assert json.dumps(sandbox.started[0].order) == '{"a": 1}'
    assert await errand.end() == -15
    assert await errand.end() == -15
    with pytest.raises(Failed, match="signal 15"):
        await anext(lines)
