"""What every tracking tile must do. Subclass :class:`TrackingProof` and say how it is opened."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tallystick.core.errors import Unavailable
from tallystick.ports.tracking import Tracking
from tallystick.proofs.tracking.models import ModelsProof
from tallystick.proofs.tracking.record import R, W, begin, points, refused, run_id
from tallystick.proofs.tracking.runs import RunsProof, inside
from tallystick.record.asks import (
    CreateExperiment,
    CreateRun,
    DeleteExperimentTag,
    DeleteTag,
    GetExperiment,
    GetRun,
    LogBatch,
    LogMetric,
    LogParam,
    MoveExperiment,
    MoveRun,
    NotPlain,
    RenameExperiment,
    SetExperimentTag,
    SetTag,
    UpdateRun,
    Write,
)
from tallystick.record.model_asks import CreateLoggedModel

__all__ = ["TrackingProof"]


class TrackingProof(RunsProof, ModelsProof):
    """Runs, experiments and models, many writes at once, workspaces, and closing."""

    async def test_experiments(self, tracking: Tracking) -> None:
        first = await tracking.write(CreateExperiment("a", "", 5, (("t", "1"),)), W)
        second = await tracking.write(CreateExperiment("b", "s3://own/place", 5), W)
        assert second == first + 1
        found = await tracking.read(GetExperiment(first), W)
        assert found == (first, "a", f"mlflow-artifacts:/{first}", "active", 5, 5, W, [("t", "1")])
        assert (await tracking.read(GetExperiment(second), W)).artifact_location == "s3://own/place"
        await refused(tracking, CreateExperiment("a", "", 6))
        await refused(tracking, CreateExperiment("c", "", 6, (("t", "1"), ("t", "2"))))
        await tracking.write(RenameExperiment(first, "c", 7), W)
        await refused(tracking, RenameExperiment(first, "b", 7))
        await tracking.write(SetExperimentTag(first, "t", "2"), W)
        await tracking.write(SetExperimentTag(first, "u", "3"), W)
        await tracking.write(DeleteExperimentTag(first, "t"), W)
        await refused(tracking, DeleteExperimentTag(first, "t"))
        found = await tracking.read(GetExperiment(name="c"), W)
        assert (found.experiment_id, found.updated_ms, found.tags) == (first, 7, [("u", "3")])

    async def test_a_deleted_experiment_takes_its_runs_along(self, tracking: Tracking) -> None:
        where = await tracking.write(CreateExperiment("a", "", 5), W)
        await begin(tracking, 2, experiment=where)
        await begin(tracking, 3, experiment=where)
        await tracking.write(MoveRun(run_id(3), "deleted", 5), W)
        await refused(tracking, MoveExperiment(where, "active", 6))
        await tracking.write(MoveExperiment(where, "deleted", 6), W)
        assert (await self.run(tracking, 2)).lifecycle_stage == "deleted"
        gone: list[Write[Any]] = [CreateExperiment("a", "", 6), CreateRun(run_id(4), where, "u", 1, "n")]
        for ask in [*gone, RenameExperiment(where, "b", 6), SetExperimentTag(where, "t", "1")]:
            await refused(tracking, ask)
        await refused(tracking, MoveExperiment(where, "deleted", 6))
        await tracking.write(MoveExperiment(where, "active", 7), W)
        stages = [(await self.run(tracking, n)).lifecycle_stage for n in (1, 2, 3)]
        assert stages == ["active"] * 3

    async def test_many_at_once_and_each_answer_is_its_own(self, tracking: Tracking) -> None:
        """Among those that can be done are some that cannot, for every reason that there is."""
        await tracking.write(LogParam(R, "p", "1"), W)
        good: list[Write[Any]] = [LogMetric(R, f"k{n}", float(n), n, n) for n in range(60)]
        bad: list[Write[Any]] = [
            LogMetric(run_id(9), "a", 1.0, 1, 1),
            LogParam(R, "p", "2"),
            LogMetric(R, "large", 1.0, 2**70, 1),
            SetTag(R, "surrogate", "\ud800"),
            LogBatch(R, points(("half", 1.0, 1, 1)), (("p", "2"),)),
            CreateRun(R, 0, "u", 1, "again"),
            DeleteTag(R, "none"),
        ]
        mixed = [ask for n in range(0, 60, 6) for ask in (*good[n : n + 6], *bad[n // 6 : n // 6 + 1])]
        answers = await asyncio.gather(*(tracking.write(a, W) for a in mixed), return_exceptions=True)
        assert [type(answer) for answer in answers] == [NotPlain if a in bad else type(None) for a in mixed]
        assert {p.key for p in (await self.run(tracking)).metrics} == {f"k{n}" for n in range(60)}
        assert (await self.run(tracking)).params == [("p", "1")]

    async def test_they_are_carried_out_in_the_order_of_arrival(self, tracking: Tracking) -> None:
        asks: list[Write[Any]] = []
        for n in range(20):
            asks += [SetTag(R, "t", str(n)), UpdateRun(R, name=f"name-{n}"), DeleteTag(R, "t")]
        await asyncio.gather(*(tracking.write(ask, W) for ask in [*asks, SetTag(R, "t", "last")]))
        found = await self.run(tracking)
        assert (found.name, dict(found.tags)["t"]) == ("name-19", "last")

    async def test_one_that_nobody_waits_for_any_more_harms_nobody(self, tracking: Tracking) -> None:
        tasks = [asyncio.create_task(tracking.write(SetTag(R, f"t{n}", "1"), W)) for n in range(9)]
        await asyncio.sleep(0)
        tasks[4].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [answer for n, answer in enumerate(answers) if n != 4] == [None] * 8

    async def test_workspaces_see_nothing_of_each_other(self, shared: Tracking) -> None:
        places = {w: await shared.write(CreateExperiment("same", "", 5), w) for w in (W, "blue", "red")}
        for n, (workspace, where) in enumerate(places.items(), start=1):
            await begin(shared, n, experiment=where, workspace=workspace)
        roots = {w: (await shared.read(GetExperiment(e), w)).artifact_location for w, e in places.items()}
        assert roots == {
            W: f"mlflow-artifacts:/workspaces/default/{places[W]}",
            "blue": f"mlflow-artifacts:/workspaces/blue/{places['blue']}",
            "red": f"s3://red/{places['red']}",
        }
        blue = places["blue"]
        theirs: list[Write[Any]] = [
            MoveRun(run_id(2), "deleted", 5),
            MoveExperiment(blue, "deleted", 5),
            RenameExperiment(blue, "b", 5),
            SetExperimentTag(blue, "t", "1"),
            CreateRun(run_id(9), blue, "u", 1, "n"),
            CreateLoggedModel("m-1", blue, "m", 1),
        ]
        for ask in inside(2) + theirs:
            await refused(shared, ask, "red")
            await refused(shared, ask, W)
        await shared.write(LogMetric(run_id(2), "a", 1.0, 1, 1), "blue")

    async def test_what_is_not_plain_with_workspaces(self, shared: Tracking) -> None:
        await refused(shared, CreateExperiment("a", "s3://own", 5), "blue")
        await refused(shared, CreateExperiment("a", "", 5), "green")

    async def test_without_workspaces_there_is_one(self, tracking: Tracking) -> None:
        await refused(tracking, LogMetric(R, "a", 1.0, 1, 1), "blue")
        with pytest.raises(NotPlain):
            await tracking.read(GetRun(R), "blue")

    async def test_yielding_to_others_stops_nothing(self, tracking: Tracking) -> None:
        tracking.yield_to(3)
        for n in range(3):
            await tracking.write(SetTag(R, "t", str(n)), W)
        tracking.yield_to(0)
        assert dict((await self.run(tracking)).tags)["t"] == "2"

    async def test_closing_finishes_what_was_begun(self, tmp_path: Path) -> None:
        tracking = await self.open(tmp_path)
        assert await tracking.ready()
        tasks = [asyncio.create_task(begin(tracking, n)) for n in range(50)]
        await asyncio.sleep(0)
        await tracking.close()
        await tracking.close()
        assert len(await asyncio.gather(*tasks)) == 50
        with pytest.raises(Unavailable):
            await begin(tracking)
        with pytest.raises(Unavailable):
            await tracking.read(GetRun(R), W)
        assert not await tracking.ready()
