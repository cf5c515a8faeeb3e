"""The lines of a step: within limits, and nothing in them but text."""

from __future__ import annotations

import asyncio

import pytest

from tallystick.tiles.executor import lines as module
from tallystick.tiles.executor.lines import LINE_BYTES_MAX, Lines, printable


def stream(content):
    reader = asyncio.StreamReader(2**26)
    reader.feed_data(content)
    reader.feed_eof()
    return reader


async def pumped(content, bytes_max=100):
    log = []
    lines = Lines(log.append, bytes_max)
    await lines.pump(stream(content))
    return log, lines


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("plain ä 漢 🙂", "plain ä 漢 🙂"),
        ("a\tb", "a\tb"),
        ("\x1b[31mred\x07\x00\x7f", "[31mred"),
        ("c1 \x9b31m", "c1 31m"),
        ("no\xa0break line\u2028two", "no break line two"),
        ("\u202eover", "over"),
    ],
)
async def test_only_what_prints_is_kept(text, kept):
    assert printable(text) == kept
    log, lines = await pumped(text.encode() + b"\n")
    assert (log, lines.last) == ([kept], kept)


async def test_after_the_cut_no_line_is_looked_at(monkeypatch):
    looked = []
    monkeypatch.setattr(module, "printable", lambda text: looked.append(text) or text)
    log, lines = await pumped(b"x\n" * 5_000_000 + b"the end\n\n")
    assert log[-1].startswith("[log cut at 100 bytes")
    assert len(log) == 51
    assert lines.last == "the end"
    assert len(looked) < module.READ_BYTES


async def test_the_last_line_after_the_cut_whichever_stream_it_came_on():
    log = []
    lines = Lines(log.append, 10)
    await lines.pump(stream(b"y" * 200_000 + b"\n" + b"z" * 200_000 + b"\n last \n"))
    await lines.pump(stream(b""))
    assert lines.last == "last"
    await lines.pump(stream(b"\n" * 1000 + b"w" * (LINE_BYTES_MAX + 5)))
    assert lines.last == "w" * LINE_BYTES_MAX


async def test_whoever_else_has_something_to_do_gets_on_meanwhile():
    turns = []

    async def other():
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    await pumped(b"x\n" * 1_000_000)
    beside.cancel()
    assert len(turns) > 10
