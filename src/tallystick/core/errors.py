"""The error tree. Every error says what happened, where, and the next step.

::

    TallyError                 exit 1, HTTP 500
    |-- BadInput               exit 2, HTTP 400   the caller sent something that cannot be used
    |   |-- NotSupported       exit 2, HTTP 501   well formed, but this version or tile cannot do it
    |   `-- TooLarge           exit 2, HTTP 413   over a stated limit
    |-- NotFound               exit 2, HTTP 404   no such thing in this tenant
    |-- Conflict               exit 2, HTTP 409   it exists already, or its state does not allow the move
    |-- Refused                exit 3, HTTP 403   the gate or a safety rule says no
    |-- Unavailable            exit 4, HTTP 503   a part that is needed is down, missing or full
    |   `-- MissingTile        exit 4, HTTP 503   a tile was chosen that is not installed
    |-- Failed                 exit 1, HTTP 500   a step, model or worker ended with an error of its own
    |   `-- TookTooLong        exit 1, HTTP 504   it did not answer in time
    `-- Damaged                exit 1, HTTP 500   stored bytes do not match their digest or version
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "BadInput",
    "Conflict",
    "Damaged",
    "Failed",
    "MissingTile",
    "NotFound",
    "NotSupported",
    "Refused",
    "TallyError",
    "TooLarge",
    "TookTooLong",
    "Unavailable",
    "error_from_dict",
]


class TallyError(Exception):
    """Something went wrong inside tallystick.

    ``what`` is one sentence in plain words, ``where`` names the file, field, task or address,
    ``hint`` is the next step, as a command where there is one.
    """

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        self.what = what
        self.where = where
        self.hint = hint
        super().__init__(str(self))

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text} ({self.hint})" if self.hint else text

    def as_dict(self) -> dict[str, Any]:
        """The wire form: ``{"error", "what", "where", "hint"}``, all strings."""
        return {"error": type(self).__name__, "what": self.what, "where": self.where, "hint": self.hint}


class BadInput(TallyError):
    """What was sent cannot be used; nothing was changed."""

    exit_code = 2
    http_status = 400


class NotSupported(BadInput):
    """Well formed, but this version or the chosen tile cannot do it."""

    http_status = 501


class TooLarge(BadInput):
    """Over a stated limit."""

    http_status = 413


class NotFound(TallyError):
    """No such thing in this tenant."""

    exit_code = 2
    http_status = 404


class Conflict(TallyError):
    """It exists already, or its present state does not allow the move."""

    exit_code = 2
    http_status = 409


class Refused(TallyError):
    """The gate, or a safety rule, says no."""

    exit_code = 3
    http_status = 403


class Unavailable(TallyError):
    """A part that is needed is down, missing or full."""

    exit_code = 4
    http_status = 503


class MissingTile(Unavailable):
    """A tile was chosen that is not installed; the hint is the command that installs it."""


class Failed(TallyError):
    """A step, a model or a worker ended with an error of its own."""


class TookTooLong(Failed):
    """It did not answer in time."""

    http_status = 504


class Damaged(TallyError):
    """Stored bytes do not match their digest or version."""


def _tree(root: type[TallyError]) -> dict[str, type[TallyError]]:
    found = {root.__name__: root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


def error_from_dict(wire: dict[str, Any]) -> TallyError:
    """The error that :meth:`TallyError.as_dict` described; an unknown kind becomes ``TallyError``."""
    kind = _tree(TallyError).get(str(wire.get("error", "")), TallyError)
    return kind(
        str(wire.get("what", "unknown error")),
        where=str(wire.get("where", "")),
        hint=str(wire.get("hint", "")),
    )
