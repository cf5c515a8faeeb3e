"""``tally tune``: search a pipeline's parameters for the best value of a metric."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tallystick.core.errors import BadInput, Failed
from tallystick.doors.cli.runs import pairs, where
from tallystick.terminal.client import path_part
from tallystick.terminal.context import Tally, check_file, common, goes_on
from tallystick.terminal.follow import ENDED, Noun

__all__ = ["COMMANDS"]

ROWS_MAX = 50


@click.command()
@click.argument("pipeline", required=False, type=click.Path(path_type=Path))
@click.option("--objective", metavar="METRIC", help="What is searched: METRIC, or STEP.METRIC.")
@click.option("--space", type=click.Path(path_type=Path), metavar="FILE", help="TOML, a table a parameter.")
@click.option("--direction", type=click.Choice(["minimize", "maximize"]), help="[default: minimize]")
@click.option("--trials", type=int, metavar="N", help="How many in all.  [default: 20]")
@click.option("--parallel", type=int, metavar="K", help="How many at once.  [default: 1]")
@click.option("--sampler", type=click.Choice(["tpe", "cmaes", "random", "grid"]), help="[default: tpe]")
@click.option("--pruner", type=click.Choice(["none", "hyperband", "median"]), help="[default: none]")
@click.option("--seed", type=int, metavar="N", help="The same seed, the same proposals.")
@click.option("--failures-max", type=int, metavar="N", help="More failed trials end it.  [default: half]")
@click.option("--name", metavar="STUDY", help="In MLflow.  [default: the pipeline's name]")
@click.option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="The same in all trials.")
@where
@click.option("--resume", metavar="STUDY", help="Have a study go on, with more --trials or --parallel.")
@click.option("--stop", metavar="STUDY", help="Stop a study; its trials under way are cancelled.")
@click.option("--no-wait", is_flag=True, help="Return once the study has begun.")
@common
@click.pass_obj
def tune(tally: Tally, /, pipeline: Path | None, resume: str | None, stop: str | None, **said: Any) -> None:
    """Run PIPELINE again and again, and find the parameters with the best METRIC; each trial is a run."""
    no_wait = said.pop("no_wait")
    said = {n: value for n, value in said.items() if value or (value == 0 and value is not False)}
    if sum(one is not None for one in (pipeline, resume, stop)) != 1:
        raise BadInput("say one of PIPELINE, --resume STUDY and --stop STUDY", where="tune")
    if stop is not None:
        _nothing_else(said, ())
        tally.hub.post(f"/studies/{path_part(stop)}/stop")
        study = tally.hub.get(f"/studies/{stop}")
    elif resume is not None:
        _nothing_else(said, ("trials", "parallel"))
        study = tally.hub.post(f"/studies/{path_part(resume)}/resume", **said)
    else:
        study = _begun(tally, pipeline or Path(), said)
    key = study["key"]
    if not no_wait:
        how = f"follow it with `tally tune --resume {key}`, stop it with `tally tune --stop {key}`"
        with goes_on(tally, key, how):
            study = _followed(tally, key, quiet=stop is not None)
    _tell(tally, study)
    if study["state"] == "failed":
        raise Failed(f"study {key} failed: {study['error']}", hint=f"tally tune --resume {key}")


def _nothing_else(said: Noun, allowed: tuple[str, ...]) -> None:
    for name in said:
        if name not in allowed:
            option = name.replace("_", "-")
            raise BadInput(
                "a study keeps what it began with", where=f"--{option}", hint="begin another study"
            )


def _begun(tally: Tally, pipeline: Path, said: dict[str, Any]) -> Any:
    for name in ("objective", "space"):
        if name not in said:
            raise BadInput(f"say --{name}", where="tune")
    body = {"params_text": pairs(said.pop("params", ())), **said}
    if options := {name: body.pop(name) for name in ("on", "host", "commands", "no_gpus") if name in body}:
        body["options"] = options
    space = check_file(body.pop("space"))
    body |= {"spec": _text(check_file(pipeline)), "filename": pipeline.name}
    return tally.hub.post("/studies", **body, space=_text(space), space_filename=space.name)


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except UnicodeDecodeError:
        raise BadInput("is not text", where=str(file)) from None


def _followed(tally: Tally, key: str, quiet: bool) -> Any:
    """Say each trial as it ends, until the study has ended; how it is then, with its trials."""
    seen: set[int] = set()

    def watch(_: Noun) -> None:
        if quiet:
            return
        study = tally.hub.get(f"/studies/{key}")
        for trial in study["trials"]:
            if trial["state"] != "running" and trial["number"] not in seen:
                seen.add(trial["number"])
                tally.screen.say(_line(trial, study, len(seen)))

    tally.hub.wait("study", key, lambda s: s["state"] in ENDED, watch)
    watch({})
    return tally.hub.get(f"/studies/{key}")


def _line(trial: Noun, study: Noun, count: int) -> str:
    """What came of a trial, and the best that there was when it ended."""
    sign = -1 if study["maximize"] else 1
    before = [t for t in study["trials"] if t["state"] == "succeeded" and t["ended_ms"] <= trial["ended_ms"]]
    best = min(before, key=lambda t: sign * t["value"], default=None)
    came = f"{trial['value']:.6g}" if trial["state"] == "succeeded" else trial["state"]
    line = f"  trial {count} of {study['trials_max']}: {came:<10}"
    line += f" (best {best['value']:.6g})" if best else ""
    return f"{line}  {_params(trial)}" + (f": {trial['why']}" if trial["state"] == "failed" else "")


def _params(trial: Noun) -> str:
    return " ".join(
        f"{k}={v:.6g}" if isinstance(v, float) else f"{k}={v}" for k, v in trial["params"].items()
    )


def _tell(tally: Tally, study: Noun) -> None:
    if tally.screen.as_json:
        tally.screen.json(study)
        return
    trials = [t for t in study.get("trials", ()) if t["state"] != "running"]
    if trials:
        sign = -1 if study["maximize"] else 1
        ranked = sorted(
            trials, key=lambda t: (t["state"] != "succeeded", sign * (t["value"] or 0), t["number"])
        )
        rows = [
            [
                str(t["number"]),
                t["state"],
                "" if t["value"] is None else f"{t['value']:.6g}",
                t["run"],
                _params(t),
            ]
            for t in ranked[:ROWS_MAX]
        ]
        heads = ["trial", "state", study["objective"], "run", "parameters"]
        tally.screen.table(study, heads, rows, "no trial yet")
    best = study["best"]
    found = f"; best {best['value']:.6g}: {_params(best)}" if best else ""
    tally.screen.result(study, f"{study['key']} {study['state']}{found}")


COMMANDS = (tune,)
