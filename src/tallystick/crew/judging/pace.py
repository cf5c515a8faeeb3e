"""How far a judgement is, and how long it still takes, in plain words."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

__all__ = ["Pace", "left_in_words"]

SAID_EVERY_S = 0.2
SURE_S = 3.0
"""Before so many seconds of work nobody can say how long it takes."""


class Pace:
    """Turns the progress of probe after probe into that of all: by their weights, as the tiles state them.

    The time left is that of the work done, scaled: weights are said beforehand, and true only beside each
    other. Of many words only one every ``SAID_EVERY_S`` seconds reaches ``say``.
    """

    def __init__(
        self,
        weights: Sequence[float],
        say: Callable[[float, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._weights, self._say, self._clock = list(weights), say, clock
        self._total = sum(weights) or 1.0
        self._done = self._worked = 0.0
        self._at, self._began = -1, clock()
        self._said_at, self._share = float("-inf"), 0.0

    def begin(self, at: int, text: str) -> None:
        """The probe at this place begins."""
        self._at, self._began = at, self._clock()
        self._tell(0.0, text, now=True)

    def known(self, at: int) -> None:
        """The probe at this place need not be carried out: it counts as work no more."""
        self._total = max(self._total - self._weights[at], 1e-9)

    def said(self, share: float, text: str) -> None:
        """What the probe itself says: the share of it that is done."""
        self._tell(share if 0 <= share <= 1 else 0.0, text, now=False)

    def end(self) -> None:
        """The present probe ended, however it did."""
        self._done += self._weights[self._at]
        self._worked += self._clock() - self._began

    def _tell(self, share: float, text: str, *, now: bool) -> None:
        moment = self._clock()
        if not now and moment - self._said_at < SAID_EVERY_S:
            return
        self._said_at = moment
        done = self._done + share * self._weights[self._at]
        self._share = min(1.0, max(self._share, done / self._total))
        worked = self._worked + moment - self._began
        left = left_in_words(worked * (self._total - done) / done) if worked >= SURE_S and done > 0 else ""
        self._say(self._share, f"{text}; {left}" if left else text)


def left_in_words(seconds: float) -> str:
    """``about 3 min left``; empty where it is nearly over."""
    if seconds < 1:
        return ""
    if seconds < 90:
        return f"about {round(seconds)} s left"
    if seconds < 5400:
        return f"about {round(seconds / 60)} min left"
    return f"about {seconds / 3600:.1f} h left"
