"""Following a run that hardens: each step as it ends, and how far the one that runs says it is."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from tallystick.core.errors import NotFound
from tallystick.terminal.client import path_part
from tallystick.terminal.context import Tally
from tallystick.terminal.follow import Noun, check_succeeded, follow_run, time_left

__all__ = ["follow_steps"]

TOLD = ("succeeded", "cached", "failed")
LOOK_S = 1.0
"""A log is looked into so often at most."""

_PROGRESS = re.compile(r"^ *([0-9]{1,2}|100)%  (\S.{0,99})$", re.MULTILINE)
"""What a step of ``examples/harden`` prints while it trains."""


def follow_steps(tally: Tally, key: str) -> Noun:
    """The run once it has succeeded; Failed, with what to look at, when it does not."""
    watch = _Watch(tally, key)
    check_succeeded(tally, follow_run(tally, key, watch), _short(watch.failed))
    found: Noun = tally.hub.noun("run", key)
    return found


class _Watch:
    """Sees each state of the run on the way; of its steps those that changed."""

    def __init__(self, tally: Tally, key: str) -> None:
        self._tally, self._key, self.failed = tally, key, ""
        self._running: dict[str, float] = {}
        self._asked, self._next = 0.0, 0

    def __call__(self, run: Noun, changed: Sequence[Noun]) -> None:
        for step in changed:
            self._step(step)
        if self._running and time.monotonic() - self._asked >= LOOK_S:
            self._look(*list(self._running.items())[-1])

    def _step(self, step: Noun) -> None:
        path = step["path"]
        self._running.pop(path, None)
        if step["state"] == "running":
            self._running[path], self._next = time.monotonic(), 0
        if step["state"] not in TOLD:
            return
        if step["state"] == "failed":
            self.failed = path
        self._tally.screen.done()
        seconds = max(0, step["ended_ms"] - step["started_ms"]) / 1000
        text = f"  {_short(path):<16} {step['state']:<11} {seconds:5.1f} s"
        self._tally.screen.say(f"{text}: {step['error']}" if step["error"] else text)

    def _look(self, path: str, began: float) -> None:
        """Show the newest line about progress that the step printed."""
        self._asked = time.monotonic()
        try:
            asked = {"path": path, "from": self._next}
            piece = self._tally.hub.get(f"/runs/{path_part(self._key)}/log", **asked)
        except NotFound:  # it has printed nothing yet
            return
        lines = _PROGRESS.findall(piece["text"])
        self._next = piece["next"]
        if lines:
            share, text = int(lines[-1][0]) / 100, f"{_short(path)}: {lines[-1][1]}"
            left = time_left(share, self._asked - began, text)
            self._tally.screen.progress(share, text + left)


def _short(path: str) -> str:
    """A step's own name: the branches that it is in say nothing that ``--how`` did not."""
    return path.rpartition("/")[2]
