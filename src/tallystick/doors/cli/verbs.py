"""The commands that change something, but for runs: ingest, register, deploy, observe, heal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from tallystick.core.errors import Failed
from tallystick.core.names import check_name
from tallystick.core.remedy import RemedyAction
from tallystick.doors.cli.ask.predict import predict
from tallystick.terminal.client import path_part
from tallystick.terminal.context import Tally, check_file, common, goes_on
from tallystick.terminal.follow import LOOK, follow
from tallystick.terminal.show import short

__all__ = ["COMMANDS", "describe_observation", "follow_endpoint", "next_step", "upload"]


@click.command()
@click.argument("table")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--allow-nan", is_flag=True, help="Accept NaN in number columns.")
@common
@click.pass_obj
def ingest(tally: Tally, table: str, file: Path, allow_nan: bool) -> None:
    """Append FILE (.csv, .parquet, .jsonl) to TABLE as one snapshot: all rows or none."""
    snapshot = upload(tally, check_name("table", table), file, allow_nan)
    tally.screen.result(
        snapshot,
        f"{snapshot['table']}@{snapshot['snapshot_id']}: {snapshot['rows']:,} rows,"
        f" content {short(snapshot['digest'])}",
    )


def upload(tally: Tally, table: str, file: Path, allow_nan: bool = False) -> Any:
    """Send a file to a table, with a bar for what takes long."""
    check_file(file)
    with tally.screen.counting(file.name, file.stat().st_size) as progress:
        return tally.hub.upload(table, file, allow_nan=allow_nan, progress=progress)


@click.command()
@click.argument("name")
@click.option("--run", "run_key", required=True, metavar="RUN", help="The run that made the model.")
@click.option("--output", required=True, metavar="OUTPUT", help="The pipeline's output that is the model.")
@common
@click.pass_obj
def register(tally: Tally, name: str, run_key: str, output: str) -> None:
    """Register a run's model output as the next version of model NAME."""
    model = tally.hub.post("/models", name=name, run=run_key, output=output)
    tally.screen.result(model, f"{model['name']}@{model['version']}: content {short(model['digest'])}")


@click.command()
@click.argument("model")
@click.option("--name", required=True, metavar="NAME", help="The endpoint to serve it at.")
@click.option("--no-wait", is_flag=True, help="Return once the wish is recorded.")
@common
@click.pass_obj
def deploy(tally: Tally, model: str, name: str, no_wait: bool) -> None:
    """Serve MODEL (NAME or NAME@VERSION) at an endpoint, if its verdict lets it pass."""
    endpoint = tally.hub.post("/endpoints", model=model, name=name)
    if not no_wait:
        with goes_on(tally, f"endpoint {name}", LOOK):
            endpoint = follow_endpoint(tally, name)
    tally.screen.result(
        endpoint,
        f"{endpoint['wished']['model']} {endpoint['state']} at {tally.hub.url}/v2/models/{name}/infer"
        f" (generation {endpoint['observed_generation']} of {endpoint['wished']['generation']})",
    )


def follow_endpoint(tally: Tally, name: str) -> Any:
    """Wait until what is observed is what is wished; Failed when settling gave up."""

    def ended(endpoint: Mapping[str, Any]) -> bool:
        settled = endpoint["observed_generation"] >= endpoint["wished"]["generation"]
        return bool(settled and endpoint["state"] == "ready") or endpoint["state"] in ("failed", "stopped")

    endpoint = tally.hub.wait("endpoint", name, ended, lambda _: None)
    if endpoint["state"] == "failed":
        raise Failed(endpoint["error"], where=f"endpoint {name}")
    return endpoint


@click.command()
@click.argument("name")
@common
@click.pass_obj
def withdraw(tally: Tally, name: str) -> None:
    """Stop serving at endpoint NAME."""
    tally.hub.post(f"/endpoints/{check_name('endpoint', name)}/withdraw")
    with goes_on(tally, f"endpoint {name}", LOOK):
        endpoint = follow_endpoint(tally, name)
    tally.screen.result(endpoint, f"{name} is withdrawn")


@click.command()
@click.argument("name")
@click.option("--label", default=None, metavar="COLUMN", help="The column of the reference that is no input.")
@common
@click.pass_obj
def observe(tally: Tally, name: str, label: str | None) -> None:
    """Measure drift of what endpoint NAME was asked against what its model was made from."""
    check_name("endpoint", name)
    found = tally.hub.post(f"/endpoints/{name}/observe", **({"label": label} if label else {}))
    tally.screen.result(found, describe_observation(found))


def describe_observation(found: Mapping[str, Any]) -> str:
    """The signal and the remedy in words, or that there is nothing to say."""
    signal, remedy = found["signal"], found["remedy"]
    if not signal:
        return f"no signal: {found['text']}"
    lines = [
        f"{signal['key']}: {signal['text']}",
        f"{remedy['key']} {remedy['state']}: {remedy['action']}; {remedy['why']}",
        f"next: {next_step(remedy)}",
    ]
    return "\n".join(lines)


def next_step(remedy: Mapping[str, Any]) -> str:
    """The command that a remedy waits for."""
    if remedy["action"] == RemedyAction.LABEL:  # nobody but a person can
        return f"tally ingest TABLE FILE, then tally observe {remedy['endpoint']}"
    return f"tally heal {remedy['key']}"


@click.command()
@click.argument("remedy")
@common
@click.pass_obj
def heal(tally: Tally, remedy: str) -> None:
    """Carry out a proposed REMEDY, by its key."""
    tally.hub.post(f"/remedies/{path_part(remedy)}/carry")
    with goes_on(tally, remedy, LOOK):
        ended = follow(tally, "remedy", remedy)
    tally.screen.result(ended, f"{ended['key']} {ended['state']}: {ended['outcome']}")


COMMANDS = (ingest, register, deploy, withdraw, predict, observe, heal)
