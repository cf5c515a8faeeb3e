"""Following work that the hub does: a line of how far it is, until it has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tallystick.core.errors import Failed
from tallystick.core.remedy import RemedyState
from tallystick.core.run.events import RunState
from tallystick.core.study import StudyState
from tallystick.core.verdict import VerdictState
from tallystick.terminal.context import Tally

__all__ = ["ENDED", "LOOK", "Noun", "check_succeeded", "follow", "follow_run", "time_left"]

Noun = Mapping[str, Any]
ENDED = frozenset(str(s) for kind in (RunState, StudyState, VerdictState) for s in kind if s.ended)
ENDED |= {RemedyState.DONE, RemedyState.FAILED}
"""What a run, a study, a verdict or a remedy is in the end; none of them is before what another is then."""
LOOK = "`tally status` shows how it stands"

ESTIMATE_AFTER_S = 3.0
"""Before that, how long the rest takes would be a guess."""


def follow(tally: Tally, noun: str, key: str) -> Any:
    """Show how a verdict or a remedy comes along until it has ended; Failed when it came to nothing."""
    began = time.monotonic()

    def watch(state: Mapping[str, Any]) -> None:
        now = state.get("under_way")
        if now:
            share, text = float(now["share"]), str(now["text"])
            tally.screen.progress(share, text + time_left(share, time.monotonic() - began, text))

    try:
        ended = tally.hub.wait(noun, key, lambda now: now["state"] in ENDED, watch)
    finally:
        tally.screen.done()
    if ended["state"] == "failed":
        why = ended["outcome"] if noun == "remedy" else f"no verdict could be reached: {ended['error']}"
        raise Failed(why, where=key)
    return ended


def follow_run(tally: Tally, key: str, watch: Callable[[Noun, Sequence[Noun]], None]) -> Any:
    """The run once it has ended; ``watch`` sees it each time on the way, and which of its steps changed."""
    seen: dict[str, tuple[str, int]] = {}

    def look(run: Noun) -> None:
        now = {step["path"]: (step["state"], step["attempt"]) for step in run["steps"]}
        changed = [step for step in run["steps"] if seen.get(step["path"]) != now[step["path"]]]
        seen.update(now)
        watch(run, changed)

    try:
        return tally.hub.wait("run", key, lambda run: run["state"] in ENDED, look)
    finally:
        tally.screen.done()


def check_succeeded(tally: Tally, run: Noun, step: str = "") -> None:
    """Failed, with what to look at, where a run ended and did not succeed; ``step``: whose log tells why."""
    key = run["key"]
    if run["state"] != RunState.SUCCEEDED:
        hint = f"tally logs {key}{step and f' {step}'}, or see {tally.hub.url}/runs/{key}"
        raise Failed(f"run {key} {run['state']}: {run['error']}", hint=hint)


def time_left(share: float, seconds: float, text: str) -> str:
    """How long the rest takes at this pace, where that can be said and the hub has not said it."""
    if seconds < ESTIMATE_AFTER_S or not 0.02 < share < 1 or " left" in text:
        return ""
    left = seconds * (1 - share) / share
    return f", about {left / 60:.0f} min left" if left >= 90 else f", about {max(1, round(left))} s left"
