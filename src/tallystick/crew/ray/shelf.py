"""The inputs that a node keeps: each once, by the digest of its content, as long as there is room."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tallystick.core.errors import Damaged
from tallystick.crew.ray.parcel import Unpacking

__all__ = ["Shelf"]


class Shelf:
    """Contents below ``folder``; over ``bytes_max`` those that no step has open go."""

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self._folder = folder
        self._bytes_max = bytes_max
        self._sizes: dict[str, int] = {}
        """By digest, the longest unused first."""
        self._open: Counter[str] = Counter()
        self._coming: dict[str, tuple[Unpacking, Path, int]] = {}
        folder.mkdir(mode=0o700)

    def path(self, digest: str) -> Path:
        """Where a content lies."""
        return self._folder / digest.removeprefix("sha256:")

    def take(self, digest: str) -> bool:
        """Keep a content from going, if it is here; :meth:`give_back` once for each."""
        if digest not in self._sizes:
            return False
        self._sizes[digest] = self._sizes.pop(digest)
        self._open[digest] += 1
        return True

    def give_back(self, digest: str) -> None:
        """A step no longer needs it."""
        self._open[digest] -= 1
        self._make_room()

    def put(self, digest: str, piece: bytes, *, first: bool, last: bool) -> None:
        """The next piece of a content; Damaged when, at the last one, it is not what its digest says."""
        new = self.path(digest).with_suffix(".new")
        if first:
            self.drop(digest)
            self._coming[digest] = (Unpacking(new), new, 0)
        coming, new, size = self._coming[digest]
        coming.feed(piece)
        self._coming[digest] = (coming, new, size + len(piece))
        if last:
            self._finish(digest)

    def _finish(self, digest: str) -> None:
        coming, new, size = self._coming.pop(digest)
        if (came := coming.close()) != digest:
            _remove(new)
            raise Damaged(f"an input changed while it was sent: {came} came", where=digest)
        for path in _tree(new):
            with contextlib.suppress(OSError):
                path.chmod(path.stat().st_mode & 0o555)
        new.rename(self.path(digest))
        self._sizes[digest] = size
        self._make_room(but=digest)

    def drop(self, digest: str) -> None:
        """Forget a content that has come in part only."""
        if found := self._coming.pop(digest, None):
            _remove(found[1])

    def _make_room(self, but: str = "") -> None:
        for digest in list(self._sizes):
            if sum(self._sizes.values()) <= self._bytes_max:
                return
            if not self._open[digest] and digest != but:
                del self._sizes[digest]
                _remove(self.path(digest))


def _tree(root: Path) -> Iterator[Path]:
    """What is at ``root``, without links; folders after what is in them."""
    if root.is_dir():
        for folder, _, files in os.walk(root, topdown=False):
            yield from (path for name in files if not (path := Path(folder, name)).is_symlink())
            yield Path(folder)
    else:
        yield root


def _remove(path: Path) -> None:
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    for folder, _, _ in os.walk(path):
        Path(folder).chmod(0o700)
    shutil.rmtree(path, ignore_errors=True)
