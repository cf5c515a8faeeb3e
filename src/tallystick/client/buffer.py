"""The points that wait, and the thread that sends them.

A caller appends to a deque and goes on; that is all that logging costs. One daemon thread takes chunks from
its other end. Points are counted as they are taken and as they are settled (durable, or refused for good), so
"everything logged so far" is a number: what was taken, and what the queue holds.
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
from tallystick.client.wire import POINTS_MAX, Point

__all__ = ["Buffer", "flush_all"]

_NEVER = 1 << 62
_LEAST_PAUSE_S = 0.05
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
        self._queue: deque[Point] = deque()
        self._room = self._limits.buffer_points
        self._call_at = 1  # wake the sender when so many wait
        self._taken = self._settled = 0
        self._hurry = 0  # how many wait in flush
        self._taking = threading.Lock()
        self._starting = threading.Lock()
        self._turn = threading.RLock()
        self._news = threading.Condition()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._courier = Courier(self._send, self._limits.retry_s, self._pause, self._tell)

    # -------------------------------------------------------------------------------------- the caller's side

    def put(self, point: Point) -> None:
        """Take a point; waits while the buffer is full. MlflowException: see :meth:`Courier.complain`."""
        if self._courier.alarm:
            self._courier.complain(point[0], self.waiting)
        queue = self._queue
        if len(queue) >= self._room:
            self._wait_for_room()
        queue.append(point)
        if len(queue) >= self._call_at:
            self._rouse()

    def put_all(self, points: Sequence[Point]) -> None:
        """Take points of one run, in one piece, as :meth:`put`; over the limit by no more than these."""
        if not points:
            return
        if self._courier.alarm:
            self._courier.complain(points[0][0], self.waiting)
        if len(self._queue) >= self._room:
            self._wait_for_room()
        self._queue.extend(points)
        if len(self._queue) >= self._call_at:
            self._rouse()

    @property
    def waiting(self) -> int:
        """Points that were put and are neither durable nor refused."""
        return len(self._queue) + self._taken - self._settled

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
        # In this order: what leaves the queue was counted as taken before.
        if self._queue or self._taken != self._settled:
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
        with self._taking:
            target = self._taken + len(self._queue)
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
        with self._news:
            self._news.wait_for(lambda: len(self._queue) < self._room or self._courier.stuck)
        if self._courier.stuck:
            self._courier.complain(None, self.waiting)

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
        if not self._queue:
            self._wake.wait()
        self._call_at = self._brim
        due = time.monotonic() + self._limits.flush_ms / 1000
        while not self._hurry and len(self._queue) < self._brim and (left := due - time.monotonic()) > 0:
            self._wake.wait(left)
            self._wake.clear()
        self._call_at = _NEVER

    def _send_queued(self) -> None:
        with self._turn:
            while points := self._take():
                self._deliver(points)
                self._settled += len(points)
                self._room = self._limits.buffer_points
                self._tell()
                if not self._hurry and len(self._queue) < self._brim:
                    return

    def _take(self) -> list[Point]:
        with self._taking:
            count = min(len(self._queue), POINTS_MAX)
            self._taken += count
            points = [self._queue.popleft() for _ in range(count)]
        self._room = self._limits.buffer_points - count
        return points

    def _deliver(self, points: list[Point]) -> None:
        try:
            self._courier.deliver(points)
        except Exception as error:  # whatever it is: a sender that dies would keep every caller waiting
            _logger.exception("metrics could not be sent")
            self._courier.lose(points, "INTERNAL_ERROR", f"the client failed: {error!r}")

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
