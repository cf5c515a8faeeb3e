"""The points that wait, and the thread that sends them.

A caller appends to a chunk and goes on; that is all that logging costs. A chunk that is full makes room for
the next, and one daemon thread takes them, the oldest first. Points are counted as they are put, taken, and
settled (durable, or refused for good), so "everything logged so far" is a number.
"""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from weakref import WeakSet

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

from tallystick.client.courier import Courier
from tallystick.client.settings import Limits
from tallystick.client.wire import POINTS_MAX, Row, weigh

__all__ = ["Buffer", "flush_all"]

_NEVER = 1 << 62
_LEAST_PAUSE_S = 0.05
_AHEAD_S = 0.005
"""As long as Python's own turns; in it, a long request is made and sent."""
_SILENT_S = 3.0
"""A process that ends and still waits says so after this long."""
_logger = logging.getLogger(__name__)
_buffers: WeakSet[Buffer] = WeakSet()


class Buffer:
    """Points on their way to one hub. Any number of threads put, flush and settle."""

    def __init__(self, send: Callable[[bytes, str | None], None], limits: Limits) -> None:
        self._send = send
        self._limits = limits
        self._brim = min(POINTS_MAX // 2, max(1, limits.buffer_points // 2))
        self._begin()
        _buffers.add(self)

    def _begin(self) -> None:
        """Empty, without a thread: as it is made, and in a child after a fork."""
        self._full: deque[tuple[list[Row], int]] = deque()  # chunks, and how many points each has
        self._open: list[Row] = []
        self._open_points = 0
        self._call_at = 1  # wake the sender when so many points are there to be taken
        self._put = 0  # as all above, with _filling held
        self._taken = self._settled = 0  # by the sender alone
        self._ahead_until = 0.0  # until then the sender goes ahead of callers
        self._hurry = 0  # how many wait in flush
        self._filling = threading.RLock()  # once more by a signal's handler that logs, in the same thread
        self._starting = threading.Lock()
        self._turn = threading.RLock()
        self._news = threading.Condition()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._courier = Courier(self._send, self._limits.retry_s, self._pause, self._tell)

    # -------------------------------------------------------------------------------------- the caller's side

    def put(self, row: Row) -> None:
        """Take a row; waits while the buffer is full. MlflowException: see :meth:`Courier.complain`."""
        keys = row[1]
        self._add((row,), 1 if type(keys) is str else len(keys))

    def put_all(self, rows: Sequence[Row]) -> None:
        """Take rows of one run, as :meth:`put`; over the limit by no more than these."""
        points = weigh(rows)
        if points > POINTS_MAX:
            for row in rows:
                self.put(row)
        elif rows:
            self._add(rows, points)

    def _add(self, rows: Sequence[Row], points: int) -> None:
        if self._courier.alarm:
            self._courier.complain(rows[0][0], self.waiting)
        if self._put - self._settled >= self._limits.buffer_points:
            self._wait_for_room()
        if self._ahead_until:
            self._stand_back()
        with self._filling:
            # Ctrl-C comes after a call: so what is counted and what is there change before the next one ends.
            if self._open_points + points > POINTS_MAX:
                full = self._open, self._open_points
                self._open, self._open_points = [], 0
                self._full.append(full)
            self._open_points += points
            self._put += points
            self._open.extend(rows)
        if self._put - self._taken >= self._call_at:
            self._rouse()

    @property
    def waiting(self) -> int:
        """Points that were put and are neither durable nor refused."""
        return self._put - self._settled

    def flush(self, timeout_s: float | None = None) -> None:
        """Return when everything put before is durable; MlflowException for anything refused or stuck."""
        if not self._drain(timeout_s):
            raise MlflowException(
                f"{self.waiting:,} metric point(s) are not durable on the hub after {timeout_s} s",
                TEMPORARILY_UNAVAILABLE,
            )
        if self._courier.alarm:
            self._courier.complain(None, self.waiting)

    def settle(self, run_id: str = "") -> None:
        """As :meth:`flush`, and quick when nothing waits; of refusals only ``run_id``'s are raised."""
        if self._put != self._settled:
            self._drain(None)
        if self._courier.alarm:
            self._courier.complain(run_id, self.waiting)

    def finish(self) -> None:
        """At the end of the process: flush, and say in the log what was lost. Ctrl-C gives up."""
        try:
            if not self._drain(_SILENT_S):
                _logger.warning("%d metric point(s) wait for the hub; Ctrl-C ends without them", self.waiting)
            self.flush()
        except MlflowException as error:
            _logger.error("%s", error.message)
        except KeyboardInterrupt:
            _logger.error("%d metric point(s) were not sent", self.waiting)

    def _drain(self, timeout_s: float | None) -> bool:
        """Wait until what was put is settled, or the hub is away for too long; False when time is up."""
        target = self._put
        seen = self._courier.tries

        def over() -> bool:
            return self._settled >= target or bool(self._courier.stuck and self._courier.tries > seen)

        with self._news:
            self._hurry += 1
        try:
            self._rouse()
            with self._news:
                return self._news.wait_for(over, timeout_s)
        finally:
            with self._news:
                self._hurry -= 1

    def _wait_for_room(self) -> None:
        self._rouse()
        most = self._limits.buffer_points
        with self._news:
            self._news.wait_for(lambda: self._put - self._settled < most or self._courier.stuck)
        if self._courier.stuck:
            self._courier.complain(None, self.waiting)

    def _stand_back(self) -> None:
        """Let the sender go ahead: who keeps the interpreter busy makes it wait, and the hub with it."""
        left = self._ahead_until - time.monotonic()
        self._ahead_until = 0.0
        if left > 0:
            time.sleep(left)

    def _rouse(self) -> None:
        thread = self._thread
        if thread is None or not thread.is_alive():
            self._start()
        if not self._wake.is_set():
            self._wake.set()

    def _start(self) -> None:
        with self._starting:
            if self._thread is not None and self._thread.is_alive():
                return
            if multiprocessing.parent_process() is not None:
                # A child made by fork ends without atexit.
                from multiprocessing.util import Finalize

                Finalize(None, self.finish, exitpriority=10)
            thread = threading.Thread(target=self._run, name="tally-metrics", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # The interpreter is on its way out and takes no more threads: then in this one.
                self._send_queued()
                return
            self._thread = thread

    # -------------------------------------------------------------------------------------- the sender's side

    def _run(self) -> None:
        while True:
            self._await()
            self._send_queued()

    def _await(self) -> None:
        """Until a first point is there, and then until it is due, they are many, or somebody flushes."""
        self._wake.clear()
        self._call_at = 1
        if not (self._open or self._full):
            self._wake.wait()
        self._call_at = self._brim
        due = time.monotonic() + self._limits.flush_ms / 1000
        while not self._hurry and self._few() and (left := due - time.monotonic()) > 0:
            self._wake.wait(left)
            self._wake.clear()
        self._call_at = _NEVER

    def _few(self) -> bool:
        return self._put - self._taken < self._brim

    def _send_queued(self) -> None:
        with self._turn:
            while self._open or self._full:
                rows, points = self._take()
                if points >= self._brim:
                    self._ahead_until = time.monotonic() + _AHEAD_S
                self._deliver(rows)
                self._settled += points
                self._tell()
                if not self._hurry and self._few():
                    return

    def _take(self) -> tuple[list[Row], int]:
        with self._filling:
            if self._full:
                rows, points = self._full.popleft()
            else:
                rows, points = self._open, self._open_points
                self._open, self._open_points = [], 0
            self._taken += points
        return rows, points

    def _deliver(self, rows: list[Row]) -> None:
        try:
            self._courier.deliver(rows)
        except Exception as error:  # whatever it is: a sender that dies would keep every caller waiting
            _logger.exception("metrics could not be sent")
            self._courier.lose(rows, "INTERNAL_ERROR", f"the client failed: {error!r}")

    def _pause(self, seconds: float) -> None:
        """Between two tries; whoever flushes need not wait for its end."""
        time.sleep(min(seconds, _LEAST_PAUSE_S))
        self._wake.clear()
        self._wake.wait(max(0.0, seconds - _LEAST_PAUSE_S))

    def _tell(self) -> None:
        with self._news:
            self._news.notify_all()


def flush_all(timeout_s: float | None) -> None:
    """Flush each buffer of this process; ``timeout_s`` seconds are for all of them together."""
    end = None if timeout_s is None else time.monotonic() + timeout_s
    for buffer in list(_buffers):
        buffer.flush(None if end is None else max(0.0, end - time.monotonic()))


def _at_exit() -> None:
    for buffer in list(_buffers):
        buffer.finish()


def _after_fork() -> None:
    """The child logs for itself alone: what waits is the parent's, and so is its thread."""
    for buffer in list(_buffers):
        buffer._begin()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork)
