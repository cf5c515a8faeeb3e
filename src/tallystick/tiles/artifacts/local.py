"""The embedded artifact store: files and folders by content, below ``artifacts`` of the home.

How bytes lie on disk is told in :mod:`tallystick.tiles.artifacts.blobs`, what a folder is in
:mod:`tallystick.tiles.artifacts.manifest`. All work that touches the disk is done in threads.

Option ``artifact_mib_max``: how large one file or folder may be (default 65,536 MiB).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from pathlib import Path

from tallystick.core.errors import BadInput, Conflict, Damaged, TooLarge
from tallystick.core.names import check_digest
from tallystick.evidence.papers.tree import Member
from tallystick.ports.artifacts import Blob
from tallystick.ports.tile import Place
from tallystick.tiles.artifacts.blobs import Blobs, disk_errors
from tallystick.tiles.artifacts.manifest import MARK, Entry, parse_manifest, write_manifest
from tallystick.tiles.artifacts.reading import open_file, walk_folder

__all__ = ["LocalArtifacts", "open_tile"]


def open_tile(place: Place) -> LocalArtifacts:
    """Open, or make, the store of ``place.home``; Unavailable when its folder cannot be written."""
    mib_max = place.options.get("artifact_mib_max", 65_536)
    if isinstance(mib_max, bool) or not isinstance(mib_max, int) or not 1 <= mib_max <= 2**30:
        raise BadInput(f"{mib_max!r} is not a number of MiB from 1 to 1073741824", where="artifact_mib_max")
    return LocalArtifacts(place.home / "artifacts", mib_max * 2**20)


class LocalArtifacts:
    """See the module; the methods are those of :class:`tallystick.ports.artifacts.Artifacts`."""

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self._folder = folder
        self._bytes_max = bytes_max
        self._blobs = Blobs(folder)

    async def put_file(self, path: Path) -> Blob:
        """Store a regular file; durable on return. TooLarge over the limit."""
        return await asyncio.to_thread(self._put_file, path)

    async def put_folder(self, path: Path) -> Blob:
        """Store a folder with all regular files below it; empty folders in it do not count."""
        return await asyncio.to_thread(self._put_folder, path)

    async def path_of(self, digest: str) -> Path:
        """Where a stored file can be read, checked; BadInput when the digest is a folder's."""
        return await asyncio.to_thread(self._path_of, digest)

    async def members(self, digest: str) -> tuple[Member, ...]:
        """The files of a folder, from its list, which is checked against the digest."""
        return await asyncio.to_thread(self._members, digest)

    async def unpack(self, digest: str, dest: Path) -> None:
        """Write a file or folder to ``dest``, whole or not at all; Conflict when that exists."""
        await asyncio.to_thread(self._unpack, digest, dest)

    async def has(self, digest: str) -> bool:
        """True when it is stored, a folder with all its files."""
        return await asyncio.to_thread(self._has, digest)

    def _put_file(self, path: Path) -> Blob:
        with disk_errors(self._folder), open_file(path, str(path)) as descriptor:
            digest, size = self._put(descriptor, self._bytes_max, str(path))
            self._blobs.sync({digest})
        return Blob(digest, size)

    def _put_folder(self, path: Path) -> Blob:
        entries, room = [], self._bytes_max
        with disk_errors(self._folder), contextlib.closing(walk_folder(path)) as found:
            for name, descriptor in found:
                digest, size = self._put(descriptor, room, f"{path}/{name}")
                entries.append(Entry(name, digest, size))
                room -= size
            self._blobs.sync({e.digest for e in entries})
            manifest = self._blobs.put_bytes(write_manifest(entries))
        return Blob(manifest, self._bytes_max - room, is_folder=True)

    def _put(self, descriptor: int, size_max: int, where: str) -> tuple[str, int]:
        if os.pread(descriptor, len(MARK), 0) == MARK:
            raise BadInput(
                "it is a folder's list of files from an artifact store, not a file of yours", where=where
            )
        if os.fstat(descriptor).st_size > size_max:
            raise TooLarge(f"it has more than {size_max} bytes", where=where, hint="split it up")
        digest, size, head = self._blobs.put(descriptor, size_max, where)
        if head == MARK:
            raise BadInput("it changed while it was read", where=where, hint="store it once it is complete")
        return digest, size

    def _path_of(self, digest: str) -> Path:
        with disk_errors(self._folder):
            path = self._blobs.checked_path(digest)
            if self._blobs.is_folder(digest):
                raise BadInput(f"{digest} is a folder", where="artifacts", hint="unpack it")
        return path

    def _members(self, digest: str) -> tuple[Member, ...]:
        with disk_errors(self._folder):
            if not self._blobs.is_folder(digest):
                raise BadInput(f"{digest} is a file", where="artifacts")
            return tuple(Member(e.path, e.digest, e.size_bytes) for e in self._entries(digest))

    def _has(self, digest: str) -> bool:
        with disk_errors(self._folder):
            if self._blobs.size(digest) is None:
                return False
            if not self._blobs.is_folder(digest):
                return True
            return all(self._blobs.size(e.digest) == e.size_bytes for e in self._entries(digest))

    def _entries(self, digest: str) -> tuple[Entry, ...]:
        return parse_manifest(self._blobs.read(digest), digest)

    def _unpack(self, digest: str, dest: Path) -> None:
        check_digest(digest)
        if os.path.lexists(dest):
            raise Conflict("it exists already", where=str(dest), hint="name a new path")
        with disk_errors(dest):
            is_folder = self._blobs.is_folder(digest)
            dest.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".tally-", dir=dest.parent) as temp:
                whole = Path(temp) / "whole"
                if is_folder:
                    self._copy_folder(digest, whole)
                else:
                    self._blobs.copy_out(digest, whole)
                _move(whole, dest)

    def _copy_folder(self, digest: str, dest: Path) -> None:
        dest.mkdir()
        for entry in self._entries(digest):
            if self._blobs.size(entry.digest) != entry.size_bytes:
                raise Damaged(f"{entry.path} of folder {digest} is no longer whole", where="artifacts")
            target = dest / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            self._blobs.copy_out(entry.digest, target)


def _move(whole: Path, dest: Path) -> None:
    """Give ``whole`` its name; Conflict when somebody else took it meanwhile."""
    try:
        if whole.is_dir():
            whole.rename(dest)
        else:
            os.link(whole, dest)
    except OSError as wrong:
        if not os.path.lexists(dest):
            raise
        raise Conflict("it exists already", where=str(dest), hint="name a new path") from wrong
