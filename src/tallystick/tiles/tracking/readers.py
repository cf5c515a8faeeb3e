"""Readers: a few threads, each with a session of its own, that answer what is asked of the record."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar, cast

from tallystick.core.errors import TallyError, Unavailable
from tallystick.ports.database import Session, Source
from tallystick.ports.tracking import DEFAULT_WORKSPACE
from tallystick.record import asks, model_asks
from tallystick.record.asks import NotPlain, Read
from tallystick.tiles.tracking import find, history, models, runs, sql

__all__ = ["Reads", "answer"]

A = TypeVar("A")

_ANSWERS: dict[type[Read[Any]], Callable[[Session, Any, str], Any]] = {
    asks.GetRun: runs.get_run,
    asks.SearchRuns: find.search_runs,
    asks.GetExperiment: runs.get_experiment,
    asks.SearchExperiments: find.search_experiments,
    asks.History: history.history,
    asks.HistoryBulk: history.history_bulk,
    asks.HistoryInterval: history.history_interval,
    model_asks.GetLoggedModel: models.get_logged_model,
    model_asks.SearchLoggedModels: models.search_logged_models,
    model_asks.GetRegisteredModel: models.get_registered_model,
    model_asks.GetModelVersion: models.get_model_version,
    model_asks.HeldVersions: models.held_versions,
}


def answer(session: Session, ask: Read[A], workspace: str) -> A:
    """The answer to ``ask`` from one state of the record; the driver's errors come out as they are."""
    how = _ANSWERS.get(type(ask))
    if how is None:
        raise NotPlain
    session.begin()
    try:
        if workspace != DEFAULT_WORKSPACE and not session.rows(sql.WORKSPACE_ROOT, (workspace,)):
            raise NotPlain  # a search in a workspace that is not there is an error, not an empty page
        return cast(A, how(session, ask, workspace))
    finally:
        session.end(keep=False)


class _Job(NamedTuple):
    ask: Read[Any]
    workspace: str
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[Any]

    def tell(self, value: Any, wrong: BaseException | None) -> None:
        """From any thread. Whoever asked may have gone, and the loop with them."""
        try:
            self.loop.call_soon_threadsafe(_settle, self.done, value, wrong)
        except RuntimeError:  # the loop is closed: nobody is left to be told
            return


def _settle(done: asyncio.Future[Any], value: Any, wrong: BaseException | None) -> None:
    if done.done():
        return
    if wrong is None:
        done.set_result(value)
    else:
        done.set_exception(wrong)


class Reads:
    """Answers reads in ``threads`` threads, which start with the first read. Reads wait for no writer."""

    def __init__(self, source: Source, threads: int = 4) -> None:
        self._source = source
        self._count = threads
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._closed = False

    async def read(self, ask: Read[A], workspace: str) -> A:
        """The answer to ``ask``; NotPlain as asks.py says, Unavailable when the database is not to be had."""
        if self._closed:
            raise Unavailable("the record is closed", where="tracking")
        self._start()
        loop = asyncio.get_running_loop()
        job = _Job(ask, workspace, loop, loop.create_future())
        self._jobs.put(job)
        return cast(A, await job.done)

    def close(self) -> None:
        """Answer what was asked before, and let go of the database; twice is fine. Waits for the threads."""
        if not self._closed:
            self._closed = True
            for _ in self._threads:
                self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _start(self) -> None:
        while len(self._threads) < self._count:
            name = f"tally-tracking-read-{len(self._threads)}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        session: Session | None = None
        try:
            while (job := self._jobs.get()) is not None:
                session = self._do(job, session)
        finally:
            _drop(session)

    def _do(self, job: _Job, session: Session | None) -> Session | None:
        """Answer one; a connection that broke is made anew once, since reading twice changes nothing."""
        for again in (True, False):
            try:
                if session is None:
                    session = self._source.connect(reading=True)
                job.tell(answer(session, job.ask, job.workspace), None)
                return session
            except (NotPlain, TallyError) as said:
                job.tell(None, said)
                return session
            except Exception as wrong:  # noqa: BLE001 - the drivers' errors; the source knows what they mean
                fault = self._source.meaning(wrong)
                if fault.kind in ("lost", "down"):
                    _drop(session)
                    session = None
                if fault.kind in ("lost", "again") and again:
                    continue
                job.tell(None, NotPlain() if fault.error is None else fault.error)
                return session
        return session


def _drop(session: Session | None) -> None:
    if session is None:
        return
    try:
        session.close()
    except Exception:  # noqa: BLE001 - the connection is broken, and this is to be rid of it
        return
