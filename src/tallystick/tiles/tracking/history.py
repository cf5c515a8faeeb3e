"""A metric's points over time: all of them, of many runs, or thinned out as MLflow thins them out."""

from __future__ import annotations

import math

from tallystick.ports.database import Row, Session
from tallystick.record.asks import History, HistoryBulk, HistoryInterval, NotPlain
from tallystick.record.entries import Page, Point, RunPoint
from tallystick.tiles.tracking import sql
from tallystick.tiles.tracking.runs import visible_runs

__all__ = ["history", "history_bulk", "history_interval"]

ALL = 2**63 - 1
"""A limit that is none."""


def history(session: Session, ask: History, workspace: str) -> Page:
    """See :class:`History`. A run that is not there is not plain: MLflow's answer depends on its settings."""
    if not visible_runs(session, [ask.run_id], workspace):
        raise NotPlain
    most = ask.max_results
    limit = ALL if most is None else most + 1
    key, nan = ask.key, math.nan
    rows = session.rows(
        sql.POINTS.format(table=sql.BY_RUN[session.name]), [ask.run_id, key, limit, ask.offset]
    )
    more = most is not None and len(rows) > most
    make = tuple.__new__  # as Point(...) does it in the end, in half the time
    points = [
        make(Point, (key, nan if is_nan else value, at, step)) for value, at, step, is_nan in rows[:most]
    ]
    return Page(points, ask.offset + most if more and most is not None else None)


def history_bulk(session: Session, ask: HistoryBulk, workspace: str) -> list[RunPoint]:
    """See :class:`HistoryBulk`. Run by run, so that no more is sorted than is answered."""
    if ask.max_results < 1:
        raise NotPlain
    found: list[RunPoint] = []
    query = sql.POINTS.format(table=sql.BY_RUN[session.name])
    for run_id in visible_runs(session, list(dict.fromkeys(ask.run_ids)), workspace):
        rows = session.rows(query, [run_id, ask.key, ask.max_results - len(found), 0])
        found += _tell(run_id, rows)
        if len(found) >= ask.max_results:
            break
    return found


def history_interval(session: Session, ask: HistoryInterval, workspace: str) -> list[RunPoint]:
    """See :class:`HistoryInterval`. A run that is named twice is told twice, in the order of ``run_ids``."""
    if (ask.start_step is None) != (ask.end_step is None):
        raise NotPlain
    if set(visible_runs(session, list(dict.fromkeys(ask.run_ids)), workspace)) != set(ask.run_ids):
        raise NotPlain
    found: list[RunPoint] = []
    for run_id in ask.run_ids:
        found += _tell(run_id, _thinned(session, run_id, ask))
    return found


def _thinned(session: Session, run_id: str, ask: HistoryInterval) -> list[Row]:
    """At most ``max_results`` points by step, time and value, spread evenly over all, with the last one."""
    between = ask.start_step is not None and ask.end_step is not None
    tests = sql.STEPS_BETWEEN if between else sql.STEPS
    values = [run_id, ask.key, ask.start_step, ask.end_step] if between else [run_id, ask.key]
    named = {"table": sql.BY_RUN[session.name], "tests": tests}
    heaps = max(1, ask.max_results)
    ((count,),) = session.rows(sql.POINTS_COUNT.format(**named), values)
    if count <= heaps:
        return session.rows(sql.POINTS_ALL.format(**named), values)
    narrow, wider = divmod(count, heaps)
    wide = wider * (narrow + 1)
    last_heap = count - narrow
    places = [count - 1, last_heap, wide, narrow + 1, narrow + 1, wide, wide, narrow, narrow, wide]
    return session.rows(sql.POINTS_THINNED.format(**named), [*values, *places])


def _tell(run_id: str, rows: list[Row]) -> list[RunPoint]:
    make, nan = tuple.__new__, math.nan
    return [make(RunPoint, (run_id, nan if is_nan else value, at, step)) for value, at, step, is_nan in rows]
