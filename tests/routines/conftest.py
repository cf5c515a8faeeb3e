"""The house in memory that the verbs are tested in."""

from __future__ import annotations

from tests.hub.conftest import house, steps

__all__ = ["house", "steps"]
