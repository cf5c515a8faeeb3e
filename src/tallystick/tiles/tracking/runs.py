"""Runs and experiments as they are told: a whole page at a time, with one query for each kind of thing."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from tallystick.ports.database import Row, Session
from tallystick.record.asks import GetExperiment, GetRun, NotPlain
from tallystick.record.entries import DatasetInput, Experiment, ModelOutput, Pairs, Point, Run
from tallystick.record.rules import RUN_NAME
from tallystick.tiles.tracking import sql

__all__ = ["among", "get_experiment", "get_run", "load_runs", "pairs", "tell_experiments", "visible_runs"]


def among(session: Session, query: str, column: str, values: Sequence[object], *more: object) -> list[Row]:
    """The rows of ``query`` where ``column`` is among ``values``; ``more`` are the values after them."""
    text, bound = session.among(column, values)
    return session.rows(query.format(among=text), [*bound, *more])


def visible_runs(session: Session, run_ids: Sequence[str], workspace: str) -> list[str]:
    """Those of ``run_ids`` that are there and of this workspace, in the database's order."""
    return [row[0] for row in among(session, sql.RUN_VISIBLE, "r.run_uuid", run_ids, workspace)]


def get_run(session: Session, ask: GetRun, workspace: str) -> Run:
    """See :class:`GetRun`."""
    if not visible_runs(session, [ask.run_id], workspace):
        raise NotPlain
    (run,) = load_runs(session, [ask.run_id])
    return run._replace(model_inputs=[model for _, model, _ in _models(session, [ask.run_id], "INPUT")])


def load_runs(session: Session, ids: list[str]) -> list[Run]:
    """Runs that are there, in the order of ``ids``; without the models that they read, as in MLflow's search.

    Not plain where a run lacks what MLflow cannot tell of a run without (it fails at such a one).
    """
    if not ids:
        return []
    rows = {row[0]: row for row in among(session, sql.RUNS_LOAD, "run_uuid", ids)}
    params = pairs(among(session, sql.RUNS_PARAMS, "run_uuid", ids))
    tags = pairs(among(session, sql.RUNS_TAGS, "run_uuid", ids))
    metrics, datasets, outputs = _points(session, ids), _datasets(session, ids), _outputs(session, ids)
    found: list[Run] = []
    for run_id in ids:
        _, experiment, name, user, status, start, end, uri, stage = rows[run_id]
        if user is None or status is None or start is None:
            raise NotPlain
        name = name or dict(tags.get(run_id, [])).get(RUN_NAME) or name
        about = (run_id, experiment, name, user, status, start, end, uri, stage)
        lists = [one.get(run_id, []) for one in (metrics, params, tags, datasets, {}, outputs)]
        found.append(Run._make((*about, *lists)))
    return found


def pairs(rows: list[Row]) -> dict[Any, Pairs]:
    """Rows of whose, key and value, by whose; not plain where a value is NULL, since MLflow fails at it."""
    found: dict[Any, Pairs] = defaultdict(list)
    for whose, key, value in rows:
        if value is None:
            raise NotPlain
        found[whose].append((key, value))
    return found


def _points(session: Session, ids: list[str]) -> dict[str, list[Point]]:
    found: dict[str, list[Point]] = defaultdict(list)
    make, nan = tuple.__new__, math.nan  # as Point(...) does it in the end, in half the time
    for run_id, key, value, at, step, is_nan in among(session, sql.RUNS_METRICS, "run_uuid", ids):
        found[run_id].append(make(Point, (key, nan if is_nan else value, at, step)))
    return found


def _datasets(session: Session, ids: list[str]) -> dict[str, list[DatasetInput]]:
    """A dataset is told once for a run, with the tags of all inputs that name it."""
    inputs = among(session, sql.RUNS_DATASETS, "i.destination_id", ids)
    if not inputs:
        return {}
    tags = pairs(among(session, sql.INPUTS_TAGS, "input_uuid", [row[1] for row in inputs]))
    found: dict[str, dict[str, DatasetInput]] = {}
    for run_id, input_id, dataset_id, *about in inputs:
        known = found.setdefault(run_id, {})
        if dataset_id not in known:
            known[dataset_id] = DatasetInput._make((*about, []))
        known[dataset_id].tags.extend(tags.get(input_id, ()))
    return {run_id: list(known.values()) for run_id, known in found.items()}


def _models(session: Session, ids: list[str], way: str) -> list[Row]:
    text, bound = session.among("source_id", ids)
    return session.rows(sql.RUNS_MODELS.format(among=text), [f"RUN_{way}", *bound, f"MODEL_{way}"])


def _outputs(session: Session, ids: list[str]) -> dict[str, list[ModelOutput]]:
    found: dict[str, list[ModelOutput]] = {}
    for run_id, model_id, step in _models(session, ids, "OUTPUT"):
        found.setdefault(run_id, []).append(ModelOutput(model_id, step))
    return found


def get_experiment(session: Session, ask: GetExperiment, workspace: str) -> Experiment:
    """See :class:`GetExperiment`."""
    by, value = ("experiment_id", ask.experiment_id) if ask.experiment_id is not None else ("name", ask.name)
    query = sql.EXPERIMENTS_LOAD.format(tests=f"e.{by} = ? AND e.workspace = ?")
    found = session.rows(query, [value, workspace])
    if not found:
        raise NotPlain
    return tell_experiments(session, found)[0]


def tell_experiments(session: Session, rows: list[Row]) -> list[Experiment]:
    """Experiments from the columns of ``EXPERIMENTS_LOAD``, with their tags."""
    tags = pairs(among(session, sql.EXPERIMENTS_TAGS, "experiment_id", [row[0] for row in rows]))
    return [Experiment._make((*row, tags.get(row[0], []))) for row in rows]
