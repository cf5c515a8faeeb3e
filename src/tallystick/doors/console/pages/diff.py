"""Two runs beside each other: what differs in code, packages, parameters, data and figures."""

from __future__ import annotations

from starlette.requests import Request

from tallystick.core.errors import NotSupported
from tallystick.core.run.events import Run
from tallystick.doors.console.answer import Page, name_in
from tallystick.doors.console.view import View

__all__ = ["choose", "diff"]

RUNS_OFFERED = 50
CHANGES_SHOWN = 200

GROUPS = {
    "code": "Code", "packages": "Packages", "params": "Parameters", "data": "Data",
    "inputs": "Inputs of steps", "outputs": "Outputs", "metrics": "Metrics", "states": "States",
    "course": "How it went",
}  # fmt: skip


async def choose(view: View, request: Request) -> Page:
    """The runs that one can be compared with: those of the same pipeline first."""
    one = await view.one(Run, str(request.path_params["key"]))
    others = [r for r in (await view.newest(Run)).values if r.key != one.key]
    others.sort(key=lambda r: (r.pipeline != one.pipeline, -r.started_ms))
    data = {"run": one.key, "others": [r.key for r in others[:RUNS_OFFERED]]}
    shown = {"run": one, "others": others[:RUNS_OFFERED]}
    return Page("runs/choose.html", f"Compare {one.key}", data, shown)


async def diff(view: View, request: Request) -> Page:
    """What differs from one run to another, group by group."""
    before = await view.one(Run, str(request.path_params["key"]))
    after = await view.one(Run, name_in(request, "other"))
    if view.compare is None:
        raise NotSupported("this hub compares no runs", where="diff")
    found = await view.compare(before.key, after.key)
    groups = [(name, GROUPS.get(name, name), changes) for name, changes in found.groups.items() if changes]
    shown = {"before": before, "after": after, "found": found, "groups": groups, "most": CHANGES_SHOWN}
    return Page("runs/diff.html", f"{before.key} and {after.key}", {"difference": found}, shown)
