"""Ids and times on the wire.

A key of ours (``run-0192f3a4b5c6-1a2b3c``: milliseconds and chance) and a UUID hold the same bits: version 7
puts the time first. So an id leads back to its key, and nothing needs to be kept for it.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from tallystick.core.errors import BadInput, NotFound
from tallystick.routines.recurring import TIME_MS_MAX

__all__ = ["id_of", "key_of", "millis", "task_id", "when"]

_KEY = re.compile(r"([a-z]+)-([0-9a-f]{12})-([0-9a-f]{6})", re.ASCII)
_ID = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-7([0-9a-f]{3})-8([0-9a-f]{3})-([0-9a-f]{12})", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_START = datetime(1970, 1, 1, tzinfo=UTC)


def _tag(noun: str) -> str:
    """What the ids of one noun end with, so that an id of another noun is not taken for one."""
    return hashlib.sha256(f"tallystick {noun}".encode()).hexdigest()[:12]


def id_of(key: str) -> str:
    """The UUID of a key; of a key that is of another form, one made from its digest."""
    found = _KEY.fullmatch(key)
    if not found:
        return task_id(key, "")
    noun, time, chance = found.groups()
    return f"{time[:8]}-{time[8:]}-7{chance[:3]}-8{chance[3:]}-{_tag(noun)}"


def key_of(noun: str, given: str) -> str:
    """The key of an id; the key itself is taken too. NotFound for what is neither."""
    key = _KEY.fullmatch(given)
    if key and key[1] == noun:
        return given
    found = _ID.fullmatch(given.lower())
    if not found or found[5] != _tag(noun):
        raise NotFound(f"no {noun} {given[:100]!r}", where=noun)
    return f"{noun}-{found[1]}{found[2]}-{found[3]}{found[4]}"


def task_id(run: str, path: str) -> str:
    """The UUID of a task of a run."""
    said = hashlib.sha256(f"{run} {path}".encode("utf-8", "surrogatepass")).hexdigest()
    return f"{said[:8]}-{said[8:12]}-8{said[12:15]}-8{said[15:18]}-{said[18:30]}"


def when(at_ms: int) -> str | None:
    """A time as RFC 3339 in UTC; None for no time."""
    if not at_ms:
        return None
    return (_START + timedelta(milliseconds=at_ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def millis(value: Any, where: str) -> int:
    """Milliseconds of an RFC 3339 time; 0 for none, BadInput for what is no time."""
    if value in (None, ""):
        return 0
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise BadInput(
            f"{str(value)[:60]!r} is no time", where=where, hint="for example 2030-01-31T03:00:00Z"
        )
    try:
        read = datetime.fromisoformat(value.upper().replace(" ", "T"))
        found = (read - _START) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        raise BadInput(f"{value[:60]!r} is no time", where=where) from None
    if not 0 < found <= TIME_MS_MAX:
        raise BadInput(f"{value[:60]!r} cannot be kept", where=where)
    return found
