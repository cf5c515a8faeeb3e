"""Pickle's opcodes, all protocols (0 to 5): how long each one's argument is and what it does to the stack.

After CPython's Lib/pickle.py, which is the definition, and the same in Modules/_pickle.c. Arguments that
may be large are skipped, not read.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from tallystick.evidence.files.source import Cursor

__all__ = ["ARGUMENTS", "BYTES", "TEXT", "TEXT_KEPT"]

TEXT_KEPT = 128
"""Longer texts can be neither a global's name nor a key that matters, and are not kept."""

LINE_MAX = 16 * 1024 * 1024


class _Unread:
    """The value of an argument that was not read, or that cannot matter."""

    __slots__ = ()


BYTES, TEXT = _Unread(), _Unread()
"""Of numbers and bytes, and of texts: which one it was matters where a name is looked up."""


def _line(read: Cursor) -> str:
    return read.line().decode("utf-8")


def _long_text(read: Cursor) -> str:
    return read.line(LINE_MAX)[:TEXT_KEPT].decode("ascii")


def _number_line(read: Cursor) -> Any:
    text = read.line(LINE_MAX).strip()
    if text in (b"00", b"01"):
        return text == b"01"
    return int(text, 0) if len(text) < 40 else BYTES


def _long_line(read: Cursor) -> Any:
    text = read.line(LINE_MAX).strip().rstrip(b"L")
    return int(text) if len(text) < 40 else BYTES


def _float_line(read: Cursor) -> Any:
    float(read.line(LINE_MAX))
    return BYTES


def _quoted_line(read: Cursor) -> Any:
    """STRING: a text in quotes; how one with escapes reads depends on the reader, so it is not kept."""
    text = read.line(LINE_MAX).strip()
    if len(text) < 2 or text[0] != text[-1] or text[0] not in b"'\"":
        raise ValueError("a text without quotes")
    inner = text[1:-1]
    if len(inner) > TEXT_KEPT or b"\\" in inner or not inner.isascii():
        return TEXT
    return inner.decode("ascii")


def _unicode_line(read: Cursor) -> Any:
    text = read.line(LINE_MAX)
    return text.decode("raw_unicode_escape") if len(text) <= 4 * TEXT_KEPT else TEXT


def _sized(form: str, decode: Callable[[bytes], Any] | None) -> Callable[[Cursor], Any]:
    width = struct.calcsize(form)

    def argument(read: Cursor) -> Any:
        (count,) = struct.unpack(form, read.take(width))
        if decode is None or count > TEXT_KEPT:
            read.skip(count)
            return BYTES if decode is None else TEXT
        return decode(read.take(count))

    return argument


def _integer(form: str) -> Callable[[Cursor], int]:
    width = struct.calcsize(form)

    def argument(read: Cursor) -> int:
        return int(struct.unpack(form, read.take(width))[0])

    return argument


def _long(form: str) -> Callable[[Cursor], Any]:
    width = struct.calcsize(form)

    def argument(read: Cursor) -> Any:
        (count,) = struct.unpack(form, read.take(width))
        if count > 32:
            read.skip(count)
            return BYTES
        return int.from_bytes(read.take(count), "little", signed=True)

    return argument


def _utf8(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _latin(data: bytes) -> str:
    return data.decode("latin-1")


def _none(read: Cursor) -> None:
    return None


def _two_lines(read: Cursor) -> tuple[str, str]:
    return _line(read), _line(read)


def _eight(read: Cursor) -> Any:
    read.skip(8)
    return BYTES


_LONG = {
    b"I": _number_line, b"L": _long_line, b"F": _float_line, b"S": _quoted_line, b"V": _unicode_line,
    b"J": _integer("<i"), b"K": _integer("<B"), b"M": _integer("<H"), b"G": _eight,
    b"\x8a": _long("<B"), b"\x8b": _long("<i"),
    b"T": _sized("<i", _latin), b"U": _sized("<B", _latin),
    b"X": _sized("<I", _utf8), b"\x8c": _sized("<B", _utf8), b"\x8d": _sized("<Q", _utf8),
    b"B": _sized("<I", None), b"C": _sized("<B", None), b"\x8e": _sized("<Q", None),
    b"\x96": _sized("<Q", None),
    b"c": _two_lines, b"i": _two_lines, b"P": _long_text,
    b"g": _number_line, b"p": _number_line, b"h": _integer("<B"), b"j": _integer("<I"),
    b"q": _integer("<B"), b"r": _integer("<I"),
    b"\x82": _integer("<B"), b"\x83": _integer("<H"), b"\x84": _integer("<i"),
    b"\x80": _integer("<B"), b"\x95": _integer("<Q"),
}  # fmt: skip
_SHORT = (b"(0.12NQRabdl]ostue)}", b"\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94\x97\x98")

ARGUMENTS: dict[int, Callable[[Cursor], Any]] = {op[0]: argument for op, argument in _LONG.items()}
ARGUMENTS |= {op: _none for ops in _SHORT for op in ops}
"""What reads an opcode's argument, by the opcode: the value where it is small enough to matter."""
