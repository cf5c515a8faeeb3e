"""The lines that a step prints, within limits: no amount can fill the hub's memory or block the step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["LINE_BYTES_MAX", "LOG_BYTES_MAX", "Lines"]

LINE_BYTES_MAX = 8 * 1024
LOG_BYTES_MAX = 4 * 1024 * 1024
READ_BYTES = 64 * 1024
_CONTROLS = {code: None for code in (*range(32), 127) if code != ord("\t")}


class Lines:
    """Hands lines to ``on_log``: each cut at ``LINE_BYTES_MAX`` bytes, all together at ``bytes_max``."""

    def __init__(self, on_log: Callable[[str], None], bytes_max: int = LOG_BYTES_MAX) -> None:
        self._on_log = on_log
        self._left = self._bytes_max = bytes_max
        self.last = ""
        """The last line that was not empty."""

    async def pump(self, stream: asyncio.StreamReader) -> None:
        """Read ``stream`` to its end."""
        rest, cut = b"", False
        while piece := await stream.read(READ_BYTES):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if not cut:
                    self._say(line)
                cut = False
            if len(rest) > LINE_BYTES_MAX:
                if not cut:
                    self._say(rest)
                rest, cut = b"", True
        if rest and not cut:
            self._say(rest)

    def _say(self, raw: bytes) -> None:
        text = raw[:LINE_BYTES_MAX].decode("utf-8", "replace").translate(_CONTROLS)
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
