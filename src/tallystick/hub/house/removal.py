"""Removal, beside the hub's own work: see :mod:`tallystick.rmtree`."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tallystick import rmtree as program
from tallystick.rmtree import END, rmtree

__all__ = ["Remover", "remove"]

HANDS = 4
"""A folder of millions of files must not hold up those of other runs, nor take the ledger's threads."""
BUSY = 2
"""Requests that wait for one hand before there is another."""
GATHER_S = 0.01
"""From a request until it is made, with all that come meanwhile: each costs a process its turn."""
END_S = 5.0
"""For what was asked, as the hub ends."""
AT_ONCE = 8
"""Requests that are made together: of paths as steps have them, they stay well below the limit below."""
REQUEST_BYTES_MAX = 4096
"""PIPE_BUF of Linux: what is written whole or not at all."""

Asked = tuple[Sequence[Path], asyncio.Future[bool]]
"""What is to be removed, and what is settled once it is."""
_threads = ThreadPoolExecutor(HANDS, thread_name_prefix="remove")
_log = logging.getLogger(__name__)


async def remove(path: Path, stop: threading.Event | None = None) -> bool:
    """:func:`rmtree` in a thread: whether nothing is left of it; the log says why something is.

    Cancelling leaves the thread to finish, or to heed ``stop``.
    """
    stopped = stop.is_set if stop else lambda: False
    return _noted(await asyncio.get_running_loop().run_in_executor(_threads, rmtree, path, stopped))


def _noted(trouble: str) -> bool:
    if trouble:
        _log.warning("%s", trouble)
    return not trouble


class Remover:
    """Removes what steps leave, in processes of its own.

    A thread of the hub would ask for Python's lock at every file, when the hub's own work wants it most.
    """

    def __init__(self) -> None:
        self._hands: list[_Hand] = []
        self._asked: list[Asked] = []
        self._instead: set[asyncio.Task[None]] = set()

    def removing(self, *paths: Path) -> asyncio.Future[bool]:
        """Remove each, whether or not anybody waits for it; whether nothing of them is left."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._asked.append((paths, future))
        if len(self._asked) == 1:
            loop.call_later(GATHER_S, self._ask)
        return future

    def _ask(self) -> None:
        """Have a process remove what was gathered."""
        asked, self._asked = self._asked, []
        for at in range(0, len(asked), AT_ONCE):
            some, hand = asked[at : at + AT_ONCE], self._free_hand()
            if not (hand and hand.takes(some)):
                for paths, future in some:
                    self._by_thread(paths, future)

    def _free_hand(self) -> _Hand | None:
        self._hands = [hand for hand in self._hands if not hand.ended]
        hand = min(self._hands, key=lambda one: len(one.waiting), default=None)
        if hand is None or (len(hand.waiting) >= BUSY and len(self._hands) < HANDS):
            try:
                hand = _Hand(self._by_thread)
            except OSError as wrong:
                _log.warning("no process can be started that removes: %s", wrong)
            else:
                self._hands.append(hand)
        return hand

    def _by_thread(self, paths: Sequence[Path], future: asyncio.Future[bool]) -> None:
        async def each() -> None:
            _settle(future, all([await remove(path) for path in paths]))

        task = asyncio.create_task(each())
        self._instead.add(task)
        task.add_done_callback(self._instead.discard)

    def close(self) -> None:
        """End the processes, once they have done what they were asked to or have had their time."""
        self._ask()
        end = time.monotonic() + END_S
        for hand in self._hands:
            hand.close(end)


class _Hand:
    """One process, and what ``waiting`` waits for of it, in order; ``otherwise`` does what it does not.

    OSError where none can be started.
    """

    def __init__(self, otherwise: Callable[[Sequence[Path], asyncio.Future[bool]], None]) -> None:
        self.waiting: deque[Asked] = deque()
        self.ended = False
        self._otherwise = otherwise
        self._rest = b""
        self._loop = asyncio.get_running_loop()
        command = [sys.executable, "-I", "-S", str(program.__file__)]
        pipe = subprocess.PIPE
        # A session of its own, as Ctrl-C is for the hub alone.
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd="/", start_new_session=True)
        assert process.stdin  # noqa: S101  reason: for mypy
        assert process.stdout  # noqa: S101  reason: as above
        self._ask, self._answers = process.stdin.fileno(), process.stdout.fileno()
        self._process, self._unclosed = process, weakref.finalize(self, _ended, process, END_S)
        os.set_blocking(self._ask, False)
        self._loop.add_reader(self._answers, self._heard)

    def takes(self, asked: Sequence[Asked]) -> bool:
        """Whether it will remove them, and settle their futures."""
        requests = b"".join(b"\0".join(map(os.fsencode, paths)) + END for paths, _ in asked)
        try:
            if self.ended or len(requests) > REQUEST_BYTES_MAX or not os.write(self._ask, requests):
                return False
        except OSError:  # it has ended, or enough to do
            return False
        self.waiting += asked
        return True

    def _heard(self) -> None:
        said = os.read(self._answers, 65536)
        *lines, self._rest = (self._rest + said).split(b"\n")
        for line in lines:
            _settle(self.waiting.popleft()[1], _noted(line.decode()))
        if not said:  # it was killed
            self.close(time.monotonic())
            while self.waiting:
                self._otherwise(*self.waiting.popleft())

    def close(self, end: float) -> None:
        """Wait for its end, until the clock says ``end``."""
        if not self.ended and self._unclosed.detach():
            self.ended = True
            self._loop.remove_reader(self._answers)
            _ended(self._process, max(0.0, end - time.monotonic()))


def _ended(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:  # whatever is left, the next hub removes
        process.kill()
        process.communicate()


def _settle(future: asyncio.Future[bool], gone: bool) -> None:
    if not future.done():
        future.set_result(gone)
