"""The commands about runs: run, retry, cancel, logs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from tallystick.core.errors import BadInput, NotFound
from tallystick.core.names import check_name
from tallystick.doors.cli.compile import pipeline_text
from tallystick.doors.cli.debug import debug_newest
from tallystick.terminal.artifacts import given_inputs
from tallystick.terminal.client import POLL_S, path_part
from tallystick.terminal.context import Tally, common, goes_on
from tallystick.terminal.follow import ENDED, Noun, check_succeeded, follow_run

__all__ = ["COMMANDS", "begin_run", "pairs", "tell_run", "where"]

_ON = click.option("--on", metavar="NAME", default="", help="Run elsewhere: ray, or kubeflow with --host.")
_HOST = click.option("--host", metavar="URL", default="", help="Where that Kubeflow is.")
_COMMANDS = click.option("--allow-commands", "commands", is_flag=True,
                         help="Let container commands run on this machine, in the sandbox.")  # fmt: skip
_NO_GPUS = click.option("--no-gpus", is_flag=True, help="Run steps that ask for GPUs without any.")


def where(command: Any) -> Any:
    """The options that say where runs are to be done, and with what."""
    return _ON(_HOST(_COMMANDS(_NO_GPUS(command))))


_SAID = ("verify_share", "seed", "no_gpus", "commands", "on", "host", "experiment")
"""Options of a run that are said as they are sent."""


@click.command()
@click.argument("pipeline", type=click.Path(path_type=Path))
@click.option(
    "-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter; JSON unless a STRING."
)
@click.option("--input", "inputs", multiple=True, metavar="NAME=WHAT",
              help="An artifact: TABLE, RUN/OUTPUT, sha256:..., ./FILE, or a URI.")  # fmt: skip
@click.option(
    "--register", "registers", multiple=True, metavar="OUTPUT=NAME", help="Register a model that comes out."
)
@click.option("--no-wait", is_flag=True, help="Return once the run has begun.")
@click.option("--dry-run", is_flag=True, help="Only say what each step would come to.")
@click.option(
    "--explain-cache", is_flag=True, help="Say of each step why it came from the cache, or did not."
)
@click.option("--no-cache", is_flag=True, help="Run every step, and keep what it makes.")
@click.option("--cache-max-age", "age", metavar="2h", help="Take outputs no older than this (s, m, h, d).")
@click.option("--verify-cache", "verify_share", type=click.FloatRange(0, 1), metavar="SHARE", default=0.0,
              help="Make this share of what the cache has again, and compare.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, help="Steps find one of their own in TALLY_SEED.")
@where
@click.option("--experiment", metavar="NAME", default="", help="MLflow's experiment (default: the pipeline).")
@click.option("--kfp-python", metavar="PYTHON", help="Compile a .py with this Python, which has the kfp SDK.")
@click.option(
    "--step", metavar="NAME", help="Only run this step again here, with its inputs of the last run."
)
@click.option("--pdb", is_flag=True, help="With --step: stop at its first line, and where it fails.")
@click.option("--yes", is_flag=True, help="With --step: do not ask whether its code may run as you.")
@common
@click.pass_obj
def run(
    tally: Tally,
    /,
    pipeline: Path,
    params: tuple[str, ...],
    inputs: tuple[str, ...],
    registers: tuple[str, ...],
    **flags: Any,
) -> None:
    """Run PIPELINE, a Kubeflow pipeline: compiled to YAML, or FILE.py[:FUNCTION], which is compiled first.

    Unchanged steps come from the cache.
    """
    python = flags["kfp_python"]
    if flags["step"]:
        debug_newest(tally, pipeline, flags["step"], flags["pdb"], flags["yes"], python)
        return
    wanted = pairs(registers, "--register", "OUTPUT=NAME")
    _check_wanted(wanted, flags["no_wait"])
    named = pairs(inputs, "--input", "NAME=WHAT")
    given, no_wait = given_inputs(tally.hub, named, pairs(params)), flags["no_wait"]
    options = {
        "cache": not flags["no_cache"],
        "cache_age_ms_max": _ms(flags["age"]) if flags["age"] else 0,
        **{name: flags[name] for name in _SAID},
    }
    if flags["dry_run"]:
        _show_foreseen(tally, begin_run(tally, pipeline, given, options, python, dry_run=True))
        return
    ended = begin_run(tally, pipeline, given, options, python)
    if not no_wait:
        how = f"follow it with `tally status`, stop it with `tally cancel {ended['key']}`"
        later = "".join(f"; {_later(name, ended['key'], output)}" for output, name in wanted.items())
        with goes_on(tally, ended["key"], how + later):
            ended = tell_run(tally, ended["key"], flags["explain_cache"])
    models = [
        tally.hub.post("/models", name=name, run=ended["key"], output=output)
        for output, name in wanted.items()
    ]
    lines = [f"{ended['key']} {ended['state']}"]
    lines += [f"registered {m['name']}@{m['version']}" for m in models]
    tally.screen.result({**ended, "registered": models}, "\n".join(lines))


def _ms(age: str) -> int:
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", age)
    if not found or not int(found[1]):
        raise BadInput(
            f"{age[:100]!r} is no age", where="--cache-max-age", hint="for example 90s, 30m, 2h or 7d"
        )
    return int(found[1]) * {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}[found[2]]


def _show_foreseen(tally: Tally, foreseen: Mapping[str, Any]) -> None:
    rows = [(s["path"], s["state"], s["note"].removeprefix(f"{s['state']}: ")) for s in foreseen["steps"]]
    tally.screen.table(foreseen, ["step", "foreseen", "why"], rows, "it has no steps")


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


def pairs(given: tuple[str, ...], option: str = "-p", form: str = "NAME=VALUE") -> dict[str, str]:
    """What is said as NAME=VALUE, again and again."""
    found: dict[str, str] = {}
    for text in given:
        if not re.match(r"[^=]+=", text):
            raise BadInput(f"{text!r} is not {form}", where=option, hint=f"say {option} {form}")
        name, value = text.split("=", 1)
        if name in found:
            raise BadInput(f"{name!r} is said twice", where=option)
        found[name] = value
    return found


def begin_run(
    tally: Tally,
    pipeline: Path,
    params: Mapping[str, str],
    options: Mapping[str, Any] | None = None,
    python: str | None = None,
    **more: Any,
) -> Any:
    """Start a run; its state as it begins. ``more`` goes into the request, as ``dry_run`` does.

    ``python`` has the kfp SDK, for a pipeline that is to be compiled.
    """
    spec, filename = pipeline_text(pipeline, python, Path(tally.home))
    said = {"spec": spec, "params_text": dict(params), "filename": filename, **more}
    return tally.hub.post("/runs", **said, **({"options": dict(options)} if options else {}))


def tell_run(tally: Tally, key: str, explain: bool = False) -> Any:
    """Say each step as it ends, until the run has ended; Failed when it does not succeed."""
    troubles: set[str] = set()

    def watch(run: Noun, changed: Sequence[Noun]) -> None:
        if run["error"] and run["state"] not in ENDED and run["error"] not in troubles:
            troubles.add(run["error"])
            tally.screen.say(f"  waiting: {run['error']}")
        for step in changed:
            if step["state"] != "running":
                tally.screen.say(_step_line(step))
                notes = (step.get("cache_note") if explain else "", step.get("note"))
                for note in filter(None, notes):
                    tally.screen.say(f"      {note}")

    ended = follow_run(tally, key, watch)
    check_succeeded(tally, ended)
    return ended


def _step_line(step: Mapping[str, Any]) -> str:
    """What became of a step, in a line."""
    seconds = max(0, step["ended_ms"] - step["started_ms"]) / 1000
    took = f"{seconds:5.1f} s" if step["attempt"] else " " * 7
    tried = f", try {step['attempt']}" if step["attempt"] > 1 or step["state"] == "backing off" else ""
    line = f"  {step['path']:<32} {step['state']:<11} {took}{tried}".rstrip()
    return f"{line}: {step['error']}" if step["error"] else line


@click.command()
@click.argument("run_key", metavar="RUN")
@click.option("--no-wait", is_flag=True, help="Return once it has begun.")
@common
@click.pass_obj
def retry(tally: Tally, run_key: str, no_wait: bool) -> None:
    """Do RUN, which failed or was cancelled, again where it was done. Finished steps come from the cache."""
    again = tally.hub.post(f"/runs/{path_part(run_key)}/retry")
    if not no_wait:
        with goes_on(tally, again["key"], f"stop it with `tally cancel {again['key']}`"):
            again = tell_run(tally, again["key"])
    tally.screen.result(again, f"{again['key']} {again['state']}")


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
    ended = follow_run(tally, run_key, lambda *_: None)
    tally.screen.result(ended, f"{run_key} {ended['state']}")


@click.command()
@click.argument("run_key", metavar="RUN")
@click.argument("step", default="")
@click.option("--follow", "-f", is_flag=True, help="Go on printing until the step has ended.")
@common
@click.pass_obj
def logs(tally: Tally, run_key: str, step: str, follow: bool) -> None:
    """Print what STEP of RUN printed; without STEP, list the steps that printed something."""
    steps = tally.hub.noun("run", run_key)["steps"]
    if not step:
        told = [s for s in steps if s["log_digest"] or s["state"] == "running"]
        rows = [[s["path"], s["state"], s["error"]] for s in told]
        value = [{k: s[k] for k in ("path", "state", "error", "log_digest")} for s in told]
        tally.screen.table(value, ["step", "state", "error"], rows, f"no step of {run_key} has a log yet")
        return
    found = _step(steps, step, run_key)
    pieces = _log(tally, run_key, found["path"], follow)
    if tally.screen.as_json:
        text = "".join(pieces)
        tally.screen.json({"run": run_key, "step": found["path"], "state": found["state"], "log": text})
        return
    last = ""
    for last in pieces:
        click.echo(last, nl=False)
    click.echo("", nl=not last.endswith("\n"))


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


def _log(tally: Tally, run_key: str, path: str, follow: bool) -> Iterator[str]:
    """A step's log, piece by piece as far as there is one, or as they come until the step has ended."""
    start, attempt = 0, 0
    while True:
        piece = tally.hub.get(f"/runs/{path_part(run_key)}/log", **{"path": path, "from": start})
        if attempt not in (0, piece["attempt"]):  # the step is tried again, with a log of its own
            start, attempt = 0, 0
            continue
        yield piece["text"]
        start, attempt = piece["next"], piece["attempt"]
        if piece["ended"] or not (piece["text"] or follow):
            return
        if not piece["text"]:
            time.sleep(POLL_S)


COMMANDS = (run, retry, cancel, logs)
