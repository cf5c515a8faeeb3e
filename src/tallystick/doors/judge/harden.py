"""``tally harden``: a model that withstands more, made by a pipeline and judged beside the original."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

import tallystick
from tallystick.core.data import RUN_URI, TABLE_URI
from tallystick.core.errors import BadInput, Unavailable
from tallystick.core.facts import from_json
from tallystick.core.model import ModelVersion
from tallystick.core.names import check_name
from tallystick.doors.judge.beside import Beside
from tallystick.doors.judge.steps import follow_steps
from tallystick.evidence.policy import Policy
from tallystick.judging.harden import OUTPUT, Wish, params_of
from tallystick.judging.ways import How
from tallystick.terminal.context import Tally, common, goes_on
from tallystick.terminal.follow import LOOK, follow

__all__ = ["COMMANDS"]

REFUSED = 3
"""Exit status: the gate's own, where the hardened model is refused too."""


@click.command()
@click.argument("model")
@click.option("--how", type=click.Choice([str(how) for how in How]), required=True, help="The way.")
@click.option(
    "--data", default="", metavar="TABLE",
    help="Rows to train on: TABLE, TABLE@SNAPSHOT or RUN/OUTPUT (default: the model's table).",
)  # fmt: skip
@click.option("--label", default="", metavar="COLUMN", help="The column with the right answer.")
@click.option("--eps", type=float, default=0.0, help="The radius to withstand (default: the policy's).")
@click.option("--seed", type=int, default=7, show_default=True)
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A setting of the way.")
@click.option("--output-name", default="", metavar="NAME", help="Register as NAME (default: as MODEL).")
@common
@click.pass_obj
def harden(tally: Tally, /, model: str, output_name: str, **said: Any) -> None:
    """Make a model that withstands more than MODEL, and judge both; exit status 3 when it is refused too.

    It is the next version of MODEL. Both are judged by the rows that MODEL's own run held out, which the new
    one is not trained on; without such a run, by a fifth of the table.
    """
    if output_name:
        check_name("model", output_name)
    wish = Wish(
        How(said["how"]), said["label"] or str(tally.hub.get("/status")["label"]), said["eps"], said["data"],
        said["seed"], _pairs(said["settings"]),
    )  # fmt: skip
    original = from_json(ModelVersion, tally.hub.post("/models/admit", model=model), "model")
    policy = Policy.parse(tomllib.loads(tally.hub.get("/policy")["text"]))
    params, notes = params_of(original, _outputs(tally, original), policy, wish)
    for note in notes:
        tally.screen.say(f"  {note}")
    made_by = _run(tally, params)
    run, rows = str(made_by["key"]), _rows(made_by)
    data = params["data"].removeprefix(TABLE_URI).removeprefix(RUN_URI)
    told = _told(rows, data)
    for note in told:
        tally.screen.say(f"  {note}")
    made = tally.hub.post("/models", name=output_name or original.name, run=run, output=OUTPUT)
    models = {"original": original.key, "hardened": f"{made['name']}@{made['version']}"}
    tally.screen.say(f"  {models['hardened']} is registered; both are judged by {run}/test")
    verdicts = _judged(tally, models, f"{run}/test", wish.label)
    value = {"run": run, "how": wish.how, "eps": params["eps"], "settings": params["settings"], **models}
    value |= {"notes": [*notes, *told], "rows": rows}
    found = Beside(models, verdicts, wish.how)
    tally.screen.result({**value, **found.wire()}, found.text(tally.hub.url))
    if found.refused:
        click.get_current_context().exit(REFUSED)


def _pairs(given: Sequence[str]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals) or name in found:
            raise BadInput(f"{text!r:.100} is not NAME=VALUE, said once", where="--set")
        found[name] = value
    return found


def _outputs(tally: Tally, model: ModelVersion) -> Sequence[str]:
    """What the model's own run put out, one of each, while that run is known."""
    if not model.origin.run:
        return ()
    run = tally.hub.noun("run", model.origin.run)
    return [name for name, refs in run["outputs"]["artifacts"].items() if len(refs) == 1]


def pipeline_text() -> str:
    """The compiled pipeline, from the package or from the source tree."""
    package = Path(tallystick.__file__).parent
    for folder in (package / "_examples" / "harden", package.parents[1] / "examples" / "harden"):
        if (folder / "pipeline.yaml").is_file():
            return (folder / "pipeline.yaml").read_text("utf-8")
    raise Unavailable("the pipeline that hardens is not installed", hint="install tallystick again")


def _run(tally: Tally, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Submit the pipeline and follow it; the run. Failed when it does not succeed."""
    spec = pipeline_text()
    key = str(tally.hub.post("/runs", spec=spec, params=dict(params), filename="harden.yaml")["key"])
    how = f"follow it with `tally status`; once it has succeeded, `tally register NAME --run {key}"
    with goes_on(tally, key, f"{how} --output {OUTPUT}`"):
        return follow_steps(tally, key)


def _rows(run: Mapping[str, Any]) -> Mapping[str, int]:
    """How many rows were trained on (``train``) and left out of that (``left_out``), how many are judged by
    (``test``), and how many of these were found among the others (``found``).
    """
    told: dict[str, int] = {}
    for name in ("train", "test"):
        for ref in run.get("outputs", {}).get("artifacts", {}).get(name, ())[:1]:
            about = ref["metadata"]
            told |= {k: int(about[k]) for k in ("left_out", "found") if k in about}
            told |= {name: int(about["rows"])} if "rows" in about else {}
    return told


def _told(rows: Mapping[str, int], data: str) -> Sequence[str]:
    """Sentences about which rows were trained on, and which are judged by."""
    if {"train", "left_out", "test", "found"} - set(rows):
        return ()
    judged = f"the {rows['test']:,} to judge by"
    apart = f"{rows['left_out']:,} more are left out of training, as they are among {judged}"
    if not rows["left_out"]:
        apart = f"none of {judged} is in {data}, so that none had to be left out"
    return (f"trained on {rows['train']:,} rows; {apart}",)


def _judged(tally: Tally, models: Mapping[str, str], data: str, label: str) -> dict[str, Any]:
    """What ``GET /verdicts/KEY`` says of each, by role, judged on the same rows."""
    begun = {
        role: tally.hub.post("/verdicts", model=model, data=data, label=label)["key"]
        for role, model in models.items()
    }
    found = {}
    for role, key in begun.items():
        again = f"tally judge {models[role]} --data {shlex.quote(data)}"
        tally.screen.say(f"  {models[role]}:")
        with goes_on(tally, key, f"{LOOK}; `{again}` waits for it"):
            follow(tally, "verdict", key)
        found[role] = tally.hub.get(f"/verdicts/{key}")
    return found


COMMANDS: tuple[click.Command, ...] = (harden,)
