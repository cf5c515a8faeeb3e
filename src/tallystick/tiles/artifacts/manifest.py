"""Manifests: what a folder is in the store.

A folder is the canonical JSON of ``[[path, digest, size_bytes], ...]``, sorted by path, behind :data:`MARK`,
and the folder's digest is the SHA-256 of just these bytes. A file's digest is the SHA-256 of its bytes; as no
file that begins with the mark is ever stored as a file, no digest can mean both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from tallystick.core.errors import BadInput, Damaged, TallyError
from tallystick.core.names import canonical_json, check_digest

__all__ = ["MARK", "PATH_BYTES_MAX", "Entry", "check_path", "parse_manifest", "write_manifest"]

MARK = b"\x00tallystick folder 1\n"
PATH_BYTES_MAX = 2048


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a folder: relative path with ``/``, content digest, size."""

    path: str
    digest: str
    size_bytes: int


def check_path(path: str) -> str:
    """``path`` if it is relative, UTF-8, and stays below where it starts; else BadInput."""
    try:
        size = len(path.encode("utf-8"))
    except UnicodeEncodeError:
        raise BadInput("a file name is not UTF-8", where=ascii(path)) from None
    if not 1 <= size <= PATH_BYTES_MAX:
        raise BadInput(f"a path has {size} bytes, the limit is 1 to {PATH_BYTES_MAX}", where=path[:80])
    if "\x00" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise BadInput(f"{path[:80]!r} is not a path inside the folder", where="artifact")
    return path


def write_manifest(entries: Sequence[Entry]) -> bytes:
    """The manifest of a folder with ``entries``, in any order."""
    rows = sorted([e.path, e.digest, e.size_bytes] for e in entries)
    return MARK + canonical_json(rows).encode()


def parse_manifest(raw: bytes, where: str) -> tuple[Entry, ...]:
    """The entries of a manifest; Damaged when it is none, or names a path that would leave the folder."""
    try:
        rows = json.loads(raw.removeprefix(MARK))
        entries = tuple(
            Entry(check_path(path), check_digest(digest), int(size)) for path, digest, size in rows
        )
    except (ValueError, TypeError, AttributeError, TallyError) as wrong:
        raise Damaged(f"the folder's list of files cannot be read: {wrong}", where=where) from wrong
    paths = {e.path for e in entries}
    if len(paths) < len(entries) or any(parent in paths for path in paths for parent in _parents(path)):
        raise Damaged("the folder's list names a path twice", where=where)
    return entries


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts))]
