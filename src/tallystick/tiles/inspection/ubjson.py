"""Universal Binary JSON (draft 12), as XGBoost keeps models in it."""

from __future__ import annotations

import struct

from tallystick.evidence.files.found import Found, No, Unlike
from tallystick.evidence.files.source import Cursor, Source

__all__ = ["ubjson"]

VALUES_MAX = 20_000_000
DEEP_MAX = 200
WIDTHS = {
    b"i": 1,
    b"U": 1,
    b"I": 2,
    b"l": 4,
    b"L": 8,
    b"d": 4,
    b"D": 8,
    b"C": 1,
    b"T": 0,
    b"F": 0,
    b"Z": 0,
    b"N": 0,
}
SIGNED = {b"i": ">b", b"U": ">B", b"I": ">h", b"l": ">i", b"L": ">q"}


def ubjson(source: Source) -> Found:
    """Unlike where it is none; No where it is not XGBoost's, or has something behind its end."""
    head = source.read_at(0, 2)
    if head[:1] != b"{" or head[1:2] not in SIGNED:
        raise Unlike
    read, keys = Cursor(source), list[str]()
    read.skip(1)
    try:
        _Values(keys).object(read, 0)
    except (EOFError, ValueError, struct.error):
        raise Unlike from None
    if read.left:
        raise No("ubjson", "it has something behind its end")
    if not {"learner", "version"} <= set(keys):
        raise No("ubjson", "it is no model of XGBoost's")
    return Found("xgboost")


class _Values:
    """Passing over values; ``keys`` takes those of the outermost object."""

    def __init__(self, keys: list[str]) -> None:
        self.keys = keys
        self.count = 0

    def object(self, read: Cursor, deep: int) -> None:
        """The rest of an object, after its brace."""
        kind, count = self._typed(read)
        while count is None or count > 0:
            marker = read.take(1)
            if count is None and marker == b"}":
                return
            size = self._integer(read, marker)
            if not 0 <= size <= 65536:
                raise ValueError("no key")
            key = read.take(size).decode("utf-8")
            if deep == 0:
                self.keys.append(key)
            self.value(read, kind or read.take(1), deep + 1)
            count = None if count is None else count - 1

    def _array(self, read: Cursor, deep: int) -> None:
        kind, count = self._typed(read)
        if kind in WIDTHS and count is not None:
            read.skip(WIDTHS[kind] * count)
            return
        while count is None or count > 0:
            marker = kind or read.take(1)
            if count is None and marker == b"]":
                return
            self.value(read, marker, deep + 1)
            count = None if count is None else count - 1

    def value(self, read: Cursor, marker: bytes, deep: int) -> None:
        """One value, after its marker."""
        self.count += 1
        if deep > DEEP_MAX or self.count > VALUES_MAX:
            raise ValueError("without end")
        if marker == b"{":
            self.object(read, deep)
        elif marker == b"[":
            self._array(read, deep)
        elif marker in (b"S", b"H"):
            read.skip(self._integer(read, read.take(1)))
        else:
            read.skip(WIDTHS.get(marker, -1))

    def _typed(self, read: Cursor) -> tuple[bytes, int | None]:
        """The type and count that a container may state in front."""
        kind, count = b"", None
        at = read.source.read_at(read.at, 1)
        if at == b"$":
            read.skip(1)
            kind = read.take(1)
            at = read.source.read_at(read.at, 1)
            if at != b"#":
                raise ValueError("a type without a count")
        if at == b"#":
            read.skip(1)
            count = self._integer(read, read.take(1))
            if count < 0:
                raise ValueError("no count")
        return kind, count

    def _integer(self, read: Cursor, marker: bytes) -> int:
        form = SIGNED.get(marker)
        if form is None:
            raise ValueError("no number")
        return int(struct.unpack(form, read.take(WIDTHS[marker]))[0])
