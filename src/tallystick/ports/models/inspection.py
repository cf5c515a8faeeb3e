"""Inspection: what a model's files are, said without loading any of them. Used in workers only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

from tallystick.evidence.supply import Inspected

__all__ = ["Inspection"]


@runtime_checkable
class Inspection(Protocol):
    """Looks at files as at something hostile."""

    def inspect(self, folder: Path, progress: Callable[[float, str], None]) -> Inspected:
        """Every file in ``folder``, and every member of every archive in it.

        Memory stays bounded whatever the files are. A file that cannot be made out is refused, and never an
        error; BadInput only where ``folder`` is none.
        """
        ...

    def versions(self) -> dict[str, str]:
        """Versions of what looks: of the rules, and of advisors that are installed."""
        ...
