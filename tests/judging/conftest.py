"""A house in memory for each test, as the verbs' tests have it."""

from __future__ import annotations

from tests.hub.conftest import house, steps

__all__ = ["house", "steps"]
