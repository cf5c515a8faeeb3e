"""Blobs: bytes by their SHA-256, each in a file of its own that never changes.

::

    artifacts/blobs/ab/abcd...   the bytes whose digest is sha256:abcd..., read-only
    artifacts/tmp/<process>/     what is being written, by one process that holds a lock on the folder
    artifacts/tmp/lock           held while folders of ended processes are swept

A blob is written beside, brought to disk, and renamed into place: a crash leaves only files in ``tmp``, which
the next opening sweeps. A blob that is being put again replaces itself, so that a damaged one is mended; but
for a small one that this process itself has brought to disk, and that nobody has touched since.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path

from tallystick.core.errors import Damaged, NotFound, TooLarge, Unavailable
from tallystick.core.names import check_digest, digest_of
from tallystick.tiles.artifacts.manifest import MARK

__all__ = ["Blobs", "disk_errors"]

CHUNK_BYTES = 1024 * 1024
SMALL_BYTES = 64 * 1024
"""What has fewer is read, and looked for, before anything is written."""
CHECKED_MAX = 100_000

Stamp = tuple[int, int, int, int]


class Blobs:
    """The blobs below one folder. All methods block; all may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        self._blobs = folder / "blobs"
        self._checked: dict[str, Stamp] = {}
        self._named: set[str] = set()
        self._folders: set[Path] = set()
        self._number = itertools.count()
        with disk_errors(folder):
            self._blobs.mkdir(parents=True, exist_ok=True)
            self._temp, lock = _own_temp(folder / "tmp")
            _sync_folder(folder)
            _sync_folder(folder.parent)
        weakref.finalize(self, _let_go, self._temp, lock)

    def path(self, digest: str) -> Path:
        """Where the blob lies, whether or not it is there."""
        hexdigits = check_digest(digest).removeprefix("sha256:")
        return self._blobs / hexdigits[:2] / hexdigits

    def put(self, descriptor: int, size_max: int, where: str) -> tuple[str, int, bytes]:
        """Store what ``descriptor`` reads, from where it stands: digest, size, first bytes.

        Durable once its folder is: see :meth:`sync`. TooLarge over ``size_max`` bytes, and nothing is kept.
        """
        first = os.read(descriptor, SMALL_BYTES)
        if len(first) < min(SMALL_BYTES, size_max + 1) and self._stands(digest := digest_of(first)):
            return digest, len(first), first[: len(MARK)]
        return self._write(_chunks(descriptor, first), size_max, where)

    def put_bytes(self, raw: bytes) -> str:
        """Store ``raw``, durably."""
        digest = digest_of(raw)
        if not self._stands(digest):
            self._write([raw], len(raw), "manifest")
            self.sync({digest})
        return digest

    def sync(self, digests: set[str]) -> None:
        """Bring the names of ``digests`` to disk (their bytes are there already)."""
        fresh = digests - self._named
        folders = {self.path(digest).parent for digest in fresh}
        for folder in folders:
            _sync_folder(folder)
        if folders - self._folders:
            _sync_folder(self._blobs)
        self._folders |= folders
        self._named |= fresh

    def size(self, digest: str) -> int | None:
        """Bytes of the blob; None when it is not stored."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            return None

    def checked_path(self, digest: str) -> Path:
        """Where the blob lies, its bytes checked against its digest.

        They are read again only when size, times or inode have changed since they last were.
        NotFound when it was never stored, Damaged when the bytes are others now.
        """
        path = self.path(digest)
        try:
            with path.open("rb", buffering=0) as source:
                status = os.fstat(source.fileno())
                if self._checked.get(digest) != _stamp(status):
                    _check(digest, hashlib.file_digest(source, "sha256").hexdigest(), path)
                    self._remember(digest, status)
        except FileNotFoundError:
            raise _never_stored(digest) from None
        return path

    def copy_out(self, digest: str, dest: Path) -> None:
        """Write the blob to the new file ``dest``, every byte checked; after an error drop ``dest``."""
        path = self.path(digest)
        try:
            source = path.open("rb", buffering=0)
        except FileNotFoundError:
            raise _never_stored(digest) from None
        with source, dest.open("xb", buffering=0) as out:
            size_max = os.fstat(source.fileno()).st_size
            found, _, _ = _copy(_chunks(source.fileno()), out.fileno(), size_max, str(path))
        _check(digest, found.removeprefix("sha256:"), path)

    def read(self, digest: str) -> bytes:
        """All bytes of the blob, checked."""
        return self.checked_path(digest).read_bytes()

    def is_folder(self, digest: str) -> bool:
        """True when the blob is the manifest of a folder; NotFound when it is not stored."""
        try:
            with self.path(digest).open("rb") as source:
                return source.read(len(MARK)) == MARK
        except FileNotFoundError:
            raise _never_stored(digest) from None

    def _stands(self, digest: str) -> bool:
        """Whether the blob is on disk by our own doing, its name too, and as it was then."""
        if digest not in self._named:
            return False
        try:
            return self._checked.get(digest) == _stamp(self.path(digest).stat())
        except FileNotFoundError:
            return False

    def _write(self, chunks: Iterable[bytes], size_max: int, where: str) -> tuple[str, int, bytes]:
        temp = self._temp / f"{next(self._number):012d}"
        try:
            with temp.open("xb", buffering=0) as out:
                digest, size, head = _copy(chunks, out.fileno(), size_max, where)
                os.fchmod(out.fileno(), 0o444)
                os.fsync(out.fileno())
            self._named.discard(digest)  # it may have gone, or be another's that is not synced yet
            final = self.path(digest)
            try:
                temp.replace(final)
            except FileNotFoundError:
                final.parent.mkdir(exist_ok=True)
                self._folders.discard(final.parent)
                temp.replace(final)
        except BaseException:  # whatever it was, and it is raised again: nothing may be left behind
            temp.unlink(missing_ok=True)
            raise
        self._remember(digest, final.stat())
        return digest, size, head

    def _remember(self, digest: str, status: os.stat_result) -> None:
        if len(self._checked) >= CHECKED_MAX:
            self._checked.clear()
            self._named.clear()
        self._checked[digest] = _stamp(status)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Say a full, read-only or failing disk as Unavailable."""
    try:
        yield
    except OSError as wrong:
        full = wrong.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full" if full else f"the disk refuses: {wrong.strerror}"
        hint = "free some space and try again" if full else "make the home folder writable for this user"
        raise Unavailable(what, where=str(wrong.filename or path), hint=hint) from wrong


def _chunks(source: int, first: bytes = b"") -> Iterator[bytes]:
    """What was read already, and what there still is to read."""
    yield first
    yield from iter(lambda: os.read(source, CHUNK_BYTES), b"")


def _copy(chunks: Iterable[bytes], dest: int, size_max: int, where: str) -> tuple[str, int, bytes]:
    """Write ``chunks``: digest, size and the first ``len(MARK)`` bytes of what was written."""
    digest, size, head = hashlib.sha256(), 0, b""
    for chunk in chunks:
        size += len(chunk)
        if size > size_max:
            raise TooLarge(f"it has more than {size_max} bytes", where=where, hint="split it up")
        if len(head) < len(MARK):
            head = (head + chunk)[: len(MARK)]
        digest.update(chunk)
        view = memoryview(chunk)
        while view:
            view = view[os.write(dest, view) :]
    return f"sha256:{digest.hexdigest()}", size, head


def _check(digest: str, found: str, path: Path) -> None:
    if digest != f"sha256:{found}":
        raise Damaged(
            f"the stored bytes of {digest} are others now",
            where=str(path),
            hint="store it again, or restore it",
        )


def _never_stored(digest: str) -> NotFound:
    return NotFound(f"no artifact {digest}", where="artifacts")


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _own_temp(folder: Path) -> tuple[Path, int]:
    """Sweep what ended processes left below ``folder``; a new folder for this one, and its lock."""
    folder.mkdir(exist_ok=True)
    gate = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(gate, fcntl.LOCK_EX)
        for old in folder.iterdir():
            if old.is_dir():
                _sweep(old)
        mine = Path(tempfile.mkdtemp(dir=folder))
        return mine, _locked(mine)
    finally:
        os.close(gate)


def _sweep(folder: Path) -> None:
    try:
        lock = _locked(folder)
    except BlockingIOError:
        return  # its process lives
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)


def _locked(folder: Path) -> int:
    """A lock on ``folder`` that ends with this process; BlockingIOError when it is held."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise
    return lock


def _let_go(folder: Path, lock: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)
