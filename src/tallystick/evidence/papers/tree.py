"""Trees: the files of a model by path and digest, and the one digest that stands for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tallystick.core.errors import BadInput, Refused
from tallystick.core.names import canonical_json, check_digest, digest_of

__all__ = ["FILES_MAX", "Member", "check_same", "in_order", "tree_digest"]

FILES_MAX = 100_000
PATH_BYTES_MAX = 2048
NAMED_MAX = 3
"""Files that an error names; of more, how many."""

_MARK = b"\x00tallystick folder 1\n"
"""What stands before a folder's list of files, so that no file has the digest of a folder."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file: its path relative to the folder, with ``/``; its content's digest; its bytes."""

    path: str
    digest: str
    size_bytes: int

    def __post_init__(self) -> None:
        check_digest(self.digest)
        if not 0 < len(self.path.encode("utf-8", "surrogatepass")) <= PATH_BYTES_MAX or self.size_bytes < 0:
            raise BadInput("a file has a path and 0 bytes or more", where=ascii(self.path)[:100])
        if "\0" in self.path or any(part in ("", ".", "..") for part in self.path.split("/")):
            raise BadInput(f"{self.path[:100]!r} is not a path inside the folder", where="tree")


def in_order(members: Iterable[Member]) -> tuple[Member, ...]:
    """By path; BadInput over ``FILES_MAX``, or for two of one path."""
    found = sorted(members, key=lambda m: m.path)
    if len(found) > FILES_MAX:
        raise BadInput(f"over {FILES_MAX:,} files", where="tree")
    for one, next_one in pairwise(found):
        if one.path == next_one.path:
            raise BadInput("two files of one path", where=ascii(one.path)[:100])
    return tuple(found)


def tree_digest(members: Iterable[Member]) -> str:
    """The digest of a folder, as the artifact store has it and as a model version is known by.

    SHA-256 of the mark above and the canonical JSON of ``[[path, digest, size_bytes], ...]``, by path.
    """
    rows = sorted([m.path, m.digest, m.size_bytes] for m in members)
    return digest_of(_MARK + canonical_json(rows).encode())


def check_same(signed: Mapping[str, str], members: Sequence[Member], what: str) -> None:
    """Refused, naming the first few, where files are changed, missing or added.

    ``signed`` is digest by path as ``what`` (``provenance.json``) says it.
    """
    there = {m.path: m.digest for m in members}
    changed = [path for path in signed if path in there and there[path] != signed[path]]
    missing, added = [p for p in signed if p not in there], [p for p in there if p not in signed]
    kinds = (("changed", changed), ("missing", missing), ("not in it", added))
    wrong = [f"{_named(paths)} {'is' if len(paths) == 1 else 'are'} {kind}" for kind, paths in kinds if paths]
    if wrong:
        hint = "take none of it; download it again from who signed it"
        raise Refused(f"the files are not those of {what}: {'; '.join(wrong)}", where=what, hint=hint)


def _named(paths: Sequence[str]) -> str:
    shown = ", ".join(ascii(p)[1:-1][:200] for p in sorted(paths)[:NAMED_MAX])
    return shown if len(paths) <= NAMED_MAX else f"{shown} and {len(paths) - NAMED_MAX} more"
