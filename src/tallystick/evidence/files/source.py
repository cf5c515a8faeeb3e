"""Where bytes come from: parts of other bytes, and what a packed part unpacks to, with bounded memory."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator

from tallystick.evidence.files.found import No

__all__ = ["CHUNK", "Cursor", "Memory", "Source", "Stream", "Window", "digest_of", "unpacked"]

CHUNK = 1024 * 1024
KEPT_BYTES_MAX = 8 * 1024 * 1024
"""What unpacks to no more is kept in memory; anything larger is unpacked again where it is read again."""

RESTARTS_MAX = 64
FREE_BYTES = 64 * 1024 * 1024
RATIO_MAX = 200
"""Beyond :data:`FREE_BYTES`, how many times its packed size a thing may have unpacked."""


class Source:
    """Bytes that can be read anywhere; ``size`` is how many there are."""

    size: int = 0

    def read_at(self, offset: int, count: int) -> bytes:
        """Up to ``count`` bytes from ``offset``; fewer only at the end."""
        raise NotImplementedError

    def chunks(self) -> Iterator[bytes]:
        """All of it in order."""
        for offset in range(0, self.size, CHUNK):
            yield self.read_at(offset, CHUNK)


class Window(Source):
    """A part of another source."""

    def __init__(self, base: Source, start: int, size: int) -> None:
        self._base, self._start, self.size = base, start, size

    def read_at(self, offset: int, count: int) -> bytes:
        """See :class:`Source`."""
        return self._base.read_at(self._start + offset, max(0, min(count, self.size - offset)))


class Memory(Source):
    """Bytes at hand."""

    def __init__(self, data: bytes) -> None:
        self._data, self.size = data, len(data)

    def read_at(self, offset: int, count: int) -> bytes:
        """See :class:`Source`."""
        return self._data[offset : offset + count]


class Stream(Source):
    """What can only be had in order: reading backwards begins again, and not without end."""

    def __init__(self, begin: Callable[[], Iterator[bytes]], size: int) -> None:
        self._begin, self.size = begin, size
        self._restarts = -1
        self._restart()

    def _restart(self) -> None:
        self._restarts += 1
        if self._restarts > RESTARTS_MAX:
            raise No("packed", "it cannot be read without unpacking it over and over: store it uncompressed")
        self._parts = self._begin()
        self._held, self._at = b"", 0

    def read_at(self, offset: int, count: int) -> bytes:
        """See :class:`Source`."""
        if offset < self._at:
            self._restart()
        count = max(0, min(count, self.size - offset))
        while self._at + len(self._held) < offset + count:
            part = next(self._parts, b"")
            if not part:
                break
            drop = max(0, min(len(self._held), offset - self._at - CHUNK))  # a little is kept, to look back
            self._at += drop
            self._held = self._held[drop:] + part
        return self._held[offset - self._at : offset - self._at + count]

    def chunks(self) -> Iterator[bytes]:
        """All of it in order."""
        return self._begin()


class Cursor:
    """Reading forward through a source, by small pieces."""

    def __init__(self, source: Source, at: int = 0, end: int | None = None) -> None:
        self.source = source
        self.end = source.size if end is None else min(end, source.size)
        self._held, self._base, self._pos = b"", at, 0

    @property
    def at(self) -> int:
        """The offset of the next byte."""
        return self._base + self._pos

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return self.end - self.at

    def _fill(self, count: int) -> None:
        self._base, self._pos = self.at, 0
        self._held = self.source.read_at(self._base, min(max(count, 64 * 1024), self.end - self._base))

    def take(self, count: int) -> bytes:
        """Exactly ``count`` bytes; EOFError where there are fewer, MemoryError never (bound it before)."""
        if self._pos + count > len(self._held):
            if count < 0 or count > self.left:
                raise EOFError
            self._fill(count)
            if len(self._held) < count:
                raise EOFError
        self._pos += count
        return self._held[self._pos - count : self._pos]

    def byte(self) -> int:
        """The next byte; EOFError at the end."""
        if self._pos >= len(self._held):
            return self.take(1)[0]
        self._pos += 1
        return self._held[self._pos - 1]

    def skip(self, count: int) -> None:
        """Go on by ``count`` bytes without reading them; EOFError where there are fewer."""
        if count < 0 or count > self.left:
            raise EOFError
        if self._pos + count <= len(self._held):
            self._pos += count
        else:
            self._base, self._pos, self._held = self.at + count, 0, b""

    def line(self, limit: int = 4096) -> bytes:
        """Up to and without the next newline; ValueError where it is over ``limit`` bytes long."""
        end = self._held.find(b"\n", self._pos)
        if end < 0:
            self._fill(limit + 1)
            end = self._held.find(b"\n")
            if end < 0:
                if self.left <= limit:
                    raise EOFError
                raise ValueError("a line without end")
        if end - self._pos > limit:
            raise ValueError("a line without end")
        found = self._held[self._pos : end]
        self._pos = end + 1
        return found


def digest_of(source: Source) -> str:
    """``sha256:...`` of all of it."""
    digest = hashlib.sha256()
    for chunk in source.chunks():
        digest.update(chunk)
    return "sha256:" + digest.hexdigest()


def unpacked(
    begin: Callable[[], Iterator[bytes]], packed: int, allowance: Callable[[int], None]
) -> tuple[Source, str, int]:
    """What a packed thing unpacks to, with its digest and CRC-32; No where it is a bomb.

    ``begin`` starts to unpack it, ``packed`` is its size as it lies there, and ``allowance`` is told of each
    piece and raises No where all of a model together becomes too much.
    """
    digest, crc, size = hashlib.sha256(), 0, 0
    kept: list[bytes] | None = []
    for part in begin():
        size += len(part)
        allowance(len(part))
        if size > FREE_BYTES and size > RATIO_MAX * max(1, packed):
            raise No("bomb", f"it unpacks to over {RATIO_MAX} times its size")
        digest.update(part)
        crc = zlib.crc32(part, crc)
        if kept is not None:
            kept.append(part)
            kept = kept if size <= KEPT_BYTES_MAX else None
    source: Source = Stream(begin, size) if kept is None else Memory(b"".join(kept))
    return source, "sha256:" + digest.hexdigest(), crc
