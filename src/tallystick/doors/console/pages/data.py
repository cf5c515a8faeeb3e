"""Tables and their snapshots: what they hold, where they came from, and what was made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from starlette.requests import Request

from tallystick.core.data import Snapshot
from tallystick.core.errors import NotFound
from tallystick.core.model import ModelVersion
from tallystick.core.run.events import Run, snapshots_of
from tallystick.doors.console.answer import Page, name_in
from tallystick.doors.console.view import View

__all__ = ["snapshots_read", "table", "tables"]


@dataclass(slots=True)
class Use:
    """Which runs read a snapshot, and which models were made from it, by key."""

    runs: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)


def snapshots_read(run: Run) -> list[str]:
    """The snapshots (``table@snapshot_id``) that a run's steps brought in or worked on."""
    return list(snapshots_of(run.steps) or run.snapshots)


async def _uses(view: View) -> dict[str, Use]:
    uses: dict[str, Use] = {}
    for model in (await view.newest(ModelVersion)).values:
        for key in model.origin.snapshots:
            use = uses.setdefault(key, Use())
            use.models.append(model.key)
            if model.origin.run and model.origin.run not in use.runs:
                use.runs.append(model.origin.run)
    for run in (await view.newest(Run)).values:
        for key in snapshots_read(run):
            use = uses.setdefault(key, Use())
            if run.key not in use.runs:
                use.runs.append(run.key)
    return uses


async def tables(view: View, request: Request) -> Page:
    """Every table with its newest snapshot."""
    listing = await view.newest(Snapshot)
    uses = await _uses(view)
    rows = []
    by_table = sorted(listing.values, key=lambda s: s.table)
    for name, found in groupby(by_table, key=lambda s: s.table):
        group = sorted(found, key=lambda s: s.at_ms)
        rows.append((name, group, sum(len(uses.get(s.key, Use()).models) for s in group)))
    rows.sort(key=lambda row: -row[1][-1].at_ms)
    data = {"tables": [{"table": n, "snapshots": len(g), "newest": g[-1]} for n, g, _ in rows]}
    return Page("making/tables.html", "Data", data, {"rows": rows, "listing": listing})


async def table(view: View, request: Request) -> Page:
    """One table: its snapshots newest first, each with its source, its parent and what used it."""
    name = name_in(request, "table")
    listing = await view.newest(Snapshot)
    found = sorted((s for s in listing.values if s.table == name), key=lambda s: -s.at_ms)
    if not found:
        raise NotFound(f"there is no table {name!r}", where="data", hint=_known(listing.values))
    uses = await _uses(view)
    by_id = {s.snapshot_id: s for s in found}
    rows = [(s, by_id.get(s.parent or ""), uses.get(s.key, Use())) for s in found]
    snapshots = [{"snapshot": s, "runs": u.runs, "models": u.models} for s, _, u in rows]
    shown = {"rows": rows, "newest": found[0], "listing": listing}
    return Page("making/table.html", name, {"table": name, "snapshots": snapshots}, shown)


def _known(snapshots: Sequence[Snapshot]) -> str:
    names = sorted({s.table for s in snapshots})[:8]
    return f"there is {', '.join(names)}" if names else "there is no table yet: tally ingest TABLE FILE"
