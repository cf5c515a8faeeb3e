"""Compressed streams and tar archives: what they unpack to, in order and with bounds."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tallystick.evidence.files.found import No
from tallystick.evidence.files.source import CHUNK, Source, Window

__all__ = ["COMPRESSED", "UNREAD", "Packing", "is_tar", "tar_members"]

BLOCK = 512
LZMA_MEMORY_MAX = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Packing:
    """A way of compression: how it begins, and a machine that unpacks it (``decompress(data, limit)``)."""

    kind: str
    magics: tuple[bytes, ...]
    machine: Callable[[], Any]

    def parts(self, source: Source) -> Iterator[bytes]:
        """What ``source`` unpacks to; No where it is cut off, or something is behind it."""
        machine = self.machine()
        try:
            for chunk in source.chunks():
                if machine.eof:
                    raise No(self.kind, "it has something behind its end")
                yield from self._fed(machine, chunk)
            if not machine.eof:
                raise No(self.kind, "it is cut off")
            if machine.unused_data:
                raise No(self.kind, "it has something behind its end")
        except (OSError, lzma.LZMAError, zlib.error, EOFError, ValueError) as wrong:
            raise No(self.kind, f"it cannot be unpacked: {str(wrong)[:100]}") from None

    def _fed(self, machine: Any, chunk: bytes) -> Iterator[bytes]:
        part = machine.decompress(chunk, CHUNK)
        while part:
            yield part
            # zlib hands back what it did not read; bz2 and lzma keep it
            rest = getattr(machine, "unconsumed_tail", b"")
            part = b"" if machine.eof else machine.decompress(rest, CHUNK)


COMPRESSED = (
    Packing("gzip", (b"\x1f\x8b",), lambda: zlib.decompressobj(31)),
    Packing("zlib", (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"), lambda: zlib.decompressobj(15)),
    Packing("bzip2", tuple(b"BZh%d1AY&SY" % level for level in range(1, 10)), bz2.BZ2Decompressor),
    Packing("xz", (b"\xfd7zXZ\0",), lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, LZMA_MEMORY_MAX)),
    Packing("lzma", (b"\x5d\0\0",), lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, LZMA_MEMORY_MAX)),
)
"""joblib's compressors among them, but for LZ4."""

UNREAD = (
    (b"7z\xbc\xaf\x27\x1c", "7z"), (b"Rar!", "rar"), (b"MSCF", "cab"), (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x28\xb5\x2f\xfd", "zstd"), (b"\x1f\x9d", "compress"), (b"!<arch>\n", "ar"), (b"070701", "cpio"),
    (b"ZF0x", "joblib before 0.10"),
)  # fmt: skip
"""What packs files in ways that are not looked into, and so is refused."""


def is_tar(source: Source) -> bool:
    """Whether it begins with a tar header whose checksum is right."""
    head = source.read_at(0, BLOCK)
    return len(head) == BLOCK and any(head[:100]) and _sum_is_right(head)


def _sum_is_right(head: bytes) -> bool:
    try:
        said = int(head[148:156].strip(b" \0") or b"x", 8)
    except ValueError:
        return False
    return said == sum(head[:148]) + 8 * 32 + sum(head[156:])


def tar_members(source: Source) -> Iterator[tuple[str, Source]]:
    """Names and contents of the plain files in a tar archive; No for anything but files and folders."""
    at, seen, zeros = 0, set[str](), 0
    while at < source.size:
        head = source.read_at(at, BLOCK)
        at += BLOCK
        if not any(head):
            zeros += 1
            continue
        if zeros or len(head) < BLOCK or not _sum_is_right(head):
            raise No("tar", "it is damaged, or has something behind its end")
        size, name = _tar_size(head), _tar_name(head)
        kind = head[156:157]
        if kind == b"x" and size <= 1024 * 1024:  # what Python adds for a time with a fraction
            if any(key in source.read_at(at, size) for key in (b" path=", b" linkpath=", b" size=", b"GNU.")):
                raise No("tar", "it has names or sizes that only some readers see")
        elif kind not in (b"0", b"\0", b"5"):
            raise No("tar", f"{name[:200]!r} is a link, a device or something else that is no file")
        elif name in seen:
            raise No("tar", f"two members are called {name[:200]!r}")
        else:
            seen.add(name)
            if kind != b"5":
                yield name, Window(source, at, size)
        at += -(-size // BLOCK) * BLOCK
    if zeros < 2 or at != source.size:
        raise No("tar", "it is cut off")


def _tar_size(head: bytes) -> int:
    try:
        return int(head[124:136].strip(b" \0") or b"0", 8)
    except ValueError:
        raise No("tar", "a member has a size that is no octal number") from None


def _tar_name(head: bytes) -> str:
    prefix = head[345:500].rstrip(b"\0") if head[257:263] == b"ustar\0" else b""
    raw = (prefix + b"/" if prefix else b"") + head[:100].rstrip(b"\0")
    name = raw.decode("utf-8", "backslashreplace").removeprefix("./")
    parts = name.removesuffix("/").split("/")
    if name in ("", "."):
        return "."
    if any(part in ("", ".", "..") for part in parts) or "\\" in name or not name.isprintable():
        raise No("tar", f"the name {name[:200]!r} leads out of the archive, or is none")
    return name
