"""Schedules: wishes that a pipeline be run again and again, and what is due of them.

Each due time gets one run. The run's key is in the schedule (``pending``) before the run exists, so that
whoever takes a schedule up after a crash knows whether that run was made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tallystick.core.errors import BadInput
from tallystick.core.names import DEFAULT_TENANT
from tallystick.core.run.options import RunOptions

__all__ = ["AT_ONCE_MAX", "TIME_MS_MAX", "Schedule", "Timing", "due", "next_due"]

AT_ONCE_MAX = 10
"""Runs of one schedule at a time, as Kubeflow has it."""
TIME_MS_MAX = 253_402_300_799_000
"""The last second of the year 9999."""

Cron = Callable[[str, int], int | None]
"""A time that a cron expression means, near another; None where there is none."""


@dataclass(frozen=True, slots=True)
class Timing:
    """By ``cron`` (in UTC) or ``every_s`` seconds, from ``start_ms`` on, until ``end_ms`` (0: for ever)."""

    cron: str = ""
    every_s: int = 0
    start_ms: int = 0
    end_ms: int = 0

    def check(self) -> Timing:
        """Itself; BadInput names what cannot be. The expression is for the calendar to judge."""
        if bool(self.cron) == bool(self.every_s):
            raise BadInput("a schedule has either a cron expression or an interval", where="schedule")
        if self.every_s < 0 or self.every_s * 1000 > TIME_MS_MAX:
            raise BadInput(f"an interval of {self.every_s} s cannot be kept", where="interval")
        for name, at_ms in (("start", self.start_ms), ("end", self.end_ms)):
            if not 0 <= at_ms <= TIME_MS_MAX:
                raise BadInput("that time cannot be", where=name)
        if self.end_ms and self.end_ms < self.start_ms:
            raise BadInput("it ends before it starts", where="end")
        return self


@dataclass(frozen=True, slots=True)
class Schedule:
    """One schedule. All due times up to ``after_ms`` are dealt with; the newest one was ``due_ms``.

    ``pending`` is the key of the run for ``due_ms`` until that run has begun, ``active`` are runs that had
    not ended when they were last looked at, at most ``at_once``. With ``catchup`` each due time that was
    missed is made up for, otherwise the latest alone. ``error`` says why the newest due time has no run.
    ``about`` is for the door through which it came.
    """

    key: str
    name: str
    spec_digest: str
    timing: Timing
    params: Mapping[str, Any] = field(default_factory=dict)
    options: RunOptions = field(default_factory=RunOptions)
    description: str = ""
    at_once: int = 1
    catchup: bool = False
    enabled: bool = True
    removed: bool = False
    created_ms: int = 0
    changed_ms: int = 0
    after_ms: int = 0
    due_ms: int = 0
    pending: str = ""
    active: tuple[str, ...] = ()
    last_run: str = ""
    error: str = ""
    about: Mapping[str, str] = field(default_factory=dict)
    tenant: str = DEFAULT_TENANT


def next_due(schedule: Schedule, following: Cron) -> int | None:
    """The first due time that is not dealt with, in the past or to come; None where there is none any more.

    ``following`` is the first time of a cron expression after another. An interval counts from the start, or
    from when the schedule was made; the first run is one interval later.
    """
    timing = schedule.timing
    if timing.cron:
        found = following(timing.cron, max(schedule.after_ms, schedule.created_ms, timing.start_ms - 1))
    else:
        base, step = timing.start_ms or schedule.created_ms, timing.every_s * 1000
        found = base + max(1, (schedule.after_ms - base) // step + 1) * step
    ends = timing.end_ms or TIME_MS_MAX
    return found if found is not None and found <= ends else None


def due(schedule: Schedule, now_ms: int, following: Cron, latest: Cron) -> int | None:
    """The time whose run is to start now, or None.

    ``latest`` is the last time of a cron expression at or before another.
    """
    first = next_due(schedule, following)
    if first is None or first > now_ms:
        return None
    if schedule.catchup:
        return first
    timing = schedule.timing
    until = min(now_ms, timing.end_ms or now_ms)
    if timing.cron:
        return max(first, latest(timing.cron, until) or first)
    return first + (until - first) // (timing.every_s * 1000) * timing.every_s * 1000
