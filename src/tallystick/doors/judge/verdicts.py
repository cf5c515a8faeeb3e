"""Judge a model, cancel that, and show the verdicts: ``judge``, ``verdicts``, ``verdict``."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from tallystick.core.errors import BadInput, NotFound
from tallystick.core.model import ModelRef
from tallystick.doors.judge.words import finding_lines, markdown, verdict_text
from tallystick.terminal.client import path_part
from tallystick.terminal.context import Tally, common, goes_on
from tallystick.terminal.follow import LOOK, follow
from tallystick.terminal.show import ago

__all__ = ["COMMANDS"]

REFUSED = 3
"""Exit status: the gate's own (:class:`tallystick.core.errors.Refused`)."""
WHY_CHARS = 160


@click.command()
@click.argument("model", default="")
@click.option(
    "--data",
    default="",
    metavar="TABLE",
    help="TABLE, TABLE@SNAPSHOT or RUN/OUTPUT (default: held-out rows).",
)
@click.option("--label", default=None, metavar="COLUMN", help="The column with the right answer.")
@click.option(
    "--stage", default=None, metavar="STAGE", help="What it is to be let into (default: Production)."
)
@click.option(
    "--endpoint", default="", metavar="URL", help="Judge what answers at http://HOST/v2/models/NAME."
)
@click.option("--again", is_flag=True, help="Probe anew, whatever is known of the same files and rows.")
@click.option("--cancel", is_flag=True, help="End the judgement of MODEL that is under way.")
@common
@click.pass_obj
def judge(tally: Tally, /, model: str, endpoint: str, again: bool, cancel: bool, **said: str | None) -> None:
    """Attack MODEL (NAME or NAME@VERSION) and weigh what that shows; exit status 3 when it is refused.

    What is known of the same files and rows is not probed again. Ctrl-C leaves the judgement going on, and
    `--cancel` ends it; what was probed until then is kept.
    """
    if bool(model) == bool(endpoint):
        raise BadInput("name a model, or an endpoint", where="judge", hint="tally judge MODEL")
    if cancel:
        _cancel(tally, model or endpoint)
        return
    said |= {"model": model, "endpoint": endpoint}
    body = {"data": "", "again": again} | {k: v for k, v in said.items() if v}
    key, meant = (
        _begin(tally, body)["key"],
        shlex.quote(model) if model else f"--endpoint {shlex.quote(endpoint)}",
    )
    with goes_on(tally, key, f"{LOOK}, `tally judge {meant} --cancel` ends it"):
        verdict = follow(tally, "verdict", key)
    head = f"{verdict['model']} {verdict['state']} ({verdict['key']})"
    tally.screen.result(verdict, "\n".join([head, *finding_lines(verdict)]))
    if verdict["state"] == "refused":
        click.get_current_context().exit(REFUSED)


def _begin(tally: Tally, body: Mapping[str, Any]) -> Any:
    """Ask for a verdict; who names a file where a table is meant learns what to do."""
    data = str(body["data"])
    try:
        return tally.hub.post("/verdicts", **body)
    except (BadInput, NotFound) as wrong:
        if wrong.where not in ("data", "run", "table") or not data or not Path(data).is_file():
            raise
        hint = f"ingest it first: tally ingest TABLE {shlex.quote(data)}"
        raise BadInput("is a file, not a table", where=data, hint=hint) from wrong


def _cancel(tally: Tally, model: str) -> None:
    """End what is under way for the model, the newest first where there is more."""
    under_way = [
        v["key"]
        for v in tally.hub.get("/nouns/verdict", limit=1000)
        if v["state"] == "judging" and model in (v["model"], v["model"].partition("@")[0])
    ]
    if not under_way:
        raise NotFound(f"{model} is not being judged", where="judge", hint="`tally verdicts` shows which are")
    ended = [tally.hub.post(f"/verdicts/{path_part(key)}/cancel") for key in under_way]
    words = "\n".join(f"{v['model']}: {v['key']} is cancelled; what was probed is kept" for v in ended)
    tally.screen.result(ended, words)


@click.command()
@click.argument("model", default="")
@common
@click.pass_obj
def verdicts(tally: Tally, model: str) -> None:
    """List verdicts, newest first, and which of them count no more, and why."""
    ref = str(ModelRef.parse(model)) if model else ""
    found = [
        v
        for v in tally.hub.get("/nouns/verdict", limit=1000)
        if ref in ("", v["model"], v["model"].partition("@")[0])
    ]
    standing = tally.hub.get("/verdicts/standing")
    rows = []
    for v in sorted(found, key=lambda v: -v["at_ms"]):
        stage, gone = v.get("stage") or "any", standing.get(v["key"], "")
        state = f"{v['state']}, expired" if gone else v["state"]
        rows.append([v["key"], v["model"], stage, state, ago(v["at_ms"]), _why(v, gone)])
    value = [{**v, "expired": standing.get(v["key"], "")} for v in found]
    heads = ["verdict", "model", "stage", "state", "when", "why"]
    none = f"no verdict on {model} yet: tally judge {shlex.quote(model)}" if model else "no verdict yet"
    tally.screen.table(value, heads, rows, none)


def _why(verdict: Mapping[str, Any], gone: str) -> str:
    """The first reason, cut: `tally verdict KEY` has them all."""
    refusing = [
        f["text"]
        for f in verdict["findings"]
        if not f["holds"] and f["severity"] == "refuse" and not f.get("exception")
    ]
    said = "; ".join([*([f"it {gone}"] if gone else []), *refusing]) or verdict["error"] or "-"
    return said if len(said) <= WHY_CHARS else said[: WHY_CHARS - 3] + "..."


@click.command()
@click.argument("key")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print it as Markdown.")
@common
@click.pass_obj
def verdict(tally: Tally, key: str, as_markdown: bool) -> None:
    """Show verdict KEY with all that it rests on: findings, figures, probes and why some have no result."""
    found = tally.hub.get(f"/verdicts/{path_part(key)}")
    if as_markdown and not tally.screen.as_json:
        click.echo(markdown(found))
        return
    tally.screen.result(found, verdict_text(found))


COMMANDS: tuple[click.Command, ...] = (judge, verdicts, verdict)
