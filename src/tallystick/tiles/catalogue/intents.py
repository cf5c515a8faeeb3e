"""Intents: which files an append is about to write, so that those of one that was killed can be removed.

Before its first file an append leaves ``<write id>.json`` with the table's name, and holds a lock on
it. The kernel lets go of the lock when the process dies; the next worker then finds the file
unlocked, and unless the write is in the table, deletes all files with the write's id in their name.
"""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Intents"]


class Intents:
    """The folder of intents."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    @contextmanager
    def writing(self, table: str) -> Iterator[uuid.UUID]:
        """An id for a write; its intent stands until the block is left."""
        write_id = uuid.uuid4()
        path = self._folder / f"{write_id}.json"
        hidden = path.with_suffix(".new")
        with hidden.open("x") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            json.dump({"table": table}, file)
            file.flush()
            os.fsync(file.fileno())
            hidden.rename(path)  # seen by others only once it is locked
            try:
                yield write_id
            finally:
                path.unlink(missing_ok=True)

    def sweep(self, landed: Callable[[str, uuid.UUID], bool], folder_of: Callable[[str], Path]) -> None:
        """Remove what killed writes left, except those that ``landed`` in their table."""
        for path in sorted(self._folder.glob("*.json")):
            try:
                file = path.open()
            except FileNotFoundError:
                continue  # its writer has just finished
            with file:
                if not _lock(file.fileno()):
                    continue  # its writer lives
                table, write_id = str(json.load(file)["table"]), uuid.UUID(path.stem)
                if not landed(table, write_id):
                    self.discard(folder_of(table), write_id)
                path.unlink(missing_ok=True)

    @staticmethod
    def discard(folder: Path, write_id: uuid.UUID) -> None:
        """Delete all files of a write below a table's folder."""
        for path in folder.rglob(f"*{write_id}*"):
            path.unlink(missing_ok=True)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
