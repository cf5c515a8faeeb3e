"""What one step prints, while it runs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

__all__ = ["StepLog"]


class StepLog(AbstractContextManager["StepLog"]):
    """Lines in the file at ``path``, which the first of them makes: most steps print nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)
        self._file: IO[str] | None = None

    @property
    def begun(self) -> bool:
        """Whether there is a file."""
        return self._file is not None

    def begin(self) -> IO[str]:
        """Make the file, unless it is there."""
        self._file = self._file or self.path.open("w", encoding="utf-8")
        return self._file

    def say(self, line: str) -> None:
        """Take one line."""
        self.begin().write(f"{line}\n")

    def flush(self) -> None:
        """Show readers of the file every line so far."""
        if self._file is not None:
            self._file.flush()

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
