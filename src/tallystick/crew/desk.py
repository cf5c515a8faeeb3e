"""The worker's side of an errand (see :mod:`tallystick.hub.house.errand` for the protocol)."""

from __future__ import annotations

import gc
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from tallystick.core.errors import Failed, TallyError

__all__ = ["Desk", "attend"]

GARBAGE_OBJECTS = 50_000
"""How many new objects are looked through for garbage at once. What MLflow, ART or scikit-learn make as they
are imported is kept: to look through it after every 700, as Python does, is a seventh of the time of that."""

TEXT_CHARS_MAX = 300
"""Of a progress text: escaped in JSON it fits the hub's limit for a line."""


class Desk:
    """Where a worker gets its order and says how it goes.

    Standard output is taken for the protocol alone: whatever a library prints goes to standard error.
    """

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "wb", buffering=0)
        os.dup2(2, 1)
        self.order: Mapping[str, Any] = json.loads(sys.stdin.readline())

    def _say(self, **said: Any) -> None:
        self._out.write(json.dumps(said).encode() + b"\n")

    def progress(self, share: float, text: str) -> None:
        """Say the share done, 0 to 1, and what is being done."""
        self._say(progress=round(share, 4), text=text[:TEXT_CHARS_MAX])

    def began(self, name: str) -> None:
        """Say which part of the work begins now: should the process end, that is where it did."""
        self._say(began=name)

    def part(self, file: str) -> None:
        """Say that a part of the result lies in a file of this name, whole and for good."""
        self._say(part=file)

    def ready(self, **details: Any) -> None:
        """Say that from now on it serves."""
        self._say(ready=details)

    def result(self, result: Mapping[str, Any]) -> None:
        """Say the result; nothing is said after it."""
        self._say(result=result)

    def error(self, wrong: TallyError) -> None:
        """Say what went wrong; nothing is said after it."""
        self._say(error=wrong.as_dict())


def attend(main: Callable[[Desk], Mapping[str, Any]]) -> None:
    """Run ``main`` at a desk: its value is the result, its error is told; then the process ends."""
    gc.set_threshold(GARBAGE_OBJECTS, 10, 10)
    desk = Desk()
    try:
        result = main(desk)
    except TallyError as wrong:
        desk.error(wrong)
        sys.exit(wrong.exit_code)
    except Exception as wrong:  # noqa: BLE001  reason: the process's edge; the hub must hear of it
        traceback.print_exc()
        desk.error(Failed(f"{type(wrong).__name__}: {str(wrong)[:500]}", where="worker"))
        sys.exit(1)
    desk.result(result)
