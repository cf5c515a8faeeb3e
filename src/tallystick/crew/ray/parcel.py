"""A file or folder as a stream of bytes, and back: for what a step reads or made on another machine.

The stream is a line of JSON for each thing, ``{"kind", "path", ...}`` with the path as a list of names (empty
for the root), and for a file its bytes after that. Folders come before what is in them, and links last. Equal
content gives equal bytes, so that their digest is the content's.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tallystick.core.errors import BadInput, Damaged

__all__ = ["CHUNK_BYTES", "Unpacking", "digest_of_tree", "pack"]

CHUNK_BYTES = 4 * 1024 * 1024
HEAD_BYTES_MAX = 64 * 1024
_MODE = 0o700
"""Of a mode the owner's part is kept: whether it can be run."""


def pack(root: Path) -> Iterator[bytes]:
    """The stream of what is at ``root``, in pieces of at most ``CHUNK_BYTES``.

    BadInput for what is neither a file, a folder nor a link within it, or changes meanwhile.
    """
    held = bytearray()
    for piece in _pieces(root):
        held += piece
        while len(held) >= CHUNK_BYTES:
            yield bytes(held[:CHUNK_BYTES])
            del held[:CHUNK_BYTES]
    if held:
        yield bytes(held)


def _pieces(root: Path) -> Iterator[bytes]:
    links: list[tuple[tuple[str, ...], str]] = []
    waiting: list[tuple[Path, tuple[str, ...]]] = [(root, ())]
    while waiting:
        path, names = waiting.pop()
        found = path.stat() if not names else path.lstat()
        if stat.S_ISDIR(found.st_mode):
            yield _head("folder", names)
            waiting += [(one, (*names, one.name)) for one in sorted(path.iterdir(), reverse=True)]
        elif stat.S_ISREG(found.st_mode):
            yield from _file(path, names, found)
        elif stat.S_ISLNK(found.st_mode):
            links.append((names, str(path.readlink())))
        else:
            raise BadInput("it is neither a file nor a folder", where=str(path))
    for names, target in links:
        yield _head("link", names, target=target)
    yield _head("end", ())


def _head(kind: str, names: tuple[str, ...], **more: Any) -> bytes:
    return json.dumps({"kind": kind, "path": names, **more}, sort_keys=True).encode() + b"\n"


def _file(path: Path, names: tuple[str, ...], found: os.stat_result) -> Iterator[bytes]:
    yield _head("file", names, size=found.st_size, mode=found.st_mode & _MODE)
    left = found.st_size
    with path.open("rb") as file:
        while left:
            piece = file.read(min(CHUNK_BYTES, left))
            if not piece:
                raise BadInput("it became shorter while it was read", where=str(path))
            left -= len(piece)
            yield piece


def digest_of_tree(root: Path) -> str:
    """The digest of the stream of what is at ``root``; a gibibyte takes a second."""
    digest = hashlib.sha256()
    for piece in pack(root):
        digest.update(piece)
    return f"sha256:{digest.hexdigest()}"


class Unpacking:
    """Makes at ``root``, which must not be there, what a stream says; nothing lands anywhere else.

    Damaged for a stream that is not one of :func:`pack`'s.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._digest = hashlib.sha256()
        self._held = bytearray()
        self._file: IO[bytes] | None = None
        self._left = 0
        self._links: list[tuple[Path, str]] = []
        self._ended = False

    def feed(self, piece: bytes) -> None:
        """Take the next bytes."""
        self._digest.update(piece)
        self._held += piece
        while self._held and self._step():
            continue

    def _step(self) -> bool:
        """Do what can be done with the bytes that are there; whether anything could."""
        if self._file is not None:
            taken = self._held[: self._left]
            self._file.write(taken)
            self._left -= len(taken)
            del self._held[: len(taken)]
            self._finish_file()
            return True
        line, found, rest = self._held.partition(b"\n")
        if self._ended or len(line) > HEAD_BYTES_MAX:
            raise Damaged("what came from another machine is not as it was sent", where=str(self._root))
        if found:
            self._held = rest
            self._begin(line)
        return bool(found)

    def _begin(self, line: bytearray) -> None:
        try:
            head = json.loads(line)
            path = self._root.joinpath(*map(_name, head["path"]))
            kind = head["kind"]
            if kind == "folder":
                path.mkdir(mode=0o700)
            elif kind == "file":
                self._left = _size(head["size"])
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                self._file = os.fdopen(os.open(path, flags, 0o600 | int(head["mode"]) & _MODE), "wb")
                self._finish_file()
            elif kind == "link":
                if path != self._root and not path.parent.is_dir():  # it would lead through a link
                    raise ValueError("a link lies in no folder")
                self._links.append((path, str(head["target"])))
            else:
                self._ended = kind == "end"
        except (ValueError, KeyError, TypeError, FileExistsError, FileNotFoundError, RecursionError) as wrong:
            raise Damaged(f"what came from another machine is not as sent: {wrong}") from wrong

    def _finish_file(self) -> None:
        if self._file is not None and not self._left:
            self._file.close()
            self._file = None

    def close(self) -> str:
        """The digest of all that was fed, once it is all there; only now are links made."""
        if self._file is not None:
            self._file.close()
        if not self._ended or self._held:
            raise Damaged("what came from another machine ends too early", where=str(self._root))
        for path, target in self._links:
            try:
                path.symlink_to(target)
            except (FileExistsError, ValueError) as wrong:
                raise Damaged(f"what came from another machine is not as sent: {wrong}") from wrong
        return f"sha256:{self._digest.hexdigest()}"


def _size(size: Any) -> int:
    if not isinstance(size, int) or size < 0:
        raise ValueError(f"{str(size)[:60]!r} is no size of a file")
    return size


def _name(name: Any) -> str:
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"{str(name)[:60]!r} is no name of a file")
    return name
