"""ZIP archives, read strictly: what two readers could see differently is refused.

After the format's own description (PKWARE APPNOTE 6.3.10). The whole file is accounted for: local headers
in the order of their places without a gap, then the central directory, then its end, and nothing behind.
"""

from __future__ import annotations

import struct
import unicodedata
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from tallystick.evidence.files.found import No
from tallystick.evidence.files.source import CHUNK, Source, Window

__all__ = ["DIRECTORY_END", "Member", "has_appended_zip", "inflated", "members"]

DIRECTORY_END = b"PK\x05\x06"
MEMBERS_MAX = 100_000
NAME_BYTES_MAX = 1000
STORED, DEFLATED = 0, 8
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
FULL32 = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive: where its packed bytes lie in ``raw``, and what they should unpack to."""

    name: str
    raw: Source
    packed: bool
    size: int
    crc: int


def _no(why: str) -> No:
    return No("zip", why)


def members(source: Source) -> list[Member]:
    """The files of an archive in the order in which they lie there; No where anything is odd."""
    start, size, count = _directory(source)
    if count > MEMBERS_MAX or size > count * (46 + 3 * 65535) or size > 64 * 1024 * 1024:
        raise _no(f"it has over {MEMBERS_MAX} members")
    entries = _entries(source.read_at(start, size), count)
    entries.sort(key=lambda entry: entry.offset)
    found, at = [], 0
    for entry in entries:
        if entry.offset != at:
            raise _no(
                f"{abs(entry.offset - at)} bytes before {entry.name[:200]!r} belong to no member, or to two"
            )
        member, at = _member(source, entry, start)
        if member is not None:
            found.append(member)
    if at != start:
        raise _no(f"{start - at} bytes before its directory belong to no member")
    _check_names([entry.name for entry in entries])
    return found


def _directory(source: Source) -> tuple[int, int, int]:
    """Offset, size and entries of the central directory, which ends where the end record begins."""
    at = source.size - _END.size
    record = source.read_at(at, _END.size)
    if at < 0 or record[:4] != DIRECTORY_END:
        raise _no(
            "it does not end with the end of its directory: there is something behind it, or it is cut off"
        )
    _, disk, first, here, count, size, start, comment = _END.unpack(record)
    before = at
    if source.read_at(max(0, at - _LOCATOR.size), 4) == b"PK\x06\x07":
        at -= _LOCATOR.size
        _, disk64, place, disks = _LOCATOR.unpack(source.read_at(at, _LOCATOR.size))
        before = at - _END64.size
        if place != before or disk64 or disks > 1:
            raise _no("the two ends of its directory disagree")
        said = _END64.unpack(source.read_at(before, _END64.size))
        if (
            said[0] != b"PK\x06\x06"
            or said[1] != _END64.size - 12
            or said[4]
            or said[5]
            or said[6] != said[7]
        ):
            raise _no("the two ends of its directory disagree")
        for small, full, large in (
            (here, 0xFFFF, said[6]),
            (count, 0xFFFF, said[7]),
            (size, FULL32, said[8]),
        ):
            if small not in (full, large):
                raise _no("the two ends of its directory disagree")
        if start not in (FULL32, said[9]):
            raise _no("the two ends of its directory disagree")
        count, size, start, here = said[7], said[8], said[9], said[7]
    if disk or first or here != count or comment or start + size != before:
        raise _no("its directory is not where it says, is in parts, or has a comment")
    return start, size, count


@dataclass(slots=True)
class _Entry:
    name: str
    raw_name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int


def _entries(directory: bytes, count: int) -> list[_Entry]:
    at, found = 0, []
    for _ in range(count):
        head = directory[at : at + _CENTRAL.size]
        if len(head) < _CENTRAL.size or head[:4] != b"PK\x01\x02":
            raise _no("its directory is damaged")
        said = _CENTRAL.unpack(head)
        flags, method, crc, packed, size = said[3], said[4], said[7], said[8], said[9]
        names, extras, comments = said[10:13]
        disk, outside, offset = said[13], said[15], said[16]
        at += _CENTRAL.size
        raw_name, extra = directory[at : at + names], directory[at + names : at + names + extras]
        at += names + extras + comments
        if at > len(directory) or disk or comments:
            raise _no("its directory is damaged, in parts, or has comments")
        size, packed, offset = _wide(extra, size, packed, offset)
        _check_attributes(raw_name, outside >> 16, said[1] >> 8)
        found.append(_Entry(_name(raw_name, flags), raw_name, flags, method, crc, packed, size, offset))
    if at != len(directory):
        raise _no("its directory has something behind its last entry")
    return found


def _wide(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """Sizes and offset of a member, from the ZIP64 field where they do not fit their own."""
    values = [size, packed, offset]
    for kind, data in _extras(extra):
        if kind == 0x7075:
            raise _no("a member has a second name")
        if kind == 1:
            wanted = [i for i, value in enumerate(values) if value == FULL32]
            if len(data) < 8 * len(wanted):
                raise _no("a member's sizes are damaged")
            for place, i in enumerate(wanted):
                values[i] = struct.unpack_from("<Q", data, 8 * place)[0]
    return values[0], values[1], values[2]


def _extras(extra: bytes) -> Iterator[tuple[int, bytes]]:
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        if len(extra) < 4 + size:
            raise _no("a member's header is damaged")
        yield kind, extra[4 : 4 + size]
        extra = extra[4 + size :]
    if extra:
        raise _no("a member's header is damaged")


def _check_attributes(name: bytes, mode: int, system: int) -> None:
    kind = mode & 0o170000
    if kind not in (0, 0o100000, 0o040000):
        raise _no(f"{name[:200].decode('latin-1')!r} is a link or a device")


def _name(raw: bytes, flags: int) -> str:
    try:
        return raw.decode("utf-8" if flags & 0x800 else "ascii")
    except UnicodeDecodeError:
        raise _no("a member's name is not what it says it is encoded as") from None


def _check_names(names: list[str]) -> None:
    """Every name is a plain path below the archive, and no two would fall on one file."""
    seen: set[str] = set()
    for name in names:
        parts = name.removesuffix("/").split("/")
        odd = "\\" in name or any(not c.isprintable() for c in name) or len(name) > NAME_BYTES_MAX
        if odd or any(part in ("", ".", "..") for part in parts) or (len(name) > 1 and name[1] == ":"):
            raise _no(f"the name {name[:200]!r} leads out of the archive, or is none")
        plain = unicodedata.normalize("NFKC", name).casefold().removesuffix("/")
        if plain in seen:
            raise _no(f"two members are called {name[:200]!r}")
        seen.add(plain)


def _member(source: Source, entry: _Entry, directory: int) -> tuple[Member | None, int]:
    """One member, checked against its local header, and where the next one begins."""
    shown = entry.name[:200]
    head = source.read_at(entry.offset, _LOCAL.size)
    if len(head) < _LOCAL.size or head[:4] != b"PK\x03\x04":
        raise _no(f"{shown!r} is not where the directory says")
    _, _, flags, method, _, _, crc, packed, size, names, extras = _LOCAL.unpack(head)
    rest = source.read_at(entry.offset + _LOCAL.size, names + extras)
    if len(rest) < names + extras:
        raise _no("its directory is damaged")
    if flags & 0x2041 or entry.flags & 0x2041:
        raise _no(f"{shown!r} is encrypted")
    if rest[:names] != entry.raw_name or (flags, method) != (entry.flags, entry.method):
        raise _no(f"{shown!r} has another name, method or flag in the directory than where it lies")
    later = bool(flags & 8)
    size, packed, _ = _wide(_local_extra(rest[names:]), size, packed, 0)
    if (crc, packed, size) != (entry.crc, entry.packed, entry.size) and not (
        later and not (crc or packed or size)
    ):
        raise _no(f"{shown!r} has another size or checksum in the directory than where it lies")
    if method not in (STORED, DEFLATED):
        raise _no(f"{shown!r} is packed by method {method}, which is not looked into")
    if method == STORED and entry.packed != entry.size:
        raise _no(f"{shown!r} is stored, but in another size")
    start = entry.offset + _LOCAL.size + names + extras
    end = start + entry.packed
    end += _trailer(source, entry, end) if later else 0
    if end > directory:
        raise _no(f"{shown!r} reaches into the directory")
    if entry.name.endswith("/"):
        if entry.size:
            raise _no(f"{shown!r} is a folder with content")
        return None, end
    raw = Window(source, start, entry.packed)
    return Member(entry.name, raw, method == DEFLATED, entry.size, entry.crc), end


def _local_extra(extra: bytes) -> bytes:
    """Without what torch fills up with so that tensors lie at multiples of 64: bytes of kind ``FB``."""
    return b"".join(struct.pack("<HH", k, len(d)) + d for k, d in _extras(extra) if k != 0x4246)


def _trailer(source: Source, entry: _Entry, at: int) -> int:
    """The size of the descriptor after a member whose sizes were not known before; it must say the same."""
    data = source.read_at(at, 24)
    for form in ("<4sIQQ", "<4sIII", "<IQQ", "<III"):
        width = struct.calcsize(form)
        if len(data) < width:
            continue
        said = struct.unpack_from(form, data)
        if form[1] == "4" and said[0] != b"PK\x07\x08":
            continue
        if said[-3:] == (entry.crc, entry.packed, entry.size):
            return width
    raise _no(f"{entry.name[:200]!r} has another size or checksum behind it than in the directory")


def inflated(member: Member) -> Iterator[bytes]:
    """What a deflated member unpacks to; No where its bytes are not one whole stream."""
    machine, size = zlib.decompressobj(-15), 0
    for chunk in member.raw.chunks():
        left = chunk
        while left and not machine.eof:
            try:
                part = machine.decompress(left, CHUNK)
            except zlib.error as wrong:
                raise _no(f"{member.name[:200]!r} cannot be unpacked: {wrong}") from None
            left = machine.unconsumed_tail
            size += len(part)
            if size > member.size:
                raise _no(f"{member.name[:200]!r} unpacks to more than it says")
            if part:
                yield part
        if left or (machine.eof and machine.unused_data):
            raise _no(f"{member.name[:200]!r} has something behind its packed bytes")
    while part := machine.decompress(machine.unconsumed_tail, CHUNK) if not machine.eof else b"":
        size += len(part)
        yield part
    if not machine.eof or size != member.size:
        raise _no(f"{member.name[:200]!r} does not unpack to the size that it says")


def has_appended_zip(source: Source) -> bool:
    """Whether a ZIP reader, which looks from the end, would find an archive in something else."""
    tail_at = max(0, source.size - _END.size - 65535)
    tail = source.read_at(tail_at, source.size - tail_at)
    at = tail.rfind(DIRECTORY_END)
    while at >= 0:
        if len(tail) - at >= _END.size:
            _, disk, first, here, count, size, start, comment = _END.unpack_from(tail, at)
            whole = tail_at + at
            plausible = here == count and (size + min(start, whole) <= whole or size == FULL32)
            if not disk and not first and plausible and comment <= len(tail) - at - _END.size:
                return True
        at = tail.rfind(DIRECTORY_END, 0, at)
    return False
