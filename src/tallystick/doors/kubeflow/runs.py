"""Runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from tallystick.core.facts import from_json
from tallystick.core.run.events import Run, RunState
from tallystick.core.run.options import RunOptions
from tallystick.doors.kubeflow.answer import body_of
from tallystick.doors.kubeflow.asked import read_asked, shown_source
from tallystick.doors.kubeflow.pages import Field, page_of
from tallystick.doors.kubeflow.shelf import listed
from tallystick.doors.kubeflow.tasks import STATES, error_of, history, task_details
from tallystick.doors.kubeflow.wire import id_of, key_of, when
from tallystick.hub.execute import cancel
from tallystick.hub.house.whole import with_steps
from tallystick.routines.library import DEFAULT, Experiment, Filed, Library

__all__ = ["Runs"]

EVERY = 2**31


@dataclass(frozen=True, slots=True)
class _Row:
    """A run as it stands, unread as far as that goes: a list may be of ten thousands."""

    filed: Mapping[str, Any]
    state: Mapping[str, Any]
    experiment: Experiment | None

    @property
    def id(self) -> str:
        return id_of(self.filed["run"])

    @property
    def archived(self) -> bool:
        return bool(self.filed.get("archived") or (self.experiment and self.experiment.archived))

    @property
    def name(self) -> str:
        return str(self.filed.get("name") or f"{self.state['pipeline']} {self.filed['run']}")


_FIELDS: Mapping[str, Field[_Row]] = {
    "created_at": lambda r: r.state["started_ms"],
    "finished_at": lambda r: r.state["ended_ms"],
    "scheduled_at": lambda r: r.filed.get("due_ms") or r.state["started_ms"],
    "display_name": lambda r: r.name,
    "description": lambda r: r.filed.get("description", ""),
    "state": lambda r: STATES[RunState(r.state["state"])],
    "storage_state": lambda r: "ARCHIVED" if r.archived else "AVAILABLE",
    "experiment_id": lambda r: id_of(r.experiment.key) if r.experiment else "",
    "recurring_run_id": lambda r: id_of(r.filed["schedule"]) if r.filed.get("schedule") else "",
    "run_id": lambda r: r.id,
}


@dataclass(frozen=True)
class Runs:
    """``/runs``."""

    library: Library

    async def create(self, request: Request) -> Any:
        """Start a run."""
        asked = await read_asked(self.library, await body_of(request), set())
        options = RunOptions(experiment=asked.experiment)
        filed = Filed("", asked.name, asked.description, about=asked.about)
        run = await self.library.start(asked.spec, asked.params, options, filed)
        return await self._shown(run.key)

    async def all(self, request: Request) -> Any:
        """A page of runs, without their tasks and specs."""
        scope = request.query_params.get("experiment_id", "")
        wanted = (await self.library.experiment(key_of("experiment", scope))).key if scope else ""
        rows = [r for r in await self._rows() if not wanted or (r.experiment and r.experiment.key == wanted)]
        shown, total, token = page_of(request, rows, _FIELDS, lambda r: r.filed["run"], wanted)
        return listed("runs", [await self._described(row, whole=False) for row in shown], total, token)

    async def one(self, request: Request) -> Any:
        """A run, with its tasks and what it runs."""
        return await self._shown(_key(request))

    async def terminate(self, request: Request) -> Any:
        """Stop it."""
        run = await self.library.standing(await self.library.filed(_key(request)))
        await cancel(self.library.house, run.key)
        return {}

    async def retry(self, request: Request) -> Any:
        """Do it again where it failed, under the same id."""
        await self.library.retry(_key(request))
        return {}

    async def archive(self, request: Request) -> Any:
        """Put it into the archive."""
        await self.library.mark_run(_key(request), "archived", archived=True)
        return {}

    async def unarchive(self, request: Request) -> Any:
        """Take it out of the archive."""
        await self.library.mark_run(_key(request), "unarchived", archived=False)
        return {}

    async def remove(self, request: Request) -> Any:
        """Take it out of every list here; what was recorded of it stays in the ledger."""
        await self.library.mark_run(_key(request), "removed", removed=True)
        return {}

    async def _rows(self) -> list[_Row]:
        house = self.library.house
        runs = {f.key: f.state for f in await house.ledger.listing(house.tenant, "run", EVERY)}
        facts = await house.ledger.listing(house.tenant, "experiment", EVERY)
        filed = {f.key: f.state for f in facts if "run" in f.state}
        again = {attempt for state in filed.values() for attempt in state.get("attempts", ())}
        places = _Places(await self.library.experiments())
        rows = []
        for key, state in runs.items():
            own = filed.get(key, {"run": key})
            if key in again or own.get("removed"):
                continue
            stands = next((a for a in reversed(own.get("attempts", ())) if a in runs), key)
            rows.append(_Row(own, runs[stands], places.of(own, state)))
        return rows

    async def _shown(self, key: str) -> dict[str, Any]:
        house = self.library.house
        filed = await self.library.filed(key)
        run = await self.library.standing(filed)
        fact = await house.ledger.latest(house.tenant, "experiment", key)
        own = fact.state if fact else {"run": key}
        latest = await house.ledger.latest(house.tenant, "run", run.key)
        state = latest.state if latest else {}
        places = _Places(await self.library.experiments())
        return await self._described(_Row(own, state, places.of(own, state)), whole=True)

    async def _described(self, row: _Row, *, whole: bool) -> dict[str, Any]:
        run = from_json(Run, row.state)
        filed = from_json(Filed, row.filed)
        state = STATES[run.state]
        said = {
            "run_id": row.id,
            "experiment_id": id_of(row.experiment.key) if row.experiment else None,
            "display_name": row.name,
            "description": filed.description,
            "storage_state": "ARCHIVED" if row.archived else "AVAILABLE",
            "created_at": when(run.started_ms),
            "scheduled_at": when(filed.due_ms or run.started_ms),
            "finished_at": when(run.ended_ms) if run.state.ended else None,
            "state": state,
            "error": error_of(run) if run.state.ended else None,
            "recurring_run_id": id_of(filed.schedule) if filed.schedule else None,
            "state_history": history(state, run.started_ms, run.ended_ms if run.state.ended else 0),
            **await shown_source(self.library, filed.about, run.spec_digest, run.params, whole=whole),
        }
        if whole:
            steps = await with_steps(self.library.house.journal, run)
            said["run_details"] = {"task_details": task_details(steps, row.id)}
        return {name: value for name, value in said.items() if value is not None}


class _Places:
    """Which experiment a run is in: as it is filed, else by the name that it was started with."""

    def __init__(self, experiments: Any) -> None:
        self._by_key = {e.key: e for e in experiments}
        self._by_name = {e.name: e for e in experiments}

    def of(self, filed: Mapping[str, Any], state: Mapping[str, Any]) -> Experiment | None:
        if filed.get("experiment"):
            return self._by_key.get(filed["experiment"])
        return self._by_name.get(state.get("options", {}).get("experiment") or DEFAULT)


def _key(request: Request) -> str:
    return key_of("run", request.path_params["run"])
