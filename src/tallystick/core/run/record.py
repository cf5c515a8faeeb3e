"""Events and steps as the text that a journal keeps."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from tallystick.core.errors import BadInput, Damaged
from tallystick.core.facts import from_json, to_json
from tallystick.core.names import canonical_json
from tallystick.core.run.events import Began, CancelAsked, Event, Resumed, RetryDue, Step, StepEnded

__all__ = ["read_event", "read_step", "write_event", "write_step"]

T = TypeVar("T")

_EVENTS: dict[str, type[Event]] = {
    "began": Began,
    "cancel asked": CancelAsked,
    "resumed": Resumed,
    "retry due": RetryDue,
    "step ended": StepEnded,
}
_NAMES = {kind: name for name, kind in _EVENTS.items()}


def write_event(event: Event) -> str:
    """An event as JSON, with its name under ``event``."""
    return canonical_json({"event": _NAMES[type(event)], **to_json(event)})


def read_event(text: str) -> Event:
    """What :func:`write_event` wrote; Damaged for anything else, a newer tallystick's event included."""
    said = _object(text)
    kind = _EVENTS.get(str(said.pop("event", "")))
    if kind is None:
        raise Damaged("an event of the journal is not known", where=text[:80])
    return _built(kind, said)


def write_step(step: Step) -> str:
    """A step as JSON."""
    return canonical_json(to_json(step))


def read_step(text: str) -> Step:
    """What :func:`write_step` wrote; Damaged for anything else."""
    return _built(Step, _object(text))


def _built(kind: type[T], said: dict[str, Any]) -> T:
    try:
        return from_json(kind, said, "journal")
    except BadInput as wrong:
        raise Damaged(f"an entry of the journal cannot be read: {wrong.what}", where=wrong.where) from wrong


def _object(text: str) -> dict[str, Any]:
    try:
        said = json.loads(text)
    except ValueError as wrong:
        raise Damaged("an entry of the journal is not JSON any more", where=text[:80]) from wrong
    if not isinstance(said, dict):
        raise Damaged("an entry of the journal is no object", where=text[:80])
    return said
