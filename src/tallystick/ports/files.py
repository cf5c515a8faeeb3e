"""Files: artifacts under their paths, as MLflow's clients put and get them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

__all__ = ["CHUNK_BYTES", "FileInfo", "Files"]

CHUNK_BYTES = 1024 * 1024
"""About how much of a file is in memory at a time."""


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file or folder right below the one that was listed; ``path`` is relative to the root, with ``/``.

    ``size`` is 0 for a folder. ``etag`` changes when the content does: a strong validator (RFC 9110, 8.8.3),
    without its quotes; empty for a folder and in listings.
    """

    path: str
    is_folder: bool
    size: int
    etag: str = ""
    modified_ms: int = 0


@runtime_checkable
class Files(Protocol):
    """Files by path. A path has plain segments: none empty, ``.`` or ``..``, no backslash, no control
    character; BadInput otherwise. No path leads outside the root, not over a link either.
    """

    async def put(
        self, path: str, content: AsyncIterator[bytes], *, sha256: str = "", offset: int = 0
    ) -> FileInfo:
        """Store a file whole, replacing one that is there: readers see the old or the new, never a mixture.

        With ``sha256`` (hex) its content must have that digest: BadInput otherwise, and nothing changes.
        ``offset`` goes on with an upload that was cut off, from a byte that :meth:`partial` said; Conflict
        for any other. Constant memory. Conflict where a folder is in the way; Unavailable, nothing changed
        but the partial upload, when the store is full or gone.
        """
        ...

    async def partial(self, path: str) -> int:
        """How many bytes of a cut-off upload to ``path`` are kept; 0 when none, or when it cannot go on."""
        ...

    async def stat(self, path: str) -> FileInfo:
        """About a file; NotFound when there is none (a folder is none)."""
        ...

    def read(self, path: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Its bytes from ``start`` up to ``end`` (not included), in chunks. NotFound before the first."""
        ...

    async def list(self, path: str = "") -> Sequence[FileInfo]:
        """What is right below a folder, by path; empty where there is nothing."""
        ...

    async def delete(self, path: str) -> None:
        """Remove a file, or a folder with all in it; NotFound when there is neither."""
        ...

    async def close(self) -> None:
        """Let go of connections; twice is fine."""
        ...
