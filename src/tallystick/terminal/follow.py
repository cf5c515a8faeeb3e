"""Following work that the hub does: a line of how far it is, until it has ended."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from tallystick.core.errors import Failed
from tallystick.terminal.context import Tally

__all__ = ["ENDED", "LOOK", "follow", "time_left"]

ENDED = ("passed", "refused", "done", "failed")
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


def time_left(share: float, seconds: float, text: str) -> str:
    """How long the rest takes at this pace, where that can be said and the hub has not said it."""
    if seconds < ESTIMATE_AFTER_S or not 0.02 < share < 1 or " left" in text:
        return ""
    left = seconds * (1 - share) / share
    return f", about {left / 60:.0f} min left" if left >= 90 else f", about {max(1, round(left))} s left"
