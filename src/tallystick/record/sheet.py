"""Many asks in one go: what they come to, given what is known of all that they speak of.

Asks are brought onto a sheet one after the other, each as if those before it had been carried out; one that
is not plain leaves the sheet as it was. What stands on it in the end is written with one statement for each
table, which is the same as carrying out each ask alone.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from math import isfinite
from typing import Any

from tallystick.record.asks import (
    Columns,
    CreateRun,
    Items,
    LogBatch,
    LogColumns,
    LogMetric,
    LogParam,
    NotPlain,
    SetTag,
)
from tallystick.record.entries import Run
from tallystick.record.rules import RUN_NAME, kept, under

__all__ = ["MERGED", "ModelPlace", "Row", "Sheet"]

Row = tuple[Any, ...]

Mark = tuple[int, int, float]
"""Step, time and value: what decides which point of a key is the latest."""
ModelPlace = tuple[str, str, int, int, str]
"""Model, key, time, step and run: where a logged model has one point."""

MODEL_POINTS_AGAIN_MAX = 100
"""Of more points than these, MLflow does not find all that are there already."""


class Sheet:
    """What is known, filled in beforehand, and the rows to write, in the columns of MLflow's tables."""

    def __init__(self) -> None:
        # What is known: active runs and their workspaces, active experiments with location and workspace,
        # params by key and run, column batches; and where runs speak of models, the runs' experiments, the
        # models' workspaces, and the models' points by place: value and dataset.
        self.runs: dict[str, str] = {}
        self.experiments: dict[int, tuple[str | None, str]] = {}
        self.params: dict[tuple[str, str], str] = {}
        self.batches: set[str] = set()
        self.homes: dict[str, int] = {}
        self.models: dict[str, str] = {}
        self.model_points: dict[ModelPlace, Row] = {}
        # What is to be written.
        self.new_runs: dict[str, Row] = {}
        self.metrics: list[Row] = []
        self.new_params: list[Row] = []
        self.tags: dict[tuple[str, str], str] = {}
        self.names: dict[str, str] = {}
        self.new_batches: list[str] = []
        self.new_model_points: list[Row] = []
        self._latest: dict[str, dict[str, Mark]] = {}
        self._latest_nan: set[tuple[str, str]] = set()

    def check(self, run_id: str, workspace: str) -> None:
        """NotPlain unless the run is there, active, and of this workspace."""
        if self.runs.get(run_id) != workspace:
            raise NotPlain

    def add_point(self, ask: LogMetric) -> None:
        """One point."""
        value, nan = kept(ask.value)
        run_id, key = ask.run_id, ask.key
        self.metrics.append((key, value, ask.timestamp_ms, run_id, ask.step, nan))
        mark = (ask.step, ask.timestamp_ms, value)
        latest = self._latest.setdefault(run_id, {})
        old = latest.get(key)
        if old is None or mark > old:
            latest[key] = mark
            if nan:
                self._latest_nan.add((run_id, key))
            elif self._latest_nan:
                self._latest_nan.discard((run_id, key))

    def add_points(self, run_id: str, points: Columns) -> None:
        """Columns of points; those that are finite, as nearly all are, in a loop of their own."""
        values = points.values
        if not all(map(isfinite, values)):
            for row in zip(points.keys, values, points.timestamps_ms, points.steps, strict=True):
                self.add_point(LogMetric(run_id, *row))
            return
        columns = (points.keys, values, points.timestamps_ms, repeat(run_id), points.steps, repeat(0))
        self.metrics.extend(zip(*columns, strict=False))
        latest = self._latest.setdefault(run_id, {})
        get, nans = latest.get, self._latest_nan
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

    def points_of_models(self, ask: LogBatch, workspace: str) -> dict[ModelPlace, Row]:
        """Value and dataset of each new point, by its place; NotPlain as :class:`LogBatch` says."""
        new: dict[ModelPlace, Row] = {}
        places: set[ModelPlace] = set()
        for model_id, key, value, time_ms, step, name, digest in ask.of_models:
            place, told = (model_id, key, time_ms, step, ask.run_id), (kept(value)[0], name, digest)
            there = self.model_points.get(place)
            if self.models.get(model_id) != workspace or place in places or there not in (None, told):
                raise NotPlain
            places.add(place)
            if there is None:
                new[place] = told
        if len(new) < len(places) and len(places) > MODEL_POINTS_AGAIN_MAX:
            raise NotPlain
        return new

    def add_points_of_models(self, new: dict[ModelPlace, Row]) -> None:
        """What :meth:`points_of_models` found."""
        self.model_points.update(new)
        for (model_id, key, time_ms, step, run_id), (value, name, digest) in new.items():
            where = (model_id, key, time_ms, step, value, self.homes[run_id], run_id)
            self.new_model_points.append((*where, name, digest))

    def latest_rows(self) -> list[Row]:
        """The latest point of each key of each run, in an order that is the same for everybody."""
        nans = self._latest_nan
        return [
            (key, value, time_ms, run_id, step, 1 if nans and (run_id, key) in nans else 0)
            for run_id in sorted(self._latest)
            for key, (step, time_ms, value) in sorted(self._latest[run_id].items())
        ]


def _log_metric(sheet: Sheet, ask: LogMetric, workspace: str) -> None:
    sheet.check(ask.run_id, workspace)
    sheet.add_point(ask)


def _log_batch(sheet: Sheet, ask: LogBatch, workspace: str) -> None:
    sheet.check(ask.run_id, workspace)
    of_models = sheet.points_of_models(ask, workspace) if ask.of_models else None
    if ask.params:
        sheet.add_params(ask.run_id, ask.params)
    if ask.points.keys:
        sheet.add_points(ask.run_id, ask.points)
    if ask.tags:
        sheet.add_tags(ask.run_id, ask.tags)
    if of_models:
        sheet.add_points_of_models(of_models)


def _log_columns(sheet: Sheet, ask: LogColumns, workspace: str) -> None:
    if ask.batch_id in sheet.batches:
        return
    for run_id, _ in ask.runs:
        sheet.check(run_id, workspace)
    for run_id, points in ask.runs:
        sheet.add_points(run_id, points)
    sheet.batches.add(ask.batch_id)
    sheet.new_batches.append(ask.batch_id)


def _log_param(sheet: Sheet, ask: LogParam, workspace: str) -> None:
    sheet.check(ask.run_id, workspace)
    sheet.add_params(ask.run_id, ((ask.key, ask.value),))


def _set_tag(sheet: Sheet, ask: SetTag, workspace: str) -> None:
    sheet.check(ask.run_id, workspace)
    sheet.add_tags(ask.run_id, ((ask.key, ask.value),))


def _create_run(sheet: Sheet, ask: CreateRun, workspace: str) -> Run:
    location, found = sheet.experiments.get(ask.experiment_id, (None, None))
    given = dict(ask.tags)
    tags = {**given, RUN_NAME: ask.name}
    if found != workspace or given.get(RUN_NAME, ask.name) != ask.name or len(given) < len(ask.tags):
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
    told = (ask.run_id, ask.experiment_id, ask.name, ask.user_id, "RUNNING", ask.start_ms, None, uri)
    return Run(*told, "active", [], [], listed, [], [], [])


MERGED: dict[type, Callable[[Sheet, Any, str], Any]] = {
    LogMetric: _log_metric,
    LogBatch: _log_batch,
    LogColumns: _log_columns,
    LogParam: _log_param,
    SetTag: _set_tag,
    CreateRun: _create_run,
}
"""How each is brought onto a sheet: NotPlain where it is not plain, and then the sheet is as it was."""
