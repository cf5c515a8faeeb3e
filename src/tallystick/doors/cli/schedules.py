"""`tally schedule`: pipelines that are run again and again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from tallystick.core.errors import BadInput, NotFound
from tallystick.doors.cli.runs import pairs, where
from tallystick.terminal.client import path_part
from tallystick.terminal.context import Tally, check_file, common

__all__ = ["COMMANDS"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@click.group()
def schedule() -> None:
    """Run pipelines again and again: add, list, pause, resume, remove."""


@schedule.command()
@click.argument("pipeline", type=click.Path(path_type=Path))
@click.option(
    "--cron", default="", metavar="EXPR", help="When, in UTC: '0 3 * * *', or six fields with seconds."
)
@click.option("--every", default="", metavar="TIME", help="How often: 30s, 15m, 6h, 1d or 1w.")
@click.option(
    "-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter of the pipeline."
)
@click.option("--name", default="", help="What to call it (default: the pipeline's name).")
@click.option("--at-once", default=1, show_default=True, type=click.IntRange(1, 10), help="Runs at a time.")
@click.option("--catchup", is_flag=True, help="Make up for every time that was missed, not the latest alone.")
@where
@common
@click.pass_obj
def add(tally: Tally, /, pipeline: Path, cron: str, every: str, params: tuple[str, ...], **more: Any) -> None:
    """Run PIPELINE, compiled to YAML, whenever it is due. The file is kept as it is now."""
    options = {name: value for name in ("on", "host", "commands", "no_gpus") if (value := more.pop(name))}
    if bool(cron) == bool(every):
        raise BadInput("say when: either --cron or --every", where="tally schedule add")
    try:
        spec = check_file(pipeline).read_text("utf-8")
    except UnicodeDecodeError:
        raise BadInput(
            "is not text", where=str(pipeline), hint="compile the pipeline to YAML first"
        ) from None
    made = tally.hub.post(
        "/schedules",
        spec=spec,
        filename=pipeline.name,
        params_text=pairs(params),
        options=options,
        cron=cron,
        every_s=_seconds(every) if every else 0,
        **more,
    )
    tally.screen.result(made, f"{made['key']} {made['name']}, next due {_time(made['next_due_ms'])}")


@schedule.command("list")
@common
@click.pass_obj
def list_them(tally: Tally) -> None:
    """List schedules: when each is due, when next, and what became of its last run."""
    found = tally.hub.get("/schedules")
    rows = [
        [
            s["name"],
            s["key"],
            (s["timing"]["cron"] or f"every {_span(s['timing']['every_s'])}") + _on(s["options"]),
            _time(s["next_due_ms"]) if s["enabled"] else "paused",
            f"{s['last_run']} {s['last_state']}" if s["last_run"] else "-",
            s["error"],
        ]
        for s in found
    ]
    heads = ["schedule", "key", "when", "next due", "last run", "trouble"]
    tally.screen.table(found, heads, rows, "no schedule yet: tally schedule add PIPELINE.yaml --every 6h")


def _verb(name: str, done: str, help_text: str) -> None:
    @schedule.command(name, help=help_text)
    @click.argument("which", metavar="SCHEDULE")
    @common
    @click.pass_obj
    def change(tally: Tally, which: str) -> None:
        found = tally.hub.post(f"/schedules/{path_part(_key(tally, which))}/{name}")
        tally.screen.result(found, f"{found['name']} {done}")


_verb("pause", "is paused", "Start no more runs of SCHEDULE, a name or key; those that have begun go on.")
_verb("resume", "goes on", "Go on with SCHEDULE, a name or key.")
_verb("remove", "is removed", "Remove SCHEDULE, a name or key; its runs stay.")


def _key(tally: Tally, which: str) -> str:
    """The key of a schedule by its name or key."""
    found = tally.hub.get("/schedules")
    keys = [s["key"] for s in found if which == s["key"]] or [s["key"] for s in found if which == s["name"]]
    if len(keys) == 1:
        return str(keys[0])
    if keys:
        raise BadInput(f"{len(keys)} schedules are called {which!r}", hint=f"say which: {', '.join(keys)}")
    raise NotFound(f"no schedule {which[:100]!r}", where="schedule", hint="tally schedule list")


def _on(options: Mapping[str, str]) -> str:
    """Where its runs are done, where that is not here."""
    return f", on {options['host'] or options['on']}" if options.get("on") else ""


def _seconds(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,6})([smhdw])", text.strip().lower())
    if not found or not int(found[1]):
        raise BadInput(
            f"{text[:40]!r} is no interval", where="--every", hint="for example 30s, 15m, 6h or 1d"
        )
    return int(found[1]) * _UNITS[found[2]]


def _span(seconds: int) -> str:
    unit = next(u for u in reversed(_UNITS) if seconds % _UNITS[u] == 0)
    return f"{seconds // _UNITS[unit]}{unit}"


def _time(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC" if at_ms else "never again"


COMMANDS = (schedule,)
