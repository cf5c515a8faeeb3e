"""The one writer: a thread that commits whatever has gathered, and then tells everyone who waits.

Group commit: while one commit waits for the disk, the next jobs gather; they are committed together, so that
the cost of the disk is shared. A job that spoils its group (a full disk) is found by committing the jobs one
by one.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tallystick.core.errors import Failed, TallyError, Unavailable
from tallystick.tiles.ledger import sql
from tallystick.tiles.ledger.faults import said_plainly

__all__ = ["Work", "Writer"]

GROUP_JOBS_MAX = 1000
GROUP_BYTES_MAX = 32 * 1024 * 1024
WAITING_JOBS_MAX = 50_000
WAITING_BYTES_MAX = 512 * 1024 * 1024

Work = Callable[[sqlite3.Connection], int]
"""What a job does inside the transaction; its value is the answer to who waits."""


@dataclass(frozen=True, slots=True)
class _Job:
    work: Work
    size_bytes: int
    future: asyncio.Future[int]
    loop: asyncio.AbstractEventLoop


class Writer:
    """Owns the only connection that writes our tables. Made with the connection; closed once, or more."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._jobs: deque[_Job] = deque()
        self._waiting_bytes = 0
        self._closing = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="tally-ledger", daemon=True)
        self._thread.start()

    async def do(self, work: Work, size_bytes: int = 0) -> int:
        """Have ``work`` done and return its value once it is on disk.

        Unavailable after :meth:`close`, or when more waits than memory should hold.
        """
        loop = asyncio.get_running_loop()
        job = _Job(work, size_bytes, loop.create_future(), loop)
        with self._wake:
            if self._closing:
                raise Unavailable("the ledger is closed", where=str(self._path))
            if len(self._jobs) >= WAITING_JOBS_MAX or self._waiting_bytes + size_bytes > WAITING_BYTES_MAX:
                raise Unavailable(
                    "too many facts wait for the disk", where=str(self._path), hint="try again in a moment"
                )
            self._jobs.append(job)
            self._waiting_bytes += size_bytes
            self._wake.notify()
        return await job.future

    def close(self) -> None:
        """Finish what waits, then let go of the file; blocks until then. Twice is fine."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while group := self._gather():
            self._commit(group)
        self._connection.close()

    def _gather(self) -> list[_Job]:
        """The next jobs, in order, waiting for the first; empty when closed and nothing is left."""
        with self._wake:
            self._wake.wait_for(lambda: self._jobs or self._closing)
            group: list[_Job] = []
            size = 0
            while self._jobs and len(group) < GROUP_JOBS_MAX and size <= GROUP_BYTES_MAX:
                job = self._jobs.popleft()
                size += job.size_bytes
                group.append(job)
            self._waiting_bytes -= size
            return group

    def _commit(self, group: Sequence[_Job]) -> None:
        try:
            answers: Sequence[int | TallyError] = self._transaction(group)
        except sqlite3.Error as wrong:
            locked = getattr(wrong, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
            if len(group) > 1 and not locked:  # each would wait for the lock again, one after the other
                for job in group:
                    self._commit([job])
                return
            answers = [said_plainly(wrong, self._path) for _ in group]
        except Exception as wrong:  # noqa: BLE001 - the thread's edge: whoever waits must hear of it, whatever it was
            answers = [Failed(f"{type(wrong).__name__}: {wrong}", where=str(self._path)) for _ in group]
        _answer(group, answers)

    def _transaction(self, group: Sequence[_Job]) -> list[int]:
        """Do all of ``group`` or none; on return it is on disk."""
        self._connection.execute(sql.BEGIN)
        try:
            answers = [job.work(self._connection) for job in group]
            self._connection.execute("COMMIT")
        except BaseException:  # whatever it was, and it is raised again: nothing may stay half done
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        return answers


def _answer(group: Sequence[_Job], answers: Sequence[int | TallyError]) -> None:
    """Hand each waiting task its answer, waking each event loop once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[int], int | TallyError]]] = {}
    for job, answer in zip(group, answers, strict=True):
        by_loop.setdefault(job.loop, []).append((job.future, answer))
    for loop, pairs in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
            loop.call_soon_threadsafe(_resolve, pairs)


def _resolve(pairs: Sequence[tuple[asyncio.Future[int], int | TallyError]]) -> None:
    for future, answer in pairs:
        if future.done():  # whoever waited was cancelled; the fact is kept all the same
            continue
        if isinstance(answer, TallyError):
            future.set_exception(answer)
        else:
            future.set_result(answer)
