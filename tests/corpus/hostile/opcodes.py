"""Pickles written opcode by opcode, to do what no pickler would."""

from __future__ import annotations

import struct

from tests.corpus.hostile.case import MARK

__all__ = ["COMMAND", "SOURCE", "by_stack", "call", "name", "stream", "text"]

COMMAND = f"touch {MARK}"
SOURCE = f"open({MARK!r}, 'w').close()"


def text(said: str) -> bytes:
    """BINUNICODE."""
    raw = said.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def name(module: str, what: str) -> bytes:
    """GLOBAL."""
    return f"c{module}\n{what}\n".encode()


def by_stack(module: str, what: str) -> bytes:
    """STACK_GLOBAL."""
    return text(module) + text(what) + b"\x93"


def call(function: bytes, *args: bytes) -> bytes:
    """REDUCE."""
    return function + b"(" + b"".join(args) + b"tR"


def stream(*parts: bytes, proto: int = 2) -> bytes:
    """PROTO ... STOP."""
    return b"\x80" + bytes([proto]) + b"".join(parts) + b"."
