"""The hot asks, many in one go: one query for all their runs, and one insert for each table."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from tallystick.ports.database import Row, Session
from tallystick.record.asks import (
    CreateRun,
    LogBatch,
    LogColumns,
    LogMetric,
    LogParam,
    NotPlain,
    SetTag,
    Write,
)
from tallystick.record.sheet import MERGED, Sheet
from tallystick.tiles.tracking import sql
from tallystick.tiles.tracking.runs import among

__all__ = ["Job", "carry_out"]

PLACES_MAX = 256


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
    """Carry out ``jobs``, whose asks are all of ``MERGED``; those that are not plain are answered so."""
    sheet = _known(session, jobs)
    for job in jobs:
        try:
            job.answer = MERGED[type(job.ask)](sheet, job.ask, job.workspace)
        except NotPlain as not_plain:
            job.answer = not_plain
    _write(session, sheet)


def _known(session: Session, jobs: list[Job]) -> Sheet:
    """A sheet with all that is known of what the asks speak of."""
    runs: set[str] = set()
    experiments: set[int] = set()
    params: set[tuple[str, str]] = set()
    batches: set[str] = set()
    of_models: list[LogBatch] = []
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
                if ask.of_models:
                    of_models.append(ask)
    sheet = Sheet()
    sheet.runs = dict(_among(session, sql.RUNS_ACTIVE, "r.run_uuid", runs))
    found = _among(session, sql.EXPERIMENTS_ACTIVE, "experiment_id", experiments)
    sheet.experiments = {row[0]: row[1:] for row in found}
    rows = _places(session, sql.PARAMS_KNOWN, list(params))
    sheet.params = {(key, run_id): value for run_id, key, value in rows}
    sheet.batches = {row[0] for row in _among(session, sql.BATCHES_SEEN, "batch_id", batches)}
    if of_models:
        _know_models(session, sheet, of_models)
    return sheet


def _know_models(session: Session, sheet: Sheet, asks: list[LogBatch]) -> None:
    """What is known of the logged models that some batches speak of too."""
    said = [(point, ask.run_id) for ask in asks for point in ask.of_models]
    sheet.homes = dict(_among(session, sql.RUNS_HOMES, "run_uuid", {run_id for _, run_id in said}))
    sheet.models = dict(
        _among(session, sql.MODELS_HOMES, "m.model_id", {point.model_id for point, _ in said})
    )
    places = {(p.model_id, p.key, p.timestamp_ms, p.step, run_id) for p, run_id in said}
    rows = _places(session, sql.MODEL_POINTS_KNOWN, list(places))
    sheet.model_points = {row[:5]: row[5:] for row in rows}


def _write(session: Session, sheet: Sheet) -> None:
    """Put all rows where they belong, in one order for all: two hubs do not lock each other out."""
    sql.RUNS.put(session, list(sheet.new_runs.values()))
    sql.METRICS.put(session, sheet.metrics)
    sql.LATEST.put(session, sheet.latest_rows())
    sql.MODEL_POINTS.put(session, sheet.new_model_points)
    sql.PARAMS.put(session, sheet.new_params)
    sql.TAGS.put(session, [(key, sheet.tags[key, run], run) for key, run in sorted(sheet.tags)])
    for run_id in sorted(sheet.names):
        session.run(sql.RUN_RENAME, (sheet.names[run_id], run_id))
    now_ms = int(time.time() * 1000)
    sql.BATCHES.put(session, [(batch_id, now_ms) for batch_id in sheet.new_batches])


def _among(session: Session, statement: str, column: str, values: Iterable[Any]) -> list[Row]:
    """:func:`among`, without asking where nothing is wanted."""
    wanted = list(values)
    return among(session, statement, column, wanted) if wanted else []


def _places(session: Session, statement: str, places: list[Row]) -> list[Row]:
    """What is there at these places, each a row of values; as many of them as the next power of two."""
    found: list[Row] = []
    for at in range(0, len(places), PLACES_MAX):
        some = places[at : at + PLACES_MAX]
        count = 1 << (len(some) - 1).bit_length()
        some += [some[-1]] * (count - len(some))
        place = f"({', '.join('?' * len(some[0]))})"
        words = statement.format(places=", ".join([place] * count))
        found += session.rows(words, [value for row in some for value in row])
    return found
