"""A folder as it arrives: a plain tar (POSIX ustar, IEEE 1003.1) of one entry ``it`` with what is below.

It is read by its blocks and not by ``tarfile``: an extended header would be taken into memory as long as it
says that it is, a sparse file would grow from nothing, a link would lead elsewhere. None of these is taken.
"""

from __future__ import annotations

import errno
import tarfile
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO

from tallystick.core.errors import BadInput, TooLarge, Unavailable

__all__ = ["FILES_MAX", "unpack_folder"]

FILES_MAX = 100_000
DEPTH_MAX = 50
_ROOT = "it"
_BLOCK = tarfile.BLOCKSIZE
_PIECE = 1 << 20
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE)


def unpack_folder(file: Path, dest: Path) -> None:
    """Write the folder in the tar ``file`` to ``dest``, which must not exist.

    BadInput for anything but folders and regular files with names in UTF-8, each said once, all below ``it``;
    TooLarge over ``FILES_MAX`` of them, with the folders that only their names tell. What is written is never
    more than ``file`` holds.
    """
    dest.mkdir(mode=0o700)
    left, seen = file.stat().st_size, 0
    with file.open("rb") as source:
        while (head := source.read(_BLOCK)).strip(b"\0"):
            entry = _entry(head)
            padded = -(-entry.size // _BLOCK) * _BLOCK
            left -= _BLOCK + padded
            path = dest.joinpath(*_parts(entry.name))
            seen += 1 + sum(1 for _ in takewhile(lambda above: not above.exists(), path.parents))
            if entry.size < 0 or left < 0:
                raise BadInput("it ends too early", where="tar")
            if seen > FILES_MAX:
                raise TooLarge(f"it has over {FILES_MAX} files and folders", where="tar")
            _write(entry, source, path)
            source.seek(padded - entry.size, 1)
    if not seen:
        raise BadInput("it is empty", where="tar")


def _entry(head: bytes) -> tarfile.TarInfo:
    try:
        entry = tarfile.TarInfo.frombuf(head, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError, ValueError) as wrong:
        raise BadInput(
            f"it is no tar: {wrong}", where="tar", hint="a plain one, in the format ustar"
        ) from None
    if entry.type not in (*_FILES, tarfile.DIRTYPE) or (entry.type == tarfile.DIRTYPE and entry.size):
        what = "it holds something else than folders and regular files"
        raise BadInput(what, where=entry.name[:200], hint="leave links and devices out")
    return entry


def _parts(name: str) -> list[str]:
    """The path below ``it``; BadInput for one that is not below it."""
    root, *parts = name.rstrip("/").split("/")
    strange = any(part in ("", ".", "..") or "\0" in part for part in parts)
    if root != _ROOT or strange or len(parts) > DEPTH_MAX:
        raise BadInput(f"{name[:200]!r} does not lie in its folder", where="tar")
    return parts


def _write(entry: tarfile.TarInfo, source: BinaryIO, path: Path) -> None:
    try:
        if entry.type == tarfile.DIRTYPE:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            return
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("xb") as out:
            left = entry.size
            while left and (piece := source.read(min(left, _PIECE))):
                out.write(piece)
                left -= len(piece)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise BadInput("it is said twice", where=entry.name[:200]) from None
    except OSError as wrong:
        if wrong.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Unavailable("the disk is full", where="upload", hint="make room on that disk") from wrong
        raise BadInput(f"it cannot be written: {wrong.strerror}", where=entry.name[:200]) from wrong
