"""One upload to a disk: written beside, brought to disk, and renamed into place. All methods block.

The first upload to a path writes to a file that is named by that path, under a lock. Cut off, it stays there:
so another can go on with it, in this process or, after a crash, in the next. Whoever comes while the lock is
held writes to a file of its own, which is dropped when it is cut off.

After a power cut the end of what was kept may be missing, but not be something else, on a file system that
writes data before their length (ext4, XFS, btrfs); whoever wants to be sure gives the digest of the whole.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Iterator

from tallystick.core.errors import BadInput, Conflict
from tallystick.ports.files import CHUNK_BYTES, FileInfo
from tallystick.tiles.files.tree import Segments, Tree, info_of, try_lock

__all__ = ["Upload", "kept_bytes"]

_SYNC_BYTES = 64 * 1024 * 1024
"""So often what was written is brought to disk, so that the end of a large upload does not take long."""
_NEW = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_TRIES = 16


class Upload:
    """An upload under way: :meth:`write` again and again, :meth:`publish`, and in any case :meth:`end`."""

    def __init__(self, tree: Tree, segments: Segments, offset: int, hashed: bool) -> None:
        self._tree = tree
        self._segments = segments
        self._path = "/".join(segments)
        self._digest = hashlib.sha256() if hashed else None
        self._synced = self._size = offset
        self._keep = True
        tree.check_free(segments)
        self._name, self._file = _claimed(tree, segments, offset)
        try:
            self._begin(offset)
        except BaseException:
            self.end()
            raise

    def _begin(self, offset: int) -> None:
        """Empty it, or take up where it was cut off."""
        if not offset:
            os.ftruncate(self._file, 0)
            return
        there = os.fstat(self._file).st_size
        if there != offset:
            self._size = there
            raise Conflict(
                f"{there} bytes of an upload are kept, not {offset}",
                where=self._path,
                hint="go on from there",
            )
        os.lseek(self._file, offset, os.SEEK_SET)
        position = 0
        while self._digest and (piece := os.pread(self._file, CHUNK_BYTES, position)):
            self._digest.update(piece)
            position += len(piece)

    def write(self, piece: bytes) -> None:
        """Add to it."""
        if self._digest:
            self._digest.update(piece)
        view = memoryview(piece)
        with self._dropped_if_refused():
            while view:
                view = view[os.write(self._file, view) :]
            self._size += len(piece)
            if self._size - self._synced >= _SYNC_BYTES:
                os.fdatasync(self._file)
                self._synced = self._size

    @contextlib.contextmanager
    def _dropped_if_refused(self) -> Iterator[None]:
        """Keep nothing that may be damaged; and where the disk is full, the hub's record needs the room."""
        try:
            yield
        except OSError:
            self.drop()
            raise

    def publish(self, sha256: str) -> FileInfo:
        """Put it in its place, durably; BadInput, and it is dropped, when its digest is another."""
        if self._digest and self._digest.hexdigest() != sha256:
            self.drop()
            raise BadInput(
                f"its SHA-256 is {self._digest.hexdigest()}, not {sha256}",
                where=self._path,
                hint="send it again",
            )
        with self._dropped_if_refused():
            os.fsync(self._file)
        self._rename()
        return info_of(self._path, os.fstat(self._file))

    def _rename(self) -> None:
        for left in reversed(range(_TRIES)):
            try:
                with self._tree.staging() as here, self._tree.folder(self._segments[:-1], True) as above:
                    os.rename(self._name, self._segments[-1], src_dir_fd=here, dst_dir_fd=above)
                    self._name = ""
                    os.fsync(above)
                    return
            except FileNotFoundError:  # a folder above it was removed since it was made or opened
                if not left:
                    raise

    def drop(self) -> None:
        """Keep nothing of it."""
        self._keep = False

    def end(self) -> None:
        """Let go of it; what was cut off stays, if another upload could find and go on with it."""
        try:
            if self._stays():
                with self._dropped_if_refused():
                    os.fdatasync(self._file)
        finally:
            self._leave()

    def _stays(self) -> bool:
        return self._keep and self._size > 0 and self._name == _slot(self._segments)

    def _leave(self) -> None:
        try:
            if self._name and not self._stays():
                with self._tree.staging() as here, contextlib.suppress(FileNotFoundError):
                    os.unlink(self._name, dir_fd=here)
        finally:
            os.close(self._file)


def kept_bytes(tree: Tree, segments: Segments) -> int:
    """How much of an upload to the path is there to go on with, 0 when none."""
    with tree.staging() as here:
        try:
            return os.stat(_slot(segments), dir_fd=here, follow_symlinks=False).st_size
        except FileNotFoundError:
            return 0


def _slot(segments: Segments) -> str:
    return hashlib.sha256("/".join(segments).encode()).hexdigest()[:40]


def _claimed(tree: Tree, segments: Segments, offset: int) -> tuple[str, int]:
    """The file to write to, locked: the path's own where it is free; to go on, only that will do."""
    with tree.staging() as here:
        slot = _slot(segments)
        opened = _locked(here, slot, 0 if offset else os.O_CREAT, "/".join(segments))
        if opened is not None:
            return slot, opened
        if offset:
            raise Conflict(
                "another upload to this path is going on",
                where="/".join(segments),
                hint="wait until it has ended: a dead connection is ended after a minute",
            )
        own = secrets.token_hex(16)
        opened = os.open(own, _NEW | os.O_EXCL, 0o666, dir_fd=here)
        try_lock(opened)
        return own, opened


def _locked(here: int, name: str, create: int, path: str) -> int | None:
    for _ in range(_TRIES):
        try:
            opened = os.open(name, (_NEW & ~os.O_CREAT) | create, 0o666, dir_fd=here)
        except FileNotFoundError:
            raise Conflict("no upload is kept to go on with", where=path, hint="begin anew") from None
        if not try_lock(opened):
            os.close(opened)
            return None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(opened), os.stat(name, dir_fd=here, follow_symlinks=False)):
                return opened
        os.close(
            opened
        )  # it was put in its place between our opening and locking it: it is no upload any more
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
