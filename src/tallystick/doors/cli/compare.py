"""The commands that compare runs: diff, reproduce. Their exit status is 0 for alike and 1 for different."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click
from rich.text import Text

from tallystick.core.errors import Conflict
from tallystick.terminal.client import path_part
from tallystick.terminal.context import Tally, common, goes_on
from tallystick.terminal.follow import Noun, follow_run
from tallystick.terminal.show import short, visible

__all__ = ["COMMANDS"]

DIFFERENT = 1
SHOWN_MAX = 20
"""Changes of a group that are listed; ``--json`` has them all."""
_TOLERANCE = click.option(
    "--tolerance", default="1e-9", show_default=True, metavar="SHARE", help="How far apart floats may be."
)
_LINE = {"+": "green", "-": "red", "@": "cyan"}


@click.command()
@click.argument("before", metavar="RUN")
@click.argument("after", metavar="RUN")
@_TOLERANCE
@common
@click.pass_obj
def diff(tally: Tally, before: str, after: str, tolerance: str) -> None:
    """Say what changed between two runs: code, packages, parameters, data, outputs, metrics, states.

    Exit status 0 when they are alike, 1 when they differ.
    """
    runs = {"before": path_part(before), "after": path_part(after)}
    found = tally.hub.get("/compare", **runs, tolerance=tolerance)
    words = "are alike" if found["alike"] else "differ"
    _tell(tally, found, f"{before} and {after} {words}: {_steps(found)}")


@click.command()
@click.argument("run_key", metavar="RUN")
@_TOLERANCE
@click.option("--no-wait", is_flag=True, help="Return once it has begun.")
@common
@click.pass_obj
def reproduce(tally: Tally, run_key: str, tolerance: str, no_wait: bool) -> None:
    """Run RUN again: its file, packages, inputs and seed, nothing from the cache; then say what differs.

    Exit status 0 when it came out the same, 1 when it did not.
    """
    begun = tally.hub.post(f"/runs/{path_part(run_key)}/reproduce")
    key = begun["run"]["key"]
    for note in begun["notes"]:
        tally.screen.say(f"  {visible(note)}")
    if no_wait:
        tally.screen.result(begun, f"{key} reproduces {run_key}")
        return
    with goes_on(tally, key, f"`tally diff {run_key} {key}` compares them once it has ended"):
        _follow(tally, key, len(tally.hub.noun("run", run_key)["steps"]))
    found = {**tally.hub.get(f"/runs/{key}/reproduction", tolerance=tolerance), "notes": begun["notes"]}
    if found["alike"]:
        _tell(
            tally, found, f"{key} reproduces {run_key}: all that {found['steps']} steps put out is the same"
        )
    first = f", {found['first']} first" if found["first"] else ""
    lines = [f"{key} does not reproduce {run_key}: {_steps(found)}{first}"]
    _tell(tally, found, "\n".join([*lines, *(f"  {why}" for why in found["why"])]))


def _follow(tally: Tally, key: str, steps: int) -> None:
    """Wait until the run has ended, with a line of how far it is. Conflict where it was cancelled."""

    def watch(run: Noun, _: object) -> None:
        done = sum(step["state"] not in ("running", "backing off") for step in run["steps"])
        tally.screen.progress(min(1.0, done / max(1, steps)), f"{done} of {steps} steps of {key}")

    if follow_run(tally, key, watch)["state"] == "cancelled":
        raise Conflict(f"run {key} was cancelled", hint="there is nothing to compare")


def _steps(found: Mapping[str, Any]) -> str:
    return f"{found['steps_alike']} of {found['steps']} steps alike"


def _tell(tally: Tally, found: Mapping[str, Any], head: str) -> None:
    """The result, and the exit status that goes with it."""
    if tally.screen.as_json:
        tally.screen.json(found)
    else:
        for line in (Text(visible(head)), *_lines(found)):
            tally.screen.out.print(line, soft_wrap=not tally.screen.out.is_terminal)
    click.get_current_context().exit(0 if found["alike"] else DIFFERENT)


def _lines(found: Mapping[str, Any]) -> Iterator[Text]:
    groups = {**found["groups"], "inputs": _unexplained(found["groups"])}
    course = {c["what"]: c for c in groups.pop("course", ()) if not c["where"]}
    for name, changes in groups.items():
        if changes:
            yield Text(name, style="bold")
        for change in changes[:SHOWN_MAX]:
            yield from _change(change)
        more = len(changes) + found["left_off"].get(name, 0) - SHOWN_MAX
        if more > 0:
            yield Text(f"  and {more} more: --json", style="dim")
    if "ms" in course:
        took = [f"{(course['ms'][side] or 0) / 1000:.1f} s" for side in ("before", "after")]
        yield Text(f"took {took[0]}, then {took[1]}", style="dim")


def _unexplained(groups: Mapping[str, Sequence[Any]]) -> list[Any]:
    """The inputs that differ, but for those that are outputs of which that is said already."""
    told = {_pair(change) for name in ("params", "data", "outputs") for change in groups.get(name, ())}
    return [change for change in groups.get("inputs", ()) if _pair(change) not in told]


def _pair(change: Mapping[str, Any]) -> str:
    sides = (change["before"], change["after"])
    return json.dumps([side[0] if isinstance(side, list) and len(side) == 1 else side for side in sides])


def _change(change: Mapping[str, Any]) -> Iterator[Text]:
    where = change["where"] or "the run"
    where += f" and {change['more']} more" if change["more"] else ""
    line = Text(f"  {visible(where)}: {visible(change['what'])}")
    if not change["diff"]:
        line.append("  ").append(_value(change["before"]), "red").append(" -> ")
        line.append(_value(change["after"]), "green")
    yield line
    for text in (
        change["diff"].splitlines()[2:] if change["diff"].startswith("---") else change["diff"].splitlines()
    ):
        yield Text(f"    {visible(text)}", style=_LINE.get(text[:1], "dim"))


def _value(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, list) and value and all(str(v).startswith("sha256:") for v in value):
        return ", ".join(map(short, value))
    if isinstance(value, str):
        return short(value) if value.startswith("sha256:") else visible(value) or "empty"
    return visible(json.dumps(value, ensure_ascii=False))


COMMANDS = (diff, reproduce)
