"""The hot asks, many in one go: one query for all their runs, and one insert for each table."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from itertools import repeat
from math import isfinite, isnan
from typing import Any

from tallystick.core.tracking.asks import (
    Columns,
    CreateRun,
    Items,
    LogBatch,
    LogColumns,
    LogMetric,
    LogParam,
    NotPlain,
    SetTag,
    Write,
)
from tallystick.core.tracking.entries import Run
from tallystick.ports.database import Row, Session
from tallystick.tiles.tracking import sql
from tallystick.tiles.tracking.changes import RUN_NAME, under

__all__ = ["MERGED", "Job", "carry_out"]

LARGEST = 1.7976931348623157e308
"""What stands in the database for an infinite value, as MLflow has it."""
PAIRS_MAX = 256

Mark = tuple[int, int, float]
"""Step, time and value: what decides which point of a key is the latest."""


class Job:
    """An ask that waits, and its answer: a value, or the error to raise."""

    __slots__ = ("answer", "ask", "future", "points", "workspace")

    def __init__(
        self, ask: Write[Any] | None, workspace: str, points: int, future: asyncio.Future[Any]
    ) -> None:
        self.ask = ask
        self.workspace = workspace
        self.points = points
        self.future = future
        self.answer: Any = None


def carry_out(session: Session, jobs: list[Job]) -> None:
    """Carry out ``jobs``, whose asks are all of :data:`MERGED`; those that are not plain are answered so."""
    sheet = _Sheet(session, jobs)
    for job in jobs:
        try:
            job.answer = MERGED[type(job.ask)](sheet, job.ask, job.workspace)
        except NotPlain as not_plain:
            job.answer = not_plain
    sheet.write(session)


class _Sheet:
    """What is known of all that the asks speak of, and the rows that they come to."""

    def __init__(self, session: Session, jobs: list[Job]) -> None:
        self.metrics: list[Row] = []
        self.latest: dict[str, dict[str, Mark]] = {}
        self.latest_nan: set[tuple[str, str]] = set()
        self.new_params: list[Row] = []
        self.tags: dict[tuple[str, str], str] = {}
        self.names: dict[str, str] = {}
        self.new_batches: list[Row] = []
        self.new_runs: dict[str, Row] = {}
        self._look_up(session, jobs)

    def _look_up(self, session: Session, jobs: list[Job]) -> None:
        runs: set[str] = set()
        experiments: set[int] = set()
        params: set[tuple[str, str]] = set()
        batches: set[str] = set()
        for job in jobs:
            ask = job.ask
            if isinstance(ask, CreateRun):
                experiments.add(ask.experiment_id)
            elif isinstance(ask, LogColumns):
                runs.update(run_id for run_id, _ in ask.runs)
                batches.add(ask.batch_id)
            elif isinstance(ask, LogMetric | LogBatch | LogParam | SetTag):
                runs.add(ask.run_id)
                if isinstance(ask, LogParam):
                    params.add((ask.key, ask.run_id))
                elif isinstance(ask, LogBatch):
                    params.update((key, ask.run_id) for key, _ in ask.params)
        self.runs: dict[str, str] = dict(_among(session, sql.RUNS_ACTIVE, "r.run_uuid", runs))
        found = _among(session, sql.EXPERIMENTS_ACTIVE, "experiment_id", experiments)
        self.experiments = {row[0]: row[1:] for row in found}
        self.params = _known_params(session, list(params))
        self.batches = {row[0] for row in _among(session, sql.BATCHES_SEEN, "batch_id", batches)}

    def check(self, run_id: str, workspace: str) -> None:
        """NotPlain unless the run is there, active, and of this workspace."""
        if self.runs.get(run_id) != workspace:
            raise NotPlain

    def add_point(self, ask: LogMetric) -> None:
        """One point."""
        value, nan = ask.value, 0
        if not isfinite(value):
            value, nan = _told(value)
        run_id, key = ask.run_id, ask.key
        self.metrics.append((key, value, ask.timestamp_ms, run_id, ask.step, nan))
        mark = (ask.step, ask.timestamp_ms, value)
        latest = self.latest.setdefault(run_id, {})
        old = latest.get(key)
        if old is None or mark > old:
            latest[key] = mark
            if nan:
                self.latest_nan.add((run_id, key))
            elif self.latest_nan:
                self.latest_nan.discard((run_id, key))

    def add_points(self, run_id: str, points: Columns) -> None:
        """Columns of points; those that are finite, as nearly all are, in a loop of their own."""
        values = points.values
        if not all(map(isfinite, values)):
            for row in zip(points.keys, values, points.timestamps_ms, points.steps, strict=True):
                self.add_point(LogMetric(run_id, *row))
            return
        columns = (points.keys, values, points.timestamps_ms, repeat(run_id), points.steps, repeat(0))
        self.metrics.extend(zip(*columns, strict=False))
        latest = self.latest.setdefault(run_id, {})
        get, nans = latest.get, self.latest_nan
        marks = zip(points.steps, points.timestamps_ms, values, strict=True)
        for key, mark in zip(points.keys, marks, strict=True):
            old = get(key)
            if old is None or mark > old:
                latest[key] = mark
                if nans:
                    nans.discard((run_id, key))

    def add_params(self, run_id: str, params: Items) -> None:
        """All of them or none: NotPlain where one is there with another value."""
        known = self.params
        for key, value in params:
            if known.get((key, run_id), value) != value:
                raise NotPlain
        for key, value in params:
            if (key, run_id) not in known:
                known[key, run_id] = value
                self.new_params.append((key, value, run_id))

    def add_tags(self, run_id: str, tags: Items) -> None:
        """The last of each key counts; an empty name leaves run and tag as they are, as in MLflow."""
        for key, value in tags:
            if key == RUN_NAME:
                if not value:
                    continue
                self.names[run_id] = value
            self.tags[key, run_id] = value

    def write(self, session: Session) -> None:
        """Put all rows where they belong, in one order for all: two hubs do not lock each other out."""
        sql.RUNS.put(session, list(self.new_runs.values()))
        sql.METRICS.put(session, self.metrics)
        sql.LATEST.put(session, self._latest_rows())
        sql.PARAMS.put(session, self.new_params)
        sql.TAGS.put(session, [(key, self.tags[key, run], run) for key, run in sorted(self.tags)])
        for run_id in sorted(self.names):
            session.run(sql.RUN_RENAME, (self.names[run_id], run_id))
        sql.BATCHES.put(session, self.new_batches)

    def _latest_rows(self) -> list[Row]:
        nans = self.latest_nan
        return [
            (key, value, time_ms, run_id, step, 1 if nans and (run_id, key) in nans else 0)
            for run_id in sorted(self.latest)
            for key, (step, time_ms, value) in sorted(self.latest[run_id].items())
        ]


def _log_metric(sheet: _Sheet, ask: LogMetric, workspace: str) -> None:
    sheet.check(ask.run_id, workspace)
    sheet.add_point(ask)


def _log_batch(sheet: _Sheet, ask: LogBatch, workspace: str) -> None:
    sheet.check(ask.run_id, workspace)
    if ask.params:
        sheet.add_params(ask.run_id, ask.params)
    if ask.points.keys:
        sheet.add_points(ask.run_id, ask.points)
    if ask.tags:
        sheet.add_tags(ask.run_id, ask.tags)


def _log_columns(sheet: _Sheet, ask: LogColumns, workspace: str) -> None:
    if ask.batch_id in sheet.batches:
        return
    for run_id, _ in ask.runs:
        sheet.check(run_id, workspace)
    for run_id, points in ask.runs:
        sheet.add_points(run_id, points)
    sheet.batches.add(ask.batch_id)
    sheet.new_batches.append((ask.batch_id, int(time.time() * 1000)))


def _log_param(sheet: _Sheet, ask: LogParam, workspace: str) -> None:
    sheet.check(ask.run_id, workspace)
    sheet.add_params(ask.run_id, ((ask.key, ask.value),))


def _set_tag(sheet: _Sheet, ask: SetTag, workspace: str) -> None:
    sheet.check(ask.run_id, workspace)
    sheet.add_tags(ask.run_id, ((ask.key, ask.value),))


def _create_run(sheet: _Sheet, ask: CreateRun, workspace: str) -> Run:
    location, found = sheet.experiments.get(ask.experiment_id, (None, None))
    tags = {**dict(ask.tags), RUN_NAME: ask.name}
    named = dict(ask.tags).get(RUN_NAME, ask.name)
    if found != workspace or named != ask.name or len(dict(ask.tags)) < len(ask.tags):
        raise NotPlain
    if ask.run_id in sheet.runs or ask.run_id in sheet.new_runs:
        raise NotPlain
    uri = under(location, ask.run_id, "artifacts")
    sheet.new_runs[ask.run_id] = (
        *(ask.run_id, ask.name, "UNKNOWN", "", "", ask.user_id, "RUNNING"),
        *(ask.start_ms, "", "active", uri, ask.experiment_id),
    )
    for key, value in tags.items():
        sheet.tags[key, ask.run_id] = value
    listed = list(tags.items())
    what = (
        ask.run_id,
        ask.experiment_id,
        ask.name,
        ask.user_id,
        "RUNNING",
        ask.start_ms,
        None,
        uri,
        "active",
    )
    return Run(*what, [], [], listed, [], [], [])


MERGED: dict[type, Callable[[_Sheet, Any, str], Any]] = {
    LogMetric: _log_metric,
    LogBatch: _log_batch,
    LogColumns: _log_columns,
    LogParam: _log_param,
    SetTag: _set_tag,
    CreateRun: _create_run,
}
"""How each is brought onto the sheet."""


def _told(value: float) -> tuple[float, int]:
    """What the database is told of a value that is not finite: NaN is 0 with a flag."""
    if isnan(value):
        return 0.0, 1
    return (LARGEST if value > 0 else -LARGEST), 0


def _among(session: Session, statement: str, column: str, values: Iterable[Any]) -> list[Row]:
    wanted = list(values)
    if not wanted:
        return []
    words, told = session.among(column, wanted)
    return session.rows(statement.format(among=words), told)


def _known_params(session: Session, pairs: list[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The params that are there, of these pairs of key and run; as many places as the next power of two."""
    known: dict[tuple[str, str], str] = {}
    for at in range(0, len(pairs), PAIRS_MAX):
        some = pairs[at : at + PAIRS_MAX]
        places = 1 << (len(some) - 1).bit_length()
        some += [some[-1]] * (places - len(some))
        words = sql.PARAMS_KNOWN.format(pairs=", ".join(["(?, ?)"] * places))
        told = [text for pair in some for text in pair]
        known.update({(key, run_id): value for run_id, key, value in session.rows(words, told)})
    return known
