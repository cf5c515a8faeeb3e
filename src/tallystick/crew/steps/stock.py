"""The keepers of a zygote, and how many of them have a process ready that waits for the next step's order.

To make one takes longer than most small steps themselves. So a burst of steps lives on what was made ready
while nothing was asked for, and who has done one step makes the next one's process when it is quiet again,
or as soon as too few are ready::

    forked --> ready --(a step: TAKEN)--> at work --(FREE)--> rests --(leave)--> ready
"""

from __future__ import annotations

import itertools
import os
import socket
import time
from dataclasses import dataclass

from tallystick.crew.steps.child import Lot
from tallystick.crew.steps.keeper import FREE, HUB_GONE, LEAVE, RETIRE, TAKEN, Post, word_from
from tallystick.crew.warden import sweep

__all__ = ["Keepers"]

AGAIN_S = 0.1
QUIET_S = 0.05
"""After the last step was taken: between the steps of a chain less than that goes by."""
PACE_S = 0.01
"""From one that is made ready while it is quiet to the next: no step is to wait for all of them."""
MORE_THAN_CORES = 1
"""How many are ready at least while steps are taken, beside one for each core: as many as run at once."""


@dataclass(frozen=True, slots=True)
class _Keeper:
    """Process ``pid``, which reads on ``leave`` (an eventfd) what it is to do after a step."""

    pid: int
    leave: int


class Keepers:
    """As many are ready as the largest burst of steps so far has taken, and as run at once; at least one and
    at most ``spares``. Steps are of one burst that are taken within ``QUIET_S`` of each other.
    """

    def __init__(self, control: socket.socket, lot: Lot, spares: int) -> None:
        self.words, self._said = os.pipe()
        self._control = control
        self._lot = lot
        self._spares = spares
        self._busy = len(os.sched_getaffinity(0)) + MORE_THAN_CORES
        self._wanted = 1
        self._burst = 0
        self._quiet_at = 0.0
        self._all: dict[int, _Keeper] = {}
        self._ready: set[int] = set()
        self._resting: list[int] = []
        self._next = itertools.count(1)

    def fill(self) -> float | None:
        """Make ready who has to be now: seconds until more are to be, None when that is at the next word."""
        try:
            while len(self._ready) < max(1, min(self._busy, self._wanted)):
                self._make_ready()
            if len(self._ready) >= self._wanted:
                return None
            if (left := self._quiet_at - time.monotonic()) <= 0:
                self._make_ready()
        except OSError:  # no room for a process: the last that there is, steps may need themselves
            self._wanted = max(1, len(self._all))
            return AGAIN_S
        return max(left, PACE_S)

    def _make_ready(self) -> None:
        if self._resting:
            number = self._resting.pop()
            os.eventfd_write(self._all[number].leave, LEAVE)
        else:
            number = next(self._next)
            self._fork(number)
        self._ready.add(number)

    def _fork(self, number: int) -> None:
        leave = os.eventfd(0)
        try:
            pid = self._lot.fence.fork() if self._lot.fence else os.fork()
        except OSError:
            os.close(leave)
            raise
        if pid == 0:
            os.close(self.words)
            Post(number, self._said, leave, self._control, self._lot).run()
        self._all[number] = _Keeper(pid, leave)

    def heard(self) -> bool:
        """Heed the next word of a keeper; False when that is that the hub is gone."""
        number, word = word_from(self.words)
        if word == TAKEN:
            self._ready.discard(number)
            now = time.monotonic()
            self._burst = self._burst + 1 if now < self._quiet_at else 1
            self._quiet_at = now + QUIET_S
            self._wanted = max(self._wanted, min(self._spares, self._burst + self._busy))
        elif word == FREE and number in self._all:
            if len(self._resting) < self._wanted:
                self._resting.append(number)
            else:
                os.eventfd_write(self._all[number].leave, RETIRE)
        return word != HUB_GONE

    def sweep(self, wake: int) -> None:
        """Take leave of those who have ended; one that was ready has done so before its time."""
        there = {keeper.pid for keeper in self._all.values()}
        sweep(there, wake)
        gone = {number for number, keeper in self._all.items() if keeper.pid not in there}
        for number in gone:
            os.close(self._all.pop(number).leave)
        self._resting = [number for number in self._resting if number not in gone]
        if gone & self._ready:  # and so might the next
            time.sleep(AGAIN_S)
        self._ready -= gone
