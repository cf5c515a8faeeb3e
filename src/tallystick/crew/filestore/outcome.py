"""What came of an import: counts, and in plain words what it could not take or did otherwise."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

__all__ = ["Outcome"]

NOTES_MAX = 100
TEXT_CHARS_MAX = 300


class Outcome(logging.Handler):
    """``brought`` and ``there`` count by kind what was new and what was there already.

    Added to a logger it also notes what MLflow's own reader warns of.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.brought: Counter[str] = Counter()
        self.there: Counter[str] = Counter()
        self._notes: list[str] = []
        self._more = 0

    def note(self, text: str) -> None:
        """One note; beyond a hundred they are only counted."""
        if len(self._notes) < NOTES_MAX:
            self._notes.append(" ".join(text.split())[:TEXT_CHARS_MAX])
        else:
            self._more += 1

    def emit(self, record: logging.LogRecord) -> None:
        """A warning of MLflow's reader."""
        self.note(record.getMessage())

    def as_dict(self) -> Mapping[str, Any]:
        """For the errand's result."""
        more = [f"and {self._more} more of such"] if self._more else []
        return {"brought": +self.brought, "there": +self.there, "notes": [*self._notes, *more]}
