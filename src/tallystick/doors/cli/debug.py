"""Debug: one step of a past run again, in its user's terminal and with its recorded inputs."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import yaml

from tallystick.core.errors import BadInput, Failed, NotFound, error_from_dict
from tallystick.doors.cli.compile import pipeline_text, python_source, script
from tallystick.terminal.client import path_part
from tallystick.terminal.context import Tally, agreed, common

__all__ = ["COMMANDS", "debug_newest"]

RUNS_MAX = 200
"""Runs of a pipeline that are looked at, newest first, for one that got as far as the step."""


@click.command()
@click.argument("run_key", metavar="RUN")
@click.argument("step")
@click.option("--pdb", "pdb", is_flag=True, help="Stop at its first line, and where it fails.")
@click.option("--python", metavar="PYTHON", help="Run it with this Python, which has kfp and its packages.")
@click.option("--keep", is_flag=True, help="Keep the folder with its inputs and what it made.")
@click.option("--yes", is_flag=True, help="Do not ask whether its code may run as you.")
@common
@click.pass_obj
def debug(
    tally: Tally, run_key: str, step: str, yes: bool, pdb: bool, python: str | None, keep: bool
) -> None:
    """Run STEP of RUN again in this terminal, with the inputs that it had; nothing is recorded.

    Its code runs as you, outside the sandbox.
    """
    run = tally.hub.noun("run", run_key)
    _play(tally, run_key, _step(run["steps"], step, run_key), yes, pdb=pdb, python=python, keep=keep)


def debug_newest(
    tally: Tally, pipeline: Path, step: str, pdb: bool, yes: bool, python: str | None = None
) -> None:
    """The same for ``tally run PIPELINE --step STEP [--pdb]``: of the newest run that got that far.

    PIPELINE is a file, which ``python`` compiles where it has to be, or a pipeline's name.
    """
    name = _name_of(pipeline, python, Path(tally.home))
    runs = [run for run in tally.hub.get("/nouns/run", limit=1000) if run["pipeline"] == name]
    for run in sorted(runs, key=lambda run: str(run["key"]), reverse=True)[:RUNS_MAX]:
        steps = tally.hub.noun("run", run["key"])["steps"]
        with contextlib.suppress(NotFound):
            found = _step([one for one in steps if one["attempt"]], step, run["key"])
            _play(tally, run["key"], found, yes, pdb=pdb, python=None, keep=False)
            return
    hint = f"run it once: tally run {pipeline}" if not runs else "tally logs RUN lists a run's steps"
    raise NotFound(f"no run of {name} has begun a step {step!r}", where=name, hint=hint)


def _play(
    tally: Tally, run_key: str, path: str, yes: bool, *, pdb: bool, python: str | None, keep: bool
) -> None:
    question = f"Run the code of {path} as you, outside the sandbox?"
    if not agreed(yes)(question):
        what = "this runs a pipeline's code as you, outside the sandbox"
        raise BadInput(what, where=path, hint="say --yes if you trust it")
    folder = tempfile.mkdtemp(prefix="tally-debug-")
    try:
        words = ["-m", "tallystick.crew.author.layout", tally.hub.url, run_key, path, folder]
        laid = subprocess.run([sys.executable, "-P", *words], stdin=subprocess.DEVNULL, check=False)
        wrong = Path(folder, "wrong.json")
        if wrong.exists():
            raise error_from_dict(json.loads(wrong.read_bytes()))
        if laid.returncode:
            raise Failed("the step could not be laid out", where=path, hint="see above")
        with _not_interrupted():
            play = [python or sys.executable, "-c", script("play"), folder, *(["pdb"] if pdb else [])]
            ended = subprocess.run(play, check=False).returncode
    except OSError as failed:
        raise BadInput(f"it cannot be started: {failed.strerror}", where=str(python)) from None
    finally:
        if keep:
            click.echo(f"its folder stays: {folder}", err=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    if ended:
        raise Failed("the step did not succeed", where=path)


@contextlib.contextmanager
def _not_interrupted() -> Iterator[None]:
    """Ctrl-C is for the step and its debugger, which are in the same terminal."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _step(steps: list[Any], wanted: str, run_key: str) -> str:
    """The path of the step that is called so, or the only one whose path ends so."""
    paths = [str(step["path"]) for step in steps]
    found = [p for p in paths if p == wanted] or [p for p in paths if p.endswith("/" + wanted)]
    if len(found) == 1:
        return found[0]
    near = ", ".join(found or paths) or "none has begun"
    if found:
        raise BadInput(f"{len(found)} steps are called {wanted!r}", where=run_key, hint=f"say which: {near}")
    raise NotFound(f"no step {wanted!r}", where=run_key, hint=f"its steps: {near}")


def _name_of(pipeline: Path, python: str | None, home: Path) -> str:
    """A pipeline's name; of a file, the one that stands in it."""
    if not pipeline.is_file() and not python_source(pipeline):
        return path_part(str(pipeline))
    text, _ = pipeline_text(pipeline, python, home)
    try:
        said: Any = next(iter(yaml.load_all(text, Loader=yaml.CSafeLoader)), None)
        return str(said.get("pipeline_spec", said)["pipelineInfo"]["name"])
    except (yaml.YAMLError, AttributeError, KeyError, TypeError):
        hint = "name the pipeline, its Python file, or its compiled YAML"
        raise BadInput("is no compiled pipeline", where=str(pipeline), hint=hint) from None


COMMANDS = (debug,)
