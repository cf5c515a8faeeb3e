"""The commands that list and show what is there: models, tables, log, show."""

from __future__ import annotations

import click

from tallystick.terminal.context import Tally, common
from tallystick.terminal.show import ago, newest_verdicts, short, verdict_words

__all__ = ["COMMANDS"]


@click.command()
@common
@click.pass_obj
def models(tally: Tally) -> None:
    """List model versions with their verdicts and where they serve."""
    policy = tally.hub.get("/status").get("policy_digest", "")
    found = tally.hub.get("/nouns/model", limit=1000)
    verdicts = newest_verdicts(tally.hub.get("/nouns/verdict", limit=1000))
    endpoints = tally.hub.get("/nouns/endpoint", limit=1000)
    rows = []
    for model in found:
        key = f"{model['name']}@{model['version']}"
        words = verdict_words(verdicts.get(key), model["digest"], policy)
        served = ", ".join(e["name"] for e in endpoints if e["wished"]["model"] == key)
        origin = model["origin"]["run"] or "the MLflow registry"
        rows.append([key, short(model["digest"]), origin, words, served or "-", ago(model["at_ms"])])
    value = [{**m, "verdict": verdicts.get(f"{m['name']}@{m['version']}")} for m in found]
    heads = ["model", "content", "from", "verdict", "endpoint", "registered"]
    tally.screen.table(value, heads, rows, "no model yet: tally run PIPELINE.yaml --register OUTPUT=NAME")


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
    """The facts, newest first; those of steps only with `--noun step`."""
    facts = tally.hub.get("/log", noun=noun, limit=limit, before=before)
    rows = [[str(f["seq"]), ago(f["at_ms"]), f["noun"], f["key"], f["event"], f["note"]] for f in facts]
    tally.screen.table(facts, ["#", "when", "noun", "key", "event", "what"], rows, _empty(noun, before))


def _empty(noun: str, before: int) -> str:
    what = f"nothing has happened to any {noun}" if noun else "nothing has happened"
    return f"{what} before fact {before}" if before else f"{what} yet"


@click.command()
@click.argument("noun")
@click.argument("key")
@common
@click.pass_obj
def show(tally: Tally, noun: str, key: str) -> None:
    """Print the present state of one NOUN (data, run, model, ...) by its KEY, as JSON."""
    tally.screen.json(tally.hub.noun(noun, key))


COMMANDS = (models, tables, log, show)
