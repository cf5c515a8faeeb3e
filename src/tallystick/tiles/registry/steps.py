"""Steps in MLflow's record: natively, many in one commit, or by MLflow's own server, one after the other."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from tallystick.core.names import canonical_json
from tallystick.core.run.events import Run, Step, StepState
from tallystick.core.values import ArtifactRef
from tallystick.ports.runs.records import child_id
from tallystick.ports.tracking import DEFAULT_WORKSPACE, Tracking
from tallystick.record.asks import Columns, CreateRun, GetRun, LogBatch, NotPlain, UpdateRun
from tallystick.tiles.registry.rest import Rest

__all__ = ["MlflowSteps", "told_of"]

USER = "tallystick"
PARENT = "mlflow.parentRunId"
OWN_ID = "tally.step_run"
MANY = 100
"""Params, and metrics, of one batch."""
PAGE = 1000

NAME_CHARS_MAX = 250
PARAM_CHARS_MAX = 6000
TAG_CHARS_MAX = 5000
METRICS = "system.Metrics"
LARGEST = sys.float_info.max
STATUS = {
    StepState.SUCCEEDED: "FINISHED",
    StepState.CACHED: "FINISHED",
    StepState.FAILED: "FAILED",
    StepState.CANCELLED: "KILLED",
}

_ODD = re.compile(r"[^\w.\- ]")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Told:
    """A step in MLflow's terms, and within its limits."""

    run_id: str
    name: str
    status: str
    started_ms: int
    ended_ms: int
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


class MlflowSteps:
    """See :class:`tallystick.ports.runs.records.StepRecords`; ``tracking`` is the native record."""

    def __init__(self, tracking: Tracking, rest: Rest) -> None:
        self._tracking = tracking
        self._rest = rest

    async def record_steps(self, run: Run, steps: Sequence[Step], *, again: bool = False) -> None:
        """Add ``steps`` as children of the run's record; with ``again``, those that are not there already.

        MLflow's own server chooses ids itself: there ours is the tag ``tally.step_run``.
        """
        parent, experiment, told = run.record_id, run.experiment_id, [told_of(run, step) for step in steps]
        done = await asyncio.gather(*(self._native(parent, experiment, step, again) for step in told))
        odd = [step for step, natively in zip(told, done, strict=True) if not natively]
        if odd:
            await self._by_rest(parent, experiment, odd)

    async def _native(self, parent: str, experiment: str, step: Told, again: bool) -> bool:
        """Whether this could be done natively. Each try comes to the same, as far as an earlier one came."""
        try:
            if not (again and await self._is_there(step.run_id)):
                tags = tuple({**step.tags, PARENT: parent}.items())
                await self._write(
                    CreateRun(step.run_id, int(experiment), USER, step.started_ms, step.name, tags)
                )
            params, metrics = list(step.params.items()), list(step.metrics.items())
            for some, points in zip(_batches(params, metrics), _batches(metrics, params), strict=True):
                keys, values = [key for key, _ in points], [value for _, value in points]
                columns = Columns(keys, values, [step.ended_ms] * len(keys), [0] * len(keys))
                await self._write(LogBatch(step.run_id, columns, tuple(some)))
            await self._write(UpdateRun(step.run_id, step.status, step.ended_ms))
        except NotPlain:
            return False
        return True

    async def _write(self, ask: Any) -> None:
        await self._tracking.write(ask, DEFAULT_WORKSPACE)

    async def _is_there(self, run_id: str) -> bool:
        try:
            await self._tracking.read(GetRun(run_id), DEFAULT_WORKSPACE)
        except NotPlain:
            return False
        return True

    async def _by_rest(self, parent: str, experiment: str, steps: Sequence[Told]) -> None:
        """MLflow's server chooses ids itself: ours is kept as a tag, and looked for before."""
        known = await self._known(parent, experiment)
        for step in steps:
            run_id = known.get(step.run_id)
            if run_id is None:
                tags = {**step.tags, PARENT: parent, OWN_ID: step.run_id}
                made = await self._rest.post(
                    "runs/create",
                    experiment_id=experiment,
                    run_name=step.name,
                    start_time=step.started_ms,
                    tags=[{"key": key, "value": value} for key, value in tags.items()],
                )
                run_id = str(made["run"]["info"]["run_id"])
            params, metrics = list(step.params.items()), list(step.metrics.items())
            for some, points in zip(_batches(params, metrics), _batches(metrics, params), strict=True):
                await self._rest.post(
                    "runs/log-batch",
                    run_id=run_id,
                    params=[{"key": key, "value": value} for key, value in some],
                    metrics=[
                        {"key": key, "value": value, "timestamp": step.ended_ms, "step": 0}
                        for key, value in points
                    ],
                )
            await self._rest.post("runs/update", run_id=run_id, status=step.status, end_time=step.ended_ms)

    async def _known(self, parent: str, experiment: str) -> dict[str, str]:
        """Runs of steps that are there already: their ids by ours."""
        found: dict[str, str] = {}
        asked: dict[str, Any] = {
            "experiment_ids": [experiment],
            "filter": f"tags.`{PARENT}` = '{parent}'",
            "max_results": PAGE,
        }
        while True:
            page = await self._rest.post("runs/search", **asked)
            for run in page.get("runs", ()):
                run_id = str(run["info"]["run_id"])
                tags = {str(t["key"]): str(t.get("value", "")) for t in run.get("data", {}).get("tags", ())}
                found[tags.get(OWN_ID, run_id)] = run_id
            if not page.get("next_page_token"):
                return found
            asked["page_token"] = page["next_page_token"]


def _batches(items: Sequence[T], others: Sequence[Any]) -> Iterator[Sequence[T]]:
    """``items``, so many at a time; as often as the longer of both needs, and never for none at all."""
    return (items[at : at + MANY] for at in range(0, max(len(items), len(others)), MANY))


def told_of(run: Run, step: Step) -> Told:
    """A step in MLflow's terms: what is too long is cut, and ends with an ellipsis."""
    tags = {
        "tally.run": run.key,
        "tally.step": step.path,
        "tally.cache": step.cache_note or ("hit" if step.state is StepState.CACHED else "miss"),
        **{f"tally.input.{name}": _digests(refs) for name, refs in step.inputs.artifacts.items()},
        **{f"tally.output.{name}": _digests(refs) for name, refs in step.outputs.artifacts.items()},
        **({"tally.error": step.error} if step.error else {}),
    }
    params = {
        name: value if isinstance(value, str) else canonical_json(value) for name, value in _params(step)
    }
    return Told(
        run_id=child_id(run, step),
        name=_cut(step.path, NAME_CHARS_MAX),
        status=STATUS[step.state],
        started_ms=step.started_ms,
        ended_ms=step.ended_ms,
        params={_name(name): _cut(value, PARAM_CHARS_MAX) for name, value in params.items()},
        metrics=_metrics(step),
        tags={_name(name): _cut(value, TAG_CHARS_MAX) for name, value in tags.items()},
    )


def _params(step: Step) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in step.inputs.params.items() if value not in (None, "")]


def _metrics(step: Step) -> Mapping[str, float]:
    """The numbers of its outputs of metrics; a name that several have is told with the output's."""
    found: dict[str, float] = {}
    for output, refs in step.outputs.artifacts.items():
        for name, value in ((n, v) for ref in refs if ref.schema == METRICS for n, v in ref.metadata.items()):
            if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST:
                found[_name(name if _name(name) not in found else f"{output} {name}")] = float(value)
    return found


def _digests(refs: tuple[ArtifactRef, ...]) -> str:
    return " ".join(ref.digest for ref in refs)


def _name(name: str) -> str:
    return _ODD.sub("_", name)[:NAME_CHARS_MAX].lstrip(".") or "_"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "\u2026"
