"""Many asks on one sheet come to the same as each on a sheet of its own, one after the other."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.record.asks import (
    Columns,
    CreateRun,
    LogBatch,
    LogColumns,
    LogMetric,
    LogParam,
    NotPlain,
    SetTag,
)
from tallystick.record.entries import ModelPoint
from tallystick.record.sheet import MERGED, Row, Sheet

W, OTHER = "default", "blue"
NO_POINTS = Columns([], [], [], [])
runs = st.sampled_from(["r1", "r2", "gone"])
keys = st.sampled_from(["a", "b"])
values = st.sampled_from([0.0, -0.0, 1.0, -1.0, math.nan, math.inf, -math.inf])
small = st.integers(0, 2)
texts = st.sampled_from(["", "1", "2"])
pairs = st.lists(st.tuples(st.sampled_from(["p", "q", "mlflow.runName"]), texts), max_size=3).map(tuple)
params = st.dictionaries(st.sampled_from(["p", "q"]), texts).map(lambda found: tuple(found.items()))
columns = st.lists(st.tuples(keys, values, small, small), max_size=4).map(
    lambda rows: Columns(*(list(column) for column in zip(*rows, strict=True))) if rows else NO_POINTS
)
datasets = st.sampled_from([(None, None), ("d", "1")])
model_points = st.builds(
    lambda model, key, value, at, step, dataset: ModelPoint(model, key, value, at, step, *dataset),
    st.sampled_from(["m1", "m1", "m2", "blue", "none"]),
    *(keys, values, small, small, datasets),
)
asks = st.one_of(
    st.builds(LogMetric, runs, keys, values, small, small),
    st.builds(LogBatch, runs, columns, params, pairs, st.lists(model_points, max_size=2).map(tuple)),
    st.builds(LogColumns, st.sampled_from(["one", "two"]), st.tuples(st.tuples(runs, columns))),
    st.builds(LogParam, runs, st.sampled_from(["p", "q"]), texts),
    st.builds(SetTag, runs, st.sampled_from(["t", "mlflow.runName"]), texts),
    st.builds(CreateRun, st.sampled_from(["r1", "r9"]), st.sampled_from([0, 7]), st.just("u"), small, keys),
)


class Record:
    """A database of dicts, as far as sheets are concerned."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[Any, Any]] = {
            name: {} for name in ("runs", "metrics", "latest", "params", "tags", "names", "batches", "models")
        }

    def sheet(self) -> Sheet:
        sheet = Sheet()
        sheet.runs, sheet.homes = {"r1": W, "r2": W}, {"r1": 0, "r2": 0}
        sheet.experiments = {0: ("mlflow-artifacts:/0", W)}
        sheet.models = {"m1": W, "m2": W, "blue": OTHER}
        sheet.params = dict(self.tables["params"])
        sheet.batches = set(self.tables["batches"])
        sheet.model_points = dict(self.tables["models"])
        for run_id in self.tables["runs"]:
            sheet.runs[run_id] = W
        return sheet

    def write(self, sheet: Sheet) -> None:
        """As the database does it: what is there stays, or gives way to what is greater."""
        tables = self.tables
        for run_id, row in sheet.new_runs.items():
            assert run_id not in tables["runs"]
            tables["runs"][run_id] = row
        tables["metrics"].update(dict.fromkeys(map(repr, sheet.metrics)))
        for key, value, time_ms, run_id, step, nan in sheet.latest_rows():
            old = tables["latest"].get((run_id, key))
            if old is None or (step, time_ms, value) > old[:3]:
                tables["latest"][run_id, key] = (step, time_ms, value, nan)
        for key, text, run_id in sheet.new_params:
            assert (key, run_id) not in tables["params"]
            tables["params"][key, run_id] = text
        tables["tags"].update(sheet.tags)
        tables["names"].update(sheet.names)
        tables["batches"].update(dict.fromkeys(sheet.new_batches))
        for row in sheet.new_model_points:
            model_id, key, time_ms, step, value, experiment_id, run_id, *dataset = row
            place = (model_id, key, time_ms, step, run_id)
            assert place not in tables["models"]
            assert experiment_id == 0
            tables["models"][place] = (value, *dataset)


def spelled(parts: dict[str, Any]) -> dict[str, str]:
    """As text, where NaN is equal to itself, and a set's order is no difference."""
    return {k: repr(sorted(v, key=repr) if isinstance(v, set) else v) for k, v in parts.items()}


def answers(record: Record, groups: list[list[Any]]) -> list[str]:
    """Every answer, and its rows in the record."""
    found = []
    for group in groups:
        sheet = record.sheet()
        for ask in group:
            before = copy.deepcopy(vars(sheet))
            try:
                found.append(repr(MERGED[type(ask)](sheet, ask, W)))
            except NotPlain:
                assert spelled(vars(sheet)) == spelled(before), "what is not plain leaves no trace"
                found.append("not plain")
        record.write(sheet)
    return found


@given(st.lists(asks, max_size=12))
def test_together_is_as_one_by_one(said: list[Any]) -> None:
    alone, together = Record(), Record()
    assert answers(alone, [[ask] for ask in said]) == answers(together, [said])
    assert repr(sorted_of(alone)) == repr(sorted_of(together))


def sorted_of(record: Record) -> dict[str, list[Any]]:
    return {name: sorted(table.items(), key=repr) for name, table in record.tables.items()}


def batch(*points: ModelPoint) -> LogBatch:
    return LogBatch("r1", NO_POINTS, (), (), points)


POINT = ModelPoint("m1", "a", 1.0, 1, 1, "d", "1")
UNLIKE = [POINT._replace(value=2.0), POINT._replace(dataset_name=None, dataset_digest=None)]
UNLIKE += [POINT._replace(dataset_digest="2")]
NOT_THERE = [POINT._replace(model_id=model_id) for model_id in ("none", "blue")]


def written(*asks: LogBatch) -> list[Row]:
    """The rows of models that asks come to, each on a sheet of its own."""
    record = Record()
    for ask in asks:
        sheet = record.sheet()
        MERGED[LogBatch](sheet, ask, W)
        record.write(sheet)
    return list(record.tables["models"].items())


def test_a_point_of_a_model_is_there_once() -> None:
    place, told = ("m1", "a", 1, 1, "r1"), (1.0, "d", "1")
    assert written(batch(POINT), batch(POINT)) == [(place, told)]
    later = POINT._replace(step=2, value=math.inf)
    assert len(written(batch(POINT), batch(POINT, later), batch(later))) == 2


@pytest.mark.parametrize("point", UNLIKE)
def test_another_point_in_its_place_is_mlflows_to_refuse(point: ModelPoint) -> None:
    for asks_ in ([batch(POINT), batch(point)], [batch(POINT, point)], [batch(POINT, POINT)]):
        with pytest.raises(NotPlain):
            written(*asks_)


@pytest.mark.parametrize("point", NOT_THERE)
def test_a_model_that_is_not_there_takes_nothing(point: ModelPoint) -> None:
    with pytest.raises(NotPlain):
        written(batch(POINT, point))


def test_nan_is_kept_as_zero_and_so_is_in_the_place_of_one() -> None:
    nan = POINT._replace(value=math.nan)
    assert written(batch(nan), batch(nan), batch(POINT._replace(value=0.0)))[0][1][0] == 0.0


def test_of_many_points_mlflow_does_not_find_those_that_are_there() -> None:
    many = [POINT._replace(key=f"k{n}") for n in range(101)]
    assert len(written(batch(*many[:100]), batch(*many[:100]))) == 100
    assert len(written(batch(*many))) == 101
    with pytest.raises(NotPlain):
        written(batch(many[0]), batch(*many))
