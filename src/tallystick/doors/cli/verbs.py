"""The commands that change something: ingest, run, register, judge, deploy, predict, observe, heal."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from tallystick.core.errors import BadInput, Failed
from tallystick.doors.cli.context import Tally, common
from tallystick.doors.cli.predict import predict
from tallystick.doors.cli.show import Screen, percent, short

__all__ = ["COMMANDS", "follow_endpoint", "follow_remedy", "follow_run", "follow_verdict"]


@click.command()
@click.argument("table")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--allow-nan", is_flag=True, help="Accept NaN in number columns.")
@common
@click.pass_obj
def ingest(tally: Tally, table: str, file: Path, allow_nan: bool) -> None:
    """Append FILE (.csv, .parquet, .jsonl) to TABLE as one snapshot: all rows or none."""
    snapshot = upload(tally, table, file, allow_nan)
    tally.screen.result(
        snapshot,
        f"{snapshot['table']}@{snapshot['snapshot_id']}: {snapshot['rows']:,} rows,"
        f" content {short(snapshot['digest'])}",
    )


def upload(tally: Tally, table: str, file: Path, allow_nan: bool = False) -> Any:
    """Send a file to a table, with a bar for what takes long."""
    if not file.is_file():
        raise BadInput("no such file", where=str(file))
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn()
    with Progress(
        *columns, console=tally.screen.err, transient=True, disable=not tally.screen.err.is_terminal
    ) as bar:
        task = bar.add_task(file.name, total=file.stat().st_size)
        return tally.hub.upload(table, file, allow_nan=allow_nan, progress=lambda n: bar.advance(task, n))


@click.command()
@click.argument("pipeline", type=click.Path(path_type=Path))
@click.option(
    "-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter; JSON unless a STRING."
)
@click.option(
    "--register", "registers", multiple=True, metavar="OUTPUT=NAME", help="Register a model that comes out."
)
@click.option("--no-wait", is_flag=True, help="Return once the run has begun.")
@common
@click.pass_obj
def run(
    tally: Tally, pipeline: Path, params: tuple[str, ...], registers: tuple[str, ...], no_wait: bool
) -> None:
    """Run PIPELINE, a Kubeflow pipeline compiled to YAML; unchanged steps come from the cache."""
    wanted = _pairs(registers, "--register")
    ended = start_run(tally, pipeline, _pairs(params, "-p"), wait=not no_wait)
    models = [
        tally.hub.post("/models", name=name, run=ended["key"], output=output)
        for output, name in wanted.items()
        if not no_wait
    ]
    lines = [f"{ended['key']} {ended['state']}"]
    lines += [f"registered {m['name']}@{m['version']}" for m in models]
    tally.screen.result({**ended, "registered": models}, "\n".join(lines))


def _pairs(given: tuple[str, ...], option: str) -> dict[str, str]:
    for text in given:
        if not re.match(r"[^=]+=", text):
            raise BadInput(f"{text!r} has no '='", where=option, hint=f"say {option} NAME=VALUE")
    return dict(text.split("=", 1) for text in given)


def start_run(tally: Tally, pipeline: Path, params: Mapping[str, str], *, wait: bool = True) -> Any:
    """Start a run and, unless told otherwise, see it to its end; Failed when it does not succeed."""
    if not pipeline.is_file():
        raise BadInput("no such file", where=str(pipeline))
    try:
        spec = pipeline.read_text("utf-8")
    except UnicodeDecodeError:
        raise BadInput(
            "is not text", where=str(pipeline), hint="compile the pipeline to YAML first"
        ) from None
    started = tally.hub.post("/runs", spec=spec, params_text=dict(params))
    return follow_run(tally, started["key"]) if wait else started


def follow_run(tally: Tally, key: str) -> Any:
    """Say each step as it starts and ends, until the run has ended."""
    seen: dict[str, str] = {}

    def watch(run: Mapping[str, Any]) -> None:
        for step in run["steps"]:
            if seen.get(step["path"]) == step["state"]:
                continue
            seen[step["path"]] = step["state"]
            if step["state"] != "running":
                seconds = max(0, step["ended_ms"] - step["started_ms"]) / 1000
                error = f": {step['error']}" if step["error"] else ""
                tally.screen.say(f"  {step['path']:<32} {step['state']:<10} {seconds:5.1f} s{error}")

    ended = tally.hub.wait("run", key, lambda r: r["state"] in ("succeeded", "failed", "cancelled"), watch)
    if ended["state"] != "succeeded":
        raise Failed(f"run {key} {ended['state']}: {ended['error']}", hint=f"see {tally.hub.url}/runs/{key}")
    return ended


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
@click.option(
    "--data",
    default="",
    metavar="TABLE",
    help="TABLE, TABLE@SNAPSHOT or RUN/OUTPUT (default: held-out rows).",
)
@click.option("--label", default=None, metavar="COLUMN", help="The column with the right answer.")
@click.option("--again", is_flag=True, help="Judge even if this was judged before on the same rows.")
@common
@click.pass_obj
def judge(tally: Tally, model: str, data: str, label: str | None, again: bool) -> None:
    """Attack MODEL (NAME or NAME@VERSION) and weigh what that shows; exit status 3 when it is refused."""
    body = {"model": model, "data": data, "again": again} | ({"label": label} if label else {})
    verdict = follow_verdict(tally, tally.hub.post("/verdicts", **body)["key"])
    lines = [f"{verdict['model']} {verdict['state']} ({verdict['key']})"]
    lines += [f"  {'holds' if f['holds'] else f['severity']:<7} {f['text']}" for f in verdict["findings"]]
    tally.screen.result(verdict, "\n".join(lines))
    if verdict["state"] == "refused":
        click.get_current_context().exit(3)


def follow_verdict(tally: Tally, key: str) -> Any:
    """Say what the attack is doing until a verdict is reached; Failed when none could be."""
    ended = _follow(tally, "verdict", key, lambda v: v["state"] != "judging")
    if ended["state"] == "failed":
        raise Failed(f"no verdict could be reached: {ended['error']}", where=key)
    return ended


def _follow(tally: Tally, noun: str, key: str, ended: Callable[[Any], bool]) -> Any:
    """Wait for a noun to end, and show its progress meanwhile."""

    def watch(state: Mapping[str, Any]) -> None:
        now = state.get("under_way")
        if now:
            tally.screen.progress(float(now["share"]), str(now["text"]))

    try:
        return tally.hub.wait(noun, key, ended, watch)
    finally:
        tally.screen.done()


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
    tally.hub.post(f"/endpoints/{name}/withdraw")
    tally.screen.result(follow_endpoint(tally, name), f"{name} is withdrawn")


@click.command()
@click.argument("name")
@click.option("--label", default=None, metavar="COLUMN", help="The column of the reference that is no input.")
@common
@click.pass_obj
def observe(tally: Tally, name: str, label: str | None) -> None:
    """Measure drift of what endpoint NAME was asked against what its model was made from."""
    found = tally.hub.post(f"/endpoints/{name}/observe", **({"label": label} if label else {}))
    tally.screen.result(found, describe_observation(found))


def describe_observation(found: Mapping[str, Any]) -> str:
    """The signal and the remedy in words, or that there is nothing to say."""
    drift, signal, remedy = found["drift"], found["signal"], found["remedy"]
    rows = f"{drift['rows_live']:,} rows against {drift['rows_reference']:,} of {drift['reference']}"
    if not signal:
        return f"no drift: {rows}"
    lines = [
        f"{signal['key']}: {signal['text']}",
        f"{remedy['key']} {remedy['state']}: {remedy['action']}; {remedy['why']}",
    ]
    return "\n".join([*lines, f"carry it out: tally heal {remedy['key']}"])


@click.command()
@click.argument("remedy")
@common
@click.pass_obj
def heal(tally: Tally, remedy: str) -> None:
    """Carry out a proposed REMEDY, by its key."""
    tally.hub.post(f"/remedies/{remedy}/carry")
    ended = follow_remedy(tally, remedy)
    tally.screen.result(ended, f"{ended['key']} {ended['state']}: {ended['outcome']}")


def follow_remedy(tally: Tally, key: str) -> Any:
    """Say how it goes until the remedy is done; Failed when it came to nothing."""
    ended = _follow(tally, "remedy", key, lambda r: r["state"] in ("done", "failed"))
    if ended["state"] == "failed":
        raise Failed(ended["outcome"], where=key)
    return ended


def curve_words(screen: Screen, evidence: Mapping[str, Any]) -> None:
    """The curve of the evidence, a line for each eps."""
    screen.say(f"  clean            {percent(evidence['clean'])}")
    for point in evidence["curve"]:
        robust, noise = percent(point["robust"]), percent(point["noise"])
        screen.say(f"  eps {point['eps']:<5g} attacked {robust:>6}   noise {noise:>6}")


COMMANDS = (ingest, run, register, judge, deploy, withdraw, predict, observe, heal)
