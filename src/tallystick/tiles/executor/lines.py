"""The lines that a step prints, within limits: no amount can fill the hub's memory or block the step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

__all__ = ["LINE_BYTES_MAX", "LOG_BYTES_MAX", "Lines", "Stream", "printable"]

LINE_BYTES_MAX = 8 * 1024
LOG_BYTES_MAX = 4 * 1024 * 1024
READ_BYTES = 64 * 1024


def printable(text: str) -> str:
    """``text`` with printable characters and tabs alone: other spaces become one, the rest goes."""
    if text.isprintable():
        return text
    return "".join(map(_printable, text))


def _printable(c: str) -> str:
    if c.isprintable() or c == "\t":
        return c
    return " " if c.isspace() and c > "~" else ""


class Stream(Protocol):
    """What a step prints, as bytes come."""

    async def read(self, n: int = -1, /) -> bytes:
        """At most ``n`` bytes, as soon as there are any; none at the end."""
        ...


class Lines:
    """Hands lines to ``on_log``: each cut at ``LINE_BYTES_MAX`` bytes, all together at ``bytes_max``."""

    def __init__(self, on_log: Callable[[str], None], bytes_max: int = LOG_BYTES_MAX) -> None:
        self._on_log = on_log
        self._left = self._bytes_max = bytes_max
        self.last = ""
        """The last line that was not empty."""

    async def pump(self, stream: Stream) -> None:
        """Read ``stream`` to its end."""
        rest, cut = b"", False
        while piece := await stream.read(READ_BYTES):
            await asyncio.sleep(0)  # what waits already is read without a pause for anybody else
            if self._left <= 0:  # no line is looked at any more, but for the last
                rest, cut = (rest + piece)[-LINE_BYTES_MAX:], False
                continue
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if not cut:
                    self._say(line)
                cut = False
            if len(rest) > LINE_BYTES_MAX:
                if not cut:
                    self._say(rest)
                rest, cut = b"", True
        if self._left <= 0:
            self._remember(rest)
        elif rest and not cut:
            self._say(rest)

    def _remember(self, rest: bytes) -> None:
        lines = (printable(line).strip() for line in rest.decode("utf-8", "replace").split("\n"))
        self.last = next((line for line in reversed([*lines]) if line), self.last)

    def _say(self, raw: bytes) -> None:
        text = printable(raw[:LINE_BYTES_MAX].decode("utf-8", "replace"))
        if len(raw) > LINE_BYTES_MAX:
            text += f" [line cut at {LINE_BYTES_MAX} bytes]"
        if text.strip():
            self.last = text
        if self._left <= 0:
            return
        self._left -= min(len(raw), LINE_BYTES_MAX) + 1
        self._on_log(text)
        if self._left <= 0:
            self._on_log(
                f"[log cut at {self._bytes_max} bytes: what the step prints from here on is not kept]"
            )
