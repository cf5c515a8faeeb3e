"""The commands that only look: models, tables, status, log."""

from __future__ import annotations

from typing import Any

import click

from tallystick.doors.cli.context import Tally, common
from tallystick.doors.cli.show import ago, percent, short

__all__ = ["COMMANDS"]


@click.command()
@common
@click.pass_obj
def models(tally: Tally) -> None:
    """List model versions with their verdicts and where they serve."""
    found = tally.hub.get("/nouns/model", limit=1000)
    verdicts: dict[str, Any] = {}
    for verdict in tally.hub.get("/nouns/verdict", limit=1000):
        verdicts.setdefault(verdict["model"], verdict)
    endpoints = tally.hub.get("/nouns/endpoint", limit=1000)
    rows = []
    for model in found:
        key = f"{model['name']}@{model['version']}"
        verdict = verdicts.get(key)
        served = ", ".join(e["name"] for e in endpoints if e["wished"]["model"] == key)
        origin = model["origin"]["run"] or "the MLflow registry"
        rows.append(
            [key, short(model["digest"]), origin, _verdict_words(verdict), served or "-", ago(model["at_ms"])]
        )
    value = [{**m, "verdict": verdicts.get(f"{m['name']}@{m['version']}")} for m in found]
    heads = ["model", "content", "from", "verdict", "endpoint", "registered"]
    tally.screen.table(value, heads, rows, "no model yet: tally run PIPELINE.yaml --register OUTPUT=NAME")


def _verdict_words(verdict: Any) -> str:
    if not verdict:
        return "none"
    evidence = verdict["evidence"]
    if not evidence:
        return str(verdict["state"])
    worst = evidence["curve"][-1] if evidence["curve"] else None
    attacked = f", {percent(worst['robust'])} at eps {worst['eps']:g}" if worst else ""
    return f"{verdict['state']}: {percent(evidence['clean'])} clean{attacked}"


@click.command()
@common
@click.pass_obj
def tables(tally: Tally) -> None:
    """List tables with their snapshots, newest first."""
    found = tally.hub.get("/nouns/data", limit=1000)
    rows = []
    for s in found:
        source = (s["source"] or {}).get("name", "-")
        key = f"{s['table']}@{s['snapshot_id']}"
        rows.append([key, f"{s['rows']:,}", short(s["digest"]), source, ago(s["at_ms"])])
    tally.screen.table(
        found,
        ["snapshot", "rows", "content", "source", "when"],
        rows,
        "no table yet: tally ingest TABLE FILE",
    )


@click.command()
@common
@click.pass_obj
def status(tally: Tally) -> None:
    """Say what the hub has and what it is doing."""
    now = tally.hub.get("/status")
    endpoints = tally.hub.get("/nouns/endpoint", limit=1000)
    value = {**now, "endpoints": endpoints}
    if tally.screen.as_json:
        tally.screen.json(value)
        return
    counts = ", ".join(f"{n} {noun}" for noun, n in now["counts"].items() if noun != "step")
    lines = [
        f"tallystick {now['version']} at {now['url']} (process {now['pid']})",
        f"  home       {now['home']}",
        f"  sandbox    {now['sandbox']}",
        f"  has        {counts}",
        f"  under way  {', '.join(now['under_way']) or 'nothing'}",
    ]
    for e in endpoints:
        error = f": {e['error']}" if e["error"] else ""
        generation = f"generation {e['observed_generation']} of {e['wished']['generation']}"
        lines.append(
            f"  endpoint   {e['name']} {e['state']}, {e['wished']['model'] or 'nothing'}, {generation}{error}"
        )
    tally.screen.result(value, "\n".join(lines))


@click.command()
@click.option(
    "--noun",
    default="",
    metavar="NOUN",
    help="Only data, run, step, model, verdict, endpoint, signal or remedy.",
)
@click.option("-n", "--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="How many.")
@click.option(
    "--before", default=0, metavar="SEQ", type=click.IntRange(0), help="Only facts before this one."
)
@common
@click.pass_obj
def log(tally: Tally, noun: str, limit: int, before: int) -> None:
    """The facts, newest first."""
    facts = tally.hub.get("/log", noun=noun, limit=limit, before=before)
    if not noun:  # what the cache keeps is no news; `--noun step` shows it
        facts = [f for f in facts if f["noun"] != "step"]
    rows = [[str(f["seq"]), ago(f["at_ms"]), f["noun"], f["key"], f["event"], f["note"]] for f in facts]
    tally.screen.table(facts, ["#", "when", "noun", "key", "event", "what"], rows, "nothing has happened yet")


COMMANDS = (models, tables, status, log)
