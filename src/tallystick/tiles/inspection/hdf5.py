"""HDF5 files as Keras and h5py write them: walked from the root, group by group, attribute by attribute.

After the HDF5 File Format Specification, with version 0 of its superblock, as h5py writes unless told not to.
What can lead out of the file (external links, external storage), load a plug-in (unknown filters) or hide an
attribute (dense storage) is refused, as is all that this reader does not know.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator

from tallystick.evidence.files.found import Found, No
from tallystick.evidence.files.source import Source
from tallystick.tiles.inspection.jsons import judged_json

__all__ = ["hdf5"]

OBJECTS_MAX = 100_000
TEXT_BYTES_MAX = 64 * 1024 * 1024
DATASPACE, TYPE, FILTERS, ATTRIBUTE, MORE, TABLE = 0x01, 0x03, 0x0B, 0x0C, 0x10, 0x11
KNOWN = frozenset(
    {0x00, DATASPACE, TYPE, 0x04, 0x05, 0x08, FILTERS, ATTRIBUTE, 0x0D, 0x0E, MORE, TABLE, 0x12, 0x13}
)
WORDS = {0x02: "links kept in a heap", 0x06: "links that may lead outside",
         0x07: "numbers kept in another file", 0x15: "attributes kept in a heap"}  # fmt: skip
FILTER_MAX = 6
STRING, VARIABLE = 3, 9


def hdf5(source: Source) -> Found:
    """No where it leads out of itself, or a model's config in it has code."""
    return _Walk(source).run()


def _no(why: str) -> No:
    return No("hdf5", why)


def _padded(size: int, unit: int) -> int:
    return -(-size // unit) * unit


class _Walk:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._seen: set[int] = set()
        self._keras = False

    def run(self) -> Found:
        head = self._bytes(0, 96)
        if head[8] != 0 or head[13] != 8 or head[14] != 8:
            raise _no("it is HDF5 of a version that is not looked into: save it with h5py's default libver")
        base, _, end, _ = struct.unpack_from("<4Q", head, 24)
        (root,) = struct.unpack_from("<Q", head, 64)
        if base != 0 or end != self._source.size:
            raise _no("it is not as long as it says")
        waiting = [root]
        while waiting:
            at = waiting.pop()
            if at in self._seen or len(self._seen) > OBJECTS_MAX:
                continue
            self._seen.add(at)
            waiting += self._object(at)
        return Found("keras" if self._keras else "hdf5")

    def _bytes(self, at: int, count: int) -> bytes:
        found = self._source.read_at(at, count) if at + count <= self._source.size else b""
        if len(found) < count:
            raise _no("it is cut off")
        return found

    def _object(self, at: int) -> Iterator[int]:
        """The objects in a group; nothing of a dataset."""
        for kind, data in self._messages(at):
            if kind == TABLE:
                (tree,) = struct.unpack_from("<Q", data)
                yield from self._group(tree, 0)
            elif kind == ATTRIBUTE:
                self._attribute(data)
            elif kind == FILTERS:
                self._filters(data)

    def _messages(self, at: int) -> Iterator[tuple[int, bytes]]:
        version, _, count, _, size = struct.unpack("<BBHII", self._bytes(at, 12))
        if version != 1:
            raise _no("it has an object of a version that is not looked into")
        blocks, left = [(at + 16, size)], count
        while blocks and left > 0:
            start, size = blocks.pop(0)
            end = start + size
            while start + 8 <= end and left > 0:
                kind, length, flags = struct.unpack_from("<HHB", self._bytes(start, 8))
                data = self._bytes(start + 8, length)
                start, left = start + 8 + length, left - 1
                if kind not in KNOWN:
                    raise _no(
                        f"it has {WORDS.get(kind, f'a part of kind {kind:#x}')}, which is not looked into"
                    )
                if kind == MORE:
                    blocks.append(struct.unpack_from("<QQ", data))
                elif flags & 2 and kind in (ATTRIBUTE, FILTERS):
                    raise _no("it has a message that lies elsewhere")
                else:
                    yield kind, data

    def _group(self, at: int, deep: int) -> Iterator[int]:
        """Addresses of what is in a group, from its B-tree."""
        head = self._bytes(at, 24)
        if deep > 20 or head[:4] != b"TREE" or head[4] != 0:
            raise _no("a group of it is damaged")
        level, used = head[5], struct.unpack_from("<H", head, 6)[0]
        for i in range(used):
            (child,) = struct.unpack("<Q", self._bytes(at + 24 + 8 + 16 * i, 8))
            if child in self._seen:
                raise _no("a group of it is damaged")
            self._seen.add(child)
            yield from self._group(child, deep + 1) if level else self._symbols(child)

    def _symbols(self, at: int) -> Iterator[int]:
        head = self._bytes(at, 8)
        if head[:4] != b"SNOD":
            raise _no("a group of it is damaged")
        for i in range(struct.unpack_from("<H", head, 6)[0]):
            _, address, cache = struct.unpack("<QQI", self._bytes(at + 8 + 40 * i, 20))
            if cache == 2:
                raise _no("it has a symbolic link")
            yield address

    def _filters(self, data: bytes) -> None:
        version, count = data[0], data[1]
        at = 8 if version == 1 else 2
        for _ in range(count):
            number, length = struct.unpack_from("<HH", data, at)
            named = version == 1 or number >= 256
            if number > FILTER_MAX:
                raise _no(f"it needs filter {number}, which only a plug-in brings")
            if not named:
                length = 0
            values = struct.unpack_from("<H", data, at + (6 if named else 4))[0]
            at += (8 if named else 6) + length + 4 * values
            at += 4 if version == 1 and values % 2 else 0

    def _attribute(self, data: bytes) -> None:
        """Look into an attribute that is a text, however it is kept."""
        version = data[0]
        name, kind, space = struct.unpack_from("<HHH", data, 2)
        if version not in (1, 3) or (data[1] and version == 3):
            raise _no("it has an attribute of a version that is not looked into")
        at = 8 if version == 1 else 9
        unit = 8 if version == 1 else 1  # version 1 fills each part up to a multiple of 8
        at += _padded(name, unit)
        described = data[at : at + kind]
        value = data[at + _padded(kind, unit) + _padded(space, unit) :]
        if described[0] & 15 == STRING:
            self._text(value)
        elif described[0] & 15 == VARIABLE:
            for place in range(0, len(value) - 15, 16):
                size, heap, index = struct.unpack_from("<IQI", value, place)
                self._text(self._heaped(heap, index, size) if size else b"")

    def _heaped(self, at: int, index: int, size: int) -> bytes:
        """An object of a global heap."""
        head = self._bytes(at, 16)
        (length,) = struct.unpack_from("<Q", head, 8)
        if head[:4] != b"GCOL" or at + length > self._source.size:
            raise _no("a heap of it is damaged")
        end, at = at + length, at + 16
        while at + 16 <= end:
            number, _, _, held = struct.unpack("<HHIQ", self._bytes(at, 16))
            if number == index:
                if size > held or held > TEXT_BYTES_MAX:
                    raise _no("a text of it is longer than it says")
                return self._bytes(at + 16, size)
            if number == 0:
                break
            at += 16 + -(-held // 8) * 8
        raise _no("a heap of it is damaged")

    def _text(self, value: bytes) -> None:
        text = value.rstrip(b"\0 ").lstrip()
        if text[:1] not in (b"{", b"["):
            return
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            raise _no("it has a config that is no JSON") from None
        found = judged_json(said)
        self._keras = self._keras or found.kind == "keras-config"
