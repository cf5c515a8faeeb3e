"""What every tracking tile must do with logged models; ``whole`` is all of it."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from tallystick.ports.tracking import Tracking
from tallystick.proofs.tracking.record import NO_POINTS, R, RecordProof, W, begin, points, refused, run_id
from tallystick.record.asks import (
    CreateExperiment,
    GetRun,
    History,
    LogBatch,
    LogMetric,
    MoveRun,
    NotPlain,
    Write,
)
from tallystick.record.entries import LoggedModel, LoggedModelMetric, ModelPoint, Point
from tallystick.record.model_asks import (
    CreateLoggedModel,
    DeleteModelTag,
    FinalizeLoggedModel,
    GetLoggedModel,
    LogModelParams,
    SearchLoggedModels,
    SetModelTags,
)

__all__ = ["ModelsProof"]

NAN, INF = math.nan, math.inf
LARGEST = 1.7976931348623157e308


def batch(*of_models: ModelPoint, run: str = R, **more: Any) -> LogBatch:
    """A batch of points, all of them of models too."""
    rows = ((p.key, p.value, p.timestamp_ms, p.step) for p in of_models)
    return LogBatch(run, points(*rows), of_models=of_models, **more)


def told(point: ModelPoint, run: str = R) -> LoggedModelMetric:
    """A point as its model tells it."""
    _, key, value, time_ms, step, name, digest = point
    return LoggedModelMetric(key, value, time_ms, step, run, name, digest)


async def make(tracking: Tracking, model_id: str = "m-1", name: str = "m", **more: Any) -> LoggedModel:
    """Create a logged model."""
    return await tracking.write(CreateLoggedModel(model_id, 0, name, 5, **more), W)


class ModelsProof(RecordProof):
    """What is written of logged models, with its unhappy half."""

    async def model(self, tracking: Tracking, model_id: str = "m-1") -> LoggedModel:
        """A model as it is read."""
        return await tracking.read(GetLoggedModel(model_id), W)

    async def metrics(self, tracking: Tracking, model_id: str = "m-1") -> list[LoggedModelMetric]:
        """A model's points, in order."""
        return sorted((await self.model(tracking, model_id)).metrics)

    async def test_logged_models(self, tracking: Tracking) -> None:
        ask = CreateLoggedModel("m-1", 0, "m", 5, R, "agent", (("p", "1"),), (("t", "2"),))
        told = await tracking.write(ask, W)
        assert told.artifact_location == "mlflow-artifacts:/0/models/m-1/artifacts"
        assert (told.status, told.params, told.tags, told.source_run_id) == (1, [("p", "1")], [("t", "2")], R)
        assert await tracking.read(GetLoggedModel("m-1"), W) == told
        await refused(tracking, ask)
        done = await tracking.write(FinalizeLoggedModel("m-1", 2, 9), W)
        assert done == told._replace(status=2, updated_ms=9)
        await refused(tracking, FinalizeLoggedModel("m-9", 2, 9))
        await refused(tracking, CreateLoggedModel("m-2", 77, "m", 5))

    async def test_models_are_found_by_name(self, tracking: Tracking) -> None:
        for n, name in enumerate(("a", "b", "a", "A")):
            await tracking.write(CreateLoggedModel(f"m-{n}", 0, name, n), W)
        found = {}
        for name in ("", "a", "b", "none"):
            page = await tracking.read(SearchLoggedModels((0,), 10, 0, name), W)
            found[name] = [model.model_id for model in page.items if isinstance(model, LoggedModel)]
        assert found == {"": ["m-3", "m-2", "m-1", "m-0"], "a": ["m-2", "m-0"], "b": ["m-1"], "none": []}
        page = await tracking.read(SearchLoggedModels((0,), 1, 1, "a"), W)
        assert ([m.model_id for m in page.items if isinstance(m, LoggedModel)], page.next_offset) == (
            ["m-0"],
            None,
        )

    async def test_params_of_a_model_are_added_once(self, tracking: Tracking) -> None:
        before = await make(tracking, params=(("a", "1"),))
        await tracking.write(LogModelParams("m-1", (("b", ""), ("c", "3"))), W)
        await tracking.write(LogModelParams("m-1", ()), W)
        for again in ((("a", "1"),), (("a", "2"),), (("d", "1"), ("b", ""))):
            await refused(tracking, LogModelParams("m-1", again))
        found = await self.model(tracking)
        assert sorted(found.params) == [("a", "1"), ("b", ""), ("c", "3")]
        assert found._replace(params=before.params) == before
        await refused(tracking, LogModelParams("m-9", ()))

    async def test_tags_of_a_model_are_set_replaced_and_deleted(self, tracking: Tracking) -> None:
        before = await make(tracking, tags=(("a", "1"),))
        await make(tracking, "m-2", tags=(("a", "1"),))
        await tracking.write(SetModelTags("m-1", (("a", "2"), ("b", ""))), W)
        await tracking.write(SetModelTags("m-1", ()), W)
        await tracking.write(DeleteModelTag("m-1", "b"), W)
        await refused(tracking, DeleteModelTag("m-1", "b"))
        found = await self.model(tracking)
        assert (found.tags, found._replace(tags=before.tags)) == ([("a", "2")], before)
        assert (await self.model(tracking, "m-2")).tags == [("a", "1")]
        await refused(tracking, SetModelTags("m-9", ()))
        await refused(tracking, DeleteModelTag("m-9", "a"))

    async def test_points_of_a_model_are_its_runs_too(self, tracking: Tracking) -> None:
        await make(tracking)
        await make(tracking, "m-2")
        one = ModelPoint("m-1", "a", 0.1, 2**62, -7, "d", "1")
        other = ModelPoint("m-1", "b", 2.0, 1, 1)
        third = ModelPoint("m-2", "a", 0.3, 2, -7, "ü", "2")
        more: dict[str, Any] = {"params": (("p", "1"),), "tags": (("t", "1"),)}
        await tracking.write(batch(one, other, third, **more), W)
        assert await self.metrics(tracking) == [told(one), told(other)]
        assert await self.metrics(tracking, "m-2") == [told(third)]
        run = await tracking.read(GetRun(R), W)
        assert sorted(run.metrics) == [Point("a", 0.1, 2**62, -7), Point("b", 2.0, 1, 1)]
        assert (run.params, dict(run.tags)["t"]) == ([("p", "1")], "1")
        assert len((await tracking.read(History(R, "a"), W)).items) == 2

    async def test_points_beside_those_of_models(self, tracking: Tracking) -> None:
        await make(tracking)
        rows = (("a", 1.0, 1, 1), ("b", 2.0, 1, 1))
        await tracking.write(LogBatch(R, points(*rows), of_models=(ModelPoint("m-1", *rows[1]),)), W)
        assert {p.key for p in (await tracking.read(GetRun(R), W)).metrics} == {"a", "b"}
        assert [metric.key for metric in await self.metrics(tracking)] == ["b"]

    async def test_values_of_a_model_that_are_not_finite(self, tracking: Tracking) -> None:
        await make(tracking)
        values = [NAN, INF, -INF]
        await tracking.write(batch(*(ModelPoint("m-1", f"k{n}", v, 1, 1) for n, v in enumerate(values))), W)
        assert [metric.value for metric in await self.metrics(tracking)] == [0.0, LARGEST, -LARGEST]
        latest = sorted((await tracking.read(GetRun(R), W)).metrics)
        assert [math.isnan(point.value) for point in latest] == [True, False, False]

    async def test_a_point_of_a_model_that_is_there_stays(self, tracking: Tracking) -> None:
        await make(tracking)
        point = ModelPoint("m-1", "a", 1.0, 1, 1, "d", "1")
        await asyncio.gather(*(tracking.write(batch(point), W) for _ in range(4)))
        await tracking.write(batch(point, point._replace(step=2)), W)
        assert await self.metrics(tracking) == [told(point), told(point._replace(step=2))]
        await begin(tracking, 2)
        await tracking.write(batch(point._replace(value=9.0), run=run_id(2)), W)
        assert len(await self.metrics(tracking)) == 3, "another run's is another point"

    @pytest.mark.parametrize(
        "unlike",
        [
            {"value": 2.0},
            {"value": NAN},
            {"dataset_name": "e"},
            {"dataset_digest": "2"},
            {"dataset_name": None, "dataset_digest": None},
        ],
    )
    async def test_another_point_in_its_place_is_not_plain(
        self, tracking: Tracking, unlike: dict[str, Any]
    ) -> None:
        await make(tracking)
        point = ModelPoint("m-1", "a", 1.0, 1, 1, "d", "1")
        more: dict[str, Any] = {"params": (("p", "1"),), "tags": (("t", "1"),)}
        await refused(tracking, batch(point, point._replace(**unlike), **more))
        await refused(tracking, batch(point, point, **more))
        await tracking.write(batch(point), W)
        before = await tracking.read(GetRun(R), W)
        await refused(tracking, batch(point._replace(step=5), point._replace(**unlike), **more))
        assert await tracking.read(GetRun(R), W) == before
        assert await self.metrics(tracking) == [told(point)]

    async def test_points_of_models_that_cannot_be(self, tracking: Tracking) -> None:
        """In one group with others that can be: models, runs and params are not as they must be."""
        await make(tracking)
        point = ModelPoint("m-1", "a", 1.0, 1, 1)
        await begin(tracking, 2)
        await tracking.write(MoveRun(run_id(2), "deleted", 5), W)
        await tracking.write(LogBatch(R, NO_POINTS, (("p", "1"),)), W)
        bad: list[Write[Any]] = [
            batch(point, point._replace(model_id="m-9")),
            batch(point, run=run_id(2)),
            batch(point, run=run_id(9)),
            batch(point, params=(("p", "2"),)),
            batch(point._replace(timestamp_ms=2**70)),
            batch(point._replace(dataset_name="\ud800", dataset_digest="1")),
        ]
        good = [batch(point._replace(key=f"k{n}")) for n in range(len(bad))]
        plain = [LogMetric(R, f"l{n}", 1.0, 1, 1) for n in range(len(bad))]
        mixed = [ask for three in zip(good, bad, plain, strict=True) for ask in three]
        answers = await asyncio.gather(*(tracking.write(ask, W) for ask in mixed), return_exceptions=True)
        assert [type(answer) for answer in answers] == [type(None), NotPlain, type(None)] * len(bad)
        assert {metric.key for metric in await self.metrics(tracking)} == {f"k{n}" for n in range(len(bad))}
        assert "a" not in {p.key for p in (await tracking.read(GetRun(R), W)).metrics}

    async def test_many_points_of_a_model(self, tracking: Tracking) -> None:
        await make(tracking)
        many = [ModelPoint("m-1", f"k{n}", float(n), n, n) for n in range(1000)]
        await tracking.write(batch(*many), W)
        assert await self.metrics(tracking) == sorted(map(told, many))
        await refused(tracking, batch(*many))
        await tracking.write(batch(*many[:100]), W)

    async def test_models_of_other_workspaces(self, shared: Tracking) -> None:
        blue = await shared.write(CreateExperiment("e", "", 5), "blue")
        await shared.write(CreateLoggedModel("m-1", blue, "m", 5), "blue")
        await begin(shared, 1)
        await begin(shared, 2, experiment=blue, workspace="blue")
        theirs: list[Write[Any]] = [
            batch(ModelPoint("m-1", "a", 1.0, 1, 1)),
            LogModelParams("m-1", (("p", "1"),)),
            SetModelTags("m-1", (("t", "1"),)),
            DeleteModelTag("m-1", "t"),
        ]
        for ask in theirs:
            await refused(shared, ask)
            await refused(shared, ask, "red")
        await shared.write(batch(ModelPoint("m-1", "a", 1.0, 1, 1), run=run_id(2)), "blue")
        for ask in theirs[1:3]:
            await shared.write(ask, "blue")
        found = await shared.read(GetLoggedModel("m-1"), "blue")
        assert (found.params, found.tags, len(found.metrics)) == ([("p", "1")], [("t", "1")], 1)

    async def test_a_model_of_another_experiment_takes_points_too(self, tracking: Tracking) -> None:
        """A model is measured wherever one likes, as in MLflow."""
        other = await tracking.write(CreateExperiment("other", "", 5), W)
        await tracking.write(CreateLoggedModel("m-1", other, "m", 5), W)
        await tracking.write(batch(ModelPoint("m-1", "a", 1.0, 1, 1)), W)
        assert len(await self.metrics(tracking)) == 1
