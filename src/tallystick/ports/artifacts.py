"""Artifacts: files and folders by the digest of their content."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from tallystick.evidence.papers.tree import Member

__all__ = ["Artifacts", "Blob"]


@dataclass(frozen=True, slots=True)
class Blob:
    """What was stored: its digest, its bytes in all, and whether it is a folder."""

    digest: str
    size_bytes: int
    is_folder: bool = False


@runtime_checkable
class Artifacts(Protocol):
    """Store once, read many times; equal content is stored once and never changes."""

    async def put_file(self, path: Path) -> Blob:
        """Store a regular file; durable on return. BadInput for anything else, a link included."""
        ...

    async def put_folder(self, path: Path) -> Blob:
        """Store a folder with all regular files below it.

        Its digest covers relative paths and contents, not times or modes. BadInput for a link or
        special file in it, or a path that is not UTF-8 or leaves the folder.
        """
        ...

    async def path_of(self, digest: str) -> Path:
        """Where a stored *file* can be read on this machine, checked against its digest.

        NotFound when it was never stored, Damaged when the bytes are no longer what they were.
        """
        ...

    async def members(self, digest: str) -> tuple[Member, ...]:
        """The files of a stored folder, by path; BadInput when the digest is a file's."""
        ...

    async def unpack(self, digest: str, dest: Path) -> None:
        """Write a stored file or folder to ``dest``, which must not exist; every byte is checked."""
        ...

    async def has(self, digest: str) -> bool:
        """True when it is stored (whole)."""
        ...
