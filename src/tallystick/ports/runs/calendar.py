"""The calendar: which times a cron expression means. All of them are in UTC."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

__all__ = ["CRON_CHARS_MAX", "Calendar"]

CRON_CHARS_MAX = 200


@runtime_checkable
class Calendar(Protocol):
    """Cron expressions of five fields (minute first), of six (second first), or ``@daily`` and its like.

    A field is ``*``, ``?``, a number or name, a range, any of these with ``/step``, or several, by commas.
    Where both day of month and day of week are restricted, either one is enough.
    """

    def check(self, cron: str) -> None:
        """BadInput, with the field, for an expression that is none, or that is never due."""
        ...

    def following(self, cron: str, at_ms: int) -> int | None:
        """The first time after ``at_ms``, in milliseconds; None where there is none any more."""
        ...

    def latest(self, cron: str, at_ms: int) -> int | None:
        """The last time at or before ``at_ms``; None where there was none."""
        ...
