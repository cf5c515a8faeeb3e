"""The commands about runs: run, cancel, logs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from tallystick.core.errors import BadInput, Failed, NotFound
from tallystick.core.names import check_name
from tallystick.doors.cli.client import path_part
from tallystick.doors.cli.context import Tally, check_file, common, goes_on

__all__ = ["COMMANDS", "begin_run", "follow_run"]

ENDED = ("succeeded", "failed", "cancelled")


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
    wanted = _pairs(registers, "--register", "OUTPUT=NAME")
    _check_wanted(wanted, no_wait)
    ended = begin_run(tally, pipeline, _pairs(params, "-p", "NAME=VALUE"))
    if not no_wait:
        how = f"follow it with `tally status`, stop it with `tally cancel {ended['key']}`"
        later = "".join(f"; {_later(name, ended['key'], output)}" for output, name in wanted.items())
        with goes_on(tally, ended["key"], how + later):
            ended = follow_run(tally, ended["key"])
    models = [
        tally.hub.post("/models", name=name, run=ended["key"], output=output)
        for output, name in wanted.items()
    ]
    lines = [f"{ended['key']} {ended['state']}"]
    lines += [f"registered {m['name']}@{m['version']}" for m in models]
    tally.screen.result({**ended, "registered": models}, "\n".join(lines))


def _later(name: str, run_key: str, output: str) -> str:
    return f"once it has succeeded, `tally register {name} --run {run_key} --output {output}`"


def _check_wanted(wanted: Mapping[str, str], no_wait: bool) -> None:
    """What can be known to be wrong about ``--register`` before anything runs."""
    for output, name in wanted.items():
        check_name("model", name)
        if no_wait:
            raise BadInput(
                "a model can only be registered once the run has ended, and --no-wait does not wait for that",
                where="--register",
                hint=f"leave out one of the two, or register later: {_later(name, 'RUN', output)}",
            )


def _pairs(given: tuple[str, ...], option: str, form: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in given:
        if not re.match(r"[^=]+=", text):
            raise BadInput(f"{text!r} has no '='", where=option, hint=f"say {option} {form}")
        name, value = text.split("=", 1)
        if name in pairs:
            raise BadInput(f"{name!r} is said twice", where=option)
        pairs[name] = value
    return pairs


def begin_run(tally: Tally, pipeline: Path, params: Mapping[str, str]) -> Any:
    """Start a run; its state as it begins."""
    check_file(pipeline)
    if pipeline.suffix.lower() == ".py":
        raise BadInput(
            "is Python source",
            where=str(pipeline),
            hint=f"compile it first: python {pipeline},"
            " or kfp.compiler.Compiler().compile(pipeline, 'pipeline.yaml')",
        )
    try:
        spec = pipeline.read_text("utf-8")
    except UnicodeDecodeError:
        raise BadInput(
            "is not text", where=str(pipeline), hint="compile the pipeline to YAML first"
        ) from None
    return tally.hub.post("/runs", spec=spec, params_text=dict(params), filename=pipeline.name)


def follow_run(tally: Tally, key: str) -> Any:
    """Say each step as it ends, until the run has ended; Failed when it does not succeed."""
    ended = _watch_run(tally, key)
    if ended["state"] != "succeeded":
        raise Failed(
            f"run {key} {ended['state']}: {ended['error']}",
            hint=f"tally logs {key}, or see {tally.hub.url}/runs/{key}",
        )
    return ended


def _watch_run(tally: Tally, key: str) -> Any:
    seen: dict[str, tuple[str, int]] = {}

    def watch(run: Mapping[str, Any]) -> None:
        for step in run["steps"]:
            now = step["state"], step["attempt"]
            if seen.get(step["path"]) == now:
                continue
            seen[step["path"]] = now
            if step["state"] != "running":
                tally.screen.say(_step_line(step))

    return tally.hub.wait("run", key, lambda r: r["state"] in ENDED, watch)


def _step_line(step: Mapping[str, Any]) -> str:
    """What became of a step, in a line."""
    seconds = max(0, step["ended_ms"] - step["started_ms"]) / 1000
    took = f"{seconds:5.1f} s" if step["attempt"] else " " * 7
    tried = f", try {step['attempt']}" if step["attempt"] > 1 or step["state"] == "backing off" else ""
    line = f"  {step['path']:<32} {step['state']:<11} {took}{tried}".rstrip()
    return f"{line}: {step['error']}" if step["error"] else line


@click.command()
@click.argument("run_key", metavar="RUN")
@common
@click.pass_obj
def cancel(tally: Tally, run_key: str) -> None:
    """Stop RUN; a second time, its exit handlers too. Steps that have succeeded stay in the cache."""
    before = tally.hub.post(f"/runs/{path_part(run_key)}/cancel")
    if before["state"] in ENDED:
        tally.screen.result(before, f"{run_key} had ended before: {before['state']}")
        return
    ended = tally.hub.wait("run", run_key, lambda r: r["state"] in ENDED, lambda _: None)
    tally.screen.result(ended, f"{run_key} {ended['state']}")


@click.command()
@click.argument("run_key", metavar="RUN")
@click.argument("step", default="")
@common
@click.pass_obj
def logs(tally: Tally, run_key: str, step: str) -> None:
    """Print what STEP of RUN printed; without STEP, list the steps that printed something."""
    steps = tally.hub.noun("run", run_key)["steps"]
    if not step:
        rows = [[s["path"], s["state"], s["error"]] for s in steps if s["log_digest"]]
        value = [
            {k: s[k] for k in ("path", "state", "error", "log_digest")} for s in steps if s["log_digest"]
        ]
        tally.screen.table(value, ["step", "state", "error"], rows, f"no step of {run_key} has a log yet")
        return
    found = _step(steps, step, run_key)
    text = _log(tally, found, run_key)
    if tally.screen.as_json:
        tally.screen.json({"run": run_key, "step": found["path"], "state": found["state"], "log": text})
    else:
        click.echo(text, nl=not text.endswith("\n"))


def _step(steps: list[Any], wanted: str, run_key: str) -> Any:
    """The step of that path, or the only one whose path ends so (``train`` for ``for-loop-1[0]/train``)."""
    exact = [s for s in steps if s["path"] == wanted]
    found = exact or [s for s in steps if s["path"].endswith("/" + wanted)]
    if len(found) == 1:
        return found[0]
    near = ", ".join(s["path"] for s in found or steps) or "none has begun"
    if found:
        raise BadInput(f"{len(found)} steps are called {wanted!r}", where=run_key, hint=f"say which: {near}")
    raise NotFound(f"no step {wanted!r}", where=run_key, hint=f"its steps: {near}")


def _log(tally: Tally, step: Any, run_key: str) -> str:
    """A step's log as text; NotFound says why there is none."""
    if not step["log_digest"]:
        why = {
            "running": "it has not ended yet",
            "cached": "it came from the cache, so nothing ran",
            "skipped": f"it was skipped: {step['error']}",
        }
        what = why.get(step["state"], step["error"] or "it printed nothing")
        raise NotFound(f"no log: {what}", where=f"{run_key} {step['path']}")
    answer = tally.hub.raw("GET", f"/artifacts/{step['log_digest']}")
    if answer.is_error:
        raise Failed("its log cannot be fetched", where=f"{run_key} {step['path']}")
    return str(answer.content.decode("utf-8", "replace"))


COMMANDS = (run, cancel, logs)
