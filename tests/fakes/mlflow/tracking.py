"""MLflow's record in memory: experiments, runs and models. What it does not know is not plain."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tallystick.core.errors import Unavailable
from tallystick.record import asks, model_asks
from tallystick.record.asks import NotPlain, Read, Write
from tallystick.record.entries import (
    DatasetInput,
    Experiment,
    LoggedModel,
    LoggedModelMetric,
    ModelOutput,
    Page,
    Point,
    Run,
    RunPoint,
)
from tallystick.record.rules import MODELS_LOGGED, RUN_NAME, under, with_model
from tallystick.record.sheet import MERGED, Row, Sheet

A = TypeVar("A")


@dataclass
class _Run:
    """A run; ``points`` and ``latest`` as rows of a table: key, value, time, step and whether it is NaN."""

    workspace: str
    entry: Run
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    points: dict[Row, None] = field(default_factory=dict)
    latest: dict[str, Row] = field(default_factory=dict)
    datasets: dict[tuple[str, str], DatasetInput] = field(default_factory=dict)
    read: dict[str, None] = field(default_factory=dict)
    made: dict[str, ModelOutput] = field(default_factory=dict)

    def whole(self) -> Run:
        """With all that belongs to it."""
        told = [[*map(_point, self.latest.values())], [*self.params.items()], [*self.tags.items()]]
        return Run(*self.entry[:9], *told, [*self.datasets.values()], [*self.read], [*self.made.values()])

    def history(self, key: str) -> list[Point]:
        """By time, step and value."""
        rows = [row for row in self.points if row[0] == key]
        return [*map(_point, sorted(rows, key=lambda row: (row[2], row[3], row[1])))]


@dataclass
class _Model:
    """A logged model, and its points by their places."""

    workspace: str
    entry: LoggedModel
    params: dict[str, str]
    tags: dict[str, str]
    points: dict[Row, Row] = field(default_factory=dict)

    def whole(self) -> LoggedModel:
        """With all that belongs to it."""
        points = [
            LoggedModelMetric(key, value, at, step, run_id, *dataset)
            for (_, key, at, step, run_id), (value, *dataset) in self.points.items()
        ]
        told = {"params": [*self.params.items()], "tags": [*self.tags.items()], "metrics": points}
        return self.entry._replace(**told)


class FakeTracking:
    """Workspaces apart. ``is_ready`` says whether it is; ``yielded`` is what it was told last."""

    def __init__(self, workspaces: dict[str, str] | None = None) -> None:
        """``workspaces`` are where the experiments of others than the default one keep their artifacts."""
        self.is_ready = True
        self.yielded = 0
        self.closed = False
        self._roots = workspaces
        self._experiments: dict[int, Experiment] = {}
        self._runs: dict[str, _Run] = {}
        self._models: dict[str, _Model] = {}
        self._datasets: dict[tuple[int, str, str], DatasetInput] = {}
        self._batches: set[str] = set()
        self._experiments[0] = Experiment(0, "Default", "mlflow-artifacts:/0", "active", 1, 1, "default", [])

    async def ready(self) -> bool:
        return self.is_ready and not self.closed

    async def write(self, ask: Write[A], workspace: str) -> A:
        return self._do(ask, workspace)

    async def read(self, ask: Read[A], workspace: str) -> A:
        return self._do(ask, workspace)

    def yield_to(self, others: int) -> None:
        self.yielded = others

    async def close(self) -> None:
        self.closed = True

    def _do(self, ask: Any, workspace: str) -> Any:
        if self.closed:
            raise Unavailable("the record is closed", where="memory")
        if type(ask) in MERGED:
            return self._merged(ask, workspace)
        does: Callable[[Any, str], Any] | None = getattr(self, f"_{type(ask).__name__}", None)
        if does is None or getattr(ask, "conditions", ()) or getattr(ask, "orders", ()):
            raise NotPlain
        return does(ask, workspace)

    def _merged(self, ask: Any, workspace: str) -> Any:
        """What is brought onto a sheet, on one of its own."""
        sheet = Sheet()
        sheet.runs = {k: r.workspace for k, r in self._runs.items() if r.entry.lifecycle_stage == "active"}
        sheet.homes = {run_id: run.entry.experiment_id for run_id, run in self._runs.items()}
        for number, found in self._experiments.items():
            if found.lifecycle_stage == "active":
                sheet.experiments[number] = (found.artifact_location, found.workspace)
        for run_id, run in self._runs.items():
            sheet.params |= {(key, run_id): value for key, value in run.params.items()}
        for model_id, model in self._models.items():
            sheet.models[model_id] = model.workspace
            sheet.model_points |= model.points
        sheet.batches = set(self._batches)
        answer = MERGED[type(ask)](sheet, ask, workspace)
        if not all(map(_fits, (*sheet.metrics, *sheet.new_model_points))):
            raise NotPlain
        if isinstance(ask, asks.CreateRun):
            self._runs[ask.run_id] = _Run(workspace, answer)
        self._apply(sheet)
        return answer

    def _apply(self, sheet: Sheet) -> None:
        for key, value, at, run_id, step, nan in sheet.metrics:
            self._runs[run_id].points[key, value, at, step, nan] = None
        for key, value, at, run_id, step, nan in sheet.latest_rows():
            latest = self._runs[run_id].latest
            old = latest.get(key)
            if old is None or (step, at, value) > (old[3], old[2], old[1]):
                latest[key] = (key, value, at, step, nan)
        for key, value, run_id in sheet.new_params:
            self._runs[run_id].params[key] = value
        for (key, run_id), value in sheet.tags.items():
            self._runs[run_id].tags[key] = value
        for run_id, name in sheet.names.items():
            self._runs[run_id].entry = self._runs[run_id].entry._replace(name=name)
        for model_id, key, at, step, value, _, run_id, *dataset in sheet.new_model_points:
            self._models[model_id].points[model_id, key, at, step, run_id] = (value, *dataset)
        self._batches.update(sheet.new_batches)

    # ------------------------------------------------------------------------------------------ experiments

    def _experiment(self, workspace: str, number: int, stage: str = "active") -> Experiment:
        found = self._experiments.get(number)
        if found is None or (found.workspace, found.lifecycle_stage) != (workspace, stage):
            raise NotPlain
        return found

    def _named(self, workspace: str, name: str) -> list[Experiment]:
        return [e for e in self._experiments.values() if (e.workspace, e.name) == (workspace, name)]

    def _CreateExperiment(self, ask: asks.CreateExperiment, workspace: str) -> int:  # noqa: N802  the ask's name
        if self._named(workspace, ask.name) or len(dict(ask.tags)) < len(ask.tags):
            raise NotPlain
        number = 1 + max(self._experiments)
        where = ask.artifact_location or under(self._root(workspace), str(number))
        told = (number, ask.name, where, "active", ask.now_ms, ask.now_ms, workspace, [*ask.tags])
        self._experiments[number] = Experiment(*told)
        return number

    def _root(self, workspace: str) -> str:
        if self._roots is None:
            return "mlflow-artifacts:/"
        return self._roots.get(workspace) or f"mlflow-artifacts:/workspaces/{workspace}"

    def _GetExperiment(self, ask: asks.GetExperiment, workspace: str) -> Experiment:  # noqa: N802  the ask's name
        for number, found in self._experiments.items():
            same = found.name == ask.name if ask.experiment_id is None else number == ask.experiment_id
            if same and found.workspace == workspace:
                return found
        raise NotPlain

    # ------------------------------------------------------------------------------------------------- runs

    def _run(self, workspace: str, run_id: str, *, active: bool = True) -> _Run:
        run = self._runs.get(run_id)
        if run is None or run.workspace != workspace:
            raise NotPlain
        if active and run.entry.lifecycle_stage != "active":
            raise NotPlain
        return run

    def _GetRun(self, ask: asks.GetRun, workspace: str) -> Run:  # noqa: N802  the ask's name
        return self._run(workspace, ask.run_id, active=False).whole()

    def _UpdateRun(self, ask: asks.UpdateRun, workspace: str) -> Run:  # noqa: N802  the ask's name
        run = self._run(workspace, ask.run_id)
        said = {"status": ask.status, "end_ms": ask.end_ms, "name": ask.name}
        run.entry = run.entry._replace(tags=[], **{k: v for k, v in said.items() if v is not None})
        if ask.name:
            run.tags[RUN_NAME] = ask.name
        return run.entry

    def _MoveRun(self, ask: asks.MoveRun, workspace: str) -> None:  # noqa: N802  the ask's name
        run = self._run(workspace, ask.run_id, active=False)
        run.entry = run.entry._replace(lifecycle_stage=ask.stage)

    def _SearchRuns(self, ask: asks.SearchRuns, workspace: str) -> Page:  # noqa: N802  the ask's name
        found = [run.whole() for run in self._runs.values() if run.workspace == workspace]
        found = [
            r for r in found if r.experiment_id in ask.experiment_ids and r.lifecycle_stage in ask.stages
        ]
        found.sort(key=lambda run: (-(run.start_ms or 0), run.run_id))
        return _page(found, ask.max_results, ask.offset)

    def _DeleteTag(self, ask: asks.DeleteTag, workspace: str) -> None:  # noqa: N802  the ask's name
        if self._run(workspace, ask.run_id).tags.pop(ask.key, None) is None:
            raise NotPlain

    def _LogModel(self, ask: asks.LogModel, workspace: str) -> None:  # noqa: N802  the ask's name
        tags = self._run(workspace, ask.run_id).tags
        tags[MODELS_LOGGED] = with_model(tags.get(MODELS_LOGGED), ask.model_json)

    def _LogInputs(self, ask: asks.LogInputs, workspace: str) -> None:  # noqa: N802  the ask's name
        run = self._run(workspace, ask.run_id)
        for dataset in ask.datasets:
            what = dataset.name, dataset.digest
            known = self._datasets.setdefault((run.entry.experiment_id, *what), dataset)
            run.datasets.setdefault(what, known._replace(tags=dataset.tags))
        run.read.update(dict.fromkeys(ask.models))

    def _LogOutputs(self, ask: asks.LogOutputs, workspace: str) -> None:  # noqa: N802  the ask's name
        run = self._run(workspace, ask.run_id)
        if any(model.model_id in run.made for model in ask.models):
            raise NotPlain
        run.made.update({model.model_id: model for model in ask.models})

    def _History(self, ask: asks.History, workspace: str) -> Page:  # noqa: N802  the ask's name
        points = self._run(workspace, ask.run_id, active=False).history(ask.key)
        return _page(points, len(points) if ask.max_results is None else ask.max_results, ask.offset)

    def _HistoryBulk(self, ask: asks.HistoryBulk, workspace: str) -> list[RunPoint]:  # noqa: N802  the ask's name
        runs = [(r, self._runs[r]) for r in sorted(ask.run_ids) if r in self._runs]
        runs = [(r, run) for r, run in runs if run.workspace == workspace]
        points = [RunPoint(run_id, *p[1:]) for run_id, run in runs for p in run.history(ask.key)]
        return points[: ask.max_results]

    # ----------------------------------------------------------------------------------------------- models

    def _model(self, workspace: str, model_id: str) -> _Model:
        model = self._models.get(model_id)
        if model is None or model.workspace != workspace:
            raise NotPlain
        return model

    def _CreateLoggedModel(self, ask: model_asks.CreateLoggedModel, workspace: str) -> LoggedModel:  # noqa: N802  the ask's name
        home = self._experiment(workspace, ask.experiment_id)
        if ask.model_id in self._models:
            raise NotPlain
        place = under(home.artifact_location, "models", ask.model_id, "artifacts")
        told = (ask.model_id, ask.experiment_id, ask.name, place, ask.now_ms, ask.now_ms, 1, ask.model_type)
        entry = LoggedModel(*told, ask.source_run_id, None, "active", [], [], [])
        self._models[ask.model_id] = _Model(workspace, entry, dict(ask.params), dict(ask.tags))
        return self._models[ask.model_id].whole()

    def _FinalizeLoggedModel(self, ask: model_asks.FinalizeLoggedModel, workspace: str) -> LoggedModel:  # noqa: N802  the ask's name
        model = self._model(workspace, ask.model_id)
        model.entry = model.entry._replace(status=ask.status, updated_ms=ask.now_ms)
        return model.whole()

    def _LogModelParams(self, ask: model_asks.LogModelParams, workspace: str) -> None:  # noqa: N802  the ask's name
        params = self._model(workspace, ask.model_id).params
        if any(key in params for key, _ in ask.params):
            raise NotPlain
        params.update(ask.params)

    def _SetModelTags(self, ask: model_asks.SetModelTags, workspace: str) -> None:  # noqa: N802  the ask's name
        self._model(workspace, ask.model_id).tags.update(ask.tags)

    def _DeleteModelTag(self, ask: model_asks.DeleteModelTag, workspace: str) -> None:  # noqa: N802  the ask's name
        if self._model(workspace, ask.model_id).tags.pop(ask.key, None) is None:
            raise NotPlain

    def _GetLoggedModel(self, ask: model_asks.GetLoggedModel, workspace: str) -> LoggedModel:  # noqa: N802  the ask's name
        return self._model(workspace, ask.model_id).whole()

    def _SearchLoggedModels(self, ask: model_asks.SearchLoggedModels, workspace: str) -> Page:  # noqa: N802  the ask's name
        found = [m.whole() for m in self._models.values() if m.workspace == workspace]
        found = [m for m in found if m.experiment_id in ask.experiment_ids and ask.name in ("", m.name)]
        found.sort(key=lambda model: (-model.created_ms, model.model_id))
        return _page(found, ask.max_results, ask.offset)


def _fits(row: Row) -> bool:
    """Whether a database could hold it: whole numbers of 64 bits, and text that can be encoded."""
    return all(
        abs(value) < 2**63 if isinstance(value, int) else not re.search("[\ud800-\udfff]", str(value))
        for value in row
    )


def _point(row: Row) -> Point:
    key, value, at, step, nan = row
    return Point(key, math.nan if nan else value, at, step)


def _page(found: list[Any], most: int, offset: int) -> Page:
    end = offset + most
    return Page(found[offset:end], end if len(found) > end else None)
