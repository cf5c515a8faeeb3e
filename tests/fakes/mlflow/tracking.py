"""MLflow's record in memory: experiments, runs and what is in them. What it does not know is not plain."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tallystick.core.tracking import asks
from tallystick.core.tracking.asks import NotPlain, Read, Write
from tallystick.core.tracking.entries import Experiment, Page, Point, Run, RunPoint

A = TypeVar("A")
_NAME = "mlflow.runName"


@dataclass
class _Run:
    entry: Run
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    points: dict[str, list[Point]] = field(default_factory=dict)

    def whole(self) -> Run:
        """With the latest point of each metric."""
        latest = [
            max(points, key=lambda p: (p.step, p.timestamp_ms, p.value)) for points in self.points.values()
        ]
        return self.entry._replace(metrics=latest, params=[*self.params.items()], tags=[*self.tags.items()])


class FakeTracking:
    """Workspaces apart. ``is_ready`` says whether it is; ``yielded`` is what it was told last."""

    def __init__(self) -> None:
        self.is_ready = True
        self.yielded = 0
        self.closed = False
        self._experiments: dict[tuple[str, int], Experiment] = {}
        self._runs: dict[tuple[str, str], _Run] = {}
        self._batches: set[str] = set()
        self._put("default", Experiment(0, "Default", "mlflow-artifacts:/0", "active", 1, 1, "default", []))

    async def ready(self) -> bool:
        return self.is_ready

    async def write(self, ask: Write[A], workspace: str) -> A:
        return self._do(ask, workspace)

    async def read(self, ask: Read[A], workspace: str) -> A:
        return self._do(ask, workspace)

    def yield_to(self, others: int) -> None:
        self.yielded = others

    async def close(self) -> None:
        self.closed = True

    def _do(self, ask: Any, workspace: str) -> Any:
        does: Callable[[Any, str], Any] | None = getattr(self, f"_{type(ask).__name__}", None)
        if does is None or getattr(ask, "conditions", ()) or getattr(ask, "orders", ()):
            raise NotPlain
        return does(ask, workspace)

    def _put(self, workspace: str, experiment: Experiment) -> None:
        self._experiments[workspace, experiment.experiment_id] = experiment

    def _run(self, workspace: str, run_id: str, *, active: bool = True) -> _Run:
        run = self._runs.get((workspace, run_id))
        if run is None or (active and run.entry.lifecycle_stage != "active"):
            raise NotPlain
        return run

    def _CreateExperiment(self, ask: asks.CreateExperiment, workspace: str) -> int:  # noqa: N802  the ask's name
        if any(e.name == ask.name and w == workspace for (w, _), e in self._experiments.items()):
            raise NotPlain
        number = 1 + max(e for _, e in self._experiments)
        where = f"mlflow-artifacts:/{number}"
        self._put(
            workspace,
            Experiment(number, ask.name, where, "active", ask.now_ms, ask.now_ms, workspace, [*ask.tags]),
        )
        return number

    def _GetExperiment(self, ask: asks.GetExperiment, workspace: str) -> Experiment:  # noqa: N802  the ask's name
        for (owner, number), found in self._experiments.items():
            same = found.name == ask.name if ask.experiment_id is None else number == ask.experiment_id
            if same and owner == workspace:
                return found
        raise NotPlain

    def _CreateRun(self, ask: asks.CreateRun, workspace: str) -> Run:  # noqa: N802  the ask's name
        where = self._GetExperiment(asks.GetExperiment(ask.experiment_id), workspace).artifact_location
        uri = f"{where}/{ask.run_id}/artifacts"
        told = (
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
        run = _Run(Run(*told, [], [], [], [], [], []), tags={**dict(ask.tags), _NAME: ask.name})
        self._runs[workspace, ask.run_id] = run
        return run.whole()

    def _GetRun(self, ask: asks.GetRun, workspace: str) -> Run:  # noqa: N802  the ask's name
        return self._run(workspace, ask.run_id, active=False).whole()

    def _UpdateRun(self, ask: asks.UpdateRun, workspace: str) -> Run:  # noqa: N802  the ask's name
        run = self._run(workspace, ask.run_id)
        said = {"status": ask.status, "end_ms": ask.end_ms, "name": ask.name}
        run.entry = run.entry._replace(**{k: v for k, v in said.items() if v is not None})
        return run.entry

    def _MoveRun(self, ask: asks.MoveRun, workspace: str) -> None:  # noqa: N802  the ask's name
        run = self._run(workspace, ask.run_id, active=False)
        run.entry = run.entry._replace(lifecycle_stage=ask.stage)

    def _SearchRuns(self, ask: asks.SearchRuns, workspace: str) -> Page:  # noqa: N802  the ask's name
        found = [run.whole() for (owner, _), run in self._runs.items() if owner == workspace]
        found = [
            r for r in found if r.experiment_id in ask.experiment_ids and r.lifecycle_stage in ask.stages
        ]
        found.sort(key=lambda run: (-(run.start_ms or 0), run.run_id))
        return _page(found, ask.max_results, ask.offset)

    def _add(self, run: _Run, columns: asks.Columns) -> None:
        for row in zip(columns.keys, columns.values, columns.timestamps_ms, columns.steps, strict=True):
            point, points = Point(*row), run.points.setdefault(row[0], [])
            if not any(_same(point, other) for other in points):
                bisect.insort(points, point, key=lambda p: (p.timestamp_ms, p.step, p.value))

    def _LogMetric(self, ask: asks.LogMetric, workspace: str) -> None:  # noqa: N802  the ask's name
        columns = asks.Columns([ask.key], [ask.value], [ask.timestamp_ms], [ask.step])
        self._add(self._run(workspace, ask.run_id), columns)

    def _LogBatch(self, ask: asks.LogBatch, workspace: str) -> None:  # noqa: N802  the ask's name
        run = self._run(workspace, ask.run_id)
        if any(run.params.get(key, value) != value for key, value in ask.params):
            raise NotPlain
        self._add(run, ask.points)
        run.params.update(ask.params)
        run.tags.update(ask.tags)

    def _LogColumns(self, ask: asks.LogColumns, workspace: str) -> None:  # noqa: N802  the ask's name
        runs = [(self._run(workspace, run_id), columns) for run_id, columns in ask.runs]
        if ask.batch_id not in self._batches:
            self._batches.add(ask.batch_id)
            for run, columns in runs:
                self._add(run, columns)

    def _LogParam(self, ask: asks.LogParam, workspace: str) -> None:  # noqa: N802  the ask's name
        no_points = asks.Columns([], [], [], [])
        self._LogBatch(asks.LogBatch(ask.run_id, no_points, ((ask.key, ask.value),)), workspace)

    def _SetTag(self, ask: asks.SetTag, workspace: str) -> None:  # noqa: N802  the ask's name
        self._run(workspace, ask.run_id).tags[ask.key] = ask.value

    def _DeleteTag(self, ask: asks.DeleteTag, workspace: str) -> None:  # noqa: N802  the ask's name
        if self._run(workspace, ask.run_id).tags.pop(ask.key, None) is None:
            raise NotPlain

    def _History(self, ask: asks.History, workspace: str) -> Page:  # noqa: N802  the ask's name
        points = self._run(workspace, ask.run_id, active=False).points.get(ask.key, [])
        return _page(points, len(points) if ask.max_results is None else ask.max_results, ask.offset)

    def _HistoryBulk(self, ask: asks.HistoryBulk, workspace: str) -> list[RunPoint]:  # noqa: N802  the ask's name
        runs = [(r, self._runs[workspace, r]) for r in sorted(ask.run_ids) if (workspace, r) in self._runs]
        points = [RunPoint(run_id, *p[1:]) for run_id, run in runs for p in run.points.get(ask.key, [])]
        return points[: ask.max_results]


def _same(one: Point, other: Point) -> bool:
    return one == other or (one[2:] == other[2:] and math.isnan(one.value) and math.isnan(other.value))


def _page(found: list[Any], most: int, offset: int) -> Page:
    end = offset + most
    return Page(found[offset:end], end if len(found) > end else None)
