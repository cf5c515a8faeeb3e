"""What every tracking tile must do with runs; ``whole`` is all of it."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import pytest

from tallystick.ports.tracking import Tracking
from tallystick.proofs.tracking.record import NO_POINTS, R, RecordProof, W, begin, points, refused, run_id
from tallystick.record.asks import (
    CreateRun,
    DeleteTag,
    History,
    LogBatch,
    LogColumns,
    LogInputs,
    LogMetric,
    LogModel,
    LogOutputs,
    LogParam,
    MoveRun,
    NotPlain,
    SetTag,
    UpdateRun,
    Write,
)
from tallystick.record.entries import DatasetInput, ModelOutput, Point

__all__ = ["RunsProof", "inside"]

NAN, INF = math.nan, math.inf


def inside(n: int = 1) -> list[Write[Any]]:
    """One of each ask that changes what is in the n-th run."""
    run = run_id(n)
    dataset = DatasetInput("d", "1", "local", "{}", None, None, [])
    return [
        LogMetric(run, "a", 1.0, 1, 1),
        LogBatch(run, points(("a", 2.0, 1, 1)), (("p", "2"),), (("t", "2"),)),
        LogColumns(f"batch-{n}", ((run, points(("a", 3.0, 1, 1))),)),
        LogParam(run, "q", "1"),
        SetTag(run, "s", "1"),
        DeleteTag(run, "mlflow.runName"),
        UpdateRun(run, "FINISHED", 9),
        LogInputs(run, (dataset,), ("m-1",)),
        LogOutputs(run, (ModelOutput("m-2", 0),)),
        LogModel(run, "{}"),
    ]


class RunsProof(RecordProof):
    """What is written of runs, with its unhappy half."""

    async def test_it_is_ready(self, tracking: Tracking) -> None:
        assert await tracking.ready()

    async def test_a_run_is_created(self, tracking: Tracking) -> None:
        tags = (("mlflow.runName", "two"), ("é'\"", "🐢"))
        told = await tracking.write(CreateRun(run_id(2), 0, "ann", 5, "two", tags), W)
        found = await self.run(tracking, 2)
        assert found._replace(tags=sorted(found.tags)) == told._replace(tags=sorted(told.tags))
        assert told[:9] == (
            *(run_id(2), 0, "two", "ann", "RUNNING", 5, None),
            *(f"mlflow-artifacts:/0/{run_id(2)}/artifacts", "active"),
        )
        assert dict(found.tags) == dict(tags)
        assert dict((await self.run(tracking)).tags) == {"mlflow.runName": "run-1"}

    async def test_a_run_that_cannot_be_is_not_plain(self, tracking: Tracking) -> None:
        await refused(tracking, CreateRun(R, 0, "ann", 5, "again"))
        await refused(tracking, CreateRun(run_id(2), 77, "ann", 5, "nowhere"))
        await refused(tracking, CreateRun(run_id(2), 0, "ann", 5, "a", (("mlflow.runName", "b"),)))
        await refused(tracking, CreateRun(run_id(2), 0, "ann", 5, "a", (("t", "1"), ("t", "2"))))
        with pytest.raises(NotPlain):
            await self.run(tracking, 2)

    async def test_the_latest_is_the_greatest_by_step_time_and_value(self, tracking: Tracking) -> None:
        rows = [("a", 5.0, 10, 1), ("a", 1.0, 10, 2), ("a", 2.0, 10, 2), ("a", 9.0, 9, 2), ("a", 0.5, 99, 0)]
        for n, order in enumerate((rows, rows[::-1], rows[2:] + rows[:2]), start=2):
            await begin(tracking, n)
            for key, value, time_ms, step in order:
                await tracking.write(LogMetric(run_id(n), key, value, time_ms, step), W)
            assert (await self.run(tracking, n)).metrics == [Point("a", 2.0, 10, 2)]
            await tracking.write(LogBatch(R, points(*((f"k{n}", *row[1:]) for row in order))), W)
        assert {p[1:] for p in (await self.run(tracking)).metrics} == {(2.0, 10, 2)}

    async def test_values_that_are_not_finite(self, tracking: Tracking) -> None:
        for n, value in enumerate([NAN, INF, -INF, 1.5, NAN]):
            await tracking.write(LogMetric(R, "one", value, 1, n), W)
        columns = points(*(("many", value, 1, n) for n, value in enumerate([1.5, INF, NAN, -INF])))
        await tracking.write(LogBatch(R, columns), W)
        latest = {p.key: repr(p.value) for p in (await self.run(tracking)).metrics}
        assert latest["one"] == "nan"
        assert latest["many"] in ("-inf", "-1.7976931348623157e+308")
        found = (await tracking.read(History(R, "one"), W)).items
        assert [math.isnan(p.value) for p in found if isinstance(p, Point)] == [
            True,
            False,
            False,
            False,
            True,
        ]

    async def test_nan_counts_as_zero_among_the_latest(self, tracking: Tracking) -> None:
        for key, values in {"up": [-1.0, NAN], "down": [NAN, -1.0], "same": [0.0, NAN]}.items():
            for value in values:
                await tracking.write(LogMetric(R, key, value, 1, 1), W)
            await tracking.write(LogBatch(R, points(*((f"{key}s", v, 1, 1) for v in values))), W)
        latest = {p.key: repr(p.value) for p in (await self.run(tracking)).metrics}
        for end in ("", "s"):
            assert [latest[key + end] for key in ("up", "down", "same")] == ["nan", "nan", "0.0"]

    async def test_a_point_that_is_there_is_there_once(self, tracking: Tracking) -> None:
        row = ("a", 0.1, 7, 3)
        await asyncio.gather(*(tracking.write(LogMetric(R, *row), W) for _ in range(5)))
        await tracking.write(LogBatch(R, points(row, row, ("a", NAN, 7, 3), ("a", NAN, 7, 3))), W)
        found = (await tracking.read(History(R, "a"), W)).items
        assert sorted(repr(p.value) for p in found if isinstance(p, Point)) == ["0.1", "nan"]

    async def test_numbers_come_back_to_the_last_bit(self, tracking: Tracking) -> None:
        values = [0.1, 1e-320, 5e-324, 2**53 + 1.0, 1.7976931348623157e308, -1e-9, 123456789.123456789]
        rows = [(f"k{n}", value, 2**62 - n, -(2**61) + n) for n, value in enumerate(values)]
        await tracking.write(LogBatch(R, points(*rows)), W)
        assert sorted((await self.run(tracking)).metrics) == sorted(Point(*row) for row in rows)

    async def test_a_batch_of_all_kinds(self, tracking: Tracking) -> None:
        rows = [(f"m{n}", float(n), n, n) for n in range(1000)]
        params = tuple((f"p{n}", "v" * n) for n in range(100))
        tags = (("a", "1"), ("a", "2"), ("b", ""), ("mlflow.runName", "new"))
        await tracking.write(LogBatch(R, points(*rows), params, tags), W)
        found = await self.run(tracking)
        assert sorted(found.metrics) == sorted(Point(*row) for row in rows)
        assert sorted(found.params) == sorted(params)
        assert dict(found.tags) == {"a": "2", "b": "", "mlflow.runName": "new"}
        assert found.name == "new"
        await tracking.write(LogBatch(R, NO_POINTS), W)
        assert await self.run(tracking) == found

    async def test_a_batch_is_all_or_nothing(self, tracking: Tracking) -> None:
        await tracking.write(LogParam(R, "p", "1"), W)
        before = await self.run(tracking)
        await refused(
            tracking, LogBatch(R, points(("a", 1.0, 1, 1)), (("q", "1"), ("p", "2")), (("t", "1"),))
        )
        assert await self.run(tracking) == before
        await tracking.write(LogBatch(R, NO_POINTS, (("q", "1"), ("p", "1"))), W)
        assert sorted((await self.run(tracking)).params) == [("p", "1"), ("q", "1")]

    async def test_a_param_stays_what_it_is(self, tracking: Tracking) -> None:
        await tracking.write(LogParam(R, "p", ""), W)
        await tracking.write(LogParam(R, "p", ""), W)
        await refused(tracking, LogParam(R, "p", " "))
        assert (await self.run(tracking)).params == [("p", "")]

    async def test_columns_are_applied_once(self, tracking: Tracking) -> None:
        await begin(tracking, 2)
        runs = ((R, points(("a", 1.0, 1, 1), ("b", NAN, 1, 1))), (run_id(2), points(("a", 2.0, 1, 1))))
        first = [tracking.write(LogColumns("one", runs), W) for _ in range(3)]
        await asyncio.gather(*first)
        await tracking.write(LogColumns("one", ((R, points(("never", 1.0, 1, 1))),)), W)
        assert {p.key for p in (await self.run(tracking)).metrics} == {"a", "b"}
        assert (await self.run(tracking, 2)).metrics == [Point("a", 2.0, 1, 1)]
        await refused(tracking, LogColumns("two", ((R, points(("c", 1.0, 1, 1))), (run_id(9), NO_POINTS))))
        await tracking.write(LogColumns("two", ((R, points(("d", 1.0, 1, 1))),)), W)
        assert {p.key for p in (await self.run(tracking)).metrics} == {"a", "b", "d"}

    async def test_tags_are_set_replaced_and_deleted(self, tracking: Tracking) -> None:
        for value in ("1", "", "3"):
            await tracking.write(SetTag(R, "t", value), W)
        await tracking.write(SetTag(R, "mlflow.runName", "other"), W)
        await tracking.write(SetTag(R, "mlflow.runName", ""), W)
        found = await self.run(tracking)
        assert (found.name, dict(found.tags)) == ("other", {"t": "3", "mlflow.runName": "other"})
        await tracking.write(DeleteTag(R, "t"), W)
        await refused(tracking, DeleteTag(R, "t"))
        assert dict((await self.run(tracking)).tags) == {"mlflow.runName": "other"}

    async def test_a_run_is_updated(self, tracking: Tracking) -> None:
        told = await tracking.write(UpdateRun(R, "FAILED", 99), W)
        assert (told.status, told.end_ms, told.name, told.tags) == ("FAILED", 99, "run-1", [])
        told = await tracking.write(UpdateRun(R, name="b"), W)
        assert (told.status, told.end_ms, told.name, told.start_ms) == ("FAILED", 99, "b", 1001)
        found = await self.run(tracking)
        assert (found.name, dict(found.tags)) == ("b", {"mlflow.runName": "b"})
        assert found[:9] == told[:9]

    async def test_a_run_that_is_gone_takes_nothing(self, tracking: Tracking) -> None:
        await tracking.write(MoveRun(R, "deleted", 5), W)
        before = await self.run(tracking)
        assert before.lifecycle_stage == "deleted"
        for ask in inside():
            await refused(tracking, ask)
        assert await self.run(tracking) == before
        await tracking.write(MoveRun(R, "active", 6), W)
        for ask in inside():
            await tracking.write(ask, W)
        for ask in [*inside(9), MoveRun(run_id(9), "deleted", 5), MoveRun(run_id(9), "active", 5)]:
            await refused(tracking, ask)

    async def test_inputs_and_outputs(self, tracking: Tracking) -> None:
        one = DatasetInput("d", "1", "local", "{}", "s", None, [("context", "train")])
        other = one._replace(digest="2", tags=[], profile="p")
        await tracking.write(
            LogInputs(R, (one, one._replace(source="never"), other), ("m-1", "m-2", "m-1")), W
        )
        await tracking.write(LogInputs(R, (one._replace(tags=[("context", "never")]),), ("m-1",)), W)
        await begin(tracking, 2)
        await tracking.write(LogInputs(run_id(2), (one._replace(tags=[]),)), W)
        await tracking.write(LogOutputs(R, (ModelOutput("m-3", 4),)), W)
        await refused(tracking, LogOutputs(R, (ModelOutput("m-9", 1), ModelOutput("m-3", 5))))
        found = await self.run(tracking)
        assert sorted(found.datasets) == [one, other]
        assert sorted(found.model_inputs) == ["m-1", "m-2"]
        assert found.model_outputs == [ModelOutput("m-3", 4)]
        assert (await self.run(tracking, 2)).datasets == [one._replace(tags=[])]

    async def test_models_are_appended_to_their_history(self, tracking: Tracking) -> None:
        for n in (1, 2):
            await tracking.write(LogModel(R, json.dumps({"n": n, "é": None})), W)
        told = dict((await self.run(tracking)).tags)["mlflow.log-model.history"]
        assert told == json.dumps([{"n": 1, "é": None}, {"n": 2, "é": None}])
        await refused(tracking, LogModel(R, json.dumps({"long": "x" * 8000})))
        await tracking.write(SetTag(R, "mlflow.log-model.history", "{"), W)
        await refused(tracking, LogModel(R, "{}"))
