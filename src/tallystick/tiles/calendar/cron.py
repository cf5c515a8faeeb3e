"""Cron expressions by the package ``croniter``, which is imported when the first one is met."""

from __future__ import annotations

import re
from typing import Any

from tallystick.core.errors import BadInput, MissingTile
from tallystick.ports.runs.calendar import CRON_CHARS_MAX
from tallystick.ports.tile import Place

__all__ = ["CronCalendar", "open_tile"]

WHERE = "cron"
YEARS_MAX = 50
"""How far apart two times may be: 29 February on a Monday comes every 28 years, or every 40 over 2100."""

_NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS = (
    ("second", 0, 59, ()),
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 7, _DAYS),
)
_PART = re.compile(r"(?:(\*|\?)|(\w+)(?:-(\w+))?)(?:/([0-9]{1,4}))?", re.ASCII)


class CronCalendar:
    """Every expression is read strictly before croniter sees it: that one knows more, chance included."""

    def check(self, cron: str) -> None:
        """See :class:`tallystick.ports.runs.calendar.Calendar`."""
        if self.following(cron, 946_684_800_000) is None:
            raise BadInput(f"{cron!r} is never due", where=WHERE)

    def following(self, cron: str, at_ms: int) -> int | None:
        """See :class:`tallystick.ports.runs.calendar.Calendar`."""
        return self._found(cron, at_ms // 1000, "get_next")

    def latest(self, cron: str, at_ms: int) -> int | None:
        """See :class:`tallystick.ports.runs.calendar.Calendar`."""
        return self._found(cron, at_ms // 1000 + 1, "get_prev")

    def _found(self, cron: str, at_s: int, way: str) -> int | None:
        try:
            import croniter  # 20 ms that a hub without schedules need not spend
        except ImportError as missing:
            raise MissingTile(
                "cron expressions need the Python package croniter",
                where="tile calendar/cron",
                hint="pip install croniter",
            ) from missing
        given: dict[str, Any] = {"second_at_beginning": True, "max_years_between_matches": YEARS_MAX}
        try:
            times = croniter.croniter(_plain(cron), at_s, ret_type=float, **given)
            found: float = getattr(times, way)()
            return round(found) * 1000
        except (croniter.CroniterBadDateError, OverflowError):  # the end of time is near
            return None
        except croniter.CroniterError as wrong:
            raise BadInput(f"{cron!r} is no cron expression: {wrong}", where=WHERE) from None


def _plain(cron: str) -> str:
    """Six fields of numbers, the second first; BadInput names the field that is wrong."""
    if len(cron) > CRON_CHARS_MAX:
        raise BadInput(f"a cron expression has at most {CRON_CHARS_MAX} characters", where=WHERE)
    words = _NAMED.get(cron.strip().lower(), cron).lower().split()
    if len(words) not in (5, 6):
        raise BadInput(
            f"{cron!r} has {len(words)} fields",
            where=WHERE,
            hint="minute hour day month weekday, as in '0 3 * * *'; or six, with the second first",
        )
    words = ["0", *words] if len(words) == 5 else words
    return " ".join(_field(word, *rule) for word, rule in zip(words, _FIELDS, strict=True))


def _field(word: str, name: str, low: int, high: int, names: tuple[str, ...]) -> str:
    parts = [_part(part, name, low, high, names) for part in word.split(",")]
    return "*" if "*" in parts else ",".join(parts)


def _part(text: str, name: str, low: int, high: int, names: tuple[str, ...]) -> str:
    """One part of a field as croniter reads it: a star, a number or a range, and a step."""
    found = _PART.fullmatch(text)
    if not found or (found[1] == "?" and not name.startswith("day")):
        raise BadInput(f"{text!r} is no {name}", where=WHERE)
    step = int(found[4]) if found[4] else 0
    if found[4] and not 1 <= step <= high:
        raise BadInput(f"a step of {step} is none for the {name}", where=WHERE)
    if found[1]:
        return f"*/{step}" if step > 1 else "*"
    first = _number(found[2], name, low, high, names)
    last = _number(found[3], name, low, high, names) if found[3] else (high if step else first)
    if last < first:
        raise BadInput(f"{text!r} runs backwards", where=WHERE)
    top = 6 if name == "day of week" and step and not found[3] else last
    numbers = range(first, max(first, top) + 1, step or 1)
    return ",".join(str(n % 7 if name == "day of week" else n) for n in numbers)


def _number(word: str, name: str, low: int, high: int, names: tuple[str, ...]) -> int:
    if word in names:
        return names.index(word) + low
    if not word.isdigit() or not low <= int(word) <= high:
        raise BadInput(f"{word!r} is no {name}: {low} to {high}", where=WHERE)
    return int(word)


def open_tile(place: Place) -> CronCalendar:
    """The calendar; nothing is read from ``place``."""
    return CronCalendar()
