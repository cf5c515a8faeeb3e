"""Local files for pyiceberg that are on the disk once closed, so that a commit never refers to lost ones."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO

__all__ = ["DurableFileIO", "sync_folder"]


def sync_folder(folder: Path) -> None:
    """Have the names in ``folder`` on the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class _DurableWriter(io.BufferedWriter):
    def __init__(self, path: Path, mode: str) -> None:
        super().__init__(io.FileIO(path, mode), 1024 * 1024)
        self._path = path

    def close(self) -> None:
        if self.closed:
            return
        self.flush()
        os.fsync(self.fileno())
        super().close()
        sync_folder(self._path.parent)


class _DurableFile(PyArrowFile):
    def create(self, overwrite: bool = False) -> Any:
        """A writable stream; FileExistsError unless ``overwrite`` when the file is there."""
        path = Path(self._path)
        _make_folder(path.parent)
        return _DurableWriter(path, "wb" if overwrite else "xb")


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


class DurableFileIO(PyArrowFileIO):
    """pyiceberg's own file access, except that each file written is synced when it is closed."""

    def new_output(self, location: str) -> PyArrowFile:
        """A file to be written at ``location``, which is a local path."""
        scheme, netloc, path = self.parse_location(location, self.properties)
        return _DurableFile(fs=self.fs_by_scheme(scheme, netloc), location=location, path=path)
