"""What every tile for calendars must do."""

from __future__ import annotations

import abc
from datetime import UTC, datetime

import pytest

from tallystick.core.errors import BadInput
from tallystick.ports.runs.calendar import CRON_CHARS_MAX, Calendar

__all__ = ["CalendarProof"]


def at(text: str) -> int:
    """Milliseconds of a time in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


FOLLOWING = (
    ("* * * * *", "2026-01-01T00:00:00", "2026-01-01T00:01:00"),
    ("0 3 * * *", "2026-01-01T00:00:00", "2026-01-01T03:00:00"),
    ("0 3 * * *", "2026-01-01T03:00:00", "2026-01-02T03:00:00"),
    ("0 3 * * *", "2026-01-01T02:59:59.999", "2026-01-01T03:00:00"),
    ("*/15 * * * *", "2026-01-01T00:46:00", "2026-01-01T01:00:00"),
    ("5/20 * * * *", "2026-01-01T00:06:00", "2026-01-01T00:25:00"),
    ("5/20 * * * *", "2026-01-01T00:46:00", "2026-01-01T01:05:00"),
    ("10-20/5 * * * *", "2026-01-01T00:16:00", "2026-01-01T00:20:00"),
    ("0 9,17 * * *", "2026-01-01T09:00:00", "2026-01-01T17:00:00"),
    ("*/10 * * * * *", "2026-01-01T00:00:41", "2026-01-01T00:00:50"),
    ("30 0 9 ? * 2-6", "2026-01-02T10:00:00", "2026-01-03T09:00:30"),
    ("0 0 9 ? * MON-FRI", "2026-01-02T10:00:00", "2026-01-05T09:00:00"),
    ("0 0 * * 7", "2026-01-01T00:00:00", "2026-01-04T00:00:00"),
    ("0 0 * * 0", "2026-01-01T00:00:00", "2026-01-04T00:00:00"),
    ("0 0 * * 5-7", "2026-01-03T00:00:00", "2026-01-04T00:00:00"),
    ("0 0 31 * *", "2026-01-31T00:00:00", "2026-03-31T00:00:00"),
    ("0 0 29 2 *", "2026-01-01T00:00:00", "2028-02-29T00:00:00"),
    ("0 0 29 2 *", "2096-03-01T00:00:00", "2104-02-29T00:00:00"),
    ("0 0 1 feb *", "2026-01-01T00:00:00", "2026-02-01T00:00:00"),
    ("0 0 13 * 5", "2026-01-01T00:00:00", "2026-01-02T00:00:00"),
    ("0 0 13 * 5", "2026-01-10T00:00:00", "2026-01-13T00:00:00"),
    ("@hourly", "2026-01-01T00:30:00", "2026-01-01T01:00:00"),
    ("@daily", "2026-01-01T00:30:00", "2026-01-02T00:00:00"),
    ("@weekly", "2026-01-01T00:30:00", "2026-01-04T00:00:00"),
    ("@monthly", "2026-01-01T00:30:00", "2026-02-01T00:00:00"),
    ("@yearly", "2026-01-01T00:30:00", "2027-01-01T00:00:00"),
)
"""An expression, a time, and the first one after it."""

WRONG = (
    "", " ", "*", "* * * *", "* * * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *",
    "* * * 13 *", "* * * * 8", "*/0 * * * *", "*/60 * * * *", "-1 * * * *", "1- * * * *", "5-1 * * * *",
    "a * * * *", "* * * mon *", "* * * * jan", "R * * * *", "H * * * *", "r(1-2) * * * *", "* * L * *",
    "* * 15W * *", "* * * * 5#3", "@reboot", "@every 1h", "? * * * *", "1,,2 * * * *", ", * * * *",
    "1/2/3 * * * *", "\u0661 * * * *", "* * * * *\x00", "0 0 30 2 *", "0 0 31 4,6,9,11 *", "*" * 1000,
)  # fmt: skip


class CalendarProof(abc.ABC):
    """Overridden: :meth:`open`."""

    @abc.abstractmethod
    def open(self) -> Calendar:
        """A calendar."""

    @pytest.mark.parametrize(("cron", "before", "after"), FOLLOWING)
    def test_the_time_that_follows(self, cron: str, before: str, after: str) -> None:
        calendar = self.open()
        calendar.check(cron)
        assert calendar.following(cron, at(before)) == at(after)
        assert calendar.latest(cron, at(after)) == at(after), "at or before"

    @pytest.mark.parametrize(("cron", "before", "after"), FOLLOWING)
    def test_nothing_lies_in_between(self, cron: str, before: str, after: str) -> None:
        found = self.open().latest(cron, at(after) - 1)
        assert found is not None
        assert found <= at(before)

    @pytest.mark.parametrize("cron", WRONG)
    def test_what_is_none(self, cron: str) -> None:
        with pytest.raises(BadInput) as wrong:
            self.open().check(cron)
        assert wrong.value.where == "cron"

    def test_a_long_one(self) -> None:
        with pytest.raises(BadInput, match=str(CRON_CHARS_MAX)):
            self.open().check("0 " * CRON_CHARS_MAX)

    def test_days_without_number(self) -> None:
        """Each time leads on to a later one, and back from it."""
        calendar, now = self.open(), at("2026-01-01T00:00:00")
        for _ in range(400):
            found = calendar.following("7 5,17 * * *", now)
            assert found is not None
            assert found > now
            assert calendar.latest("7 5,17 * * *", found + 60_000) == found
            now = found
        assert now == at("2026-07-19T17:07:00")
