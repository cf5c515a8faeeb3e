"""A writer: a thread that commits whatever waits as one transaction, and then answers everybody.

While one commit waits for the disk, the next asks gather. An ask that spoils its group is found by halving
the group, so that it alone fails. Where a connection is lost, what is known not to be durable is carried out
again; what may be, only if doing it twice is the same as doing it once.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import random
import time
from collections.abc import Iterable
from queue import SimpleQueue
from threading import Thread
from typing import Any

from tallystick.core.errors import Unavailable
from tallystick.ports.database import Fault, Session, Source
from tallystick.record.asks import LogBatch, LogColumns, LogMetric, LogParam, NotPlain, Write
from tallystick.record.sheet import MERGED
from tallystick.tiles.tracking import sql
from tallystick.tiles.tracking.changes import CHANGES, Roots
from tallystick.tiles.tracking.indexes import make_indexes
from tallystick.tiles.tracking.inputs import MODEL_CHANGES
from tallystick.tiles.tracking.merged import Job, carry_out

__all__ = ["Writer"]

GROUP_ASKS_MAX = 2_000
GROUP_POINTS_MAX = 20_000
WAITING_ASKS_MAX = 20_000
WAITING_POINTS_MAX = 400_000
"""Some 80 MiB of points that wait."""
GAP_S = 0.025
"""Between transactions while others write too: SQLite's own waiting looks again every 25 to 100 ms."""
PATIENCE_S = 30.0
"""How long a lost database is waited for, from when it was lost."""
TRIES_MAX = 8
SWEEP_S = 3600.0
BATCH_KEPT_MS = 86_400_000
"""How long a column batch is remembered: longer than any client goes on sending one."""

HOW: dict[Any, Any] = {**CHANGES, **MODEL_CHANGES}


class Writer:
    """Owns a session that writes. It opens that as it is first needed, and again when it was lost."""

    def __init__(self, source: Source, roots: Roots) -> None:
        self._source = source
        self._roots = roots
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._points_in = 0  # by the event loop alone
        self._points_out = 0  # by the thread alone
        self._others = 0
        self._closing = False
        self._session: Session | None = None
        self._made = False
        self._ended_at = self._swept_at = 0.0
        self._lost_at: float | None = None
        self._committing = False
        self._thread = Thread(target=self._run, name="tally-tracking", daemon=True)
        self._thread.start()

    def do(self, ask: Write[Any] | None, workspace: str) -> asyncio.Future[Any]:
        """The answer to come. None as ask asks for nothing but the extra tables and indexes.

        Unavailable after :meth:`close`, or when more waits than memory should hold.
        """
        points = _points_of(ask)
        waiting = self._points_in - self._points_out
        if self._closing:
            raise Unavailable("the record is closed", where=self._source.where)
        if self._queue.qsize() >= WAITING_ASKS_MAX or (waiting and waiting + points > WAITING_POINTS_MAX):
            raise Unavailable(
                "too many writes wait for the disk", where=self._source.where, hint="try again in a moment"
            )
        self._points_in += points
        future = asyncio.get_running_loop().create_future()
        self._queue.put(Job(ask, workspace, points, future))
        return future

    def yield_to(self, others: int) -> None:
        """Leave gaps while ``others`` writes of other programs are under way."""
        self._others = others

    def close(self) -> None:
        """Finish what waits, then let go of the database; blocks until then. Twice is fine."""
        self._closing = True
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while jobs := self._gather():
            if self._others and (gap := self._ended_at + GAP_S - time.monotonic()) > 0:
                time.sleep(gap)
            self._carry(jobs)
            self._ended_at = time.monotonic()
            _answer(jobs)
        self._forget()

    def _gather(self) -> list[Job]:
        """The next jobs, waiting for the first; empty when closed and nothing is left."""
        jobs: list[Job] = []
        points, queue = 0, self._queue
        while len(jobs) < GROUP_ASKS_MAX and points < GROUP_POINTS_MAX:
            if (jobs or self._closing) and queue.empty():
                break
            if job := queue.get():  # the thread alone takes from it: what is not empty stays so until here
                jobs.append(job)
                points += job.points
        self._points_out += points
        return jobs

    def _carry(self, jobs: list[Job]) -> None:
        """Carry out all of them, together if that can be; afterwards each has its answer."""
        tries = 0
        while jobs:
            try:
                self._transaction(jobs)
                return
            except Exception as wrong:  # noqa: BLE001 - the thread's edge: who waits must hear of it
                fault = self._source.meaning(wrong)
                tries += 1
                jobs = self._after(fault, jobs, tries)

    def _after(self, fault: Fault, jobs: list[Job], tries: int) -> list[Job]:
        """What to do about a group that failed: the jobs to try again, when others have got their answers."""
        unsure = self._committing and fault.kind == "lost"
        self._undo(keep=fault.kind in ("guilty", "again"))
        if fault.kind == "guilty" and len(jobs) > 1:
            half = len(jobs) // 2
            self._carry(jobs[:half])
            self._carry(jobs[half:])
            return []
        if unsure:
            _tell((job for job in jobs if not _repeatable(job.ask)), self._not_known())
            jobs = [job for job in jobs if _repeatable(job.ask)]
        if (fault.kind == "again" and tries < TRIES_MAX) or (fault.kind == "lost" and self._patient()):
            time.sleep(min(0.01 * 2**tries, 0.5) * random.uniform(0.5, 1.0))  # noqa: S311 - only to be out of step
            return jobs
        _tell(jobs, fault.error or NotPlain())
        return []

    def _transaction(self, jobs: list[Job]) -> None:
        """All of them or none; on return it is durable."""
        self._committing = False
        if self._session is None:
            self._session = self._source.connect(reading=False)
            self._lost_at = None
        session = self._session
        session.begin()
        if not self._made:
            _make(session)
        self._sweep(session)
        at = 0
        while at < len(jobs):
            end = at
            while end < len(jobs) and type(jobs[end].ask) in MERGED:
                end += 1
            if end > at:
                carry_out(session, jobs[at:end])
            else:
                self._change(session, jobs[at])
            at = max(end, at + 1)
        self._committing = True
        session.end(keep=True)
        self._made = True

    def _change(self, session: Session, job: Job) -> None:
        """Carry out one of the rarer asks, which raises NotPlain before it has changed anything."""
        if change := HOW.get(type(job.ask)):
            try:
                job.answer = change(session, job.ask, job.workspace, self._roots)
            except NotPlain as not_plain:
                job.answer = not_plain

    def _sweep(self, session: Session) -> None:
        """Forget column batches that were applied long ago, now and then."""
        if not self._swept_at or time.monotonic() - self._swept_at > SWEEP_S:
            session.run(sql.BATCHES_SWEEP, (int(time.time() * 1000) - BATCH_KEPT_MS,))
            self._swept_at = time.monotonic()

    def _patient(self) -> bool:
        """Whether a lost database is still waited for."""
        now = time.monotonic()
        self._lost_at = self._lost_at or now
        return not self._closing and now - self._lost_at < PATIENCE_S

    def _undo(self, *, keep: bool) -> None:
        """Nothing stays half done; without ``keep`` the next transaction begins with a new session."""
        if self._session is not None:
            with contextlib.suppress(Exception):  # whatever is wrong with it, it is then let go of
                self._session.end(keep=False)
                if keep:
                    return
            self._forget()

    def _forget(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(Exception):  # it may be broken already
                session.close()

    def _not_known(self) -> Unavailable:
        return Unavailable(
            "the database went away in the middle: it is not known whether this was written",
            where=self._source.where,
            hint="look before you send it again",
        )


def _make(session: Session) -> None:
    """Our own tables and indexes, where they are not there yet; two hubs may begin at once."""
    if session.name == "postgresql":
        session.rows("SELECT pg_advisory_xact_lock(7461190)")
    for statement in sql.TABLES:
        session.run(statement)
    make_indexes(session)


def _points_of(ask: Write[Any] | None) -> int:
    """What an ask weighs, in points; a param or a tag may be as long as a dozen."""
    if type(ask) is LogBatch:
        return len(ask.points.keys) + 12 * (len(ask.params) + len(ask.tags)) + len(ask.of_models) + 1
    if type(ask) is LogColumns:
        return sum(len(columns.keys) for _, columns in ask.runs) + 1
    return 1


def _repeatable(ask: Write[Any] | None) -> bool:
    """Whether doing it twice is the same as doing it once, whatever others did in between."""
    if isinstance(ask, LogBatch):
        return not ask.tags
    return ask is None or isinstance(ask, LogMetric | LogParam | LogColumns)


def _tell(jobs: Iterable[Job], error: Exception) -> None:
    for job in jobs:
        job.answer = copy.copy(error)  # each is raised in a task of its own


def _answer(jobs: list[Job]) -> None:
    """Hand each waiting task its answer: one wake-up of the event loop for all of them."""
    loops = {job.future.get_loop() for job in jobs}
    for loop in loops:
        mine = jobs if len(loops) == 1 else [job for job in jobs if job.future.get_loop() is loop]
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
            loop.call_soon_threadsafe(_resolve, mine)


def _resolve(jobs: list[Job]) -> None:
    for job in jobs:
        if job.future.done():  # whoever waited was cancelled; what was written stays
            continue
        if isinstance(job.answer, Exception):
            job.future.set_exception(job.answer)
        else:
            job.future.set_result(job.answer)
