"""What a program printed, as text that does nothing: no colours, no cursor moves, no bells. Pure."""

from __future__ import annotations

import re

__all__ = ["plain"]

_ANSI = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-Z\\^-~])|\x9b[0-?]*[ -/]*[@-~]"
)
"""Escape sequences as terminals know them (ECMA-48): control sequences, strings, and single ones."""
_UNSEEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]")
"""Control characters, and what turns the direction of writing: a line with one reads as another."""


def plain(text: str) -> str:
    """``text`` with escape sequences left out and other unseen characters shown as a box.

    Of a line that was written over, as progress bars do, only what it last said.
    """
    lines = _ANSI.sub("", text).replace("\r\n", "\n").split("\n")
    text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)
    return _UNSEEN.sub("\ufffd", text)
